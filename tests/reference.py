"""Naive oracles: every step from text to weights, in plain Python, slow and easy to check.

Nothing here imports the code under test. The tokeniser follows simple rules of its
own for the scripts the tests use, not the whole of UAX #29.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# -- text → tokens --------------------------------------------------------------

MARK = (  # accents, Hebrew points, Arabic and Devanagari vowels, joiners, skin tones
    "[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094d"
    "\u200c\u200d\U0001f3fb-\U0001f3ff]"
)
UNSPACED = "[\u0e00-\u0e7f\u3041-\u3096\u4e00-\u9fff]"  # Thai, Hiragana, Han
NO_LETTER = f"{UNSPACED}|[×÷ªº\u037e\u0387]"
LETTER = f"(?:(?!{NO_LETTER})[a-z\u00aa-\u02c1\u0370-\u0373\u0376-\u1fff\uac00-\ud7a3]{MARK}*)"
DIGIT = f"(?:[0-9]{MARK}*)"
LOW_LINE = f"(?:_{MARK}*)"
# Between two letters ' . : may stand, between two digits ' . , ;
IN_WORD = f"(?:{LETTER}(?:[.':]{MARK}*(?={LETTER}))?|{DIGIT}(?:[.',;]{MARK}*(?={DIGIT}))?)"
THAI_MARK = "[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"
EMOJI = f"[\u2600-\u27bf\U0001f300-\U0001f3fa\U0001f400-\U0001faff]{MARK}*"
FLAG = "[\U0001f1e6-\U0001f1ff]"
TOKEN = re.compile(
    "|".join(
        [
            f"(?P<emoji>{EMOJI}(?:(?<=\u200d){EMOJI})*|{FLAG}{FLAG})",
            f"(?P<unspaced>{UNSPACED}(?:{THAI_MARK}|{MARK})*|[\u30a1-\u30fa\u30fc]+)",
            f"(?P<word>{LOW_LINE}*{IN_WORD}(?:{LOW_LINE}|{IN_WORD})*)",
            rf"(?P<sign>{LOW_LINE}+|\S{MARK}*)",
        ]
    )
)
INVISIBLE = dict.fromkeys(
    ord(c)
    for c in "\u00ad\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufe0e\ufe0f\ufeff"
)


@dataclass(frozen=True)
class Token:
    text: str
    unspaced: bool
    joined: bool


def fold(text: str) -> str:
    nfc = unicodedata.normalize("NFC", text.translate(INVISIBLE))
    return unicodedata.normalize("NFC", nfc.casefold())


def tokenize(text: str) -> list[Token]:
    """Cut at white space, controls and the zero-width space; then by `TOKEN`."""
    tokens = []
    # \x1c-\x1f are no white space to everyone; all ASCII controls separate.
    for piece in re.split(r"[\s\x00-\x20\x7f-\x9f\u200b]+", text):
        end = None
        for match in TOKEN.finditer(fold(piece)):
            joined = match.start() == end
            end = match.end()
            tokens.append(Token(match[0], match.lastgroup == "unspaced", joined))
    return tokens


# -- tokens → n-grams -----------------------------------------------------------

Range = tuple[int, int] | None
Ngram = tuple[str, tuple[str, ...] | str]  # block, tokens or characters


def word_ngrams(tokens: Sequence[Token], ngrams: Range) -> Iterator[Ngram]:
    if ngrams is None:
        return
    for end in range(1, len(tokens) + 1):
        for n in range(ngrams[0], min(ngrams[1], end) + 1):
            yield "words", tuple(token.text for token in tokens[end - n : end])


def char_ngrams(tokens: Sequence[Token], ngrams: Range) -> Iterator[Ngram]:
    """Runs inside a word, its ends marked by spaces; joined unspaced tokens are one word."""
    if ngrams is None:
        return
    words: list[str] = []
    open_run = False
    for token in tokens:
        if open_run and token.unspaced and token.joined:
            words[-1] += token.text
        else:
            words.append(token.text)
        open_run = token.unspaced
    for word in words:
        marked = f" {word} "
        for begin in range(len(marked)):
            for n in range(ngrams[0], ngrams[1] + 1):
                if begin + n <= len(marked) and marked[begin : begin + n] != " ":
                    yield "chars", marked[begin : begin + n]


def count(text: str, words: Range, chars: Range) -> Counter[Ngram]:
    tokens = tokenize(text)
    return Counter([*word_ngrams(tokens, words), *char_ngrams(tokens, chars)])


# -- n-grams → hashes (features_version 1) --------------------------------------

PI = [  # digits of π after the point
    0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1,
    0x082EFA98EC4E6C89, 0x452821E638D01377, 0xBE5466CF34E90C6D,
]  # fmt: skip
M64 = 2**64 - 1


def mix(a: int, b: int) -> int:
    return (a * b & M64) ^ (a * b >> 64)


def finish(h: int) -> int:
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & M64
    h = (h ^ h >> 27) * 0x94D049BB133111EB & M64
    return h ^ h >> 31


def hash_token(text: str) -> int:
    data = text.encode()
    h = PI[0] ^ (len(data) * PI[1] & M64)
    whole = len(data) // 8 * 8
    for at in [*range(0, whole, 8), whole]:
        h = mix(h ^ int.from_bytes(data[at : at + 8], "little"), PI[2])
    return h


def hash_ngram(ngram: Ngram) -> int:
    block, parts = ngram
    if block == "words":
        h = PI[3] ^ len(parts)
        for token in parts:
            h = mix(h ^ hash_token(token), PI[4])
        return finish(h)
    h = PI[5]
    for c in parts:
        h = (h ^ ord(c)) * PI[1] & M64
    return finish(h ^ len(parts))


# -- counts → values → logits ---------------------------------------------------


def value(occurrences: int, documents: int, df: int) -> float:
    return (1 + math.log(occurrences)) * (1 + math.log((1 + documents) / (1 + df)))


def values(counts: Counter[Ngram], df: dict[Ngram, int], documents: int) -> dict[Ngram, float]:
    """Each block divided by its norm; an n-gram without `df` counts as seen in one text."""
    found = {}
    for block in ("words", "chars"):
        raw = {g: value(n, documents, df.get(g, 1)) for g, n in counts.items() if g[0] == block}
        norm = math.sqrt(sum(v * v for v in raw.values()))
        found |= {g: v / norm for g, v in raw.items()}
    return found


def softmax(z: Sequence[float]) -> list[float]:
    top = max(z)
    exponentials = [math.exp(v - top) for v in z]
    total = math.fsum(exponentials)
    return [e / total for e in exponentials]


def cross_entropy(z: Sequence[float], y: int) -> float:
    return max(z) + math.log(math.fsum(math.exp(v - max(z)) for v in z)) - z[y]


# -- operations on logits -------------------------------------------------------


def undefined(z: Sequence[float]) -> bool:
    """Say whether a row has no distribution: NaN, +inf, or nothing but -inf."""
    return any(math.isnan(v) or v == math.inf for v in z) or all(v == -math.inf for v in z)


def logsumexp(z: Sequence[float]) -> float:
    if not z:
        return -math.inf
    top = max(z)
    return math.nan if undefined(z) else top + math.log(math.fsum(math.exp(v - top) for v in z))


def log_softmax(z: Sequence[float]) -> list[float]:
    lse = logsumexp(z)
    return [v - lse for v in z]


def entropy(z: Sequence[float]) -> float:
    return math.nan if undefined(z) else -math.fsum(p * math.log(p) for p in softmax(z) if p > 0)


def margin(z: Sequence[float]) -> float:
    """The second of a single class is -inf."""
    second, first = sorted([*z, -math.inf])[-2:]
    return math.nan if undefined(z) else first - second


def ranked(z: Sequence[float]) -> list[int]:
    """Classes by logit: NaN first, then the larger, then the lower class."""
    return sorted(range(len(z)), key=lambda c: (not math.isnan(z[c]), 0 if math.isnan(z[c]) else -z[c], c))


def times(a: float, b: float) -> float:
    """0 · ∞ = 0, as in 0 · log 0."""
    return 0.0 if a == 0 else a * b


def loss_of_row(
    z: Sequence[float],
    y: int | Sequence[float],
    *,
    class_weight: Sequence[float] | None = None,
    weight: float = 1.0,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int | None = None,
) -> tuple[float, list[float], float]:
    """One row's loss, the gradient of it, and its weight in the mean; `y` is a class or its distribution."""
    classes = range(len(z))
    if weight == 0 or (isinstance(y, int) and y == ignore_index):
        return 0.0, [0.0] * len(z), 0.0
    w = [1.0] * len(z) if class_weight is None else class_weight
    q = [float(c == y) for c in classes] if isinstance(y, int) else y
    smooth = [(1 - label_smoothing) * q[c] + label_smoothing / len(z) for c in classes]
    lse, p, of_truth = logsumexp(z), softmax(z), math.fsum(q[c] * w[c] for c in classes)
    loss = math.fsum(times(smooth[c] * w[c], lse - z[c]) for c in classes) + z_loss * of_truth * lse**2
    pull = math.fsum(smooth[c] * w[c] for c in classes) + 2 * z_loss * of_truth * lse
    return weight * loss, [weight * (pull * p[c] - smooth[c] * w[c]) for c in classes], weight * of_truth


