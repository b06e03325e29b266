"""Models at hand: each ready to answer, found by name, swapped whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import _core
from logitext.answering import Answering
from logitext.answers import answers, class_names, explained
from logitext.classifier import load
from logitext.features import arrow_strings
from logitext.judging import PLAIN, Judged
from logitext.logits import argmax
from logitext.model import Model
from logitext.server.questions import Question
from logitext.server.replies import Problem, encoded
from logitext.writing import json_lines

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

AT_ONCE, LONGEST = 1000, 1 << 20
"""Texts of a batch between looks at the clock, and characters of such."""


MOST_NUMBERS = 5_000_000
"""In an answer that is held as a whole: about 100 MB of JSON. In lines there may be more."""


class Serving:
    """A model with all that is the same for each of its answers.

    Parameters
    ----------
    name : str
        By which requests ask for it.
    classifier : TextClassifier or FastTextClassifier
    report : bytes, optional
        The page that ``logitext report`` wrote.
    """

    def __init__(self, name: str, classifier: Answering, report: bytes | None = None) -> None:
        self.name = name
        self.classifier = classifier
        self.report = report
        self.model = classifier.model_
        self.fingerprint = self.model.fingerprint[:16]
        self.labels = classifier.classes_.tolist()
        self.names = class_names(self.labels)
        self.several = classifier.thresholds_ is not None
        self._short: Any = None if self.several else of_lines(self.model)
        said = {"model": name, "fingerprint": self.fingerprint}
        self._opening = encoded(said)[:-1] + b","
        self._rows = [encoded({"label": label})[:-1] + b',"probability":' for label in self.labels]
        self._beginnings = [self._opening + row[1:] for row in self._rows]

    @classmethod
    def read(
        cls, name: str, path: str, threads: int, report: bytes | None = None, *, checked: bool = False
    ) -> Serving:
        """Read a model file, and check all of it unless that was done before.

        Raises
        ------
        OSError, ModelFileError
        """
        classifier = load(path, verify="auto" if checked else True)
        classifier.threads = threads
        return cls(name, classifier, report)

    def one(self, asked: Question) -> bytes:
        """Return the reply to a question of one text, as JSON."""
        if not asked.wanted and not asked.explain and (said := self.short(asked.texts[0])) is not None:
            return said
        (row,) = self.rows(asked.texts, asked.wanted)
        if asked.explain:
            row = row[:-1] + b',"explanation":' + next(self.explained(asked.texts)) + b"}"
        return self._opening + row[1:]

    def short(self, text: str) -> bytes | None:
        """Return the reply to a question of one text alone, if the core can give it by itself.

        The bits are those of the long way, whose tables are for many rows, and take 0.2 ms.
        """
        found = None if self._short is None else _core.answer(text, *self._short)
        if found is None:
            return None
        label, digits = found
        beginning: bytes = self._beginnings[label]
        return beginning + digits.encode() + b"}"

    def logits(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the raw logits of texts."""
        return self.classifier.logits(arrow_strings(texts))

    def rows(self, texts: list[str], wanted: dict[str, Any]) -> list[bytes]:
        """Return the answer to each text, as ``logitext predict`` writes it."""
        return self.lines(texts, wanted).split(b"\n")[:-1]

    def lines(self, texts: list[str], wanted: dict[str, Any]) -> bytes:
        """Return answers as JSON Lines.

        Raises
        ------
        Problem
            If this model cannot give what is wanted.
        """
        column: pa.LargeStringArray = arrow_strings(texts)
        try:
            parts = [json_lines(part) for part in answers(self.classifier, column, **wanted)]
        except ValueError as error:
            raise Problem(422, str(error)) from None
        return b"".join(map(bytes, parts))

    def several_parts(self, asked: Question) -> Iterator[bytes]:
        """Return the reply to a question of several texts, part by part."""
        yield self._opening + b'"answers":['
        for number, texts in enumerate(parts_of(asked.texts)):
            if not (self.several or asked.wanted or asked.explain):
                yield b"," + self.plain(texts) if number else self.plain(texts)
                continue
            lines = self.lines(texts, asked.wanted)
            if asked.explain:
                rows = zip(lines.split(b"\n"), self.explained(texts), strict=False)
                joined = b",".join(row[:-1] + b',"explanation":' + more + b"}" for row, more in rows)
            else:
                # A line feed within a string is escaped: these are the ends of rows.
                joined = lines[:-1].replace(b"\n", b",")
            yield b"," + joined if number else joined
        yield b"]}"

    def plain(self, texts: list[str]) -> bytes:
        """Return labels and probabilities alone, between commas: without a table it takes half the time."""
        z = self.logits(texts)
        decided = argmax(z)
        shares = self.model.probabilities(z)[np.arange(len(z)), decided]
        digits = encoded(shares)[1:-1].split(b",")
        labels = self._rows
        return b",".join(
            [labels[at] + said + b"}" for at, said in zip(decided.tolist(), digits, strict=True)]
        )

    def explained(self, texts: list[str]) -> Iterator[bytes]:
        """Return what each n-gram of each text adds to each logit, as ``logitext explain --json`` does.

        Raises
        ------
        Problem
            413 if it is too much for one answer.
        """
        numbers = 0
        for text in texts:
            found = self.classifier.explain(text)
            numbers += len(found.ngrams) * len(self.names)
            if numbers > MOST_NUMBERS:
                raise Problem(
                    413,
                    f"the explanation would have more than {MOST_NUMBERS:,} numbers: ask for shorter texts",
                )
            yield encoded(explained(self.classifier, found))

    def check_size(self, texts: int, wanted: Mapping[str, Any]) -> None:
        """Check that an answer that is held as a whole is not too large.

        Raises
        ------
        Problem
            413.
        """
        k = len(self.names)
        each = k * sum(bool(wanted.get(name)) for name in ("logits", "probabilities", "labels"))
        each += min(wanted.get("top_k", 0), k)
        if texts * each > MOST_NUMBERS:
            raise Problem(
                413, f"the answer would have {texts * each:,} numbers, at most {MOST_NUMBERS:,}: ask in parts"
            )

    @cached_property
    def card(self) -> dict[str, Any]:
        """What ``/models`` says of it."""
        header, features = self.model.header, self.model.features
        training = header["training"]
        evidence = None
        if not self.several and self.model.evidence is not None:
            found = self.model.evidence
            evidence = {"rows": len(found.selective.hits_), "exact": found.exact, "stale": found.stale}
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "classes": self.names,
            "labels": self.labels,
            "multilabel": self.several,
            "ngrams": sum(block["features"] for block in features["blocks"]),
            "features": {name: features[name] for name in ("tokens", "word_ngrams", "char_ngrams")},
            "calibration": header["calibration"],
            "evidence": evidence,
            "held_out": training.get("held_out"),
            "rows": training.get("rows"),
            "warnings": training.get("warnings", []),
            "library_version": header["library_version"],
            "report": self.report is not None,
        }

    def strongest(self, most: int = 8) -> dict[str, list[list[Any]]]:
        """Return the n-grams with the largest weights of each class."""
        shown = enumerate(self.names[:200])
        found = {name: self.model.strongest_ngrams(code, most) for code, name in shown}
        return {
            name: [[share.ngram, share.block, share.amount] for share in shares]
            for name, shares in found.items()
        }


