"""The model file: what is saved is loaded, and nothing else is."""

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.numpy import save as library_bytes

from logitext import modelfile, modelschema
from logitext.modelfile import ModelFileError, bucket_bits, load, save

Model = tuple[dict[str, np.ndarray], dict[str, Any]]


def bucket_starts(hashes: np.ndarray) -> np.ndarray:
    """Count, the slow way, the hashes below each bucket."""
    bits = bucket_bits(len(hashes))
    tops = [int(h) >> (64 - bits) for h in hashes]
    return np.array([sum(t < i for t in tops) for i in range(2**bits + 1)], np.uint32)


def make_model(words: int = 37, chars: int = 5, classes: int = 3, named: int = 4, seed: int = 0) -> Model:
    """Make a valid model with arrays of these sizes."""
    rng = np.random.default_rng(seed)
    blocks = [np.unique(rng.integers(0, 2**64, n, np.uint64)) for n in (words, chars)]
    features = words + chars
    texts = ["wörd", "", "日本", "z"][:named]
    offsets = np.cumsum([0, *(len(t.encode()) for t in texts)]).astype(np.uint64)
    arrays = {
        "bias": rng.normal(size=classes).astype(np.float32),
        "weights": rng.normal(size=(features, classes)).astype(np.float32),
        "hashes": np.concatenate(blocks),
        "document_frequency": rng.integers(1, 100, features).astype(np.uint32),
        "buckets": np.concatenate([bucket_starts(b) for b in blocks]),
        "named_features": np.arange(named, dtype=np.uint32),
        "named_offsets": offsets,
        "named_text": np.frombuffer("".join(texts).encode(), np.uint8),
    }
    header = {
        "format_version": 1,
        "features_version": 1,
        "library_version": "0.1.0",
        "classes": [f"clâss {i}" for i in range(classes)],
        "features": {
            "tokens": "unicode",
            "word_ngrams": [1, 2],
            "char_ngrams": [2, 5],
            "documents": 100,
            "blocks": [{"name": "words", "features": words}, {"name": "chars", "features": chars}],
        },
        "calibration": {"method": "temperature", "temperature": 1.25},
        "settings": {"epochs": 5, "quote": '"\\\n\x01\x7f\u2028😀'},
        "training": {},
    }
    return arrays, header


def big_model(features: int) -> Model:
    """Make a model of one block with this many features, and no named ones."""
    arrays, header = make_model(0, 0, named=0)
    header["features"] |= {"char_ngrams": None, "blocks": [{"name": "words", "features": features}]}
    bits = bucket_bits(features)
    hashes = np.linspace(0, 2**64 - 2**20, features, dtype=np.uint64)
    edges = np.arange(1, 2**bits, dtype=np.uint64) << np.uint64(64 - bits)
    starts = np.concatenate([[0], np.searchsorted(hashes, edges), [features]])
    arrays |= {
        "hashes": hashes,
        "buckets": starts.astype(np.uint32),
        "weights": np.ones((features, 3), np.float32),
        "document_frequency": np.ones(features, np.uint32),
    }
    return arrays, header


def saved_bytes(tmp_path: Path, model: Model | None = None) -> bytes:
    path = tmp_path / "saved"
    save(path, *(model or make_model()))
    return path.read_bytes()


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a file into the JSON table and the array bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(table: Any, body: bytes, **style: Any) -> bytes:
    style = {"separators": (",", ":"), "ensure_ascii": False} | style
    text = table if isinstance(table, bytes) else json.dumps(table, **style).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def sealed(header: dict[str, Any], **style: Any) -> str:
    """Spell a header as logitext does, with its checksum right, whatever it holds."""
    style = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False} | style
    text = json.dumps(header | {"checksum": ""}, **style)
    return json.dumps(header | {"checksum": hashlib.sha256(text.encode()).hexdigest()}, **style)


def forged(data: bytes, change: Any, **style: Any) -> bytes:
    """Change the header of a file and make its checksum right again."""
    table, body = split(data)
    header = json.loads(table["__metadata__"]["logitext"])
    change(header)
    table["__metadata__"]["logitext"] = sealed(header, **style)
    return join(table, body)


def refusal(tmp_path: Path, data: bytes, *, verify: Any = False) -> str:
    """Return the complaint about a file with these bytes, which must be one sentence that names it."""
    path = tmp_path / "odd.file"
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        load(path, verify=verify)
    complaint = str(caught.value)
    assert complaint.startswith(f"{path}: ")
    assert "\n" not in complaint
    return complaint