def log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))


def binary_cross_entropy(z: float, y: float) -> float:
    return -times(y, log_sigmoid(z)) - times(1 - y, log_sigmoid(-z))


# -- training -------------------------------------------------------------------

BIAS_RATE = 1 / 32
"""The bias moves as a feature of value 1 would, times this."""
SURE = 0.02
"""A row whose loss is below this has been learned: it makes no step."""


def sgd(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    orders: Sequence[np.ndarray],
    *,
    learning_rate: float,
    batch: int,
    l2: float = 0.0,
    row_weights: np.ndarray | None = None,
    shares: np.ndarray | None = None,
    smoothing: float = 0.0,
    kept: np.ndarray | None = None,
    z_loss: float = 0.0,
    sets: np.ndarray | None = None,
    first_bias: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Softmax regression by mini-batches from zero weights, one order of rows per epoch.

    A batch's logits come from the weights at its start; its step is the sum over its
    rows; the step size falls linearly to 0 over all rows of all epochs. Returns the
    weights, the bias and each epoch's loss per unit of weight, before each row's step.
    The targets are the classes, smoothed, or shares of them; the loss has z_loss times the
    squared log-sum-exp, whose gradient is 2 z_loss times log-sum-exp times the probabilities.
    Or they are several labels a row, a 0/1 matrix, each a logistic regression of its own.
    """
    x = x.astype(np.float64)
    weights = np.zeros((x.shape[1], classes))
    bias = np.zeros(classes) if first_bias is None else first_bias.astype(np.float64)
    row_weights = np.ones(len(y)) if row_weights is None else row_weights.astype(np.float64)
    seen, total = 0, sum(map(len, orders))
    losses = []
    for order in orders:
        loss = 0.0
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            rate = learning_rate * (1 - seen / total)
            steps = np.zeros((len(rows), classes))
            for i, row in enumerate(rows):
                z = (x[row] @ weights + bias).tolist()
                if sets is not None:
                    pairs = list(zip(z, sets[row].tolist(), strict=True))
                    surprise = sum(binary_cross_entropy(*pair) for pair in pairs)
                    loss += row_weights[row] * surprise / classes
                    if surprise < SURE and not smoothing:
                        continue
                    targets = [(1 - smoothing) * y + smoothing / (classes + 1) for _, y in pairs]
                    slopes = [1 / (1 + math.exp(-z)) - y for z, y in zip(z, targets, strict=True)]
                    steps[i] = -rate * row_weights[row] * np.array(slopes)
                    continue
                p = softmax(z)
                lse = max(z) + math.log(sum(math.exp(v - max(z)) for v in z))
                loss += row_weights[row] * z_loss * lse**2
                if shares is not None:
                    loss -= row_weights[row] * sum(
                        q * math.log(p) for q, p in zip(shares[row], p, strict=True)
                    )
                    steps[i] = p - shares[row]
                else:
                    surprise = cross_entropy(z, int(y[row]))
                    loss += row_weights[row] * surprise
                    if surprise < SURE and not smoothing and not z_loss:
                        continue
                    steps[i] = np.array(p) - smoothing / classes
                    steps[i, y[row]] -= 1 - smoothing
                steps[i] += 2 * z_loss * lse * np.array(p)
                steps[i] *= -rate * row_weights[row]
            weights = weights * math.exp(-rate * l2 * len(rows)) + (x[rows].T @ steps) * (
                1 if kept is None else kept
            )
            bias = bias + BIAS_RATE * steps.sum(axis=0)
            seen += len(rows)
        losses.append(loss / row_weights[order].sum())
    return weights, bias, losses
