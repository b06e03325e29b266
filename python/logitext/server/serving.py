"""Models at hand: each ready to answer, found by name, swapped whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.answers import answers, class_names, explained
from logitext.classifier import TextClassifier, load
from logitext.features import arrow_strings
from logitext.server.questions import Question
from logitext.server.replies import Problem, encoded
from logitext.server.single import Single
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
    classifier : TextClassifier
    report : bytes, optional
        The page that ``logitext report`` wrote.
    """

    def __init__(self, name: str, classifier: TextClassifier, report: bytes | None = None) -> None:
        self.name = name
        self.classifier = classifier
        self.report = report
        self.model = classifier.model_
        self.fingerprint = str(self.model.header["checksum"])[:16]
        self.labels = classifier.classes_.tolist()
        self.names = class_names(self.labels)
        self.several = classifier.thresholds_ is not None
        self._single = Single(self.model)
        said = {"model": name, "fingerprint": self.fingerprint}
        self._opening = encoded(said)[:-1] + b","

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
        if asked.explain or self.several or asked.wanted.keys() - {"logits", "probabilities"}:
            (row,) = self.rows(asked.texts, asked.wanted)
            if asked.explain:
                row = row[:-1] + b',"explanation":' + next(self.explained(asked.texts)) + b"}"
            return self._opening + row[1:]
        z, shares, decided = self._single(asked.texts[0])
        said: dict[str, Any] = {"label": self.labels[decided], "probability": shares[decided]}
        if asked.wanted:
            for name, row_of in (("logits", z), ("probabilities", shares)):
                if asked.wanted.get(name):
                    said[name] = dict(zip(self.names, row_of, strict=True))
        return self._opening + encoded(said)[1:]

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
            lines = self.lines(texts, asked.wanted)
            if asked.explain:
                rows = zip(lines.split(b"\n"), self.explained(texts), strict=False)
                joined = b",".join(row[:-1] + b',"explanation":' + more + b"}" for row, more in rows)
            else:
                # A line feed within a string is escaped: these are the ends of rows.
                joined = lines[:-1].replace(b"\n", b",")
            yield b"," + joined if number else joined
        yield b"]}"

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
        header = self.model.header
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
            "ngrams": sum(block["features"] for block in header["features"]["blocks"]),
            "features": {name: header["features"][name] for name in ("tokens", "word_ngrams", "char_ngrams")},
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
