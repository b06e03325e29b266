"""What a file of a fastText model in our format must say, as `logitext.modelschema` does for our own models.

The arrays are those of fastText's file. The input matrix is floats, or codes of a quantiser; the output
matrix is always floats. Words and labels stand one after another in ``word_text``; ``word_slots`` and
``ngram_slots`` find them in place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from logitext.modelschema import FIELDS as FIELDS_OF_ALL
from logitext.modelschema import (
    Arrays,
    Shapes,
    agree,
    check_fields,
    check_judgement,
    check_judgement_values,
    is_count,
    judgement_shapes,
    require,
    with_judgement,
)

LOSSES = ("hs", "ns", "softmax", "ova")
SETTINGS = ("dim", "word_ngrams", "bucket", "minn", "maxn")
"""In the order of the core."""
CENTROIDS = 256
LONGEST_NGRAM = 1000
PREFIX = "__label__"

_F4, _U1, _U4, _U8 = (np.dtype(code) for code in ("<f4", "u1", "<u4", "<u8"))
ARRAYS: dict[str, tuple[str, np.dtype[Any]]] = {
    "word_counts": ("U64", _U8),
    "word_offsets": ("U64", _U8),
    "output": ("F32", _F4),
    "word_slots": ("U32", _U4),
    "word_text": ("U8", _U1),
}
"""The arrays of any model."""
INPUTS: dict[str, tuple[str, np.dtype[Any]]] = {
    "input": ("F32", _F4),
    "input_codes": ("U8", _U1),
    "input_centroids": ("F32", _F4),
    "input_norm_codes": ("U8", _U1),
    "input_norms": ("F32", _F4),
    "ngram_slots": ("U32", _U4),
}
"""Those of some: floats, or codes; norms that are quantised by themselves; n-grams that were kept."""


def arrays_of(names: Collection[str], classes: int) -> dict[str, tuple[str, np.dtype[Any]]]:
    """Return the arrays of a model that has these, in the order of the file."""
    return with_judgement(ARRAYS | {name: how for name, how in INPUTS.items() if name in names}, names)


def check_header(header: Mapping[str, Any]) -> None:
    """Check every header field but the versions and the header's own checksum.

    Raises
    ------
    ModelFileError
        If a field is missing or is not as the format wants it.
    """
    check_fields(header, _FIELDS)
    require(not header.get("multilabel"), "multilabel in the header is not for fastText models")
    check_judgement(header)


def check_shapes(shapes: Shapes, header: Mapping[str, Any]) -> None:
    """Check the shapes of all arrays against a checked header and each other.

    Raises
    ------
    ModelFileError
        If a shape is not the one that the header and the other shapes call for.
    """
    said, labels = header["fasttext"], len(header["classes"])
    dim, entries = said["dim"], said["words"] + labels
    wanted = {
        "word_counts": [entries],
        "word_offsets": [entries + 1],
        "word_slots": [slots_for(entries)],
        "word_text": list(shapes["word_text"][:1]),
        "output": [labels, dim],
    }
    quantised = "input_codes" in shapes
    require(quantised != ("input" in shapes), "it has no input matrix, or two")
    require(quantised == ("input_centroids" in shapes), "codes and centroids go together")
    require(("input_norm_codes" in shapes) == ("input_norms" in shapes), "norms and their codes go together")
    require(quantised or "input_norms" not in shapes, "norms go with codes")
    rows = next(iter(shapes["input_codes" if quantised else "input"]), 0)
    if quantised:
        part = said["part"]
        wanted |= {"input_codes": [rows, -(-dim // part)], "input_centroids": [dim * CENTROIDS]}
        if "input_norms" in shapes:
            wanted |= {"input_norm_codes": [rows], "input_norms": [CENTROIDS]}
    else:
        wanted["input"] = [rows, dim]
    if "ngram_slots" in shapes:
        require(rows >= said["words"], "the input matrix has fewer rows than there are words")
        wanted["ngram_slots"] = [2 * slots_for(rows - said["words"])]
    agree(shapes, wanted | judgement_shapes(shapes, header))


def check_values(arrays: Arrays, header: Mapping[str, Any], chosen: Collection[str]) -> None:
    """Check the contents of the chosen arrays. What the core looks up it looks up with its bounds.

    Raises
    ------
    ModelFileError
        If an array holds what it must not.
    """
    check_judgement_values(arrays, chosen)
    if "word_offsets" in chosen:
        offsets = arrays["word_offsets"]
        rises = bool((offsets[1:] >= offsets[:-1]).all()) and offsets[0] == 0
        require(rises and int(offsets[-1]) == arrays["word_text"].size, "word_offsets do not cut word_text")


def slots_for(count: int) -> int:
    """Return how many slots a table of so many entries has: a power of two, at least twice as many.

    Examples
    --------
    >>> [slots_for(n) for n in (0, 1, 3, 4, 5)]
    [2, 2, 8, 8, 16]
    """
    return 1 << (2 * max(count, 1) - 1).bit_length()


def _is_classes(value: object) -> bool:
    if not (isinstance(value, list) and value and all(type(label) is str for label in value)):
        return False
    return len(set(value)) == len(value)


def _is_fasttext(value: object) -> bool:
    if not isinstance(value, dict) or not all(
        is_count(value.get(name)) for name in (*SETTINGS, "words", "part")
    ):
        return False
    ranges = 1 <= value["dim"] < 1 << 31 and value["part"] >= 1 and value["bucket"] < 1 << 31
    lengths = max(value["word_ngrams"], value["maxn"]) <= LONGEST_NGRAM
    hashed = value["bucket"] > 0 or (value["word_ngrams"] <= 1 and value["maxn"] == 0)
    told = isinstance(value.get("arguments"), dict) and value.get("prefix") in ("", PREFIX)
    return ranges and lengths and hashed and told and value.get("loss") in LOSSES


def _is_settings(value: object) -> bool:
    return isinstance(value, dict) and type(value.get("strict")) is bool


_FIELDS = {
    **{name: FIELDS_OF_ALL[name] for name in ("library_version", "calibration", "training")},
    "classes": _is_classes,
    "fasttext": _is_fasttext,
    "settings": _is_settings,
    "checksums": lambda value: isinstance(value, dict) and value.keys() >= ARRAYS.keys(),
}