def refused_or_our_own(tmp_path: Path, data: bytes, *, verify: bool = True) -> bool:
    """Check that a file with these bytes is refused, or is what we would write (then return True)."""
    path = tmp_path / "odd.file"
    path.write_bytes(data)
    try:
        model = load(path, verify=verify)
    except ModelFileError:
        return False
    assert saved_bytes(tmp_path, model) == data
    return True


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".logitext-")]


# --- What is saved is loaded -------------------------------------------------------------------


@pytest.mark.parametrize("verify", [True, False, "auto"])
@pytest.mark.parametrize("sizes", [(37, 5), (0, 0), (1, 0), (0, 9), (4, 4), (5, 300)])
def test_round_trip(tmp_path: Path, verify: Any, sizes: tuple[int, int]) -> None:
    arrays, header = make_model(*sizes, named=min(4, sum(sizes)))
    save(tmp_path / "m", arrays, header)
    loaded, read = load(tmp_path / "m", verify=verify)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert read["checksums"]["bias"] == hashlib.sha256(arrays["bias"].tobytes()).hexdigest()
    assert {k: v for k, v in read.items() if k not in ("checksums", "checksum")} == header


@pytest.mark.parametrize("classes", [["a", "b"], [-1, 0, 2**40], [False, True]])
@pytest.mark.parametrize("blocks", [("words",), ("chars",), ("words", "chars"), ()])
def test_kinds_of_classes_and_blocks(tmp_path: Path, classes: list[Any], blocks: tuple[str, ...]) -> None:
    arrays, header = make_model(3 * ("words" in blocks), 6 * ("chars" in blocks), len(classes), named=0)
    header["classes"] = classes
    sizes = {"words": 3, "chars": 6}
    header["features"] |= {
        "word_ngrams": [1, 1] if "words" in blocks else None,
        "char_ngrams": [8, 8] if "chars" in blocks else None,
        "blocks": [{"name": name, "features": sizes[name]} for name in blocks],
    }
    kept = [bucket_starts(arrays["hashes"][:3])] * ("words" in blocks)
    kept += [bucket_starts(arrays["hashes"][-6:])] * ("chars" in blocks)
    arrays["buckets"] = np.concatenate([*kept, np.zeros(0, np.uint32)])
    save(tmp_path / "m", arrays, header)
    read = load(tmp_path / "m", verify=True)[1]["classes"]
    assert [(type(c), c) for c in read] == [(type(c), c) for c in classes]


def test_same_bytes_always(tmp_path: Path) -> None:
    arrays, header = make_model()
    backwards = dict(reversed(arrays.items())), dict(reversed(header.items()))
    first = saved_bytes(tmp_path, (arrays, header))
    assert first == saved_bytes(tmp_path, backwards) == saved_bytes(tmp_path, load(tmp_path / "saved"))
    digest = hashlib.sha256(first).hexdigest()
    code = (
        "import hashlib, sys; from test_modelfile import *; save(sys.argv[1], *make_model());"
        "print(hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest())"
    )
    other = run(code, tmp_path / "other", env={"PYTHONHASHSEED": "7"})
    assert other.stdout.split() == [digest]


def test_golden_bytes(tmp_path: Path) -> None:
    arrays, header = make_model(0, 0, 2, named=0)
    arrays["bias"] = np.array([0.5, -0.5], np.float32)
    digest = hashlib.sha256(saved_bytes(tmp_path, (arrays, header))).hexdigest()
    assert digest == "7e876d19ac247fd21eece270192c80bb850615428b938d3e91c91d0947375eed", (
        "the format changed: raise FORMAT_VERSION"
    )


def test_tuples_are_saved_as_lists(tmp_path: Path) -> None:
    arrays, header = make_model()
    header["features"]["word_ngrams"] = (1, 2)
    save(tmp_path / "m", arrays, header)
    assert load(tmp_path / "m")[1]["features"]["word_ngrams"] == [1, 2]