class Models:
    """The models being served, by name; one is the default."""

    def __init__(self, servings: list[Serving]) -> None:
        self._by_name = {serving.name: serving for serving in servings}
        self._default = servings[0].name

    def find(self, name: str | None) -> Serving:
        """Return a model, by default the first.

        Raises
        ------
        Problem
            404.
        """
        found = self._by_name.get(self._default if name is None else name)
        if found is None:
            known = ", ".join(map(repr, self._by_name))
            raise Problem(404, f"there is no model {str(name)[:100]!r}: there are {known}")
        return found

    def swap(self, serving: Serving) -> None:
        """Put a model in the place of the one of its name; requests at hand keep the old one."""
        self._by_name[serving.name] = serving

    def __iter__(self) -> Iterator[Serving]:
        return iter(self._by_name.values())

    @property
    def default(self) -> str:
        """The name of the model that answers where none is named."""
        return self._default


def parts_of(texts: list[str]) -> Iterator[list[str]]:
    """Cut texts into parts that are answered between two looks at the clock."""
    begin = size = 0
    for end, text in enumerate(texts):
        size += len(text)
        if end > begin and (end - begin >= AT_ONCE or size > LONGEST):
            yield texts[begin:end]
            begin, size = end, len(text)
    yield texts[begin:]


def of_lines(model: Judged) -> tuple[Any, float, Any] | None:
    """Return what the core needs to answer one text by itself; None if its calibration is not of lines."""
    if not isinstance(model, Model):
        return None
    calibrator = model.calibrator
    if calibrator is None or calibrator.method_ in PLAIN:
        return model.layer(), model.temperature, None
    scaling = calibrator.scaling_
    return (model.layer(), scaling.temperature, (scaling.scale, scaling.bias)) if scaling.light else None
