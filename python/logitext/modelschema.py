"""What a model file must say: its arrays, the fields of its header, and how they fit together.

This module knows nothing of bytes and files; `logitext.modelfile` keeps those. Its checks go from
cheap to thorough: `check_versions` and `check_header` look at the header, `check_shapes` at the
shapes, and `check_values` reads through the arrays, in chunks, so that it allocates little and goes
at about the speed of memory.
"""

from __future__ import annotations

import codecs
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

__all__ = [
    "ARRAYS",
    "EXPONENTS",
    "FEATURES_VERSION",
    "FORMAT_VERSION",
    "Arrays",
    "ModelFileError",
    "Shapes",
    "arrays_of",
    "bucket_bits",
    "check_header",
    "check_shapes",
    "check_values",
    "check_versions",
    "format_version",
    "is_count",
    "require",
]

FORMAT_VERSION = 5
"""2: weights may be rows kept to some classes; 3: they may be bytes; 4: with a calibration class by class, or
tables of held-out rows; 5: a fastText model, see
`logitext.fasttextschema`. A file says the lowest that will do."""
FEATURES_VERSION = 1

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"
Shapes: TypeAlias = Mapping[str, Sequence[int]]

# In the order of the file: widest dtype first, so that every array is aligned (and so that the
# order is the safetensors library's own).
ARRAYS: dict[str, tuple[str, np.dtype[Any]]] = {
    "hashes": ("U64", np.dtype("<u8")),
    "named_offsets": ("U64", np.dtype("<u8")),
    "bias": ("F32", np.dtype("<f4")),
    "weights": ("F32", np.dtype("<f4")),
    "buckets": ("U32", np.dtype("<u4")),
    "document_frequency": ("U32", np.dtype("<u4")),
    "named_features": ("U32", np.dtype("<u4")),
    "named_text": ("U8", np.dtype("u1")),
}
"""The arrays of a model with a matrix of weights."""
CALIBRATION = {"scale": "calibration_scale", "bias": "calibration_bias", "matrix": "calibration_matrix"}
"""What a calibration may have, and how a file calls it."""
EVIDENCE = {"held_scores": "F32", "held_confidence": "F32", "held_hits": "U8", "held_novelty": "F32"}
"""Tables of held-out rows: what sets go by, confidence and whether it was right, novelty."""
EXPONENTS = -126, 100
"""Of compressed weights: with a byte they make a float32 that is finite and precise."""
_WIDE = (1 << 16) + 1
"""From so many classes on, 16 bits do not number them."""
_BLOCKS = {"words": "word_ngrams", "chars": "char_ngrams"}
_CHUNK = 1 << 18  # array items per step of a check


class ModelFileError(ValueError):
    """A model file, or what was to be saved as one, is not right; the message says what and where."""


def arrays_of(names: Collection[str], classes: int) -> dict[str, tuple[str, np.dtype[Any]]]:
    """Return the arrays of a model that has these, in the order of the file.

    Parameters
    ----------
    names : collection of str
        If ``weight_rows`` is among them, the weights are rows kept to some of the classes; if
        ``weight_exponents`` is, they are bytes.
    classes : int
        With many the numbers of classes are wider.

    Returns
    -------
    dict of str to (str, dtype)
        The type as safetensors and as NumPy spell it.

    Examples
    --------
    >>> arrays_of(["weight_rows"], 10_000)["weight_classes"]
    ('U16', dtype('uint16'))
    """
    found = dict(ARRAYS)
    if "weight_rows" in names:
        ids = ("U32", np.dtype("<u4")) if classes >= _WIDE else ("U16", np.dtype("<u2"))
        found |= {"weight_classes": ids, "weight_rows": ("U32", np.dtype("<u4"))}
    if "weight_exponents" in names:
        found |= dict.fromkeys(("weights", "weight_exponents"), ("I8", np.dtype("i1")))
    return with_judgement(found, names)


