"""The OpenAPI document: all that can be asked of this server, with its limits and its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitext import __version__
from logitext.server.openapi_schemas import FINGERPRINT, Schema, schemas

if TYPE_CHECKING:
    from logitext.server.serving import Models
    from logitext.server.settings import Settings

ABOUT = """Texts in; labels, probabilities, logits and their explanation out.

Bodies and answers are JSON in UTF-8. An error is a sentence. A request must bear a Host that is this
machine's own or allowed, and an Origin, if it bears one, that is the server's own or allowed. A body must
arrive, and its answer be made, within {seconds:g} s; it has at most {body:,} bytes."""

TEXT = "A new phone with a better camera"
OTHER = "The minister resigned after the vote"
_ROW = {"label": "Technology", "probability": 0.98}
_OF = {"model": "news", "fingerprint": FINGERPRINT}
_SCORES = [{"score": 0.98, "label": "Technology"}, {"score": 0.02, "label": "News"}]


def document(settings: Settings, models: Models) -> dict[str, Any]:
    """Return the description of all that can be asked."""
    limits = settings.limits
    about = ABOUT.format(seconds=limits.seconds, body=limits.body)
    guarded: list[Schema] = [{"bearer": []}] if settings.token is not None else []
    return {
        "openapi": "3.1.0",
        "info": {"title": "Logitext", "version": __version__, "description": about},
        "security": guarded,
        "tags": [{"name": name, "description": said} for name, said in TAGS.items()],
        "paths": {
            **_prediction(),
            **_models(models),
            **_inference(models),
            **_server(),
        },
        "components": {
            "schemas": schemas(limits),
            "responses": {name: _error(said) for name, said in ERRORS.items()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token the server was started with, if it was. Without it: 401.",
                }
            },
        },
    }


TAGS = {
    "prediction": "Texts and what the model says of them.",
    "models": "What is served.",
    "inference": "The Open Inference Protocol, version 2.",
    "server": "How it is doing.",
}

ERRORS = {
    "400": "The request, or a field of it, has another shape than it should; or no Host.",
    "401": "No token, or a wrong one.",
    "403": "A web page of another origin asks, and was not allowed to.",
    "404": "There is no such model, version or report.",
    "408": "The request did not arrive in time.",
    "413": "The body, a text, the number of texts or the answer is too large.",
    "415": "The body is not said to be JSON in UTF-8, or is compressed.",
    "421": "The request is for a host that is not this server's.",
    "422": "A value is out of its range, or the model cannot give what is asked.",
    "424": "Of a request with `inputs`: the answer could not be made in time.",
    "429": "Of a request with `inputs`: too much is asked at once; try again in a moment.",
    "431": "The headers are too large.",
    "503": "Too much is asked at once, the answer takes too long, or the server is ending.",
}
ANYWHERE = ("400", "401", "403", "408", "421", "431")
"""What any request may get; without a token to bear, not 401."""


def _error(said: str) -> Schema:
    shape = {"$ref": "#/components/schemas/Error"}
    if "`inputs`" in said:
        shape = {"$ref": "#/components/schemas/ScoresError"}
    return {"description": said, "content": {"application/json": {"schema": shape}}}


def _json(name: str, said: str, examples: dict[str, Any] | None = None) -> Schema:
    names = name.split()
    refs = [{"$ref": f"#/components/schemas/{each}"} for each in names]
    content: Schema = {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}
    if examples:
        content["examples"] = {key: {"value": value} for key, value in examples.items()}
    return {"description": said, "content": {"application/json": content}}


def _body(name: str, examples: dict[str, Any]) -> Schema:
    content = _json(name, "", examples)["content"]
    return {"required": True, "content": content}


def _operation(
    tag: str, name: str, summary: str, good: Schema, errors: str = "", *, open_: bool = False, **more: Any
) -> Schema:
    codes = sorted({*ANYWHERE, *errors.split()} - ({"401"} if open_ else set()))
    responses = {code: {"$ref": f"#/components/responses/{code}"} for code in codes}
    free: Schema = {"security": []} if open_ else {}
    return {
        "tags": [tag],
        "operationId": name,
        "summary": summary,
        **free,
        **more,
        "responses": {"200": good, **responses},
    }


def _prediction() -> dict[str, Schema]:
    asked = {
        "one": {"text": TEXT},
        "several": {"texts": [TEXT, OTHER], "probabilities": True, "top_k": 2},
        "explained": {"text": TEXT, "logits": True, "explain": True},
        "streamed": {"texts": [TEXT, OTHER], "stream": True},
        "text-embeddings-inference": {"inputs": TEXT},
        "text-embeddings-inference, batch": {"inputs": [[TEXT], [OTHER]], "raw_scores": True},
    }
    answered = {
        "one": {**_OF, **_ROW},
        "several": {**_OF, "answers": [_ROW]},
        "text-embeddings-inference": _SCORES,
        "text-embeddings-inference, batch": [_SCORES],
    }
    good = _json("Answer Answers Scores ScoresOfBatch", "The answer, in the shape of the question.", answered)
    lines = {
        "type": "string",
        "description": "A Row as JSON, and a line feed, for each text; an Error in place of the rest "
        "if it cannot be made in time.",
    }
    good["content"]["application/x-ndjson"] = {
        "schema": lines,
        "examples": {"streamed": {"value": '{"label": "Technology", "probability": 0.98}\n'}},
    }
    good["headers"] = {
        "X-Logitext-Fingerprint": {
            "description": "Of an answer in lines: which version of the model gives them.",
            "schema": {"type": "string"},
        }
    }
    operation = _operation(
        "prediction",
        "predict",
        "Answer one text or several",
        good,
        "404 413 415 422 424 429 503",
        description="Three bodies: `text`, `texts`, or `inputs` as clients of text-embeddings-inference "
        "send. Errors of the last have an `error_type`: of another shape 422, of an empty text or batch 400.",
        requestBody=_body("Question Questions ScoresQuestion", asked),
    )
    both = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Error", "ScoresError")]}
    for code in ("400", "404", "413", "422"):
        content = {"application/json": {"schema": both}}
        operation["responses"][code] = {"description": ERRORS[code], "content": content}
    return {"/predict": {"post": operation}}


def _parameter(name: str, said: str, example: str) -> Schema:
    shape = {"type": "string", "minLength": 1}
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": said,
        "schema": shape,
        "example": example,
    }


def _model_name(models: Models) -> Schema:
    found = _parameter("name", "Of a model.", models.default)
    found["schema"]["enum"] = [one.name for one in models]
    return found


def _models(models: Models) -> dict[str, Schema]:
    name = _model_name(models)
    html = {"description": "The report.", "content": {"text/html": {"schema": {"type": "string"}}}}
    return {
        "/models": {"get": _operation("models", "models", "List the models", _json("Models", "The models."))},
        "/models/{name}": {
            "parameters": [name],
            "get": _operation("models", "model", "Describe a model", _json("ModelCard", "The model."), "404"),
        },
        "/models/{name}/report": {
            "parameters": [name],
            "get": _operation("models", "report", "Show the report of a model as a page", html, "404"),
        },
        "/models/{name}/reload": {
            "parameters": [name],
            "post": _operation(
                "models",
                "reload",
                "Read the file of a model anew",
                _json("Reloaded", "It answers from now on.", {"reloaded": {**_OF, "previous": "0" * 16}}),
                "404 413 422 503",
                description="In every worker, or, if that cannot be, in none: 422. The body is of no effect.",
            ),
        },
    }


def _inference(models: Models) -> dict[str, Schema]:
    name = _model_name(models)
    fingerprint = models.find(None).fingerprint
    version = _parameter("version", "Of the model: its fingerprint.", fingerprint)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2], "data": [TEXT, OTHER]}
    asked = {
        "plain": {"inputs": [tensor]},
        "chosen": {"id": "42", "inputs": [tensor], "outputs": [{"name": "logits"}]},
    }
    numbers = {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -0.5]}
    said = {"model_name": "news", "model_version": FINGERPRINT}
    answered = _json(
        "InferenceResponse", "The tensors.", {"chosen": {**said, "id": "42", "outputs": [numbers]}}
    )
    found: dict[str, Schema] = {}
    for path, parameters, more in (
        ("/v2/models/{name}", [name], ""),
        ("/v2/models/{name}/versions/{version}", [name, version], "OfVersion"),
    ):
        described = _operation(
            "inference", f"v2Model{more}", "Describe a model", _json("ModelMetadata", "The model."), "404"
        )
        ready = _operation(
            "inference",
            f"v2Ready{more}",
            "Say whether a model answers",
            _json("ModelReady", "It does."),
            "404",
        )
        infer = _operation(
            "inference",
            f"v2Infer{more}",
            "Answer the texts of a tensor",
            answered,
            "404 413 415 503",
            requestBody=_body("InferenceRequest", asked),
        )
        found[path] = {"parameters": parameters, "get": described}
        found[f"{path}/ready"] = {"parameters": parameters, "get": ready}
        found[f"{path}/infer"] = {"parameters": parameters, "post": infer}
    about, health = _json("ServerMetadata", "The server."), _json("ServerHealth", "It is.")
    return {
        "/v2": {"get": _operation("inference", "v2Server", "Describe the server", about)},
        "/v2/health/live": {"get": _operation("inference", "v2Live", "Say whether it is alive", health)},
        "/v2/health/ready": {
            "get": _operation("inference", "v2HealthReady", "Say whether requests are welcome", health, "503")
        },
        **found,
    }


def _server() -> dict[str, Schema]:
    def plain(kind: str, said: str, shape: Schema) -> Schema:
        return {"description": said, "content": {kind: {"schema": shape}}}

    status = {
        "type": "object",
        "properties": {
            "status": {"type": "string", "description": "`ok`; `ready`."},
            "models": {"type": "array", "items": {"type": "string"}, "description": "Their names."},
        },
        "required": ["status"],
    }
    text, whole = {"type": "string"}, {"type": "object", "required": ["openapi", "paths"]}
    rows = (
        ("/health", "health", "Say whether it is alive", "application/json", status, True, ""),
        ("/ready", "ready", "Say whether requests are welcome", "application/json", status, True, "503"),
        ("/metrics", "metrics", "Counts for Prometheus", "text/plain", text, False, ""),
        ("/openapi.json", "openapi", "This document", "application/json", whole, True, ""),
        ("/docs", "docs", "This document as a page", "text/html", text, True, ""),
        ("/", "page", "The page for people", "text/html", text, True, ""),
    )
    return {
        path: {
            "get": _operation("server", name, summary, plain(kind, f"{summary}.", shape), errors, open_=free)
        }
        for path, name, summary, kind, shape, free, errors in rows
    }
