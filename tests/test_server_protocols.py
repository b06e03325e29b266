"""Other servers' protocols, spoken to the real server: their own examples, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitext as lt
from logitext.server.replies import Overloaded, Problem
from logitext.server.textembeddings import theirs
from serving import JSON_KIND, Server

EXAMPLES = Path(__file__).parent.parent / "examples"
TEXTS = [
    "I like you.",
    "I hate pineapples",
    "A new phone with a better camera",
    "The minister resigned",
    "日本語のテキスト",
    "   ",
]
LIMITS = ("--max-texts", 2500, "--max-text", "2kB", "--max-body", "400kB")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one label a text, one of several, one whose classes are numbers."""
    folder = tmp_path_factory.mktemp("models")
    rows = [line.rsplit(",", 1) for line in (EXAMPLES / "headlines.csv").read_text().splitlines()[1:1500]]
    texts, labels = [row[0] for row in rows], [row[1] for row in rows]
    lt.TextClassifier(epochs=2, learning_rate=1.0, threads=1).fit(texts, labels).save(
        folder / "news.safetensors"
    )
    several = lt.TextClassifier(epochs=2, learning_rate=1.0, threads=1, multilabel=True)
    both = [[label] if number % 3 else [label, "third"] for number, label in enumerate(labels)]
    several.fit(texts, both).save(folder / "topics.safetensors")
    length = [len(text) % 2 == 0 for text in texts]
    lt.TextClassifier(epochs=1, learning_rate=1.0, threads=1).fit(texts, length).save(
        folder / "even.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    names = ("news", "topics", "even")
    with Server(*(files / f"{name}.safetensors" for name in names), "--threads", 1, *LIMITS) as running:
        yield running
    assert running.exit_code == 0
    assert "Traceback" not in running.stderr


@pytest.fixture(scope="module")
def news(files: Path) -> lt.TextClassifier:
    return lt.load(files / "news.safetensors")


@pytest.fixture(scope="module")
def topics(files: Path) -> lt.TextClassifier:
    return lt.load(files / "topics.safetensors")


def scores(row: Any, classes: list[str]) -> list[dict[str, Any]]:
    """What text-embeddings-inference makes of numbers: the largest first."""
    order = sorted(range(len(classes)), key=lambda at: -row[at])
    return [{"score": np.float32(row[at]), "label": classes[at]} for at in order]


def singles(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with numbers of the precision they were written in."""
    return [{"score": np.float32(each["score"]), "label": each["label"]} for each in found]


# -- text-embeddings-inference --------------------------------------------------


def test_tei_examples(server: Server, news: lt.TextClassifier) -> None:
    # The requests of its README and its quick tour, byte by byte.
    one = server.request("POST", "/predict", '{"inputs":"I like you."}', JSON_KIND)
    assert one.status == 200
    assert one.headers["content-type"] == "application/json"
    classes = news.classes_.tolist()
    assert singles(one.json()) == scores(news.predict_proba(["I like you."])[0], classes)
    body = '{"inputs":[["I like you."], ["I hate pineapples"]]}'
    batch = server.request("POST", "/predict", body, JSON_KIND)
    shares = news.predict_proba(["I like you.", "I hate pineapples"])
    assert [singles(found) for found in batch.json()] == [scores(row, classes) for row in shares]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", ["news", "topics"])
def test_tei_numbers(server: Server, files: Path, name: str, raw: bool) -> None:
    model = lt.load(files / f"{name}.safetensors")
    wanted = model.logits(TEXTS) if raw else model.predict_proba(TEXTS)
    body = {"inputs": [[text] for text in TEXTS], "raw_scores": raw, "model": name}
    found = server.post("/predict", body).json()
    assert [singles(each) for each in found] == [scores(row, model.classes_.tolist()) for row in wanted]
    for text, row in zip(TEXTS, found, strict=True):
        for inputs in (text, [text]):
            assert server.post("/predict", {**body, "inputs": inputs}).json() == row


def test_tei_labels_are_strings(server: Server) -> None:
    found = server.post("/predict", {"inputs": "an even number", "model": "even"}).json()
    assert {each["label"] for each in found} == {"true", "false"}


def test_tei_options(server: Server) -> None:
    plain = server.post("/predict", {"inputs": "I like you."}).json()
    for more in (
        {"truncate": True},
        {"truncate": None},
        {"truncation_direction": "left"},
        {"truncation_direction": "Right", "truncate": False, "raw_scores": False},
        {"parameters": {}, "unknown": 1},  # Their server reads what it knows, and no more.
    ):
        assert server.post("/predict", {"inputs": "I like you.", **more}).json() == plain


def test_tei_long_batch(server: Server, news: lt.TextClassifier) -> None:
    texts = [f"text number {number}" for number in range(2500)]
    found = server.post("/predict", {"inputs": [[text] for text in texts]}).json()
    assert len(found) == len(texts)
    best = news.predict(texts)
    assert [row[0]["label"] for row in found] == best.tolist()


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        ({"inputs": []}, 400, "Empty", "empty"),
        ({"inputs": ""}, 400, "Empty", "empty"),
        ({"inputs": [["a"], [""]]}, 400, "Empty", "inputs[1]"),
        ({"inputs": ["a", "b"]}, 422, "Validation", "pair"),
        ({"inputs": [["a"], ["b", "c"]]}, 422, "Validation", 'inputs[1]" is a pair'),
        ({"inputs": ["a", "b", "c"]}, 422, "Validation", "a batch is a list of lists"),
        ({"inputs": [["a", "b", "c"]]}, 422, "Validation", "inputs[0]"),
        ({"inputs": [["a"], "b"]}, 422, "Validation", "inputs[1]"),
        ({"inputs": ["a", ["b"]]}, 422, "Validation", "a list"),
        ({"inputs": [[]]}, 422, "Validation", "inputs[0]"),
        ({"inputs": [[None]]}, 422, "Validation", "null"),
        ({"inputs": [[["a"]]]}, 422, "Validation", "a list"),
        ({"inputs": [1]}, 422, "Validation", "a number"),
        ({"inputs": None}, 422, "Validation", "null"),
        ({"inputs": 5}, 422, "Validation", "a number"),
        ({"inputs": {"a": 1}}, 422, "Validation", "an object"),
        ({"inputs": "a", "raw_scores": "yes"}, 422, "Validation", "raw_scores"),
        ({"inputs": "a", "raw_scores": None}, 422, "Validation", "raw_scores"),
        ({"inputs": "a", "truncate": 1}, 422, "Validation", "truncate"),
        ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "truncation_direction"),
        ({"inputs": "a", "truncation_direction": ["left"]}, 422, "Validation", "truncation_direction"),
        ({"inputs": "a", "model": 3}, 422, "Validation", "model"),
        ({"inputs": "a", "model": "nothing"}, 404, "Validation", "nothing"),
        ({"inputs": "a", "text": "b"}, 422, "Validation", '"text"'),
        ({"inputs": "a", "top_k": 2}, 422, "Validation", '"top_k"'),
        ({"inputs": "a" * 2001}, 413, "Validation", "too long"),
        ({"inputs": [["a"], ["é" * 1001]]}, 413, "Validation", "inputs[1]"),
        ({"inputs": [["a"]] * 2501}, 413, "Validation", "batch size 2501 > maximum allowed batch size 2500"),
    ],
)
def test_tei_refuses(server: Server, body: Any, status: int, kind: str, said: str) -> None:
    found = server.post("/predict", body)
    assert (found.status, found.json()["error_type"]) == (status, kind)
    assert set(found.json()) == {"error", "error_type"}
    assert said in found.json()["error"]


def test_tei_overloaded(files: Path) -> None:
    body = {"inputs": [["some words of a text " * 90]] * 2000}
    with Server(files / "news.safetensors", "--timeout", 0.02) as server:
        late = server.post("/predict", body)
    assert (late.status, late.json()["error_type"]) == (424, "Backend")
    assert "ask for less" in late.json()["error"]


def test_tei_statuses() -> None:
    problems = [Overloaded("wait"), Problem(503, "late"), Problem(413, "large"), Problem(422, "odd")]
    found = [(reply.status, json.loads(reply.body)["error_type"]) for reply in map(theirs, problems)]
    assert found == [(429, "Overloaded"), (424, "Backend"), (413, "Validation"), (422, "Validation")]
    assert (b"retry-after", b"1") in theirs(problems[0]).headers


# -- Open Inference Protocol ----------------------------------------------------


def tensor(data: Any, shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """An input tensor of texts."""
    size = [len(data)] if shape is None else shape
    return {"name": "text", "datatype": "BYTES", "shape": size, "data": data, **more}


def outputs(found: Any) -> dict[str, Any]:
    """The output tensors as arrays, by name."""
    kinds = {"FP32": np.float32, "BOOL": np.bool_, "BYTES": object}
    return {
        each["name"]: np.array(each["data"], kinds[each["datatype"]]).reshape(each["shape"])
        for each in found["outputs"]
    }


def test_v2_example_of_the_specification(server: Server) -> None:
    # A model of texts cannot do this one: two tensors of numbers.
    example = {
        "id": "42",
        "inputs": [
            {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
            {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True]},
        ],
        "outputs": [{"name": "output0"}],
    }
    found = server.post("/v2/models/news/infer", example)
    assert (found.status, set(found.json())) == (400, {"error"})
    assert "one tensor" in found.json()["error"]
    iris = {
        "inputs": [
            {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": [[6.8, 2.8, 4.8, 1.4]] * 2}
        ]
    }
    found = server.post("/v2/models/news/infer", iris)
    assert (found.status, set(found.json())) == (400, {"error"})
    assert "FP32" in found.json()["error"]


@pytest.mark.parametrize(
    "inputs",
    [
        tensor(TEXTS),
        tensor(TEXTS, [6, 1]),
        tensor([[text] for text in TEXTS], [6, 1]),
        tensor(TEXTS, name="input0"),
    ],
)
def test_v2_numbers(server: Server, news: lt.TextClassifier, inputs: dict[str, Any]) -> None:
    version = server.get("/v2/models/news").json()["versions"][0]
    for path in ("/v2/models/news/infer", f"/v2/models/news/versions/{version}/infer"):
        names = ("logits", "label", "probabilities", "probability")
        body = {
            "id": "42",
            "parameters": {"a": 1},
            "inputs": [inputs],
            "outputs": [{"name": name} for name in names],
        }
        answer = server.post(path, body)
        assert answer.status == 200
        found = answer.json()
        assert (found["id"], found["parameters"]) == ("42", {"a": 1})
        assert (found["model_name"], found["model_version"]) == ("news", version)
        got = outputs(found)
        assert tuple(got) == names
        shares = news.predict_proba(TEXTS)
        np.testing.assert_array_equal(got["logits"], news.logits(TEXTS))
        np.testing.assert_array_equal(got["probabilities"], shares)
        np.testing.assert_array_equal(got["probability"], shares.max(axis=1))
        assert got["label"].tolist() == news.predict(TEXTS).tolist()
    del body["outputs"]
    found = server.post(path, body).json()
    assert [(each["name"], each["datatype"], each["shape"]) for each in found["outputs"]] == [
        ("label", "BYTES", [6]),
        ("probability", "FP32", [6]),
    ]


def test_v2_one_text_is_as_one_of_many(server: Server, news: lt.TextClassifier) -> None:
    for text in (*TEXTS, "", "long " * 390):
        body = {"inputs": [tensor([text])], "outputs": [{"name": "logits"}]}
        got = outputs(server.post("/v2/models/news/infer", body).json())
        np.testing.assert_array_equal(got["logits"], news.logits([text]))


def test_v2_several_labels(server: Server, topics: lt.TextClassifier) -> None:
    found = server.post("/v2/models/topics/infer", {"inputs": [tensor(TEXTS)]}).json()
    assert "id" not in found
    got = outputs(found)
    assert tuple(got) == ("labels", "probabilities")
    np.testing.assert_array_equal(got["probabilities"], topics.predict_proba(TEXTS))
    classes = topics.classes_
    assert [classes[row].tolist() for row in got["labels"]] == [list(each) for each in topics.predict(TEXTS)]
    for name in ("label", "probability"):
        body = {"inputs": [tensor(TEXTS)], "outputs": [{"name": name}]}
        refused = server.post("/v2/models/topics/infer", body)
        assert refused.status == 400
        assert "several labels" in refused.json()["error"]


def test_v2_long_batch(server: Server, news: lt.TextClassifier) -> None:
    texts = [f"text number {number}" for number in range(2500)]
    body = {"inputs": [tensor(texts)], "outputs": [{"name": "logits"}, {"name": "label"}]}
    got = outputs(server.post("/v2/models/news/infer", body).json())
    np.testing.assert_array_equal(got["logits"], news.logits(texts))
    assert got["label"].tolist() == news.predict(texts).tolist()


def test_v2_reading(server: Server, news: lt.TextClassifier) -> None:
    version = server.get("/models/news").json()["fingerprint"]
    for path in ("/v2", "/v2/"):
        assert server.get(path).json() == {"name": "logitext", "version": lt.__version__, "extensions": []}
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json()["ready"] is True
    for path in ("/v2/models/news", f"/v2/models/news/versions/{version}"):
        assert server.get(f"{path}/ready").json() == {"name": "news", "ready": True}
        said = server.get(path).json()
        assert said["name"] == "news"
        assert said["versions"] == [version]
        assert said["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        assert {each["name"]: each["shape"] for each in said["outputs"]} == {
            "label": [-1],
            "probability": [-1],
            "probabilities": [-1, 3],
            "logits": [-1, 3],
        }
        assert said["parameters"]["classes"] == news.classes_.tolist()
    assert server.get("/v2/models/topics").json()["parameters"]["multilabel"] is True


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/nothing/ready", 404),
        ("GET", "/v2/models/news/versions/1", 404),
        ("GET", "/v2/models/news/versions/1/ready", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/news/", 404),
        ("GET", "/v2/models/news/versions", 404),
        ("GET", "/v2/models//ready", 404),
        ("GET", "/v2/health", 404),
        ("GET", "/v2/models/news/infer", 405),
        ("POST", "/v2/models/news", 405),
        ("POST", "/v2", 405),
        ("POST", "/v2/models/nothing/infer", 404),
        ("POST", "/v2/models/news/versions/1/infer", 404),
        ("POST", "/v2/models/news/generate", 404),
    ],
)
def test_v2_paths(server: Server, method: str, path: str, status: int) -> None:
    body = {"inputs": [tensor(["a"])]} if method == "POST" else None
    found = server.request(method, path, body)
    assert (found.status, set(found.json())) == (status, {"error"})


WRONG: list[tuple[Any, int, str]] = [
    ([], 400, "object"),
    (None, 400, "object"),
    ({}, 400, '"inputs"'),
    ({"inputs": []}, 400, "0 tensors"),
    ({"inputs": {}}, 400, "an object"),
    ({"inputs": [1]}, 400, "inputs[0]"),
    ({"inputs": [tensor(["a"]), tensor(["a"])]}, 400, "2 tensors"),
    ({"inputs": [{"datatype": "BYTES", "shape": [1], "data": ["a"]}]}, 400, "name"),
    ({"inputs": [{"name": "x", "shape": [1], "data": ["a"]}]}, 400, "datatype"),
    ({"inputs": [tensor(["a"], datatype=["BYTES"])]}, 400, "datatype"),
    ({"inputs": [tensor(["a"], datatype="bytes")]}, 400, "datatype"),
    ({"inputs": [{"name": "x", "datatype": "BYTES", "data": ["a"]}]}, 400, "shape"),
    ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1]}]}, 400, "data"),
    ({"inputs": [tensor(["a"], [1, 2])]}, 400, "shape"),
    ({"inputs": [tensor(["a"], [1, 1, 1])]}, 400, "shape"),
    ({"inputs": [tensor(["a"], [-1])]}, 400, "shape"),
    ({"inputs": [tensor(["a"], [True])]}, 400, "shape"),  # type: ignore[list-item]
    ({"inputs": [tensor(["a"], [1.5])]}, 400, "shape"),  # type: ignore[list-item]
    ({"inputs": [tensor(["a"], [])]}, 400, "shape"),
    ({"inputs": [tensor(["a"], [2**63])]}, 400, "elements"),
    ({"inputs": [tensor(["a", "b"], [3])]}, 400, "elements"),
    ({"inputs": [tensor([], [0])]}, 400, "empty"),
    ({"inputs": [tensor([], [0, 1])]}, 400, "empty"),
    ({"inputs": [tensor("a", [1])]}, 400, "data"),
    ({"inputs": [tensor([["a"]], [1])]}, 400, "data[0]"),
    ({"inputs": [tensor([["a"], "b"], [2, 1])]}, 400, "data[0]"),
    ({"inputs": [tensor([["a", "b"]], [1, 1])]}, 400, "data[0]"),
    ({"inputs": [tensor(["a", None])]}, 400, "data[1]"),
    ({"inputs": [tensor(["a", 1.5])]}, 400, "data[1]"),
    ({"inputs": [tensor(["a", {}])]}, 400, "data[1]"),
    ({"inputs": [tensor(["a"], parameters=3)]}, 400, "parameters"),
    ({"inputs": [tensor(["a"])], "id": 42}, 400, '"id"'),
    ({"inputs": [tensor(["a"])], "parameters": []}, 400, "parameters"),
    ({"inputs": [tensor(["a"])], "outputs": {}}, 400, "outputs"),
    ({"inputs": [tensor(["a"])], "outputs": ["label"]}, 400, "outputs[0]"),
    ({"inputs": [tensor(["a"])], "outputs": [{"name": 1}]}, 400, "outputs[0].name"),
    ({"inputs": [tensor(["a"])], "outputs": [{"name": "embedding"}]}, 400, "embedding"),
    ({"inputs": [tensor(["a"])], "outputs": [{"name": "label"}] * 2}, 400, "twice"),
    ({"inputs": [tensor(["a"])], "outputs": [{"name": "labels"}]}, 400, "gives one"),
    ({"inputs": [tensor(["a" * 2001])]}, 413, "too long"),
    ({"inputs": [tensor(["a"] * 2501)]}, 413, "2,501"),
]


@pytest.mark.parametrize(("body", "status", "said"), WRONG)
def test_v2_refuses(server: Server, body: Any, status: int, said: str) -> None:
    found = server.request("POST", "/v2/models/news/infer", json.dumps(body), JSON_KIND)
    assert (found.status, set(found.json())) == (status, {"error"})
    assert said in found.json()["error"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "said"),
    [
        ({"Content-Type": "application/octet-stream"}, b"{}", 415, "application/json"),
        ({**JSON_KIND, "Inference-Header-Content-Length": "2"}, b"{}\x01\x00\x00\x00a", 415, "appended"),
        (JSON_KIND, b"", 400, "empty"),
        (JSON_KIND, b"{", 400, "JSON"),
        (JSON_KIND, b'{"inputs": "\xff"}', 400, "UTF-8"),
        (JSON_KIND, b"[" * 100_000, 400, "JSON"),
        (JSON_KIND, b" " * 400_001, 413, "bytes"),
    ],
)
def test_v2_bodies(server: Server, headers: dict[str, str], body: bytes, status: int, said: str) -> None:
    found = server.request("POST", "/v2/models/news/infer", body, headers)
    assert (found.status, set(found.json())) == (status, {"error"})
    assert said in found.json()["error"]
