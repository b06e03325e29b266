"""What a request asks: the JSON of ``/predict``, checked field by field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from logitext.server.replies import Problem
from logitext.server.settings import Limits


@dataclass(frozen=True)
class Question:
    """Texts, and what is wanted of each; the names are those of ``logitext predict``."""

    texts: list[str]
    single: bool
    model: str | None = None
    wanted: dict[str, Any] = field(default_factory=dict)
    """Arguments of `logitext.answers.answers`."""
    explain: bool = False
    stream: bool = False


def parsed(body: bytes) -> Any:
    """Return the value that a body spells in JSON.

    Raises
    ------
    Problem
        400, saying where it is wrong.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body:
            raise Problem(400, "the body is empty, and should be JSON") from None
        try:
            body.decode()
        except UnicodeDecodeError as fault:
            raise Problem(400, f"the body is not UTF-8 at byte {fault.start}") from None
        said = error.msg.partition(":")[0]
        raise Problem(
            400, f"the body is not JSON: {said} at line {error.lineno}, column {error.colno}"
        ) from None


def question(value: Any, limits: Limits) -> Question:
    """Return what is asked.

    Raises
    ------
    Problem
        400 of another shape, 413 of too many or too long texts, 422 of a value out of its range.
    """
    if type(value) is not dict:
        raise Problem(400, f'the body must be an object as {{"text": "…"}}, got {kind_of(value)}')
    if len(value) == 1 and type(text := value.get("text")) is str:
        check_text(text, "text", limits)
        return Question([text], True)
    for name in value:
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            raise Problem(400, f"{name[:100]!r} is no field of a request: the fields are {known}")
    given = {name: FIELDS[name](found, name) for name, found in value.items() if found is not None}
    single = "text" in value
    if single == ("texts" in value):
        raise Problem(400, 'a request has either "text", a string, or "texts", a list of strings')
    texts = [value["text"]] if single else value["texts"]
    check_texts(texts, "text" if single else "texts", limits, single=single)
    explain = given.get("explain", False)
    if explain and len(texts) > MOST_EXPLAINED:
        raise Problem(413, f'"explain" is for at most {MOST_EXPLAINED} texts a request, got {len(texts)}')
    stream = given.get("stream", False)
    if stream and explain:
        raise Problem(422, '"explain" and "stream" do not go together')
    wanted = {name: given[name] for name in _WANTED if given.get(name) not in (None, False)}
    return Question(texts, single, given.get("model"), wanted, explain, stream)


MOST_EXPLAINED = 100


def check_texts(texts: Any, where: str, limits: Limits, *, single: bool = False) -> None:
    """Check a list of texts, or one.

    Raises
    ------
    Problem
    """
    if type(texts) is not list:
        raise Problem(400, f'"{where}" must be a list of strings, got {kind_of(texts)}')
    if not texts:
        raise Problem(400, f'"{where}" is empty: give at least one text')
    if len(texts) > limits.texts:
        raise Problem(413, f"{len(texts):,} texts are too many for one request: at most {limits.texts:,}")
    if limits.text >= limits.body and set(map(type, texts)) == {str}:
        return
    for row, text in enumerate(texts):
        check_text(text, where if single else f"{where}[{row}]", limits)


def check_text(text: Any, where: str, limits: Limits) -> None:
    """Check one text."""
    if type(text) is not str:
        raise Problem(400, f'"{where}" must be a string, got {kind_of(text)}')
    # UTF-8 has at most four bytes a character.
    if 4 * len(text) > limits.text and len(text.encode()) > limits.text:
        raise Problem(413, f'"{where}" is too long: at most {limits.text:,} bytes of UTF-8')


def kind_of(value: Any) -> str:
    """Return what JSON calls the kind of a value."""
    if value is None:
        return "null"
    kinds = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return kinds[type(value)]


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise Problem(400, f'"{name}" must be true or false, got {kind_of(value)}')
    return value


def _name(value: Any, name: str) -> str:
    if type(value) is not str:
        raise Problem(400, f'"{name}" must be a string, got {kind_of(value)}')
    return value


def _any(value: Any, name: str) -> Any:
    return value  # Checked by itself.


def _count(value: Any, name: str) -> int:
    if not is_whole(value):
        raise Problem(400, f'"{name}" must be a whole number, got {kind_of(value)}')
    if value < 1:
        raise Problem(422, f'"{name}" must be at least 1, got {value}')
    return int(min(value, 1 << 31))


def is_whole(value: Any) -> bool:
    """Return whether JSON's number is a whole one, however it is written: 2.0 is 2."""
    return type(value) is int or (type(value) is float and value.is_integer())


def _share(value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise Problem(400, f'"{name}" must be a number, got {kind_of(value)}')
    if not 0 <= value <= 1:
        raise Problem(422, f'"{name}" must be from 0 to 1, got {value}')
    return float(value)


def _level(value: Any, name: str) -> float:
    found = _share(value, name) if type(value) not in (int, float) or 0 < value < 1 else 2.0
    if not 0 < found < 1:
        raise Problem(422, f'"{name}" must be above 0 and below 1, got {value}')
    return found


FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "text": _any,
    "texts": _any,
    "model": _name,
    "logits": _flag,
    "probabilities": _flag,
    "top_k": _count,
    "threshold": _share,
    "max_error": _level,
    "coverage": _level,
    "novelty": _flag,
    "explain": _flag,
    "stream": _flag,
}
_WANTED = ("logits", "probabilities", "top_k", "threshold", "max_error", "coverage", "novelty")