def with_judgement(
    found: Mapping[str, tuple[str, np.dtype[Any]]], names: Collection[str]
) -> dict[str, tuple[str, np.dtype[Any]]]:
    """Return arrays, and those of calibration and held-out rows among `names`, in the order of the file."""
    found = dict(found)
    if "held_scores" in names:
        types: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}
        found |= {name: (code, types[code]) for name, code in EVIDENCE.items()}
    found |= {name: ("F32", np.dtype("<f4")) for name in CALIBRATION.values() if name in names}
    # Widest first; of one width float before integer, signed before not, then by name.
    return dict(sorted(found.items(), key=lambda item: (-item[1][1].itemsize, item[1][0], item[0])))


def format_version(names: Collection[str]) -> int:
    """Return the oldest version of the format that knows these arrays."""
    if "word_slots" in names:
        return 5
    if "held_scores" in names or CALIBRATION["scale"] in names:
        return 4
    return 3 if "weight_exponents" in names else 2 if "weight_rows" in names else 1


def require(condition: object, complaint: str) -> None:
    """Raise a `ModelFileError` with this complaint unless the condition holds."""
    if not condition:
        raise ModelFileError(complaint)


def is_count(value: object) -> TypeGuard[int]:
    """Tell whether a value read from JSON is a size or a count: not a bool, not without end."""
    return type(value) is int and 0 <= value < 1 << 63


