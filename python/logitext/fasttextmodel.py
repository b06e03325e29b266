"""A fastText model as arrays and a header: read from fastText's own file, or from ours after `convert`."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from logitext import _core
from logitext.explanation import Explanation, Share
from logitext.fasttextschema import CENTROIDS, PREFIX, SETTINGS
from logitext.features import arrow_strings, buffers
from logitext.judging import Judged, check_finite, not_finite
from logitext.logits import sigmoid, softmax
from logitext.modelschema import FEATURES_VERSION, ModelFileError, format_version, require

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

MAGIC = (793712314).to_bytes(4, "little")
FREQUENT = 20_000
"""Words that are looked through for the strongest ones."""
_STEPS, _SPAN = 512, 8.0
"""Of fastText's table of the sigmoid: so many steps from -8 to 8."""


def is_fasttext(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file begins as fastText's models do, whatever the order of its bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (MAGIC, MAGIC[::-1])
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class FastTextModel(Judged):
    """Arrays by name (see `logitext.fasttextschema`) and what the header says of them."""

    strict: bool = False
    """Whether it answers as fastText does, also where that is a mistake."""

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, strict: bool = False) -> Self:
        """Read a file of fastText's; its matrices stay where they are, mapped into memory.

        Parameters
        ----------
        path : path
        strict : bool, default False

        Returns
        -------
        FastTextModel

        Raises
        ------
        ModelFileError
            If it is no supervised model of a version that is known, or was cut short or edited.
        """
        name = os.fsdecode(path)
        try:
            with open(path, "rb") as file:
                data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "There is no such model file", name) from None
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{name}: it cannot be mapped into memory ({error})") from error
        try:
            return cls._of(data, strict)
        except ValueError as error:
            raise ModelFileError(f"{name}: {error}") from None

    @classmethod
    def _of(cls, data: NDArray[np.uint8], strict: bool) -> Self:
        found = _core.fasttext_read(data)
        arrays: dict[str, NDArray[Any]] = {
            name: found[name]
            for name in ("word_text", "word_offsets", "word_slots", "ngram_slots")
            if found[name] is not None
        }
        arrays["word_counts"] = found["word_counts"].view(np.uint64)
        part, own = _matrix(data, *found["input"])
        arrays |= {f"input{kind}": array for kind, array in own.items()}
        arrays["output"] = _floats(*_matrix(data, *found["output"]))
        labels = _labels(arrays["word_text"], arrays["word_offsets"], found["words"])
        prefix = (
            PREFIX if all(len(label) > len(PREFIX) and label.startswith(PREFIX) for label in labels) else ""
        )
        require(len(set(labels)) == len(labels), "it was edited: a label stands twice among its labels")
        header = {
            "format_version": format_version(arrays),
            "features_version": FEATURES_VERSION,
            "library_version": _core.__version__,
            "classes": [label.removeprefix(prefix) for label in labels],
            "fasttext": {
                **dict(zip(SETTINGS, found["settings"], strict=True)),
                "arguments": found["arguments"],
                "loss": found["loss"],
                "part": part,
                "prefix": prefix,
                "tokens": found["tokens"],
                "version": found["version"],
                "words": found["words"],
            },
            "calibration": None,
            "settings": {"strict": strict},
            "training": {},
        }
        return cls(arrays, header, strict)

    @property
    def loss(self) -> str:
        """What the logits are: "softmax", "hs" (log-probabilities), "ova" or "ns" (of sigmoids)."""
        return str(self.header["fasttext"]["loss"])

    @property
    def features(self) -> dict[str, Any]:
        """How text becomes features, and how many of each kind there are."""
        said = self.header["fasttext"]
        words, chars = [1, said["word_ngrams"]], [said["minn"], said["maxn"]] if said["maxn"] else None
        rows = len(self.arrays["input" if "input" in self.arrays else "input_codes"])
        blocks = [{"name": "words", "features": said["words"]}]
        if rows > said["words"]:
            blocks.append({"name": "n-grams", "features": rows - said["words"]})
        return {"tokens": "whitespace", "word_ngrams": words, "char_ngrams": chars, "blocks": blocks}

    # -- logits -----------------------------------------------------------------

    @cached_property
    def _front(self) -> Any:
        """The arrays as the core takes them, none of them copied."""
        arrays, said = self.arrays, self.header["fasttext"]
        words = (arrays["word_text"], arrays["word_offsets"], arrays["word_slots"], said["words"])
        if "input" in arrays:
            given: Any = _bytes(arrays["input"])
        else:
            norms = (arrays["input_norm_codes"], arrays["input_norms"]) if "input_norms" in arrays else None
            given = (arrays["input_codes"].reshape(-1), said["part"], arrays["input_centroids"], norms)
        kept = arrays.get("ngram_slots")
        ngrams = None if kept is None else (kept, _core.fasttext_filter(kept))
        return tuple(said[name] for name in SETTINGS), (*words, ngrams), given, self.strict

    @cached_property
    def _back(self) -> Any:
        """The output matrix turned for the core, the number of labels, and the tree if there is one."""
        output, labels = self.arrays["output"], len(self.classes)
        return _core.fasttext_pack(_bytes(output), output.shape[1]), labels, self._tree

    @cached_property
    def _tree(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]] | None:
        if self.loss != "hs":
            return None
        counts = self.arrays["word_counts"][self.header["fasttext"]["words"] :]
        return _core.fasttext_tree(np.ascontiguousarray(counts).view(np.int64))

    def _answers(self, texts: pa.LargeStringArray, threads: int) -> tuple[F32, F32]:
        z, amounts = _core.fasttext_logits(buffers(texts), self._front, self._back, threads)
        check_finite(z)
        return z, amounts

    def logits(self, texts: pa.LargeStringArray, threads: int) -> F32:
        """Return logits, shape (n, n_classes).

        Raises
        ------
        ValueError
            If the weights give one that is not finite.
        """
        return self._answers(texts, threads)[0]

    def best(self, texts: pa.LargeStringArray, threads: int) -> NDArray[np.int64]:
        """Return the number of the label of each text's largest logit, the first of several, shape (n,).

        Raises
        ------
        ValueError
            If the weights give a logit that is not finite.
        """
        found = _core.fasttext_best(buffers(texts), self._front, self._back, threads)
        if (found < 0).any():
            raise not_finite(int(np.argmax(found < 0)))
        return found

    def amounts(self, texts: pa.LargeStringArray, threads: int) -> F32:
        """Return what is known of each text, shape (n, 3): words in the dictionary, others, rows averaged."""
        return self._answers(texts, threads)[1]

    def hidden(self, texts: pa.LargeStringArray, threads: int) -> F32:
        """Return the mean of the rows of each text, shape (n, dim)."""
        return _core.fasttext_hidden(buffers(texts), self._front, threads)[0]

    def read(self, texts: pa.LargeStringArray, threads: int) -> tuple[F32, F32]:
        """Return logits and, from the same reading, how many words of each text are known and how many not.

        Returns
        -------
        logits : float32 array, shape (n, n_classes)
        ngrams : float32 array, shape (n, 2)
            Words of the dictionary, and other words.
        """
        z, amounts = self._answers(texts, threads)
        return z, amounts[:, :2]

    def decisions(self, z: F32) -> NDArray[np.int64]:
        """Return the number of each row's decision: as `Judged`, and fastText's where it is to be repeated.

        That is the last of several labels, and probabilities are compared.
        """
        if not self.strict or self.header["calibration"] is not None:
            return super().decisions(z)
        backwards = self.probabilities(z)[:, ::-1]
        found: NDArray[np.int64] = len(self.classes) - 1 - backwards.argmax(axis=1)
        return found

    def probabilities(self, z: F32, calm: F32 | None = None) -> F32:
        """Return probabilities of raw logits, shape (..., n_classes), calibrated if that was fitted.

        Before that they are those the model was trained for: a softmax, or a sigmoid each.
        """
        if self.header["calibration"] is not None:
            return super().probabilities(z, calm)
        if self.strict:
            return self._as_fasttext(z)
        found: F32 = sigmoid(z) if self.loss in ("ova", "ns") else softmax(z)
        return found

    def _as_fasttext(self, z: F32) -> F32:
        """fastText's probabilities: a hundred-thousandth too large, by a table where they are sigmoids."""
        if self.loss == "hs":
            return np.exp(z)
        shares: F32
        if self.loss == "softmax":
            shares = np.exp(z - z.max(axis=-1, keepdims=True))
            shares /= shares.sum(axis=-1, keepdims=True)
        else:
            knots = np.arange(_STEPS + 1, dtype=np.float32) * np.float32(2 * _SPAN) / _STEPS - np.float32(
                _SPAN
            )
            table = (1 / (1 + np.exp(-knots))).astype(np.float32)
            place = (z.clip(-_SPAN, _SPAN) + np.float32(_SPAN)) * _STEPS / np.float32(_SPAN) / 2
            shares = table[place.astype(np.int64)]
            shares[z < -_SPAN], shares[z > _SPAN] = 0.0, 1.0
        logs = np.log(shares.astype(np.float64) + 1e-5).astype(np.float32)
        return np.exp(logs)

    # -- explanation --------------------------------------------------------------

    def explain(self, text: str) -> Explanation:
        """Return what each word and n-gram of a text adds to each logit."""
        column = arrow_strings([text])
        z, amounts = self._answers(column, threads=1)
        names, chars, rows, counts = _core.fasttext_features(text, self._front)
        has = rows >= 0
        vectors = self.rows(rows[has]) * (counts[has, None] / np.float32(max(amounts[0, 2], 1)))
        output = self.arrays["output"]
        bias = np.zeros(len(self.classes), np.float32)
        if self._tree is None:
            added = vectors @ output.T
        else:
            added, bias = self._shares(vectors, self.hidden(column, threads=1)[0])
        return Explanation(
            classes=self.classes,
            logits=z[0],
            bias=bias,
            ngrams=[name for name, yes in zip(names, has, strict=True) if yes],
            blocks=["chars" if char else "words" for char, yes in zip(chars, has, strict=True) if yes],
            contributions=added,
            unknown=[name for name, yes in zip(names, has, strict=True) if not yes],
        )

    def _shares(self, vectors: F32, hidden: F32) -> tuple[F32, F32]:
        """Shares in log-probabilities of a tree, and those of a text of which nothing is known.

        A step of the way to a label adds ``ln sigmoid(a)``, with a linear in the n-grams. On the straight
        way from nothing to the text its mean slope is ``(ln sigmoid(a) + ln 2) / a``: an n-gram's share is
        what it adds to a, times that (integrated gradients; Sundararajan, Taly & Yan 2017).
        """
        left, right = self._tree or (np.zeros(0, np.uint32),) * 2
        output = self.arrays["output"].astype(np.float64)[: len(left)]
        a, each = output @ hidden.astype(np.float64), vectors.astype(np.float64) @ output.T
        labels = len(self.classes)
        ways = np.zeros((len(vectors) + 1, 2 * labels - 1))
        for node in range(labels - 2, -1, -1):
            for child, sign in ((left[node], -1.0), (right[node], 1.0)):
                at = sign * a[node]
                gain = min(at, 0.0) - np.log1p(np.exp(-abs(at))) + np.log(2)
                slope = gain / at if abs(at) > 1e-6 else 0.5
                ways[:-1, child] = ways[:-1, labels + node] + sign * slope * each[:, node]
                ways[-1, child] = ways[-1, labels + node] - np.log(2)
        return ways[:-1, :labels].astype(np.float32), ways[-1, :labels].astype(np.float32)

    def rows(self, rows: NDArray[np.int64]) -> F32:
        """Return rows of the input matrix as floats, shape (n, dim)."""
        arrays, said = self.arrays, self.header["fasttext"]
        if "input" in arrays:
            return np.ascontiguousarray(arrays["input"][rows])
        norms = {}
        if "input_norms" in arrays:
            norms = {"_norm_codes": arrays["input_norm_codes"][rows], "_norms": arrays["input_norms"]}
        codes = {"_codes": arrays["input_codes"][rows], "_centroids": arrays["input_centroids"]}
        return _floats(said["part"], codes | norms, said["dim"])

    def strongest_ngrams(self, code: int, most: int) -> list[Share]:
        """Return the words with the largest weights for a class, of the most frequent ones of the dictionary.

        Of a tree the weight is what the word by itself adds to the log-probability of even odds.
        """
        words = np.arange(min(self.header["fasttext"]["words"], FREQUENT))
        output, rows = self.arrays["output"], self.rows(words)
        if self._tree is None:
            weights = rows @ output[code]
        else:
            weights = np.zeros(len(rows), np.float32)
            for node, sign in self._way(code):
                weights += np.log(2) - np.logaddexp(0, -sign * (rows @ output[node]))
        order = np.argsort(-weights, kind="stable")[: max(most, 0)]
        names = [name.decode(errors="replace") for name in self.words(len(words))]
        return [Share(names[i], "words", float(weights[i])) for i in order if weights[i] > 0]

    def _way(self, code: int) -> list[tuple[int, float]]:
        """The inner nodes above a label of a tree, and on which side of each it is."""
        found, child, labels = [], code, len(self.classes)
        left, right = self._tree or (np.zeros(0, np.uint32),) * 2
        for node in range(labels - 1):
            if child in (left[node], right[node]):
                found.append((node, 1.0 if child == right[node] else -1.0))
                child = labels + node
        return found

    def counts(self) -> NDArray[np.int64]:
        """Return how often each word, and behind them each label, was seen in training."""
        return self.arrays["word_counts"].view(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of all of it, in hexadecimal digits."""
        if "checksum" in self.header:
            return str(self.header["checksum"])
        digest = hashlib.sha256(json.dumps(self.header, sort_keys=True).encode())
        for name in sorted(self.arrays):
            digest.update(_bytes(self.arrays[name]).data)
        return digest.hexdigest()

    def words(self, most: int | None = None) -> list[bytes]:
        """Return the words of the dictionary, in fastText's order."""
        words = self.header["fasttext"]["words"]
        end = words if most is None else min(words, most)
        return _entries(self.arrays["word_text"], self.arrays["word_offsets"], 0, end)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _entries(text: NDArray[Any], offsets: NDArray[Any], begin: int, end: int) -> list[bytes]:
    at = offsets[begin : end + 1].tolist()
    whole = text[: at[-1]].tobytes()
    return [whole[a:b] for a, b in pairwise(at)]


def _labels(text: NDArray[Any], offsets: NDArray[Any], words: int) -> list[str]:
    found = []
    for number, label in enumerate(_entries(text, offsets, words, len(offsets) - 1)):
        try:
            found.append(label.decode())
        except UnicodeDecodeError:
            raise ModelFileError(f"its label {number}, {label!r}, is not UTF-8") from None
    return found


def _matrix(
    data: NDArray[np.uint8], rows: int, columns: int, dense: int | None, quantised: Any
) -> tuple[int, dict[str, NDArray[Any]]]:
    """Arrays of a matrix of the file, by the ends of their names; and how many columns a code stands for."""

    def floats(at: int, *shape: int) -> F32:
        # Where the file does not align them, a view is still one.
        return np.ndarray(shape, "<f4", data, at)

    if dense is not None:
        return 1, {"": floats(dense, rows, columns)}
    part, codes, centroids, norms = quantised
    parts = -(-columns // part)
    found: dict[str, NDArray[Any]] = {
        "_codes": data[codes : codes + rows * parts].reshape(rows, parts),
        "_centroids": floats(centroids, columns * CENTROIDS).copy(),
    }
    if norms is not None:
        found |= {
            "_norm_codes": data[norms[0] : norms[0] + rows],
            "_norms": floats(norms[1], CENTROIDS).copy(),
        }
    return part, found


def _floats(part: int, arrays: dict[str, NDArray[Any]], dim: int | None = None) -> F32:
    """A matrix as floats, by what `_matrix` found."""
    if "" in arrays:
        return arrays[""]
    codes, centroids = arrays["_codes"], arrays["_centroids"]
    dim = len(centroids) // CENTROIDS if dim is None else dim
    found = np.empty((len(codes), dim), np.float32)
    for which, begin in enumerate(range(0, dim, part)):
        width = min(part, dim - begin)
        table = centroids[begin * CENTROIDS :][: width * CENTROIDS].reshape(CENTROIDS, width)
        found[:, begin : begin + width] = table[codes[:, which]]
    if "_norms" in arrays:
        found *= arrays["_norms"][arrays["_norm_codes"]][:, None]
    return found
