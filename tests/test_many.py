"""Prediction: one label's logit, several models in one reading, a cold start in no time."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitext as lt
from logitext import _core, modelfile

TEXTS = [
    "the team won the match", "a goal in the last minute", "it's a cup final tonight, tonight",
    "shares fell on weak earnings", "the bank raised its rates", "market rally fades 3,000",
    "new phone with a better camera", "the app crashed again", "新手机 software update is out",
]  # fmt: skip
LABELS = ["sport"] * 3 + ["money"] * 3 + ["tech"] * 3
FAST: dict[str, Any] = {"learning_rate": 2.0, "epochs": 3}
RECIPES: list[dict[str, Any]] = [
    {"char_ngrams": None},
    {"char_ngrams": (2, 4)},
    {"char_ngrams": (3, 5)},
    {"char_ngrams": (2, 4), "word_ngrams": None},
    {"char_ngrams": None, "word_ngrams": (1, 3)},
    {"char_ngrams": (1, 3), "tokens": "whitespace"},
]


@pytest.fixture(scope="module")
def models() -> list[lt.TextClassifier]:
    """Of every mix of recipes; with 2, 3 and 9 classes."""
    labels: list[list[Any]] = [LABELS * 2, [label == "tech" for label in LABELS] * 2, list(range(9)) * 2]
    made = [lt.TextClassifier(**FAST, **recipe) for recipe in RECIPES]
    return [model.fit(TEXTS * 2, labels[i % 3]) for i, model in enumerate(made)]


def test_many_models_answer_as_each_alone(models: list[lt.TextClassifier]) -> None:
    texts = [*TEXTS, "", "unheard-of wörds 機 won", "won " * 300] * 9
    for chosen in (models, models[::-1], models[:1], [models[1]] * 3):
        answers = lt.predict_many(chosen, texts, threads=1)
        z = lt.predict_many(chosen, texts, logits=True)
        assert len(answers) == len(z) == len(chosen)
        for model, answer, own in zip(chosen, answers, z, strict=True):
            assert answer.tolist() == model.predict(texts).tolist()
            assert answer.dtype == model.classes_.dtype
            assert own.tobytes() == model.logits(texts).tobytes()


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=60) | st.sampled_from(TEXTS), max_size=12))
def test_a_text_has_the_same_logits_in_any_company(models: list[lt.TextClassifier], texts: list[str]) -> None:
    together = lt.predict_many(models, texts, logits=True)
    for model, z in zip(models, together, strict=True):
        for row, text in enumerate(texts):
            assert model.logits([text]).tobytes() == z[row].tobytes()


def test_words_are_forgotten_without_a_trace(models: list[lt.TextClassifier]) -> None:
    # More distinct words than are remembered, the known ones in between.
    texts = [f"{TEXTS[i % 9]} w{i} x{i * 7919}" for i in range(9000)]
    chosen = [3, 4444, 8999]
    for own, alone in zip(
        lt.predict_many(models[:3], texts, logits=True, threads=1),
        lt.predict_many(models[:3], [texts[i] for i in chosen], logits=True),
        strict=True,
    ):
        assert own[chosen].tobytes() == alone.tobytes()


def test_no_models_and_what_is_none(models: list[lt.TextClassifier]) -> None:
    with pytest.raises(ValueError, match="there are no models"):
        lt.predict_many([], TEXTS)
    with pytest.raises(ValueError, match="must be a list of TextClassifier"):
        lt.predict_many(models[0], TEXTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="model 1 is no TextClassifier but str"):
        lt.predict_many([models[0], "model"], TEXTS)  # type: ignore[list-item]
    with pytest.raises(lt.NotFittedError, match="not trained yet"):
        lt.predict_many([models[0], lt.TextClassifier()], TEXTS)
    with pytest.raises(ValueError, match="row 1 is null"):
        lt.predict_many(models, ["a", None])
    assert [z.shape for z in lt.predict_many(models[:3], [], logits=True)] == [(0, 3), (0, 2), (0, 9)]


def test_one_labels_logit_is_its_column(models: list[lt.TextClassifier]) -> None:
    for model in models:
        z = model.logits(TEXTS)
        for code, label in enumerate(model.classes_.tolist()):
            assert model.logit(TEXTS, label).tobytes() == z[:, code].tobytes()
    with pytest.raises(ValueError, match="'nowhere' is not a class"):
        models[0].logit(TEXTS, "nowhere")
    with pytest.raises(lt.NotFittedError):
        lt.TextClassifier().logit(TEXTS, "sport")
    with pytest.raises(ValueError, match="no such class"):
        _core.logits((np.zeros(1, np.int64), np.zeros(0, np.uint8)), [(models[0].model_.layer(), 3)], 1)


def large(model: lt.TextClassifier, path: Path, features: int, classes: int) -> None:
    """A model file of words that no text holds, of about 4 × features × classes bytes."""
    hashes = np.linspace(1, 2**64 - 2**12, features).astype(np.uint64)
    arrays = {
        "weights": np.full((features, classes), 0.5, np.float32),
        "bias": np.zeros(classes, np.float32),
        "hashes": hashes,
        "document_frequency": np.ones(features, np.uint32),
        "buckets": _core.buckets(hashes),
        "named_features": np.zeros(0, np.uint32),
        "named_offsets": np.zeros(1, np.uint64),
        "named_text": np.zeros(0, np.uint8),
    }
    header = {name: said for name, said in model.model_.header.items() if name != "evidence"}
    header["calibration"] = None
    blocks = {"blocks": [{"name": "words", "features": features}]}
    header = {**header, "classes": list(range(classes)), "features": {**header["features"], **blocks}}
    modelfile.save(path, arrays, header)


@pytest.mark.alone
def test_time_to_load_does_not_grow_with_the_model(models: list[lt.TextClassifier], tmp_path: Path) -> None:
    for name, features in (("small", 1250), ("large", 125_000)):
        large(models[0], tmp_path / name, features, 400)
    assert (tmp_path / "large").stat().st_size > 200e6
    # Each time in a process of its own, where nothing was loaded before.
    code = (
        "import sys, time, logitext as lt; start = time.perf_counter();"
        "lt.load(sys.argv[1]).predict(['the new phone']); print(time.perf_counter() - start)"
    )

    def seconds(name: str) -> float:
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(3)]
        return min(float(run.stdout) for run in runs)

    small, whole = seconds("small"), seconds("large")
    assert whole < small + 0.01, f"2 MB take {small:.4f} s, 200 MB {whole:.4f} s"


def test_a_cold_start_imports_nothing_slow(models: list[lt.TextClassifier], tmp_path: Path) -> None:
    models[0].save(tmp_path / "m")
    code = (
        "import sys, logitext as lt; before = set(sys.modules);"
        "print(*lt.load(sys.argv[1]).predict(['the new phone', 'é']));"
        "assert not {'pandas', 'pyarrow.compute', 'numpy.ma'} & (set(sys.modules) - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert len(done.stdout.split()) == 2


def test_plain_strings_become_buffers_and_nothing_else_does() -> None:
    class Name(str):
        __slots__ = ()

    buffers = _core.strings(["aé", "", "新\0"])
    assert buffers is not None
    assert (buffers[0].tolist(), buffers[1].tobytes()) == ([0, 3, 3, 7], "aé新\0".encode())
    for other in (["a", None], ["a", 1], ["a", b"b"], ["a", "\ud800"], [Name("a")]):
        assert _core.strings(other) is None