def test_the_safetensors_library_reads_and_would_write_the_same(tmp_path: Path) -> None:
    arrays, header = make_model()
    data = saved_bytes(tmp_path, (arrays, header))
    for name, array in load_file(tmp_path / "saved").items():
        np.testing.assert_array_equal(array, arrays[name])
    with safe_open(tmp_path / "saved", "numpy") as file:
        assert set(file.keys()) == set(arrays)
        assert list(file.metadata()) == ["logitext"]
        text = file.metadata()["logitext"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    read = json.loads(text)
    assert text == json.dumps(read, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == sealed(read)
    assert data == library_bytes(arrays, {"logitext": text})


def test_arrays_are_read_only_views_of_one_map(tmp_path: Path) -> None:
    save(tmp_path / "m", *make_model())
    arrays, _ = load(tmp_path / "m")
    bases = set()
    for array in arrays.values():
        assert not array.flags.owndata
        assert array.flags.aligned
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            array.flags.writeable = True
        bases.add(id(array.base))
    assert len(bases) == 1


@pytest.mark.alone
def test_loading_without_verifying_does_not_grow_with_the_file(tmp_path: Path) -> None:
    took = []
    for features in (1 << 15, 1 << 20):
        save(tmp_path / "m", *big_model(features))
        times = []
        for _ in range(15):
            start = time.perf_counter()
            load(tmp_path / "m", verify=False)
            times.append(time.perf_counter() - start)
        took.append(min(times))
    assert took[1] < 4 * took[0] + 0.002  # the sizes are 32-fold


def test_auto_verifies_up_to_16_megabytes(tmp_path: Path) -> None:
    for features, refused in ((400_000, True), (800_000, False)):
        save(tmp_path / "m", *big_model(features))
        with open(tmp_path / "m", "r+b") as file:
            file.seek(features * 8 + 4000)  # in the weights
            file.write(b"\xff")
        if refused:
            with pytest.raises(ModelFileError, match="checksum"):
                load(tmp_path / "m")
        else:
            load(tmp_path / "m")
        load(tmp_path / "m", verify=False)
        with pytest.raises(ModelFileError, match="checksum"):
            load(tmp_path / "m", verify=True)


@given(st.integers(0, 1 << 40))
def test_bucket_bits(n: int) -> None:
    b = bucket_bits(n)
    assert b >= 0
    assert 4 * 2**b >= n
    assert b == 0 or 4 * 2 ** (b - 1) < n


# --- What is not right is not saved ------------------------------------------------------------


def bad_arrays() -> dict[str, Any]:
    def put(name: str, place: Any, value: Any) -> Any:
        def change(arrays: dict[str, Any]) -> None:
            arrays[name] = arrays[name].copy()
            arrays[name][place] = value

        return change

    def swap(name: str, value: Any) -> Any:
        return lambda arrays: arrays.__setitem__(name, value(arrays[name]))

    return {
        "bias nan": put("bias", 1, np.nan),
        "weights inf": put("weights", (5, 1), np.inf),
        "weights -inf": put("weights", (-1, -1), -np.inf),
        "hashes equal": lambda a: a.update(hashes=np.concatenate([a["hashes"][1:2], a["hashes"][1:]])),
        "hashes swapped": swap("hashes", lambda h: h[::-1].copy()),
        "frequency zero": put("document_frequency", 3, 0),
        "frequency high": put("document_frequency", 3, 101),
        "buckets from 1": put("buckets", 0, 1),
        "buckets fall": put("buckets", 3, 0),
        "buckets end": put("buckets", -1, 4),
        "bucket off by one": lambda a: put("buckets", 3, a["buckets"][3] + 1)(a),
        "bucket out of bounds": put("buckets", 3, 2**32 - 1),
        "named equal": put("named_features", 1, 0),
        "named high": put("named_features", -1, 42),
        "offsets from 1": put("named_offsets", 0, 1),
        "offsets fall": put("named_offsets", 1, 9),
        "offsets end": put("named_offsets", -1, 2**64 - 1),
        "offset in a letter": put("named_offsets", 1, 2),
        "text not UTF-8": put("named_text", 0, 0xFF),
        "text cut short": put("named_text", -1, 0xC3),
        "dtype": swap("weights", lambda w: w.astype(np.float64)),
        "big-endian": swap("bias", lambda b: b.astype(">f4")),
        "not contiguous": swap("weights", np.asfortranarray),
        "shape": swap("weights", lambda w: w.reshape(-1)),
        "scalar": swap("named_features", lambda _: np.array(1, np.uint32)),
        "scalar text": swap("named_text", lambda _: np.array(1, np.uint8)),
        "list": swap("bias", lambda b: b.tolist()),
        "one more": lambda a: a.update(more=np.zeros(3, np.float32)),
        "one less": lambda a: a.pop("bias"),
        "other name": lambda a: a.update(other=a.pop("bias")),
        "bytes name": lambda a: a.update({b"bias": a.pop("bias")}),
        "few buckets": swap("buckets", lambda b: b[:-1]),
    }


NESTED: Any = []
for _ in range(100_000):
    NESTED = [NESTED]

BAD_HEADERS: dict[str, Any] = {
    "no format": lambda h: h.pop("format_version"),
    "bool format": lambda h: h.update(format_version=True),
    "zero format": lambda h: h.update(format_version=0),
    "float features version": lambda h: h.update(features_version=1.0),
    "no library": lambda h: h.pop("library_version"),
    "library": lambda h: h.update(library_version=1),
    "one class": lambda h: h.update(classes=["a"]),
    "same classes": lambda h: h.update(classes=["a", "b", "a"]),
    "mixed classes": lambda h: h.update(classes=["a", 1, 2]),
    "int and bool classes": lambda h: h.update(classes=[True, 0, 2]),
    "float classes": lambda h: h.update(classes=[1.0, 2.0, 3.0]),
    "null classes": lambda h: h.update(classes=[None, None]),
    "list classes": lambda h: h.update(classes=[[1], [2], [3]]),
    "text as classes": lambda h: h.update(classes="abc"),
    "empty class": lambda h: h.update(classes=["", "b", "c"]),
    "more classes": lambda h: h.update(classes=["a", "b", "c", "d"]),
    "features": lambda h: h.update(features=[]),
    "tokens": lambda h: h["features"].update(tokens="bytes"),
    "list of tokens": lambda h: h["features"].update(tokens=["unicode"]),
    "no word_ngrams": lambda h: h["features"].pop("word_ngrams"),
    "ngrams low": lambda h: h["features"].update(word_ngrams=[0, 2]),
    "ngrams high": lambda h: h["features"].update(char_ngrams=[1, 9]),
    "ngrams turned": lambda h: h["features"].update(word_ngrams=[3, 2]),
    "ngrams bool": lambda h: h["features"].update(word_ngrams=[True, 2]),
    "ngrams float": lambda h: h["features"].update(word_ngrams=[1.0, 2]),
    "ngrams three": lambda h: h["features"].update(word_ngrams=[1, 2, 3]),
    "ngrams null": lambda h: h["features"].update(word_ngrams=None),
    "documents negative": lambda h: h["features"].update(documents=-1),
    "documents bool": lambda h: h["features"].update(documents=True),
    "blocks object": lambda h: h["features"].update(blocks={}),
    "block of text": lambda h: h["features"].update(blocks=["words", "chars"]),
    "blocks turned": lambda h: h["features"]["blocks"].reverse(),
    "block negative": lambda h: h["features"]["blocks"][0].update(features=-1),
    "block huge": lambda h: h["features"]["blocks"][0].update(features=10**30),
    "block endless": lambda h: h["features"]["blocks"][0].update(features=10**4000),
    "blocks too long to add up": lambda h: [b.update(features=10**4300 - 1) for b in h["features"]["blocks"]],
    "block large": lambda h: h["features"]["blocks"][0].update(features=2**63 - 1),
    "no calibration": lambda h: h.pop("calibration"),
    "calibration method": lambda h: h["calibration"].update(method="isotonic"),
    "temperature zero": lambda h: h["calibration"].update(temperature=0),
    "temperature bool": lambda h: h["calibration"].update(temperature=True),
    "temperature text": lambda h: h["calibration"].update(temperature="1"),
    "temperature huge": lambda h: h["calibration"].update(temperature=10**400),
    "temperature nan": lambda h: h["calibration"].update(temperature=float("nan")),
    "temperature inf": lambda h: h["calibration"].update(temperature=float("inf")),
    "settings null": lambda h: h.update(settings=None),
    "settings nan": lambda h: h["settings"].update(rate=float("nan")),
    "settings endless": lambda h: h["settings"].update(rate=10**4000 // 3),
    "training list": lambda h: h.update(training=[]),
    "lone surrogate": lambda h: h["settings"].update(text="\ud800"),
    "lone surrogate class": lambda h: h.update(classes=["a", "b", "\udc00"]),
    "nested": lambda h: h["settings"].update(deep=NESTED),
}
UNSEALABLE = {"lone surrogate", "lone surrogate class", "nested"}  # tried by hand below
FINE = {"settings endless"}  # a long number is still a number


@pytest.mark.parametrize("chunk", [1, 3, 1 << 18])
@pytest.mark.parametrize("kind", bad_arrays())
def test_bad_arrays_are_not_saved_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, chunk: int
) -> None:
    monkeypatch.setattr(modelschema, "_CHUNK", chunk)
    arrays, header = make_model()
    good = saved_bytes(tmp_path)
    bad_arrays()[kind](arrays)
    with pytest.raises(ModelFileError, match="saved: ") as caught:
        save(tmp_path / "saved", arrays, header)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "saved").read_bytes() == good
    assert os.listdir(tmp_path) == ["saved"]
    if "bytes" in kind:
        return
    # The same as a file of another writer, its checksums right.
    stored = {n: np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for n, a in arrays.items()}
    sums = {n: hashlib.sha256(a.tobytes()).hexdigest() for n, a in stored.items()}
    if kind not in ("list", "big-endian", "not contiguous"):
        text = sealed(header | {"checksums": sums})
        refusal(tmp_path, library_bytes(stored, {"logitext": text}), verify=True)


@pytest.mark.parametrize("step", [1, -1])
def test_buckets_are_exact(tmp_path: Path, step: int) -> None:
    arrays, header = make_model()
    tried = 0
    for place in range(1, 2 ** bucket_bits(37)):
        buckets = arrays["buckets"].copy()
        buckets[place] = max(int(buckets[place]) + step, 0)
        rising = (np.diff(buckets[: 2 ** bucket_bits(37) + 1].astype(int)) >= 0).all()
        if rising and (buckets != arrays["buckets"]).any():
            tried += 1
            with pytest.raises(ModelFileError, match="buckets of block words"):
                save(tmp_path / "m", arrays | {"buckets": buckets}, header)
    assert tried > 3


def test_the_bias_is_checked_always(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path, make_model(1, 0, 50_000, named=0))
    table, body = split(data)
    place = len(data) - len(body) + table["bias"]["data_offsets"][0]
    changed = data[:place] + np.float32(np.nan).tobytes() + data[place + 4 :]
    assert "bias" in refusal(tmp_path, changed, verify=False)


@pytest.mark.parametrize("kind", sorted(BAD_HEADERS.keys() - FINE))
def test_bad_headers_are_not_saved_and_not_loaded(tmp_path: Path, kind: str) -> None:
    arrays, header = make_model()
    good = saved_bytes(tmp_path)
    BAD_HEADERS[kind](header)
    with pytest.raises(ModelFileError, match="saved: "):
        save(tmp_path / "saved", arrays, header)
    assert (tmp_path / "saved").read_bytes() == good
    assert os.listdir(tmp_path) == ["saved"]
    if kind not in UNSEALABLE:
        refusal(tmp_path, forged(good, BAD_HEADERS[kind]))


@pytest.mark.parametrize("value", [{1, 2}, np.int64(3), b"bytes", {1: "a", "1": "b"}, {(1, 2): 3}])
def test_what_json_cannot_hold_is_not_saved(tmp_path: Path, value: Any) -> None:
    arrays, header = make_model()
    header["training"]["value"] = value
    with pytest.raises(ModelFileError, match="JSON"):
        save(tmp_path / "m", arrays, header)


def test_long_numbers_are_kept(tmp_path: Path) -> None:
    arrays, header = make_model()
    BAD_HEADERS["settings endless"](header)
    save(tmp_path / "m", arrays, header)
    assert load(tmp_path / "m")[1]["settings"] == header["settings"]
    header["settings"]["rate"] = 10**5000  # longer than Python spells
    with pytest.raises(ModelFileError, match="JSON"):
        save(tmp_path / "m", arrays, header)


@pytest.mark.parametrize("key", ["format_version", "features_version"])
def test_a_newer_format_says_so(tmp_path: Path, key: str) -> None:
    known = {"format_version": 5, "features_version": 1}[key]
    data = forged(saved_bytes(tmp_path), lambda h: h.update({key: known + 1}))
    complaint = refusal(tmp_path, data)
    name = key.removesuffix("_version")
    assert (
        f"made by a newer logitext ({name} {known + 1}); this version reads up to {known}: upgrade"
        in complaint
    )
    # Even when all the rest is another matter.
    table = {"__metadata__": {"logitext": json.dumps({"format_version": 7})}, "x": 3}
    assert "newer logitext (format 7)" in refusal(tmp_path, join(table, b"", indent=1))


# --- Damaged files -----------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path)
    for end in range(len(data)):
        refusal(tmp_path, data[:end])
    refusal(tmp_path, data + b"\0")
    assert "cut short" in refusal(tmp_path, data[:-1])
    assert "cut short" in refusal(tmp_path, data[:100])


def test_a_changed_header_byte_is_refused_without_verifying(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path)
    for place in range(8 + int.from_bytes(data[:8], "little")):
        for flip in (0x01, 0x02, 0x10, 0x20, 0x80, data[place] ^ 0x20 or 1):
            changed = bytearray(data)
            changed[place] ^= flip
            refusal(tmp_path, bytes(changed))


def test_a_changed_array_byte_is_refused_when_verifying(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path)
    for place in range(8 + int.from_bytes(data[:8], "little"), len(data)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(data)
            changed[place] ^= flip
            assert "damaged" in refusal(tmp_path, bytes(changed), verify=True)
            refusal(tmp_path, bytes(changed), verify=False)  # all arrays are small here


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_splices_are_refused_or_the_same(tmp_path: Path, data: st.DataObject) -> None:
    good = saved_bytes(tmp_path)
    other = saved_bytes(tmp_path, make_model(9, 2, 2, 1, seed=1))
    place = st.integers(0, len(good))
    start, end = sorted((data.draw(place), data.draw(place)))
    insert = data.draw(st.binary(max_size=40) | st.just(other[start:end]) | st.just(other[start:]))
    changed = good[:start] + insert + good[end:]
    if refused_or_our_own(tmp_path, changed, verify=data.draw(st.booleans())):
        assert changed in (good, other)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800") | st.just(2**64),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@FUZZ
@given(data=st.data())
def test_any_table_is_refused_in_one_way(tmp_path: Path, data: st.DataObject) -> None:
    table, body = split(saved_bytes(tmp_path))
    header = json.loads(table["__metadata__"]["logitext"])

    def places(value: Any) -> list[tuple[Any, Any]]:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found = []
        for key, inner in list(items):
            found.append((value, key))
            found += places(inner) if isinstance(inner, (dict, list)) else []
        return found

    holder, key = data.draw(st.sampled_from(places(table if data.draw(st.booleans()) else header)))
    holder[key] = data.draw(JSON)
    if (
        isinstance(table.get("__metadata__"), dict)
        and "logitext" in table["__metadata__"]
        and holder is not table
    ):
        try:
            table["__metadata__"]["logitext"] = sealed(header)
        except UnicodeEncodeError:
            table["__metadata__"]["logitext"] = json.dumps(header)
    try:
        changed = join(table, body)
    except UnicodeEncodeError:
        changed = join(table, body, ensure_ascii=True)
    refused_or_our_own(tmp_path, changed)


@FUZZ
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused(tmp_path: Path, data: bytes, as_table: bool) -> None:
    refusal(tmp_path, join(data, b"") if as_table else data)


# --- Hostile files -----------------------------------------------------------------------------


def test_huge_lengths_and_shapes_are_refused(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path)
    for length in (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1, 99_999_999):
        refusal(tmp_path, length.to_bytes(8, "little") + data[8:])
    for entry in (
        {"shape": [2**62, 4]},
        {"shape": [2**63]},
        {"shape": [10**4000, 10**4000]},
        {"shape": [-42, -3]},
        {"shape": [42.0, 3]},
        {"shape": [True, 3]},
        {"shape": [float("nan"), 3]},
        {"shape": [42, 3, 1]},
        {"shape": [126]},
        {"shape": []},
        {"shape": "42"},
        {"shape": None},
        {"dtype": "I32"},
        {"dtype": "F99"},
        {"dtype": ["F32"]},
        {"data_offsets": [0, 504]},
        {"data_offsets": [2**64, 2**64 + 504]},
        {"data_offsets": [-504, 0]},
        {"data_offsets": [504]},
        {"more": 1},
    ):
        table, body = split(data)
        table["weights"] |= entry
        refusal(tmp_path, join(table, body))
    table, body = split(data)
    table["named_text"]["shape"] = [2**62] * 500  # a product longer than Python spells
    refusal(tmp_path, join(table, body))
    for broken in (None, 3, [], "x", {}):
        table, body = split(data)
        table["weights"] = broken
        refusal(tmp_path, join(table, body))


def test_other_spellings_of_the_same_content_are_refused(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path)
    table, body = split(data)
    assert join(table, body) == data
    refusal(tmp_path, join(table, body, ensure_ascii=True))
    refusal(tmp_path, join(table, body, separators=(", ", ":")))
    refusal(tmp_path, join(table, body, sort_keys=True))
    padded = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode() + b" " * 8
    refusal(tmp_path, join(padded, body))
    inner = table["__metadata__"]["logitext"]
    for text in (inner + " ", inner.replace(":", ": ", 1), inner.replace("{", '{"checksum":"",', 1)):
        refusal(tmp_path, join(table | {"__metadata__": {"logitext": text}}, body))
    refusal(tmp_path, forged(data, lambda h: None, ensure_ascii=True))
    refusal(tmp_path, forged(data, lambda h: None, sort_keys=False, indent=1))
    refusal(tmp_path, join(table | {"__metadata__": {"logitext": inner, "more": ""}}, body))
    refusal(tmp_path, join(table | {"more": table["bias"]}, body))
    text = data[8 : 8 + int.from_bytes(data[:8], "little")].rstrip()
    refusal(tmp_path, join(text.replace(b"{", b'{"bias":{},', 1), body))
    refusal(tmp_path, join(b"\xef\xbb\xbf" + text, body))
    refusal(tmp_path, join(text.decode().encode("utf-16"), body))


def test_hostile_json_is_refused(tmp_path: Path) -> None:
    data = saved_bytes(tmp_path)
    table, body = split(data)
    inner = table["__metadata__"]["logitext"]
    deep = "[" * 200_000 + "]" * 200_000
    number = "9" * 5000
    for settings_text in (deep, '{"a":' * 200_000 + "1" + "}" * 200_000, "NaN", "-Infinity", "1e999", number):
        text = inner.replace('"settings":{', f'"settings":{{"a":{settings_text},', 1)
        refusal(tmp_path, join(table | {"__metadata__": {"logitext": text}}, body))
        refusal(tmp_path, join(f'{{"a":{settings_text}}}'.encode(), body))
        refusal(tmp_path, join(settings_text.encode(), body))
    for text in (
        "\ud800",
        inner + "\ud800",
        inner.replace("0.1.0", "\udfff"),
        inner.replace("0.1.0", "\\ud800"),
    ):
        spelled = json.dumps(table | {"__metadata__": {"logitext": text}}).encode()
        refusal(tmp_path, join(spelled, body))
    for text in ("", "null", "[]", "3", '"x"', "{}", "{"):
        refusal(tmp_path, join(table | {"__metadata__": {"logitext": text}}, body))
    for metadata in (None, [], "x", {}, {"logitext": None}, {"logitext": {}}):
        refusal(tmp_path, join(table | {"__metadata__": metadata}, body))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        ((793712314).to_bytes(4, "little") + (12).to_bytes(4, "little") + bytes(100), "fastText"),
        (b"\x80\x04\x95" + bytes(100), "pickle"),
        (b"spam,eggs\n" * 100, "a text"),
        (("žluťoučký kůň " * 100).encode(), "a text"),
        (b'{"json": true}', "a text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "git lfs pull"),
        (bytes(100), "does not begin"),
        (b"\xff" * 100, "does not begin"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in refusal(tmp_path, data)


def test_a_plain_safetensors_file_is_named(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file({"x": np.zeros(3, np.float32)}, tmp_path / "plain", metadata)
        assert "another program" in refusal(tmp_path, (tmp_path / "plain").read_bytes())


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such model file"):
        load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no such model file"):
        load(tmp_path / "missing" / "m")
    with pytest.raises(ModelFileError, match="folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="pipe"):
        load(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load("a\0b")
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match="cannot be read"):
        load(tmp_path / "file" / "m")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load(tmp_path / "loop")
    with pytest.raises(ValueError, match="verify"):
        load(tmp_path / "file", verify="always")  # type: ignore[arg-type]


# --- Writing -----------------------------------------------------------------------------------


def test_saving_over_the_file_loaded_from(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save(path, *make_model())
    arrays, header = load(path)
    copies = {name: array.copy() for name, array in arrays.items()}
    header["training"]["note"] = "again"
    for _ in range(3):
        save(path, arrays, header)
    for name, array in load(path, verify=True)[0].items():
        np.testing.assert_array_equal(array, copies[name])
        np.testing.assert_array_equal(arrays[name], copies[name])  # the first map lives on
    assert load(path)[1]["training"] == {"note": "again"}


def test_permissions(tmp_path: Path) -> None:
    path = tmp_path / "m"
    old = os.umask(0o027)
    try:
        save(path, *make_model())
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o664, 0o444):
            path.chmod(mode)
            save(path, *make_model())
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(old)


def test_links_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/m")
    save(tmp_path / "link", *make_model())
    save(tmp_path / "link", *make_model())
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "folder") == ["m"]
    monkeypatch.chdir(tmp_path / "folder")
    save("here", *make_model())
    save(os.fsencode(tmp_path / ("n" * 255)), *make_model())  # type: ignore[arg-type]
    assert len(load("here")[0]) == 8


def test_where_nothing_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder to save m in does not exist: .*missing"):
        save(tmp_path / "missing" / "m", *make_model())
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelFileError, match="regular file"):
            save(path, *make_model())
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "I/O"), MemoryError()])
@pytest.mark.parametrize("step", ["fsync", "replace", "chmod", "open"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    good = saved_bytes(tmp_path)

    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(*((modelfile, step) if step == "open" else (modelfile.os, step)), fail, raising=False)
    with pytest.raises(type(error)):
        save(tmp_path / "saved", *make_model(seed=5))
    monkeypatch.undo()
    assert (tmp_path / "saved").read_bytes() == good
    assert os.listdir(tmp_path) == ["saved"]


@pytest.mark.alone
def test_saves_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    models = [make_model(seed=seed) for seed in range(4)]
    wanted = {saved_bytes(tmp_path, model) for model in models}
    path = tmp_path / "m"
    save(path, *models[0])
    threads = [threading.Thread(target=lambda m=m: [save(path, *m) for _ in range(10)]) for m in models]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        load(path, verify=True)
    assert path.read_bytes() in wanted
    assert not leftovers(tmp_path)


def run(code: str, *args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


SAVE_BIG = """
import errno, resource, signal, sys
from test_modelfile import *
limit = int(sys.argv[2])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
arrays, header = big_model(100_000)
if sys.argv[3] == "mapped":
    arrays, header = load(sys.argv[1])
try:
    save(sys.argv[1], arrays, header)
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.mark.parametrize("limit", [1, 100, 5000, 1_000_000])
def test_a_full_disk_by_limit(tmp_path: Path, limit: int) -> None:
    good = saved_bytes(tmp_path)
    assert run(SAVE_BIG, tmp_path / "saved", limit, "new").stdout.split() == ["EFBIG"]
    assert (tmp_path / "saved").read_bytes() == good
    assert os.listdir(tmp_path) == ["saved"]


@pytest.mark.parametrize("source", ["new", "mapped"])
def test_a_full_disk_by_mount(tmp_path: Path, source: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    try:
        model = big_model(70_000) if source == "mapped" else make_model()  # 1.7 MB of 2 MB, or a little
        good = saved_bytes(disk, model)
        assert run(SAVE_BIG, disk / "saved", 0, source).stdout.split() == ["ENOSPC"]
        assert (disk / "saved").read_bytes() == good
        assert os.listdir(disk) == ["saved"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_ctrl_c_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = saved_bytes(tmp_path)
    sizes: list[int] = []

    class Piece:
        """How much is written at a time; asked for the hundredth time, it presses Ctrl-C."""

        def __index__(self) -> int:
            sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != "saved"))
            if len(sizes) == 100:
                signal.raise_signal(signal.SIGINT)
            return 64

    monkeypatch.setattr(modelfile, "_WRITE", Piece())
    # A shell lets what it starts in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path / "saved", *big_model(2000))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(sizes) == 100
    assert 0 < sizes[-1] <= 99 * 64  # some of it had been written
    assert (tmp_path / "saved").read_bytes() == good
    assert os.listdir(tmp_path) == ["saved"]


def test_saving_and_verifying_allocate_little(tmp_path: Path) -> None:
    code = """
import resource, sys, tracemalloc
from test_modelfile import *
model = big_model(2_000_000)
tracemalloc.start()
save(sys.argv[1], *model)
load(sys.argv[1], verify=True)
print(tracemalloc.get_traced_memory()[1])
"""
    assert int(run(code, tmp_path / "m").stdout) < 16 << 20  # of 53 MB
