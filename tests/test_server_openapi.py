"""The OpenAPI document is valid, its examples work, and what it says is what the server does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from logitext.server.questions import FIELDS
from serving import JSON_KIND, Server, write_models

EXAMPLES = Path(__file__).parent.parent / "examples"
TOKEN = "a token of the tests"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    report = ("--report", files / "report.html")
    models = (files / "news.safetensors", files / "topics.safetensors")
    with Server(*models, *report, "--threads", 1, "--max-texts", 200, "--max-text", "10kB") as running:
        yield running
    assert running.exit_code == 0
    assert "Traceback" not in running.stderr


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json").json()
    return found


def valid(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Check a value against a schema of the document."""
    jsonschema = pytest.importorskip("jsonschema")
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path with its example parameters filled in, method, operation."""
    for path, each in document["paths"].items():
        for parameter in each.get("parameters", []):
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        for method in ("get", "post"):
            if method in each:
                yield path, method.upper(), each[method]


def schemas_within(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document, however deep."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from schemas_within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from schemas_within(inner)


def test_it_is_valid(document: dict[str, Any]) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)


def test_every_field_is_described(document: dict[str, Any]) -> None:
    for schema in schemas_within(document):
        for name, field in schema.get("properties", {}).items():
            if isinstance(field, dict) and "$ref" not in field:
                assert field.get("description") or name in ("label", "probability"), (name, field)


def test_fields_of_a_question_are_those_that_are_read(document: dict[str, Any]) -> None:
    found = document["components"]["schemas"]
    asked = found["Question"]["properties"] | found["Questions"]["properties"]
    assert set(asked) == set(FIELDS)
    refused = {name for name, field in found["ScoresQuestion"]["properties"].items() if field is False}
    assert refused == set(FIELDS) - {"model"}


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    for schema in schemas_within(document):
        if "$ref" in schema:
            found: Any = document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]


def test_examples_work(server: Server, document: dict[str, Any]) -> None:
    tried = 0
    for path, method, operation in operations(document):
        asked = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        bodies = [example["value"] for example in asked.get("examples", {}).values()] or [None]
        for body in bodies:
            if body is not None:
                valid(document, asked["schema"], body)
            found = server.request(method, path, body)
            assert found.status == 200, (path, body, found.body)
            kind = found.headers["content-type"].partition(";")[0]
            content = operation["responses"]["200"]["content"][kind]
            if kind == "application/json":
                valid(document, content["schema"], found.json())
            tried += 1
    assert tried > 25


def test_examples_of_answers_are_of_their_schema(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        for content in operation["responses"]["200"]["content"].values():
            for example in content.get("examples", {}).values():
                valid(document, content["schema"], example["value"])
    for schema in document["components"]["schemas"].values():
        for example in schema.get("examples", []):
            valid(document, schema, example)


@pytest.mark.parametrize("model", ["news", "topics"])
def test_all_options_at_once(server: Server, document: dict[str, Any], model: str) -> None:
    options: dict[str, Any] = {"logits": True, "probabilities": True, "top_k": 2, "explain": True}
    if model == "news":
        options |= {"coverage": 0.9, "novelty": True, "max_error": 0.3, "threshold": 0.1}
    schema = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    for body in ({"text": "A new phone"}, {"texts": ["A new phone", ""]}):
        found = server.post("/predict", {**body, "model": model, **options})
        assert found.status == 200, found.body
        valid(document, schema, found.json())
    found = server.post("/predict", {"texts": ["a", "b"], "stream": True, "model": model})
    for row in found.lines():
        valid(document, {"$ref": "#/components/schemas/Row"}, row)


def test_limits_are_those_of_this_server(document: dict[str, Any]) -> None:
    found = document["components"]["schemas"]
    assert found["Questions"]["properties"]["texts"]["maxItems"] == 200
    assert found["Question"]["properties"]["text"]["maxLength"] == 10_000
    assert "30 s" in document["info"]["description"]


def test_with_a_token(files: Path) -> None:
    with Server(files / "news.safetensors", env={"LOGITEXT_TOKEN": TOKEN}) as server:
        found = server.get("/openapi.json").json()
        assert found["security"] == [{"bearer": []}]
        for path, method, operation in operations(found):
            asked = server.request(method, path)
            free = operation.get("security") == []
            assert (asked.status == 401) != free, path
            assert ("401" in operation["responses"]) != free, path
        assert "Authorization: Bearer" in server.get("/docs").body.decode()


def test_the_server_does_what_it_says(server: Server) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    hypothesis = pytest.importorskip("hypothesis")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # Too many texts break the schema, and the status that says so is 413.
    rejecting = schema.config.checks.negative_data_rejection
    rejecting.expected_statuses = [*rejecting.expected_statuses, "413"]
    accepting = schema.config.checks.positive_data_acceptance
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        # What a schema cannot say: bytes, what a model can promise, that data are of their shape.
        accepting.expected_statuses = ["2xx", "404", "413", "422"]
        if operation.path.endswith("/infer"):
            accepting.expected_statuses = ["2xx", "400", "404", "413"]
        for mode in schemathesis.GenerationMode:
            strategy = operation.as_strategy(generation_mode=mode)

            @hypothesis.settings(
                max_examples=12 if operation.method == "post" else 4,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=strategy)
            def ask(case: Any) -> None:
                nonlocal count
                count += 1
                case.call_and_validate(timeout=10)

            # Nothing can be wrong with a request without parameters.
            with suppress(hypothesis.errors.Unsatisfiable):
                ask()
    assert count > 100


class Reader(HTMLParser):
    """Takes down tags, links and what they lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not any(name.startswith("on") or name == "src" for name in given)
        if given.get("id"):
            assert given["id"] not in self.ids, "an id twice"
            self.ids.add(str(given["id"]))
        if "href" in given:
            self.links.append(str(given["href"]))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_of_the_api(server: Server, document: dict[str, Any]) -> None:
    found = server.get("/docs")
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in found.headers["content-security-policy"]
    reader = Reader()
    reader.feed(found.body.decode())
    assert not reader.open
    assert not {"script", "link", "img", "iframe", "form"} & set(reader.tags)
    for link in reader.links:
        assert link == "openapi.json" or (link[0] == "#" and link[1:] in reader.ids), link
    text = re.sub(r"<[^>]+>", " ", found.body.decode())
    for path in document["paths"]:
        assert path in text
    for name in document["components"]["schemas"]:
        assert name in reader.ids
    assert len(found.body) < 100_000


def test_the_page_shows_text_as_text() -> None:
    from logitext.server.apidocs import page

    said = "<script>alert(1)</script> `<b>`"
    whole = {
        "info": {"title": said, "version": "1", "description": said},
        "security": [],
        "tags": [{"name": "x", "description": said}],
        "paths": {
            "/<i>": {
                "get": {"operationId": "x", "tags": ["x"], "summary": said, "responses": {}},
            }
        },
        "components": {
            "responses": {},
            "schemas": {"S": {"properties": {said: {"type": "string", "description": said}}}},
        },
    }
    found = page(whole)
    assert "<script" not in found
    assert "<b>" not in found
    assert "<i>" not in found


def test_json_bodies_are_what_curl_would_send(server: Server, document: dict[str, Any]) -> None:
    bodies = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for example in bodies.values():
        sent = json.dumps(example["value"], ensure_ascii=False)
        assert server.request("POST", "/predict", sent, JSON_KIND).status == 200
