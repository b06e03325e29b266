"""`logitext logits` from outside: what is printed, what is written, what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import logitext as lt
from logitext import cli, description
from logitext.npy import open_npy, write_probabilities

LOGITEXT = Path(sysconfig.get_path("scripts")) / "logitext"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# The machine may be slow and shared: this only ends what would hang for ever.
FOREVER = 600
Z = np.array([[2.0, 1.0, 0.1], [0.0, 3.0, 1.0]])


class Done(NamedTuple):
    code: int
    out: str
    err: str


def logitext(*args: object, **how: Any) -> Done:
    """Run the real command."""
    done = subprocess.run(
        [LOGITEXT, "logits", *map(str, args)], capture_output=True, timeout=FOREVER, check=False, **how
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process: half a second faster, and otherwise the same."""

    def run(*args: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["logitext", "logits", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        assert isinstance(exit.value.code, int)
        return Done(exit.value.code, *capfd.readouterr())

    return run


def refused(done: Done, *words: str) -> None:
    """One clear sentence, and nothing else."""
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert len(done.err) < 400
    for word in words:
        assert word in done.err, done.err


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def sparse(path: Path, dtype: str, *shape: int) -> Path:
    """A .npy file of zeros that takes no room."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return path


# What is printed


def test_what_is_printed(tmp_path: Path) -> None:
    z, y = saved(tmp_path / "z.npy", np.float32(Z)), saved(tmp_path / "y.npy", np.int8([0, 2]))
    done = logitext(z)
    assert (done.code, done.err) == (0, "")
    assert [re.split("  +", line) for line in done.out.splitlines()] == [
        ["shape", "2 × 3, float32"],
        ["logits", "0 to 3"],
        ["mean", "1.183, standard deviation 1.049"],
        ["masked", "0 % of the logits are -inf"],
        ["temperature", "1"],
        ["decided", "for 2 of 3 classes, most often for class 0 (50 % of the rows)"],
        ["quantiles of the rows", "10 %", "50 %", "90 %"],
        ["largest probability", "0.659", "0.659", "0.8438"],
        ["entropy, nats", "0.5243", "0.5243", "0.8467"],
        ["entropy, share of log classes", "0.4772", "0.4772", "0.7707"],
        ["margin", "1", "1", "2"],
    ]
    done = logitext(z, "--labels", y, "--temperature", 2)
    assert (done.code, done.err) == (0, "")
    rows = dict(re.split("  +", line)[:2] for line in done.out.splitlines())
    assert (rows["temperature"], rows["accuracy"]) == ("2", "0.5000")
    loss = lt.cross_entropy(Z / 2, [0, 2])
    assert rows["log loss"] == f"{loss:.4f} nats; guessing class frequencies gives 0.6931"
    assert rows["best temperature"] == f"{lt.describe(Z, [0, 2]).best_temperature:.4g}"
    assert all(line == line.rstrip() for line in done.out.splitlines())


def test_notes_are_printed(tmp_path: Path, run: Run) -> None:
    z = saved(tmp_path / "z.npy", [[np.nan, 0.0], [0.25, 0.75], [1.0, 0.0]])
    done = run(z)
    assert (done.code, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if line.startswith("note: ")] == [
        "note: rows that are all -inf, or hold +inf or NaN, are left out: 1; the first is row 0, "
        "counting from 0",
        "note: each row is in [0, 1] and sums to 1: these look like probabilities, not logits",
    ]
    # Where no row is left, there is nothing to say of decisions.
    done = run(saved(z, [[-np.inf, -np.inf]]), "--labels", saved(tmp_path / "y.npy", [0]))
    assert (done.code, done.err) == (0, "")
    assert "decided" not in done.out
    assert "nan" in done.out


def test_json_is_what_the_library_says_unrounded(tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(50, 4))
    z[3, 0] = z[5] = -np.inf
    y = np.zeros(50, np.int64)
    z_file, y_file = saved(tmp_path / "z.npy", z), saved(tmp_path / "y.npy", y)
    done = logitext(z_file, "--labels", y_file, "--json", "--temperature", "0.5")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    expected = asdict(lt.describe(z, y, temperature=0.5))
    assert expected["log_loss"] == np.inf
    assert found.pop("log_loss") is None
    del expected["log_loss"]
    assert found == json.loads(json.dumps(expected))
    assert (found["rows"], found["unusable"], found["first_unusable"]) == (50, 1, 5)


def test_json_of_one_class(tmp_path: Path, run: Run) -> None:
    done = run(saved(tmp_path / "z.npy", [[1.0], [2.0]]), "--json")
    found = json.loads(done.out)
    assert found["margin"] == found["entropy_share"] == {"p10": None, "p50": None, "p90": None}
    assert found["log_loss"] is found["accuracy"] is None


# What is written


@pytest.mark.parametrize(
    "dtype",
    ["float16", "bfloat16", "float32", "float64", ">f2", ">f4", ">f8", "longdouble", "int8", "bool"],
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["probabilities", "log-probabilities"])
def test_what_is_written(
    dtype: str, order: str, kind: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", 10)
    z = (np.random.default_rng(0).normal(size=(4, 5, 3)) * 3).astype(BFLOAT16 if "b" in dtype[:2] else dtype)
    z = z.astype(dtype) if dtype == "bool" else z
    z = np.asarray(z, order=order)
    path, out = saved(tmp_path / "z.npy", z), tmp_path / "p.npy"
    done = run(path, "-o", out, "--write", kind, "--temperature", 1.5)
    assert (done.code, done.err) == (0, "")
    assert "written" in done.out
    assert str(out) in done.out
    assert sorted(os.listdir(tmp_path)) == ["p.npy", "z.npy"]
    written = open_npy(out)
    operation = lt.softmax if kind == "probabilities" else lt.log_softmax
    expected = operation(z, temperature=1.5)
    assert (written.dtype, written.shape) == (expected.dtype, z.shape)
    assert written.dtype == (np.float64 if z.dtype.kind in "ib" else z.dtype)
    np.testing.assert_array_equal(written, expected)
    plain = np.load(out)
    assert plain.dtype.itemsize == written.dtype.itemsize
    # The very bytes that NumPy writes, but for those of a longdouble that mean nothing.
    np.save(tmp_path / "expected.npy", np.ascontiguousarray(expected))
    assert dtype == "longdouble" or out.read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_probabilities_are_the_default(tmp_path: Path) -> None:
    z, out = saved(tmp_path / "z.npy", Z), tmp_path / "p.npy"
    out.write_bytes(b"old")
    out.chmod(0o640)
    done = logitext(z, "-o", out)
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load(out), lt.softmax(Z))
    assert out.stat().st_mode & 0o777 == 0o640
    assert logitext(z, "-o", out, "--json").out == logitext(z, "--json").out
    z = saved(tmp_path / "z.npy", Z[0])
    assert logitext(z, "-o", out).code == 0
    np.testing.assert_array_equal(np.load(out), lt.softmax(Z[0]))


def test_rows_that_are_not_usable_are_nan(tmp_path: Path, run: Run) -> None:
    z = np.array([[0.0, -np.inf], [-np.inf, -np.inf], [np.inf, 0.0], [np.nan, 0.0]])
    assert run(saved(tmp_path / "z.npy", z), "-o", tmp_path / "p.npy").code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), [[1, 0], *[[np.nan, np.nan]] * 3])


# What is read


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_the_format(version: tuple[int, int], tmp_path: Path, run: Run) -> None:
    with open(tmp_path / "z.npy", "wb") as file:
        np.lib.format.write_array(file, Z, version=version)
    assert json.loads(run(tmp_path / "z.npy", "--json").out)["highest"] == 3


def test_raw_values_of_two_bytes_are_bfloat16(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = Z.astype(BFLOAT16)
    path = saved(tmp_path / "z.npy", z)
    assert np.load(path).dtype.kind == "V"
    found = json.loads(run(path, "--json").out)
    assert (found["dtype"], found["highest"], found["lowest"]) == ("bfloat16", 3.0, 0.0)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    refused(run(path), str(path), "bfloat16", "install ml_dtypes", "float32")


def test_headers_of_python_2_are_read_without_a_warning(tmp_path: Path, run: Run) -> None:
    path = header(tmp_path / "z.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L)}")
    done = run(path)
    assert (done.code, done.err) == (0, "")


# What is refused


def header(path: Path, text: str, body: bytes = bytes(48)) -> Path:
    """A .npy file that says anything."""
    encoded = text.encode("latin-1") + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + body)
    return path


def described(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


HOSTILE = {
    "no dict": "[]",
    "no keys": "{}",
    "not closed": "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)",
    "not a literal": "__import__('os').system('touch pwned')",
    "deep": "(" * 3000,
    "many": "[" * 200 + "]" * 200,
    "a dtype of nonsense": described("'<q9'", "(2, 3)"),
    "a dtype that is a number": described("8", "(2, 3)"),
    "a negative shape": described("'<f8'", "(-2, -3)"),
    "a shape that is no tuple": described("'<f8'", "6"),
    "a shape of text": described("'<f8'", "('2', 3)"),
    "too many axes": described("'<f8'", "(" + "1, " * 100 + "3)"),
    "a shape beyond all memory": described("'<f8'", f"({2**62}, 8)"),
    "no row of too many classes": described("'<f8'", f"(0, {2**70})"),
    "digits": described("'<f8'", f"({'9' * 4000}, {'9' * 4000}, 3)"),
    "a control character": described("'\x1b]0;title\x07'", "(2, 3)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(name: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = header(tmp_path / "z.npy", HOSTILE[name])
    done = run(path)
    refused(done, str(path), "damaged" if "no row" not in name else "")
    assert "\x1b" not in done.err
    refused(run(saved(tmp_path / "good.npy", Z), "--labels", path), str(path))
    assert sorted(os.listdir(tmp_path)) == ["good.npy", "z.npy"]


def odd_files(folder: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    whole = saved(folder / "whole.npy", Z).read_bytes()

    def write(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    yield write("empty.npy", b""), ("not a .npy file", "empty")
    yield write("x.csv", b"a,b\n1,2\n"), ("not a .npy file",)
    yield write("start.npy", whole[:6]), ("header", "cut short")
    yield write("half.npy", whole[:60]), ("header", "cut short")
    yield write("version.npy", whole[:6] + b"\x09" + whole[7:]), ("header",)
    yield write("version3.npy", whole[:6] + b"\x03" + whole[7:]), ("header", "version")
    yield write("short.npy", whole[:-1]), ("cut short", "48 bytes", "47 there")
    yield write("pickle.npy", pickle.dumps(Z)), ("not a .npy file",)
    np.savez(folder / "x.npz", z=Z)
    yield folder / "x.npz", ("not a .npy file", ".npz", "np.save")
    with open(folder / "objects.npy", "wb") as file:
        np.lib.format.write_array(file, np.array([[print]]), allow_pickle=True)
    yield folder / "objects.npy", ("Python objects",)
    for name, array, words in (
        ("text", np.array([["a"]]), "text"),
        ("bytes", np.array([[b"a"]]), "text"),
        ("complex", np.array([[1j]]), "complex"),
        ("records", np.zeros((2, 2), [("a", "u1"), ("b", "u1")]), "records"),
        ("dates", np.zeros((2, 2), "M8[s]"), "dates"),
        ("raw", np.zeros((2, 2), "V3"), "raw bytes"),
    ):
        yield saved(folder / f"{name}.npy", array), (words, "not numbers")
    yield saved(folder / "scalar.npy", 1.0), ("class axis",)
    yield saved(folder / "no rows.npy", np.zeros((0, 3))), ("at least one row", "(0, 3)")
    yield saved(folder / "no classes.npy", np.zeros((3, 0), np.float32)), ("at least one class", "(3, 0)")
    yield folder, ("folder",)
    yield folder / "missing.npy", ("No such file",)
    os.mkfifo(folder / "pipe.npy")
    yield folder / "pipe.npy", ("pipe",)
    yield Path("/dev/null"), ("device",)
    yield Path("-"), ("standard input", "name a .npy file")


def test_odd_files(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    good = saved(tmp_path / "good.npy", Z)
    old = tmp_path / "p.npy"
    old.write_bytes(b"old")
    for path, words in odd_files(folder):
        named = ("axis", "least", "standard")
        name = () if any(part in words[0] for part in named) else (str(path),)
        refused(run(path, "-o", old), *words, *name)
        done = run(good, "--labels", path, "-o", old)
        if words[0] in ("class axis", "at least one row (0, 3)") or "at least" in words[0]:
            refused(done, "one per row")
        else:
            refused(done, *words, *name)
        assert old.read_bytes() == b"old"
        assert len(os.listdir(tmp_path)) == 3
    refused(logitext(folder / "objects.npy"), "Python objects")
    refused(logitext(folder / "short.npy"), "cut short")


def test_wrong_labels(tmp_path: Path, run: Run) -> None:
    z = saved(tmp_path / "z.npy", Z)
    for y, words in (
        ([0, 1, 2], "one per row"),
        ([0, 3], "got 3 at row 1"),
        ([-100, 0], "got -100 at row 0"),
        ([0.0, 1.0], "dtype float64"),
        ([0.0, 0.5], "got 0.5 at row 1"),
        (np.array([0, 1]).astype(BFLOAT16), "bfloat16"),
    ):
        refused(run(z, "--labels", saved(tmp_path / "y.npy", y)), words)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a b",
        "z --temperature 0",
        "z --temperature -1",
        "z --temperature x",
        "z --write logits -o x",
        "z --write probabilities",
        "z --nonsense",
    ],
)
def test_a_wrong_command_line_is_2(line: str, run: Run) -> None:
    done = run(*line.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: logitext logits")


def test_temperatures_out_of_range(tmp_path: Path, run: Run) -> None:
    z = saved(tmp_path / "z.npy", Z)
    for temperature in ("nan", "inf", "1e-300"):
        refused(run(z, "--temperature", temperature, "-o", tmp_path / "p.npy"), "temperature", temperature)
    assert os.listdir(tmp_path) == ["z.npy"]


def test_where_nothing_can_be_written(tmp_path: Path, run: Run) -> None:
    # Said before the work: the input, which does not exist, is not even opened.
    missing = tmp_path / "missing.npy"
    for output, words in ((tmp_path / "no" / "p", "folder"), (tmp_path, "folder"), ("-", "standard output")):
        refused(run(missing, "-o", output), words)
    assert os.listdir(tmp_path) == []


def test_an_input_is_not_written_over(tmp_path: Path, run: Run) -> None:
    z, y = saved(tmp_path / "z.npy", Z), saved(tmp_path / "y.npy", [0, 1])
    (tmp_path / "link.npy").symlink_to(z)
    os.link(y, tmp_path / "hard.npy")
    before = z.read_bytes(), y.read_bytes()
    for output in (z, y, tmp_path / "link.npy", tmp_path / "hard.npy"):
        refused(run(z, "--labels", y, "-o", output), str(output), "input")
    assert (z.read_bytes(), y.read_bytes()) == before


# A full disk, a signal, much data


def test_a_full_disk(tmp_path: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    z = sparse(tmp_path / "z.npy", "<f4", 1000, 1000)
    out = tmp_path / "p.npy"
    refused(logitext(z, "-o", out, preexec_fn=small), str(out), os.strerror(errno.EFBIG))
    assert os.listdir(tmp_path) == ["z.npy"]
    out.write_bytes(b"old")
    refused(logitext(z, "-o", out, preexec_fn=small), str(out))
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["p.npy", "z.npy"]


def test_ctrl_c_while_writing(tmp_path: Path) -> None:
    z = sparse(tmp_path / "z.npy", "<f4", 100_000, 1000)
    out = tmp_path / "p.npy"
    out.write_bytes(b"old")
    process = subprocess.Popen([LOGITEXT, "logits", z, "-o", out], stderr=subprocess.PIPE)
    try:
        while len(os.listdir(tmp_path)) < 3:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=FOREVER)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, b"interrupted\n")
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["p.npy", "z.npy"]


def test_progress_is_shown_to_a_person_only(tmp_path: Path) -> None:
    z, out = sparse(tmp_path / "z.npy", "<f4", 20_000, 1000), tmp_path / "p.npy"
    keyboard, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    process = subprocess.Popen(
        [LOGITEXT, "logits", z, "-o", out], stdout=subprocess.PIPE, stderr=terminal, env=env
    )
    os.close(terminal)
    seen = b""
    with suppress(OSError):  # how Linux tells the end
        while some := os.read(keyboard, 65536):
            seen += some
    os.close(keyboard)
    printed, _ = process.communicate(timeout=FOREVER)
    assert process.returncode == 0
    assert b"describing" in seen
    assert b"writing" in seen
    assert printed.startswith(b"shape ")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory a process may write to")
@pytest.mark.parametrize(
    ("dtype", "shape", "write"), [("<f2", (120_000, 1000), True), ("<f4", (1200, 50_000), False)], ids=str
)
def test_memory_does_not_grow_with_the_file(
    dtype: str, shape: tuple[int, int], write: bool, tmp_path: Path
) -> None:
    # Of private memory; the mapped file, which takes none, is not counted.
    status = "import logitext.cli, logitext.screen\nprint(open('/proc/self/status').read())"
    start = subprocess.run([sys.executable, "-c", status], capture_output=True, timeout=FOREVER, check=True)
    limit = int(re.findall(rb"VmData:\s+(\d+) kB", start.stdout)[0]) * 1024 + (160 << 20)

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    z = sparse(tmp_path / "z.npy", dtype, *shape)
    assert z.stat().st_size >= 240_000_000
    done = logitext(z, *(["-o", tmp_path / "p.npy"] if write else []), preexec_fn=little)
    assert (done.code, done.err) == (0, "")
    assert "for 1 of" in done.out
    if write:
        assert (tmp_path / "p.npy").stat().st_size == z.stat().st_size
    # The limit is one: an array that has to be copied whole does not fit.
    copied = f"import numpy as np\nnp.load({str(z)!r}, mmap_mode='r').astype(np.float32).sum()"
    done_so = subprocess.run(
        [sys.executable, "-c", copied], preexec_fn=little, capture_output=True, timeout=FOREVER, check=False
    )
    assert b"MemoryError" in done_so.stderr


# The library beneath


def test_progress_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "BLOCK_LOGITS", 3)
    told: list[tuple[str, float]] = []
    write_probabilities(tmp_path / "p.npy", Z, progress=lambda what, share: told.append((what, share)))
    assert told == [("writing", 0), ("writing", 0.5)]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def stop(what: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_probabilities(tmp_path / "p.npy", Z, progress=stop)
    with pytest.raises(ValueError, match="temperature"):
        write_probabilities(tmp_path / "p.npy", Z, temperature=0)
    with pytest.raises(FileNotFoundError, match="folder"):
        write_probabilities(tmp_path / "no" / "p.npy", Z)
    assert os.listdir(tmp_path) == []
