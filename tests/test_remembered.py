"""What a model remembers of earlier calls: it is quicker by it, and no bit of an answer shows it."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import logitext as lt
from logitext.classifier import TextClassifier

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remembered") / "model.safetensors"
    texts = [f"{word} number {i} {i % 7}x" for i in range(60) for word in ("film", "phone", "vote")]
    settings = {
        "epochs": 2,
        "learning_rate": 1.0,
        "char_ngrams": (2, 4),
        "label_smoothing": 0.0,
        "threads": 1,
    }
    lt.TextClassifier(**settings).fit(texts, ["fun", "tech", "news"] * 60).save(path)  # type: ignore[arg-type]
    return path


def many_texts(seed: int) -> list[str]:
    """Texts of more words than are remembered, some of them again and again, a few with none of these."""
    rng = np.random.default_rng(seed)
    words = [f"w{i:x}o{i % 97}" for i in range(30_000)]
    often = ["film", "phones", "Vote", "number", "新手机", "naïve", "averylongwordthatisnotremembered", "!"]
    return [
        " ".join([*rng.choice(often, 5), *rng.choice(words, int(rng.integers(0, 40)))]) for _ in range(1000)
    ] + ["", "新" * 300, "film " * 20_000, " ".join(words[:20_000])]


def loaded(path: Path) -> TextClassifier:
    model = lt.load(path)
    assert isinstance(model, TextClassifier)
    return model


def alone(path: Path) -> Callable[[list[str]], Logits]:
    """Logits by a model that has read nothing."""
    return lambda texts: loaded(path).logits(texts)


def test_earlier_calls_do_not_show(path: Path) -> None:
    texts, other = many_texts(0), many_texts(1)
    expected = alone(path)(texts)
    model = loaded(path)
    for threads in (1, 2):
        model.threads = threads
        np.testing.assert_array_equal(model.logits(texts), expected)
        model.logits(other)
        np.testing.assert_array_equal(model.logits(texts[::-1]), expected[::-1])
    for row in range(0, len(texts), 50):
        np.testing.assert_array_equal(model.logits(texts[row : row + 1])[0], expected[row])
    for label, column in zip(model.classes_, expected.T, strict=True):
        np.testing.assert_array_equal(model.logit(texts, label), column)
    np.testing.assert_array_equal(lt.predict_many([model, model], texts)[1], model.predict(texts))


def test_calls_at_the_same_time(path: Path) -> None:
    lots = [many_texts(seed)[:200] for seed in range(8)]
    expected = [alone(path)(texts) for texts in lots]
    model = loaded(path)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, right in zip(pool.map(model.logits, lots), expected, strict=True):
                np.testing.assert_array_equal(found, right)


def test_copies_begin_with_nothing_and_answer_alike(path: Path) -> None:
    texts = many_texts(2)[:100]
    model = loaded(path)
    expected = model.logits(texts)
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.logits(texts), expected)
    # In a process made by fork, too.
    with multiprocessing.get_context("fork").Pool(2) as processes:
        for found in processes.map(model.logits, [texts, texts]):
            np.testing.assert_array_equal(found, expected)
