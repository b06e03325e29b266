"""The OpenAPI document as a page to read: plain HTML, without a script or a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from logitext.server.openapi import ANYWHERE
from logitext.server.replies import Headers, Reply

Schema = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem } h3 { margin: 2rem 0 .3rem }
code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { white-space: pre-wrap; overflow-wrap: anywhere }
pre { padding: .6rem .8rem; border: 1px solid #8886; border-radius: 6px; margin: .4rem 0 }
table { border-collapse: collapse; width: 100% }
td { vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8884 }
td:first-child { white-space: nowrap }
nav ul { columns: 24rem; padding-left: 1.2rem }
.method { font-size: .8em; padding: 0 .4em; border: 1px solid #8888; border-radius: 4px; margin-right: .4em }
.kind { opacity: .75 }
"""
_HEADERS: Headers = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


def reply(document: Schema) -> Reply:
    """Return the page."""
    return Reply(page(document).encode(), kind=b"text/html; charset=utf-8", headers=_HEADERS)


def page(document: Schema) -> str:
    """Return the HTML of a document of `logitext.server.openapi`."""
    return "".join(_page(document))


def _page(document: Schema) -> Iterator[str]:
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: the API</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{title}: the API</h1>"
    for paragraph in info["description"].split("\n\n"):
        yield f"<p>{_prose(paragraph)}</p>"
    if document["security"]:
        yield "<p>Requests must bear the token: <code>Authorization: Bearer TOKEN</code>.</p>"
    yield '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
    operations = [
        (path, method, each[method], each.get("parameters", []))
        for path, each in document["paths"].items()
        for method in ("get", "post")
        if method in each
    ]
    yield "<nav><ul>"
    for path, _, operation, _ in operations:
        yield f'<li><a href="#{operation["operationId"]}"><code>{escape(path)}</code></a></li>'
    yield "</ul></nav>"
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['description'].rstrip('.'))}</h2>"
        for path, method, operation, parameters in operations:
            if tag["name"] in operation["tags"]:
                yield from _operation(path, method, operation, parameters, document)
    yield "<h2>Errors of any request</h2>"
    shared = document["components"]["responses"]
    yield from _table(
        [(status, "", shared[status]["description"]) for status in ANYWHERE if status in shared]
    )
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{name}">{name}</h3><p>{_prose(schema.get("description", ""))}</p>'
        yield from _fields(schema)
    yield "</body></html>\n"


def _operation(
    path: str, method: str, operation: Schema, parameters: list[Schema], document: Schema
) -> Iterator[str]:
    name = operation["operationId"]
    yield f'<h3 id="{name}"><span class="method">{method.upper()}</span><code>{escape(path)}</code></h3>'
    yield f"<p>{_prose(operation['summary'])}. {_prose(operation.get('description', ''))}</p>"
    if parameters:
        rows = [(each["name"], "string", each["description"]) for each in parameters]
        yield from _table(rows)
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        yield f"<p>Body: {_kind(content['schema'])}.</p>"
        for title, example in content["examples"].items():
            yield f'<p class="kind">{escape(title)}:</p>'
            yield f"<pre>{escape(json.dumps(example['value'], ensure_ascii=False))}</pre>"
    rows = []
    for status, response in operation["responses"].items():
        if status in ANYWHERE and "$ref" in response:
            continue
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        kinds = [
            f"{escape(kind)}: {_kind(each['schema'])}" if kind == "application/json" else escape(kind)
            for kind, each in response["content"].items()
        ]
        rows.append((status, "; ".join(kinds), response["description"]))
    yield from _table(rows)


def _table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    yield "<table>"
    for name, kind, said in rows:
        yield f'<tr><td><code>{escape(name)}</code></td><td class="kind">{kind}</td>'
        yield f"<td>{_prose(said)}</td></tr>"
    yield "</table>"


def _fields(schema: Schema) -> Iterator[str]:
    properties = schema.get("properties")
    if not properties:
        yield f'<p class="kind">{_kind(schema)}</p>'
        return
    rows = []
    for name, field in properties.items():
        if field is False:  # It must not be there.
            continue
        needed = "" if name in schema.get("required", []) else ", optional"
        rows.append((name, _kind(field) + needed, field.get("description", "")))
    yield from _table(rows)


def _kind(schema: Schema) -> str:
    """Return what a schema allows, in a few words of HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    said = " or ".join(kinds)
    if kinds == ["array"] and isinstance(schema.get("items"), dict):
        said = f"list of {_kind(schema['items'])}"
    limits = [
        f"{word} {schema[key]:,}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("exclusiveMinimum", "above"),
            ("exclusiveMaximum", "below"),
            ("minItems", "at least"),
            ("maxItems", "at most"),
        )
        if key in schema
    ]
    return " ".join([said, *limits])


def _prose(text: str) -> str:
    """Return text as HTML; what stands between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
