"""One text by the short way has the bits of the long one, whatever the calibration."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import logitext as lt
from logitext import _core
from logitext.evidence import HeldRows
from logitext.features import as_texts
from logitext.model import judged
from logitext.server.questions import Question
from logitext.server.serving import Serving, of_lines

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def texts_of(rng: np.random.Generator, count: int) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(0, 6))) for _ in range(count)]


@pytest.fixture(scope="module", params=[2, 3, 40])
def model(request: pytest.FixtureRequest) -> lt.TextClassifier:
    classes: int = request.param
    rng = np.random.default_rng(classes)
    labels = [f"c{i % classes}" for i in range(400)]
    texts = [
        f"{text} {label if rng.random() < 0.7 else ''}"
        for text, label in zip(texts_of(rng, 400), labels, strict=True)
    ]
    settings: dict[str, Any] = {"epochs": 3, "char_ngrams": None, "threads": 1, "calibration": None}
    return lt.TextClassifier(**settings).fit(texts, labels)


@pytest.mark.parametrize("method", ["identity", "temperature", "affine", "quadratic", "vector", "matrix"])
def test_bits(model: lt.TextClassifier, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = len(model.classes_)
    if (method in ("affine", "quadratic")) != (classes == 2) and method in ("affine", "quadratic"):
        pytest.skip("for two classes")
    rng = np.random.default_rng(1)
    # Noise that calibration has to undo, so that decisions must be kept in some rows.
    z = rng.normal(size=(2000, classes)).astype(np.float32) * np.linspace(0.2, 3, classes, dtype=np.float32)
    codes = rng.integers(0, classes, 2000).astype(np.uint32)
    real = lt.Calibrator.__init__
    monkeypatch.setattr(lt.Calibrator, "__init__", lambda self, **_: real(self, method=method))
    held = HeldRows(z, codes, np.ones((2000, 2), np.float32))
    made = judged(model.model_, held)
    assert made.calibrator is not None
    assert made.calibrator.method_ == method
    few = of_lines(made)
    texts = ["", "\0", "日本語 👍", *texts_of(rng, 300)]
    logits = made.logits(as_texts(texts), 1)
    shares = made.probabilities(logits)
    if few is None:
        assert method in ("quadratic", "matrix")
        return
    answered = 0
    for row, text in enumerate(texts):
        found = _core.answer(text, *few)
        if found is not None:
            decided, digits = found
            answered += 1
            assert decided == int(np.argmax(logits[row]))
            assert np.float32(digits) == shares[row, decided]
    # Only where a decision has to be kept the long way is taken.
    assert answered >= (len(texts) if method in ("identity", "temperature") else 1)


def test_the_reply_is_that_of_the_long_way(model: lt.TextClassifier, tmp_path: Any) -> None:
    model.save(tmp_path / "m.safetensors")
    serving = Serving.read("m", str(tmp_path / "m.safetensors"), 1)
    for text in ("alpha beta", "", '"quoted"\n'):
        for wanted in ({}, {"logits": True, "probabilities": True}):
            short = json.loads(serving.one(Question([text], True, None, wanted)))
            (long,) = serving.rows([text], wanted)
            assert short == {"model": "m", "fingerprint": serving.fingerprint, **json.loads(long)}
