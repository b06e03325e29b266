"""What clients of text-embeddings-inference ask of ``POST /predict``, and the answers they expect.

Their server says which: a body with ``inputs``, a list of ``{"score", "label"}`` by falling score, and
errors as ``{"error", "error_type"}``. Where its documentation and its code differ, as for a batch that is
too large (413 and 422), this follows the documentation; ``error_type`` is spelled as its schema does.
Beyond theirs, ``model`` chooses among ours: an unknown one is 404.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.server.questions import FIELDS, check_text, kind_of
from logitext.server.replies import Overloaded, Problem, Reply, encoded

if TYPE_CHECKING:
    from logitext.server.app import App, Request
    from logitext.server.serving import Serving
    from logitext.server.settings import Limits

SCORES_AT_ONCE = 100_000
"""So many are written between looks at the clock: a tenth of a second."""


@dataclass(frozen=True)
class Asked:
    """Texts, and the scores that are wanted."""

    texts: list[str]
    single: bool
    raw: bool
    model: str | None


async def predict(app: App, request: Request, value: dict[str, Any]) -> Reply:
    """Answer a body that has ``inputs``."""
    try:
        asked = question(value, app.limits)
        request.texts = asked.texts
        serving = app.models.find(asked.model)
        serving.check_size(len(asked.texts), {"logits": True})
        if asked.single and len(asked.texts[0]) <= app.short:
            return Reply(scored(serving, asked.texts, asked.raw)[0], texts=1)
        rows: list[bytes] = []
        step = max(1, min(1000, SCORES_AT_ONCE // len(serving.names)))
        for begin in range(0, len(asked.texts), step):
            part = asked.texts[begin : begin + step]
            rows += await app.elsewhere(request, partial(scored, serving, part, asked.raw))
        body = rows[0] if asked.single else b"[" + b",".join(rows) + b"]"
        return Reply(body, texts=len(asked.texts))
    except Problem as problem:
        return theirs(problem)


def question(value: dict[str, Any], limits: Limits) -> Asked:
    """Return what is asked.

    Raises
    ------
    Problem
        400 of what is empty, 413 of too many or too long texts, 422 of another shape.
    """
    for name in value:
        if name in FIELDS and name != "model":
            raise Problem(422, f'"{name}" belongs to a request with "text" or "texts", not with "inputs"')
    raw = value.get("raw_scores", False)
    if type(raw) is not bool:
        raise Problem(422, f'"raw_scores" must be true or false, got {kind_of(raw)}')
    if type(cut := value.get("truncate")) not in (bool, type(None)):
        raise Problem(422, f'"truncate" must be true, false or null, got {kind_of(cut)}')
    if value.get("truncation_direction", "right") not in ("left", "right", "Left", "Right"):
        raise Problem(422, '"truncation_direction" must be "left" or "right"')
    model = value.get("model")
    if type(model) not in (str, type(None)):
        raise Problem(422, f'"model" must be a string, got {kind_of(model)}')
    return Asked(*texts_of(value["inputs"], limits), raw, model)


def texts_of(inputs: Any, limits: Limits) -> tuple[list[str], bool]:
    """Return the texts of ``inputs``, and whether it is one and not a batch.

    Raises
    ------
    Problem
    """
    if type(inputs) is str:
        texts, single = [_one([inputs], "inputs", limits)], True
    elif type(inputs) is not list:
        raise Problem(422, f'"inputs" must be a string or a list of lists, got {kind_of(inputs)}')
    elif inputs and type(inputs[0]) is not list:
        # A list of one string is that string to their server, and a list of two a pair.
        texts, single = [_one(inputs, "inputs", limits)], True
    else:
        if not inputs:
            raise Problem(400, '"inputs" is empty: give at least one text')
        if len(inputs) > limits.texts:
            raise Problem(413, f"batch size {len(inputs)} > maximum allowed batch size {limits.texts}")
        texts = [_one(each, f"inputs[{row}]", limits) for row, each in enumerate(inputs)]
        single = False
    return texts, single


def _one(given: Any, where: str, limits: Limits) -> str:
    """Return the text of a list of one."""
    if type(given) is not list:
        raise Problem(422, f'"{where}" must be a list of one string, got {kind_of(given)}')
    for text in given:
        if type(text) is not str:
            raise Problem(422, f'"{where}" must hold strings, got {kind_of(text)}')
    if len(given) == 2:
        raise Problem(
            422,
            f'"{where}" is a pair of strings, which are for cross-encoders: this model reads single texts',
        )
    if len(given) != 1:
        hint = '; a batch is a list of lists: [["…"], ["…"]]' if where == "inputs" else ""
        raise Problem(422, f'"{where}" must hold one string, got {len(given)}{hint}')
    if not given[0]:
        raise Problem(400, f'"{where}" cannot be empty')
    check_text(given[0], where, limits)
    return str(given[0])


def scored(serving: Serving, texts: list[str], raw: bool) -> list[bytes]:
    """Return the scores of each text as JSON, the largest first; equal ones by logit, then by class."""
    z = serving.logits(texts)
    scores = z if raw else serving.model.probabilities(z)
    order = np.lexsort((-z, -scores), axis=-1)
    return [
        encoded([{"score": row[at], "label": serving.names[at]} for at in ranks])
        for row, ranks in zip(scores, order.tolist(), strict=True)
    ]


def theirs(problem: Problem) -> Reply:
    """Return a problem in the shape and with the status of their server."""
    status, kind = problem.status, "Validation"
    if isinstance(problem, Overloaded):
        status, kind = 429, "Overloaded"
    elif status >= 500:
        status, kind = 424, "Backend"
    elif status == 400:
        kind = "Empty"
    body = encoded({"error": problem.sentence, "error_type": kind})
    return Reply(body, status, headers=problem.headers)