def bucket_bits(n_features: int) -> int:
    """Give the number of leading hash bits that the buckets of a feature block go by.

    Parameters
    ----------
    n_features : int
        The number of features in the block.

    Returns
    -------
    int
        The smallest ``b >= 0`` with ``4 * 2**b >= n_features``.

    Examples
    --------
    >>> [bucket_bits(n) for n in (0, 4, 5, 8, 9)]
    [0, 0, 1, 1, 2]
    """
    return ((max(n_features, 1) + 3) // 4 - 1).bit_length()


def check_versions(header: Mapping[str, Any]) -> None:
    """Refuse a header of a newer format: nothing else in it can be relied on.

    Raises
    ------
    ModelFileError
        If a version is newer than this library reads, or is no version.
    """
    for key, supported in (("format_version", FORMAT_VERSION), ("features_version", FEATURES_VERSION)):
        version = header.get(key)
        if not is_count(version) or version == 0:
            raise ModelFileError(f"{key} in the header is not a positive integer")
        made_by = f"made by a newer logitext ({key.removesuffix('_version')} {version})"
        require(version <= supported, f"{made_by}; this version reads up to {supported}: upgrade")


def check_header(header: Mapping[str, Any]) -> None:
    """Check every header field but the versions and the header's own checksum.

    Raises
    ------
    ModelFileError
        If a field is missing or is not as the format wants it.
    """
    check_fields(header, FIELDS)
    several = header.get("multilabel", False)
    require(type(several) is bool, "multilabel in the header is not as the format wants it")
    require(several or len(header["classes"]) >= 2, "classes in the header is not as the format wants it")
    check_judgement(header)
    right = (
        _are_thresholds(header["thresholds"], header["classes"]) if "thresholds" in header else not several
    )
    require(right and several == ("thresholds" in header), "thresholds in the header do not fit the classes")


def check_judgement(header: Mapping[str, Any]) -> None:
    """Check what a header says of calibration and held-out rows, whatever the kind of model.

    Raises
    ------
    ModelFileError
        If that is not as the format wants it.
    """
    several = header.get("multilabel", False)
    method = (header["calibration"] or {}).get("method")
    two = len(header["classes"]) == 2
    single = {"identity", "temperature", "vector", "matrix"} | ({"affine", "quadratic"} if two else set())
    fits = method is None or method in ({"affine"} if several else single)
    require(fits, "calibration in the header does not fit the classes")
    evidence = header.get("evidence")
    require(
        evidence is None or (not several and _is_evidence(evidence)),
        "evidence in the header is not as the format wants it",
    )


def check_fields(header: Mapping[str, Any], fields: Mapping[str, Callable[[object], bool]]) -> None:
    """Check fields of a header one by one.

    Raises
    ------
    ModelFileError
        If one is missing or not right; the message names it.
    """
    for key, is_right in fields.items():
        require(key in header, f"{key} is missing in the header")
        require(is_right(header[key]), f"{key} in the header is not as the format wants it")


def check_shapes(shapes: Shapes, header: Mapping[str, Any]) -> None:
    """Check the shapes of all arrays against a checked header and each other.

    Raises
    ------
    ModelFileError
        If a shape is not the one that the header and the other shapes call for.
    """
    counts = [block["features"] for block in header["features"]["blocks"]]
    features, classes = sum(counts), len(header["classes"])
    named, text = math.prod(shapes["named_features"]), math.prod(shapes["named_text"])
    wanted = {
        "hashes": [features],
        "named_offsets": [named + 1],
        "bias": [classes],
        "weights": [features, classes],
        "buckets": [sum(2 ** bucket_bits(count) + 1 for count in counts)],
        "document_frequency": [features],
        "named_features": [named],
        "named_text": [text],
    }
    if "weight_rows" in shapes:
        weights, ids = math.prod(shapes["weights"]), math.prod(shapes["weight_classes"])
        wanted |= {"weights": [weights], "weight_rows": [features + 1, 2], "weight_classes": [ids]}
    if "weight_exponents" in shapes:
        wanted["weight_exponents"] = [features]
    agree(shapes, wanted | judgement_shapes(shapes, header))


def judgement_shapes(shapes: Shapes, header: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the shapes of the arrays of calibration and held-out rows, whatever the kind of model.

    Raises
    ------
    ModelFileError
        If an array is missing, or there is one too many.
    """
    wanted: dict[str, list[int]] = {}
    classes = len(header["classes"])
    method = (header["calibration"] or {}).get("method")
    if not header.get("multilabel"):
        own = {"matrix": ["scale", "bias", "matrix"], "vector": ["scale", "bias"]}
        own |= dict.fromkeys(("affine", "quadratic"), own["vector"])
        fitted = {CALIBRATION[name] for name in own.get(str(method), [])}
        require(
            fitted == {n for n in CALIBRATION.values() if n in shapes},
            "calibration lacks arrays, or has too many",
        )
        wanted |= {
            name: [classes, classes] if name == CALIBRATION["matrix"] else [classes] for name in fitted
        }
    require(
        ("held_scores" in shapes) == ("evidence" in header),
        "evidence in the header has no tables, or they no evidence",
    )
    if "evidence" in header:
        rows = header["evidence"]["rows"]
        wanted |= {name: [rows] for name in EVIDENCE}
    return wanted


def agree(shapes: Shapes, wanted: Mapping[str, Sequence[int]]) -> None:
    """Check that shapes are those called for.

    Raises
    ------
    ModelFileError
        If one is not; the message names it.
    """
    for name, shape in wanted.items():
        found = list(shapes[name])
        require(found == shape, f"array {name} has shape {found} where {shape} is called for")


def check_values(arrays: Arrays, header: Mapping[str, Any], chosen: Collection[str]) -> None:
    """Check the contents of the chosen arrays; of two that hang together, if both are chosen.

    Raises
    ------
    ModelFileError
        If an array holds what it must not: a NaN, hashes that do not rise and the like.
    """
    for name in ("bias", "weights"):
        finite = name not in chosen or all(np.isfinite(chunk).all() for chunk in _chunks(arrays[name]))
        require(finite, f"array {name} holds a value that is not finite")
    if "weight_exponents" in chosen:
        low, high = EXPONENTS
        right = all(
            low <= chunk.min() and chunk.max() <= high for chunk in _chunks(arrays["weight_exponents"])
        )
        require(right, f"array weight_exponents holds one that is not from {low} to {high}")
    check_judgement_values(arrays, chosen)
    counts, named = arrays["document_frequency"], arrays["named_features"]
    if "document_frequency" in chosen and counts.size:
        right = counts.min() >= 1 and int(counts.max()) <= header["features"]["documents"]
        require(right, "array document_frequency holds a count below 1 or above the number of documents")
    if "named_features" in chosen and named.size:
        right = _rises(named) and int(named[-1]) < len(arrays["hashes"])
        require(right, "array named_features is not a rising list of features")
    if "named_offsets" in chosen and "named_text" in chosen:
        right = _are_texts(arrays["named_text"], arrays["named_offsets"])
        require(right, "array named_offsets does not cut named_text into UTF-8 texts")
    if "weight_rows" in chosen:
        _check_rows(arrays, len(header["classes"]), whole="weight_classes" in chosen)
    if "hashes" in chosen:
        hashes, buckets = arrays["hashes"], arrays["buckets"]
        for block in header["features"]["blocks"]:
            count, slots = block["features"], 2 ** bucket_bits(block["features"]) + 1
            require(_rises(hashes[:count]), f"the hashes of block {block['name']} do not rise")
            if "buckets" in chosen:
                right = _are_buckets(buckets[:slots], hashes[:count])
                require(right, f"the buckets of block {block['name']} do not match its hashes")
            hashes, buckets = hashes[count:], buckets[slots:]


def check_judgement_values(arrays: Arrays, chosen: Collection[str]) -> None:
    """Check the contents of the arrays of calibration and held-out rows, whatever the kind of model.

    Raises
    ------
    ModelFileError
        If one holds what it must not.
    """
    for name in (name for name in CALIBRATION.values() if name in chosen):
        require(np.isfinite(arrays[name]).all(), f"array {name} holds a value that is not finite")
    for name, falls in (("held_scores", False), ("held_confidence", True), ("held_novelty", False)):
        if name in chosen:
            table = -arrays[name] if falls else arrays[name]
            right = not np.isnan(table).any() and _rises(table, strictly=False)
            require(right, f"array {name} is not in order")
    if "held_hits" in chosen:
        require((arrays["held_hits"] <= 1).all(), "array held_hits holds one that is neither 0 nor 1")


def _check_rows(arrays: Arrays, classes: int, *, whole: bool) -> None:
    """Check that places cut weights and classes into rows, and that the classes of a row rise."""
    places, ids = arrays["weight_rows"], arrays["weight_classes"]
    ends = not places[0].any() and places[-1].tolist() == [arrays["weights"].size, ids.size]
    step = _CHUNK // 2
    for start in range(0, len(places) - 1, step):
        chunk = places[start : start + step + 1].astype(np.int64)
        lengths, numbered = np.diff(chunk, axis=0).T
        right = ends and ((lengths == numbered) | ((numbered == 0) & (lengths == classes))).all()
        right = right and (numbered >= 0).all()
        require(right, "array weight_rows does not cut the weights into rows")
        if whole:
            own = ids[chunk[0, 1] : chunk[-1, 1]].astype(np.int64)
            rises = np.ones(own.size, bool)
            rises[1:] = own[1:] > own[:-1]
            begins = chunk[:-1, 1] - chunk[0, 1]
            rises[begins[begins < own.size]] = True  # where a row begins
            right = rises.all() and (own < classes).all()
            require(right, "array weight_classes is not rising lists of classes")


def _is_classes(value: object) -> bool:
    if not (isinstance(value, list) and len(value) >= 1 and len({type(v) for v in value}) == 1):
        return False
    return type(value[0]) in (str, int, bool) and "" not in value and len(set(value)) == len(value)


def _are_thresholds(value: object, classes: list[object]) -> bool:
    limit = float(np.finfo(np.float32).max)
    numbers = isinstance(value, list) and all(type(v) in (int, float) and abs(v) <= limit for v in value)
    return numbers and len(value) == len(classes)  # type: ignore[arg-type]


def _is_ngrams(value: object) -> bool:
    if value is None:
        return True
    counts = isinstance(value, list) and len(value) == 2 and all(map(is_count, value))
    return counts and bool(1 <= value[0] <= value[1] <= 8)  # type: ignore[index]


def _is_features(value: object) -> bool:
    if not (isinstance(value, dict) and value.keys() >= {"tokens", "documents", "blocks", *_BLOCKS.values()}):
        return False
    blocks = value["blocks"]
    if not (isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks)):
        return False
    return (
        value["tokens"] in ("unicode", "whitespace")
        and all(_is_ngrams(value[key]) for key in _BLOCKS.values())
        and is_count(value["documents"])
        and [b.get("name") for b in blocks] == [n for n, key in _BLOCKS.items() if value[key] is not None]
        and all(is_count(b.get("features")) for b in blocks)
    )


def _is_calibration(value: object) -> bool:
    if value is None:
        return True
    if not (isinstance(value, dict) and isinstance(value.get("method"), str)):
        return False
    span, curve = value.get("span", [0.0, 0.0]), value.get("curve", 0.0)
    numbers = isinstance(span, list) and len(span) == 2 and all(map(_is_finite, [*span, curve]))
    if (
        not numbers
        or span[0] > span[1]
        or ({"span", "curve"} <= value.keys()) != (value["method"] == "quadratic")
    ):
        return False
    temperature, shift = value.get("temperature"), value.get("shift", 0.0)
    if not (type(shift) in (int, float) and abs(shift) <= 1e30):
        return False
    return type(temperature) in (int, float) and 0 < temperature <= sys.float_info.max  # type: ignore[operator]


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _is_evidence(value: object) -> bool:
    if not (isinstance(value, dict) and value.keys() >= {"rows", "exact", "stale", "novelty"}):
        return False
    flags = type(value["exact"]) is bool and type(value["stale"]) is bool
    return flags and is_count(value["rows"]) and value["rows"] > 0 and isinstance(value["novelty"], dict)


FIELDS: dict[str, Callable[[object], bool]] = {
    "library_version": lambda value: isinstance(value, str),
    "classes": _is_classes,
    "features": _is_features,
    "calibration": _is_calibration,
    "settings": lambda value: isinstance(value, dict),
    "training": lambda value: isinstance(value, dict),
    "checksums": lambda value: isinstance(value, dict) and value.keys() >= ARRAYS.keys(),
}


def _chunks(array: NDArray[Any], overlap: int = 0) -> Iterator[NDArray[Any]]:
    flat = array.reshape(-1)
    return (flat[start : start + _CHUNK + overlap] for start in range(0, flat.size, _CHUNK))


def _rises(array: NDArray[Any], *, strictly: bool = True) -> bool:
    above = np.greater if strictly else np.greater_equal
    return all(above(chunk[1:], chunk[:-1]).all() for chunk in _chunks(array, overlap=1))


def _are_texts(text: NDArray[np.uint8], offsets: NDArray[np.uint64]) -> bool:
    if offsets[0] != 0 or int(offsets[-1]) != text.size or not _rises(offsets, strictly=False):
        return False
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in _chunks(text):
            decoder.decode(chunk.tobytes())
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    # The whole is UTF-8, so a piece is too unless a cut falls on a continuation byte, 10xxxxxx.
    cuts = (chunk[chunk < text.size].astype(np.intp) for chunk in _chunks(offsets))
    return all((text[cut] & 0xC0 != 0x80).all() for cut in cuts)


def _are_buckets(buckets: NDArray[np.uint32], hashes: NDArray[np.uint64]) -> bool:
    if buckets[0] != 0 or int(buckets[-1]) != hashes.size or not _rises(buckets, strictly=False):
        return False
    shift, start = np.uint64(64 - bucket_bits(hashes.size)), 0
    for chunk in _chunks(hashes):  # with rising buckets it is enough that each hash lies in its own
        bucket = (chunk >> shift).astype(np.intp)  # NumPy shifts by 64 to zero
        place = np.arange(start, start + chunk.size)
        if not ((buckets[bucket] <= place) & (place < buckets[bucket + 1])).all():
            return False
        start += chunk.size
    return True
