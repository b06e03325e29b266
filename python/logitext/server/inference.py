"""The Open Inference Protocol, version 2, over HTTP: texts as a tensor of BYTES, answers as tensors.

The version of a model is its fingerprint. Errors are 400, as the protocol has it; but 404 for what is
not there, 413 for more than the limits, 415 for what is not JSON. Of the protocol's extensions none is
known, so tensors are JSON and not appended as bytes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import __version__
from logitext.logits import argmax
from logitext.multilabel import decide
from logitext.server.gate import check_kind
from logitext.server.questions import check_text, check_texts, is_whole, kind_of, parsed
from logitext.server.replies import Problem, Reply, Stream, encoded, of_json
from logitext.server.serving import AT_ONCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitext.server.app import App, Request
    from logitext.server.serving import Models, Serving
    from logitext.server.settings import Limits

INPUT = "text"
"""What the one input is called; any name will do."""
OF_ONE_LABEL = {"label": "BYTES", "probability": "FP32", "probabilities": "FP32", "logits": "FP32"}
OF_SEVERAL = {"labels": "BOOL", "probabilities": "FP32", "logits": "FP32"}
"""Output tensors: with which of the classes are given, where that may be several, in place of the one."""
PER_CLASS = ("labels", "probabilities", "logits")

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")


@dataclass(frozen=True)
class Asked:
    """Texts, and the tensors that are wanted."""

    texts: list[str]
    outputs: list[str]
    echoed: dict[str, Any]
    """``id`` and ``parameters``, so far as they were given."""


def routes(app: App, path: str) -> dict[str, Callable[[Request], Awaitable[Reply | Stream]]] | None:
    """Return what takes work, by method."""
    match = _PATH.fullmatch(path)
    if match is None or match[3] != "infer":
        return None
    return {"POST": lambda request: infer(app, request, match[1], match[2])}


def readable(app: App, path: str) -> Callable[[], Reply] | None:
    """Return what can only be read, and takes no time."""
    if path in ("/v2", "/v2/"):
        return lambda: of_json({"name": "logitext", "version": __version__, "extensions": []})
    if path == "/v2/health/live":
        return lambda: of_json({"live": True})
    if path == "/v2/health/ready":
        return lambda: _ready(app)
    match = _PATH.fullmatch(path)
    if match is None or match[3] == "infer":
        return None
    name, version = match[1], match[2]
    if match[3] == "ready":
        return lambda: of_json({"name": found(app.models, name, version).name, "ready": True})
    return lambda: of_json(metadata(found(app.models, name, version)))


def _ready(app: App) -> Reply:
    # "live" is what the text of the protocol calls it here too.
    app.ready()
    return of_json({"live": True, "ready": True})


def found(models: Models, name: str, version: str | None) -> Serving:
    """Return a model of that name and, if given, version.

    Raises
    ------
    Problem
        404.
    """
    serving = models.find(name)
    if version not in (None, serving.fingerprint):
        raise Problem(
            404, f"there is no version {str(version)[:100]!r} of {name!r}: there is {serving.fingerprint!r}"
        )
    return serving


def outputs_of(serving: Serving) -> dict[str, str]:
    """Return the output tensors of a model and their datatypes."""
    return OF_SEVERAL if serving.several else OF_ONE_LABEL


def default_of(serving: Serving) -> list[str]:
    """Return the outputs that are given unless others are asked for."""
    return ["labels", "probabilities"] if serving.several else ["label", "probability"]


def metadata(serving: Serving) -> dict[str, Any]:
    """Return what a model takes and gives."""
    k = len(serving.names)
    return {
        "name": serving.name,
        "versions": [serving.fingerprint],
        "platform": "logitext",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": kind, "shape": [-1, k] if name in PER_CLASS else [-1]}
            for name, kind in outputs_of(serving).items()
        ],
        "parameters": {
            "classes": serving.names,
            "multilabel": serving.several,
            "default_outputs": default_of(serving),
        },
    }


async def infer(app: App, request: Request, name: str, version: str | None) -> Reply:
    """Answer the texts of a tensor by tensors."""
    if b"inference-header-content-length" in request.headers:
        raise Problem(415, "tensors appended as bytes are not read: send their data as JSON")
    check_kind(request.headers)
    value = parsed(await app.body(request))
    serving = found(app.models, name, version)
    asked = question(value, serving, app.limits)
    texts = request.texts = asked.texts
    serving.check_size(len(texts), {name: True for name in asked.outputs if name in PER_CLASS})
    if len(texts) == 1 and len(texts[0]) <= app.short:
        return Reply(answer(serving, asked, [tensors(serving, asked, texts)]), texts=1)
    parts: list[list[NDArray[Any]]] = []
    for begin in range(0, len(texts), AT_ONCE):
        part = texts[begin : begin + AT_ONCE]
        parts.append(await app.elsewhere(request, partial(tensors, serving, asked, part)))
    body = await app.elsewhere(request, partial(answer, serving, asked, parts))
    return Reply(body, texts=len(texts))


def tensors(serving: Serving, asked: Asked, texts: list[str]) -> list[NDArray[Any]]:
    """Return the output tensors of some texts; of labels their numbers."""
    z = serving.logits(texts)
    shares, decided = serving.model.probabilities(z), argmax(z)
    found: list[NDArray[Any]] = []
    for name in asked.outputs:
        if name == "label":
            found.append(decided)
        elif name == "probability":
            found.append(shares[np.arange(len(z)), decided])
        elif name == "labels":
            assert serving.classifier.thresholds_ is not None
            given = np.zeros(z.shape, bool)
            given.reshape(-1)[decide(z, serving.classifier.thresholds_).at] = True
            found.append(given)
        else:
            found.append(shares if name == "probabilities" else z)
    return found


def answer(serving: Serving, asked: Asked, parts: list[list[NDArray[Any]]]) -> bytes:
    """Return the response as JSON, from the tensors of its parts."""
    outputs = []
    for name, column in zip(asked.outputs, zip(*parts, strict=True), strict=True):
        whole = np.concatenate(column)
        data: Any = np.ascontiguousarray(whole).reshape(-1)
        if name == "label":
            data = [serving.names[at] for at in whole.tolist()]
        kind = outputs_of(serving)[name]
        outputs.append({"name": name, "datatype": kind, "shape": list(whole.shape), "data": data})
    said = {"model_name": serving.name, "model_version": serving.fingerprint}
    return encoded({**said, **asked.echoed, "outputs": outputs})


def question(value: Any, serving: Serving, limits: Limits) -> Asked:
    """Return what is asked.

    Raises
    ------
    Problem
        400, or 413 of too many or too long texts.
    """
    given = _object(value, "the body")
    echoed: dict[str, Any] = {}
    if "id" in given:
        if type(given["id"]) is not str:
            raise Problem(400, f'"id" must be a string, got {kind_of(given["id"])}')
        echoed["id"] = given["id"]
    if given.get("parameters") is not None:
        echoed["parameters"] = _object(given["parameters"], '"parameters"')
    inputs = given.get("inputs")
    if type(inputs) is not list or len(inputs) != 1:
        got = f"{len(inputs)} tensors" if type(inputs) is list else kind_of(inputs)
        raise Problem(400, f'"inputs" must be a list of one tensor of texts, got {got}')
    texts = texts_of(_object(inputs[0], '"inputs[0]"'), limits)
    return Asked(texts, _wanted(given.get("outputs"), serving), echoed)


def texts_of(tensor: dict[str, Any], limits: Limits) -> list[str]:
    """Return the texts of an input tensor.

    Raises
    ------
    Problem
    """
    if type(tensor.get("name")) is not str:
        raise Problem(400, f'"inputs[0].name" must be a string, got {kind_of(tensor.get("name"))}')
    datatype = tensor.get("datatype")
    if datatype != "BYTES":
        got = repr(datatype[:100]) if type(datatype) is str else kind_of(datatype)
        raise Problem(400, f'"inputs[0].datatype" must be "BYTES", for the model reads texts; got {got}')
    if tensor.get("parameters") is not None:
        _object(tensor["parameters"], '"inputs[0].parameters"')
    shape, data = tensor.get("shape"), tensor.get("data")
    if (
        type(shape) is not list
        or not all(is_whole(size) and size >= 0 for size in shape)
        or len(shape) not in (1, 2)
        or shape[1:] not in ([], [1])
    ):
        raise Problem(400, '"inputs[0].shape" must be [n] or [n, 1], of n texts')
    if type(data) is not list:
        raise Problem(400, f'"inputs[0].data" must be a list of strings, got {kind_of(data)}')
    if len(data) != shape[0]:
        raise Problem(
            400, f'"inputs[0].data" has {len(data):,} elements, and by its shape it has {shape[0]:,.0f}'
        )
    if len(shape) == 2 and data and all(type(row) is list and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    check_texts(data, "inputs[0].data", limits)
    for row, text in enumerate(data):
        check_text(text, f"inputs[0].data[{row}]", limits)
    texts: list[str] = data
    return texts


def _wanted(outputs: Any, serving: Serving) -> list[str]:
    """Return the names of the tensors that are asked for."""
    if outputs is None or outputs == []:
        return default_of(serving)
    if type(outputs) is not list:
        raise Problem(400, f'"outputs" must be a list, got {kind_of(outputs)}')
    known, wanted = outputs_of(serving), []
    for number, each in enumerate(outputs):
        name = _object(each, f'"outputs[{number}]"').get("name")
        if type(name) is not str:
            raise Problem(400, f'"outputs[{number}].name" must be a string, got {kind_of(name)}')
        if name not in known:
            why = "this model gives a text several labels" if serving.several else "this model gives one"
            there = ", ".join(map(repr, known))
            more = f", for {why}" if name in OF_ONE_LABEL or name in OF_SEVERAL else ""
            raise Problem(400, f"there is no output {name[:100]!r}{more}: there are {there}")
        if name in wanted:
            raise Problem(400, f'"outputs" names {name!r} twice')
        wanted.append(name)
    return wanted


def _object(value: Any, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise Problem(400, f"{what} must be an object, got {kind_of(value)}")
    return value
