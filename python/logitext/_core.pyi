"""The native core: functions over arrays, no state. Texts cross as (offsets, data)."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
I64: TypeAlias = NDArray[np.int64]
U8: TypeAlias = NDArray[np.uint8]
U16: TypeAlias = NDArray[np.uint16]
U32: TypeAlias = NDArray[np.uint32]
U64: TypeAlias = NDArray[np.uint64]

Range: TypeAlias = tuple[int, int] | None
Texts: TypeAlias = tuple[I64, U8]  # offsets (n + 1,), UTF-8 data
Recipe: TypeAlias = tuple[str, Range, Range]  # tokens, word n-grams, character n-grams
Lists: TypeAlias = tuple[U64, I64, U32, F32]  # hashes, indptr (8 * n + 1,), indices, values
Table: TypeAlias = tuple[str, U64, U32, U32]  # block, hashes, buckets, document_frequency
I8: TypeAlias = NDArray[np.int8]
# A matrix, or places, ids, values; bytes have exponents behind.
Weights: TypeAlias = F32 | tuple[U32, NDArray[Any], F32] | tuple[I8, I8] | tuple[U32, NDArray[Any], I8, I8]
# recipe, tables, documents, weights, bias, and what was read in earlier calls
Layer: TypeAlias = tuple[Recipe, list[Table], int, Weights, F32, Desks]
Occurrences: TypeAlias = tuple[I64, U32, F32]  # indptr, indices, values
Support: TypeAlias = tuple[U32, U32, U32, Occurrences, Occurrences]  # places, ids, begins; full, kept

# loss, weight, largest logit, logits, gradients, saturated
Signs: TypeAlias = tuple[float, float, float, float, float, int]

__version__: str
TILE: int  # classes of a tile of full rows

class Desks:
    """What a layer reads in one call, kept for the next."""

def simd_level() -> str: ...
def available_threads() -> int: ...
def complete_records(data: bytes | bytearray, delimiter: int, quoted: bool) -> tuple[int, int]: ...
def fingerprints(texts: Texts) -> U64: ...
def count(
    texts: Texts, recipe: Recipe, block: str, least: int, room: tuple[int, int, int], threads: int
) -> tuple[U64, U32, U32, I64, U32, U16, F32, int]: ...
def values(
    document_frequency: U32,
    indptr: I64,
    indices: U32,
    counts: U16,
    dropped: F32,
    documents: int,
    threads: int,
) -> F32: ...
def look_up(
    texts: Texts, recipe: Recipe, block: str, hashes: U64, buckets: U32, threads: int
) -> tuple[I64, U32, U16, F32]: ...
def merge_counts(hashes: U64, counts: U32, other_hashes: U64, other_counts: U32) -> tuple[U64, U32]: ...
def buckets(hashes: U64) -> U32: ...
def shuffle(n: int, seed: int) -> U32: ...
def train(
    blocks: Sequence[Lists],
    labels: U32,
    row_weights: F32 | None,
    shares: F32 | None,
    order: U32,
    *,
    sets: tuple[I64, U32] | None = None,
    learning_rate: float,
    l2: float,
    smoothing: float,
    z_loss: float,
    batch: int,
    seen: int,
    total: int,
    sums: Signs,
    scale: float,
    weights: F32,
    bias: F32,
    threads: int,
    budget: float,
) -> tuple[int, float, bool, Signs]: ...
def support(
    blocks: Sequence[Lists], rows: U32, labels: U32, classes: int, full_from: int, threads: int
) -> Support: ...
def train_wide(
    support: Support,
    labels: U32,
    row_weights: F32 | None,
    order: U32,
    *,
    learning_rate: float,
    l2: float,
    smoothing: float,
    z_loss: float,
    batch: int,
    seen: int,
    total: int,
    sums: Signs,
    scale: float,
    full: F32,
    kept: F32,
    bias: F32,
    threads: int,
    budget: float,
) -> tuple[int, float, bool, Signs]: ...
def sparse_logits(blocks: Sequence[Lists], rows: U32, weights: Weights, bias: F32, threads: int) -> F32: ...
def strings(values: list[Any]) -> Texts | None: ...
def logits(
    texts: Texts, layers: Sequence[tuple[Layer, int | None]], threads: int, amounts: bool = False
) -> list[F32]: ...
def answer(
    text: str, layer: Layer, temperature: float, lines: tuple[F32, F32] | None
) -> tuple[int, str] | None: ...
def features(text: str, layer: Layer) -> tuple[list[str], I64, F32]: ...
def spell(texts: Texts, recipe: Recipe, block: str, hashes: U64, rows: U32) -> list[str]: ...

# settings, dictionary, input and strictness; floats as bytes.
FastTextFront: TypeAlias = tuple[tuple[int, ...], tuple[Any, ...], Any, bool]
# The output matrix as it was packed, the number of labels, the children of the nodes of a tree.
FastTextBack: TypeAlias = tuple[F32, int, tuple[U32, U32] | None]

def fasttext_read(data: NDArray[np.uint8]) -> dict[str, Any]: ...
def fasttext_tree(counts: I64) -> tuple[U32, U32]: ...
def fasttext_pack(output: NDArray[np.uint8], dim: int) -> F32: ...
def fasttext_filter(slots: U32) -> U64: ...
def fasttext_hidden(texts: Texts, front: FastTextFront, threads: int) -> tuple[F32, F32]: ...
def fasttext_logits(
    texts: Texts, front: FastTextFront, back: FastTextBack, threads: int
) -> tuple[F32, F32]: ...
def fasttext_best(texts: Texts, front: FastTextFront, back: FastTextBack, threads: int) -> I64: ...
def fasttext_features(text: str, front: FastTextFront) -> tuple[list[str], list[bool], I64, F32]: ...

# Logits are rows by classes, or one row; format is float16, bfloat16 (as bits), float32 or float64.
def small_softmax(z: Any, log: bool) -> Any: ...
def softmax(
    format: str, z: NDArray[Any] | None, out: NDArray[Any], temperature: float, log: bool, threads: int
) -> None: ...
def summarize(
    format: str, z: NDArray[Any] | None, asking: dict[str, Any], threads: int
) -> tuple[float, float, int | None]: ...
def argmax(format: str, z: NDArray[Any], out: I64, threads: int) -> None: ...
def margin(format: str, z: NDArray[Any], out: NDArray[Any], threads: int) -> None: ...
def top_k(format: str, z: NDArray[Any], out: I64, threads: int) -> None: ...
def binary(
    format: str,
    z: NDArray[Any] | None,
    y: NDArray[Any] | None,
    out: NDArray[Any] | None,
    what: str,
    factor: float,
    threads: int,
) -> float: ...
