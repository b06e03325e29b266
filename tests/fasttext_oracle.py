"""fastText's files and answers the naive way: small models of every kind, hostile texts, a reading of them.

Nothing here is fast or shares a line with the package. Numbers are float64 where fastText's are float32, so
what they say is right to rounding; `strict` answers round where fastText does.
"""

import random
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = 793712314
LOSSES = {"hs": 1, "ns": 2, "softmax": 3, "ova": 4}
LABEL, END = b"__label__", b"</s>"


def fnv(word: bytes) -> int:
    h = 2166136261
    for byte in word:
        signed = byte - 256 if byte >= 128 else byte
        h = ((h ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return h


@dataclass
class Quantised:
    """Codes (rows, parts), centroids of each part (256, columns of the part), codes and values of norms."""

    codes: np.ndarray
    centroids: list[np.ndarray]
    part: int
    norm_codes: np.ndarray | None = None
    norms: np.ndarray | None = None

    def floats(self) -> np.ndarray:
        parts = [table[self.codes[:, which]] for which, table in enumerate(self.centroids)]
        rows = np.concatenate(parts, axis=1)
        if self.norms is not None and self.norm_codes is not None:
            rows = rows * self.norms[self.norm_codes][:, None]
        return rows

    def bytes(self) -> bytes:
        rows, dim = len(self.codes), sum(table.shape[1] for table in self.centroids)
        out = struct.pack("<?qqi", self.norms is not None, rows, dim, self.codes.size)
        out += self.codes.astype(np.uint8).tobytes()
        last = self.centroids[-1].shape[1]
        out += struct.pack("<4i", dim, len(self.centroids), self.part, last)
        out += b"".join(table.astype("<f4").tobytes() for table in self.centroids)
        if self.norms is not None and self.norm_codes is not None:
            out += self.norm_codes.astype(np.uint8).tobytes()
            out += struct.pack("<4i", 1, 1, 1, 1) + self.norms.astype("<f4").tobytes()
        return out


@dataclass
class Model:
    """All that a file says."""

    words: list[bytes]
    labels: list[bytes]
    counts: list[int]
    input: np.ndarray | Quantised
    output: np.ndarray | Quantised
    loss: str = "softmax"
    dim: int = 4
    word_ngrams: int = 1
    bucket: int = 0
    minn: int = 0
    maxn: int = 0
    pruned: dict[int, int] | None = None
    version: int = 12
    kind: int = 3
    tail: bytes = field(default=b"")

    def to_bytes(self) -> bytes:
        out = struct.pack("<Ii", MAGIC, self.version)
        out += struct.pack("<6i", self.dim, 5, 5, 1, 5, self.word_ngrams)
        out += struct.pack("<6i", LOSSES[self.loss], self.kind, self.bucket, self.minn, self.maxn, 100)
        out += struct.pack("<d", 1e-4)
        size = len(self.words) + len(self.labels)
        kept = -1 if self.pruned is None else len(self.pruned)
        out += struct.pack("<3iqq", size, len(self.words), len(self.labels), 1000, kept)
        for at, entry in enumerate(self.words + self.labels):
            out += entry + b"\0" + struct.pack("<qb", self.counts[at], at >= len(self.words))
        for key, row in (self.pruned or {}).items():
            out += struct.pack("<ii", key, row)
        for matrix in (self.input, self.output):
            out += struct.pack("<?", isinstance(matrix, Quantised))
            if isinstance(matrix, Quantised):
                out += matrix.bytes()
            else:
                out += struct.pack("<qq", *matrix.shape) + matrix.astype("<f4").tobytes()
        return out + self.tail

    # -- text -------------------------------------------------------------------

    def tokens(self, text: str, strict: bool) -> list[bytes]:
        """The words of a text, the end of the line behind them."""
        found = [b""]
        for byte in text.encode() + b"\n":
            character = bytes([byte])
            if character == b"\n" and strict:
                break
            if character in (b" ", b"\n", b"\r", b"\t", b"\v", b"\f", b"\0"):
                found.append(b"")
            else:
                found[-1] += character
        found = [word for word in found if word]
        if END in found:
            found = found[: found.index(END)] if strict else [word for word in found if word != END]
        return [*found, END]

    def rows(self, text: str, strict: bool) -> list[int]:
        """The rows of the input matrix that are averaged."""
        entries = {word: at for at, word in enumerate(self.words + self.labels)}
        version = 0 if self.version == 11 else self.maxn
        rows, hashes = [], []

        def push(key: int) -> None:
            if self.pruned is None:
                rows.append(len(self.words) + key)
            elif key in self.pruned:
                rows.append(len(self.words) + self.pruned[key])

        for word in self.tokens(text, strict):
            at = entries.get(word)
            labelled = word.startswith(LABEL) if at is None else at >= len(self.words)
            if labelled and strict:
                continue
            if at is not None and not labelled:
                rows.append(at)
            hashes.append(fnv(word))
            if word == END:
                continue
            characters = [c.encode() for c in f"<{word.decode()}>"]
            for begin in range(len(characters)):
                for n in range(1, version + 1):
                    if begin + n > len(characters):
                        break
                    if n < self.minn or (n == 1 and (begin == 0 or begin + n == len(characters))):
                        continue
                    push(fnv(b"".join(characters[begin : begin + n])) % self.bucket)
        for begin in range(len(hashes)):
            h = _signed(hashes[begin]) & _ALL
            for end in range(begin + 1, min(len(hashes), begin + self.word_ngrams)):
                h = (h * 116049371 + _signed(hashes[end])) & _ALL
                push(h % self.bucket)
        return rows

    # -- scores -----------------------------------------------------------------

    def hidden(self, text: str, strict: bool = False) -> np.ndarray:
        table = self.input.floats() if isinstance(self.input, Quantised) else self.input
        rows = self.rows(text, strict)
        return table[rows].astype(np.float64).mean(axis=0) if rows else np.zeros(self.dim)

    def logits(self, text: str, strict: bool = False) -> np.ndarray:
        output = self.output.floats() if isinstance(self.output, Quantised) else self.output
        z = output.astype(np.float64) @ self.hidden(text, strict)
        return self.tree(z, strict) if self.loss == "hs" else z

    def tree(self, z: np.ndarray, strict: bool) -> np.ndarray:
        """Log-probabilities of the leaves: the two rarest nodes are joined until one is left."""
        labels = len(self.labels)
        counts = self.counts[len(self.words) :]
        found = np.zeros(labels)
        # Each open node: its count, when it was made, its leaves.
        leaves = [(counts[at], [at]) for at in range(labels - 1, -1, -1)]
        made: list[tuple[int, list[int]]] = []
        for node in range(labels - 1):
            pair = []
            for _ in range(2):
                rarest = leaves if leaves and (not made or leaves[0][0] < made[0][0]) else made
                pair.append(rarest.pop(0))
            a = float(z[node])
            if strict:
                f = np.float32(1 / (1 + np.float64(np.float32(np.exp(np.float64(np.float32(-a)))))))
                no, yes = np.log(1 - np.float64(f) + 1e-5), np.log(np.float64(f) + 1e-5)
            else:
                no, yes = -np.logaddexp(0, a), -np.logaddexp(0, -a)
            for (_, own), step in zip(pair, (no, yes), strict=True):
                found[own] += step
            made.append((pair[0][0] + pair[1][0], pair[0][1] + pair[1][1]))
        return found

    def probabilities(self, text: str, strict: bool = False) -> np.ndarray:
        z = self.logits(text, strict)
        shares: np.ndarray
        if self.loss == "hs":
            shares = np.exp(z)
            return shares
        if self.loss == "softmax":
            e = np.exp(z - z.max())
            shares = e / e.sum()
        elif not strict:
            shares = 1 / (1 + np.exp(-z))
        else:
            steps = np.floor((np.clip(z, -8, 8) + 8) * 32)
            shares = 1 / (1 + np.exp(-(steps / 32 - 8)))
            shares = np.where(z < -8, 0.0, np.where(z > 8, 1.0, shares))
        return shares + 1e-5 if strict else shares


_ALL = (1 << 64) - 1


def _signed(h: int) -> int:
    return h - (1 << 32) if h >= 1 << 31 else h


WORDS = ["</s>", "the", "cat", "sat", "日本", "naïve", "don't", "🙂", "a", "of", "Ünder", "__labelled"]
VOCABULARY = [word.encode() for word in WORDS]


def matrix(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    return (rng.normal(size=(rows, dim)) * 1.5).astype(np.float32)


def quantised(rng: np.random.Generator, rows: int, dim: int, part: int, norms: bool) -> Quantised:
    widths = [min(part, dim - begin) for begin in range(0, dim, part)]
    return Quantised(
        codes=rng.integers(0, 256, (rows, len(widths))),
        centroids=[matrix(rng, 256, width) for width in widths],
        part=part,
        norm_codes=rng.integers(0, 256, rows) if norms else None,
        norms=np.abs(matrix(rng, 256, 1)[:, 0]) if norms else None,
    )


def make(seed: int = 0, *, labels: int = 7, **kind: Any) -> Model:
    """A small model with random weights; `part` and `norms` quantise the input, `output` the output, too."""
    rng = np.random.default_rng(seed)
    part, norms, output = kind.pop("part", 0), kind.pop("norms", False), kind.pop("output", False)
    kept = kind.pop("kept", None)
    words = kind.pop("words", VOCABULARY)
    dim, bucket = kind.get("dim", 4), kind.get("bucket", 0)
    pruned = None
    if kept is not None:
        pruned = {int(key): row for row, key in enumerate(rng.permutation(bucket)[:kept])}
    rows = len(words) + (bucket if pruned is None else len(pruned))
    counts = [*range(len(words) + 3, 3, -1), *sorted(rng.integers(1, 50, labels).tolist(), reverse=True)]
    return Model(
        words=words,
        labels=[LABEL + f"l{at}".encode() for at in range(labels)],
        counts=counts,
        input=quantised(rng, rows, dim, part, norms) if part else matrix(rng, rows, dim),
        output=quantised(rng, labels, dim, 2, norms) if output else matrix(rng, labels, dim),
        pruned=pruned,
        **kind,
    )


KINDS: dict[str, dict[str, Any]] = {
    "words": {},
    "one label": {"labels": 1},
    "two labels, dim 1": {"labels": 2, "dim": 1},
    "many labels": {"labels": 70, "dim": 19},
    "characters": {"minn": 2, "maxn": 4, "bucket": 101, "dim": 16},
    "single characters": {"minn": 1, "maxn": 3, "bucket": 1, "dim": 17},
    "word runs": {"word_ngrams": 3, "bucket": 97, "dim": 33},
    "wide": {"minn": 2, "maxn": 3, "bucket": 29, "dim": 3000},
    "both": {"word_ngrams": 2, "minn": 3, "maxn": 5, "bucket": 1000, "dim": 20},
    "minn above maxn": {"minn": 5, "maxn": 3, "bucket": 10},
    "version 11": {"version": 11, "minn": 2, "maxn": 4, "word_ngrams": 2, "bucket": 50},
    "no end": {"words": VOCABULARY[1:], "minn": 2, "maxn": 3, "bucket": 50},
    "ova": {"loss": "ova", "word_ngrams": 2, "bucket": 97},
    "ns": {"loss": "ns", "minn": 2, "maxn": 3, "bucket": 97},
    "hs": {"loss": "hs", "labels": 40, "dim": 16, "minn": 2, "maxn": 4, "bucket": 101},
    "hs of one": {"loss": "hs", "labels": 1},
    "hs of two": {"loss": "hs", "labels": 2},
    "quantised": {"part": 2, "dim": 16, "minn": 2, "maxn": 4, "bucket": 101},
    "quantised, odd": {"part": 3, "dim": 16, "norms": True, "word_ngrams": 2, "bucket": 101},
    "quantised, last part short": {"part": 2, "dim": 5, "norms": True},
    "pruned": {"part": 2, "dim": 16, "norms": True, "minn": 2, "maxn": 4, "bucket": 1000, "kept": 300},
    "pruned to words": {"part": 4, "dim": 10, "minn": 2, "maxn": 4, "bucket": 1000, "kept": 0},
    "quantised output": {"part": 2, "dim": 7, "norms": True, "output": True, "word_ngrams": 2, "bucket": 10},
    "pruned tree": {
        "loss": "hs", "labels": 33, "part": 2, "dim": 16, "norms": True, "output": True,
        "minn": 2, "maxn": 4, "bucket": 1000, "kept": 200, "word_ngrams": 2,
    },
}  # fmt: skip


TEXTS = [
    "",
    " ",
    "the cat sat",
    "the  cat\tsat\r\non the\x00mat\x0b\x0c.",
    "日本 naïve Ünder 🙂 don't",
    "nothing known here",
    "</s>",
    "the </s> cat",
    "cat\nsat",
    "\ncat",
    "__label__l0 cat",
    "cat __label__l1 __label__unknown __labelled __label__",
    "x" * 300 + " " + "é" * 90,
    "a b c d e f g " * 40,
    "\u00a0\u2028\u3000 \ud7ff\U0010ffff",
    "< > <> < </s <s> s>",
]
PIECES = [*TEXTS, "l", "ab", "__label__", "\x85", "\x01", "ﬁ", "İ", "क्षत्रिय", "👨‍👩‍👧"]


def one_line(texts: list[str]) -> list[str]:
    return [text.replace("\n", " ") for text in texts]


def hostile(count: int, seed: int = 0) -> list[str]:
    """Texts of all that can be in one: many spaces, marks, labels, code points of any kind."""
    rng = random.Random(seed)

    def piece() -> str:
        if rng.random() < 0.7:
            return rng.choice(PIECES)
        return chr(
            rng.choice([rng.randrange(32, 127), rng.randrange(0xA0, 0x3000), rng.randrange(0x1F000, 0x1FFFF)])
        )

    def text() -> str:
        return "".join(piece() + rng.choice(["", " ", " "]) for _ in range(rng.choice([0, 1, 2, 5, 20])))

    return [text() for _ in range(count)]
