"""What is seen of training, and what ends it early: validation, time, callbacks, checkpoints."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

import logitext as lt
from logitext import _core
from logitext.cautions import cautions
from logitext.checkpoints import Checkpoint, CheckpointError
from logitext.epochs import Clock, Epoch, Standing, Sums
from logitext.features import buffers, count_block

FIXED: dict[str, Any] = {"char_ngrams": None, "learning_rate": 1.0, "epochs": 6, "label_smoothing": 0.0}


def data(rows: int, seed: int = 0, noise: float = 0.3) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rows)
    said = np.where(rng.random(rows) < noise, rng.integers(0, 3, rows), codes)
    texts = [f"c{c} w{rng.integers(30)} x{rng.integers(300)} y{rng.integers(5)}" for c in said]
    return texts, [f"k{code}" for code in codes]


# -- n-grams of other texts in a known table --------------------------------------


@pytest.mark.parametrize(("name", "ngrams"), [("words", (1, 2)), ("chars", (2, 4))])
@pytest.mark.parametrize("learn", [1, 40, 100])
def test_later_texts_are_looked_up(name: str, ngrams: tuple[int, int], learn: int) -> None:
    texts = pa.array([*data(98)[0], "", "all unknown 新手机"], pa.large_string())
    how: dict[str, Any] = {"room": (10**6, 1, 0), "threads": 2}
    block = count_block(texts, "unicode", name, ngrams, **how, learn=learn)
    alone = count_block(texts.slice(0, learn), "unicode", name, ngrams, **how)
    assert block.hashes.tolist() == alone.hashes.tolist()
    assert block.document_frequency.tolist() == alone.document_frequency.tolist()
    # The model that learned from the first texts gives the others the same values.
    weights = np.eye(len(alone), dtype=np.float32)[:, :50]
    rows = np.arange(len(texts), dtype=np.uint32)
    z = _core.sparse_logits(
        [block.lists], rows, np.ascontiguousarray(weights), np.zeros(weights.shape[1], np.float32), 1
    )
    table = (name, alone.hashes, _core.buckets(alone.hashes), alone.document_frequency)
    recipe = ("unicode", ngrams, None) if name == "words" else ("unicode", None, ngrams)
    layer: Any = (
        recipe,
        [table],
        learn,
        np.ascontiguousarray(weights),
        np.zeros(weights.shape[1], np.float32),
        _core.Desks(),
    )

    np.testing.assert_allclose(z, _core.logits(buffers(texts), [(layer, None)], 1)[0], rtol=2e-6)


# -- validation and early stopping --------------------------------------------------


def test_validation_rows_choose_and_calibrate_and_are_never_trained_on() -> None:
    texts, labels = data(400)
    held = ([f"{text} only{i}" for i, text in enumerate(data(100, seed=1)[0])], data(100, seed=1)[1])
    model = lt.TextClassifier().fit(texts, labels, validation=held)
    record = model.training_
    assert record["rows"] == 400
    assert record["validation"] == {"rows": 100, "trained_on": 0}
    assert record["held_out"]["rows"] == 100
    assert record["held_out"]["accuracy"] == pytest.approx(model.score(*held))
    assert record["held_out"]["log_loss"] == pytest.approx(model.evaluate(*held).log_loss, rel=1e-5)
    # Each epoch's is after one temperature; so few rows may be no proof that there should be one.
    assert record["epochs"][-1]["held_out_loss"] <= record["held_out"]["log_loss"] + 1e-5
    assert model.explain("only7").ngrams == ["o", "on"] or "only7" in model.explain("only7").unknown
    # With every setting given the weights are those of the same training without validation.
    plain = lt.TextClassifier(**FIXED).fit(texts, labels)
    other = lt.TextClassifier(**FIXED).fit(texts, labels, validation=held)
    assert np.array_equal(plain.logits(texts), other.logits(texts))
    assert [len(each.evidence().selective.hits_) for each in (plain, other)] == [400, 100]


def test_validation_rows_that_are_trained_on_are_told() -> None:
    texts, labels = data(200)
    model = lt.TextClassifier(**FIXED).fit(texts, labels, validation=(texts[:7], labels[:7]))
    assert model.training_["validation"]["trained_on"] == 7
    assert any("7 rows of the validation set" in sentence for sentence in model.training_["warnings"])


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ((["a", "b"], ["k0", "zz"]), "label at row 1, 'zz', was never seen in training"),
        ((["a"], ["k0", "k1"]), "1 texts, 2 labels"),
        (([], []), "in validation, there must be rows"),
        ((["a", None], ["k0", "k1"]), "in validation, the text at row 1 is null"),
        (["a"], r"must be \(texts, labels\), got list"),
        ("ab", r"must be \(texts, labels\), got str"),
    ],
)
def test_validation_that_cannot_be(validation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.TextClassifier(**FIXED).fit(*data(60), validation=validation)


def test_early_stopping_keeps_the_best_epoch() -> None:
    texts, labels = data(300, noise=0.6)
    held = data(300, seed=5, noise=0.6)
    long = FIXED | {"epochs": 60, "learning_rate": 4.0}
    stopped = lt.TextClassifier(**long, early_stopping=3).fit(texts, labels, validation=held)
    losses = [epoch["held_out_loss"] for epoch in stopped.training_["epochs"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 4 < 60
    full = lt.TextClassifier(**long).fit(texts, labels, validation=held)
    assert [epoch["held_out_loss"] for epoch in full.training_["epochs"]][: len(losses)] == losses
    assert stopped.training_["held_out"]["log_loss"] == pytest.approx(min(losses))
    with pytest.raises(ValueError, match="early_stopping needs a validation set"):
        lt.TextClassifier(early_stopping=3).fit(texts, labels)
    for bad in (0, -1, 1.5, True, "auto"):
        with pytest.raises(ValueError, match="early_stopping must be"):
            lt.TextClassifier(early_stopping=bad).fit(texts, labels, validation=held)


def test_a_callback_sees_each_epoch_and_may_end_training() -> None:
    seen: list[Epoch] = []
    model = lt.TextClassifier(**FIXED).fit(*data(200), callback=seen.append)
    assert [epoch.loss for epoch in seen] == [epoch["loss"] for epoch in model.training_["epochs"]]
    assert len(seen) == 6
    assert all(a.largest_logit < b.largest_logit for a, b in pairwise(seen))
    assert seen[0].gradient_norm > seen[-1].gradient_norm > 0
    seen.clear()

    def two(epoch: Epoch) -> np.bool_:
        seen.append(epoch)
        return np.bool_(len(seen) == 2)

    model = lt.TextClassifier(**FIXED).fit(*data(200), callback=two)
    assert len(model.training_["epochs"]) == 2


def test_rows_that_are_settled_count_as_saturated() -> None:
    model = lt.TextClassifier(**FIXED | {"epochs": 50, "learning_rate": 8.0}).fit(
        ["a", "b"] * 40, ["x", "y"] * 40
    )
    assert model.training_["epochs"][0]["saturated"] < 1.0
    assert model.training_["epochs"][-1]["saturated"] == 1.0


# -- time ---------------------------------------------------------------------------


@pytest.mark.alone
def test_a_time_budget_is_kept() -> None:
    texts, labels = data(20_000)
    start = time.monotonic()
    model = lt.TextClassifier(char_ngrams=None, epochs=100_000, minutes=1.5 / 60).fit(texts, labels)
    assert time.monotonic() - start < 6  # the counting before and the record after are not cut short
    assert 1 <= len(model.training_["epochs"]) < 100_000
    assert model.score(texts, labels) > 0.7
    assert (
        lt.TextClassifier(**FIXED, minutes=5).fit(texts[:300], labels[:300]).training_["epochs"]
        == (lt.TextClassifier(**FIXED).fit(texts[:300], labels[:300]).training_["epochs"])
    )


def test_a_time_budget_too_short_for_one_epoch() -> None:
    with pytest.raises(ValueError, match=r"time budget is too short for one epoch: \d+% of the rows"):
        lt.TextClassifier(minutes=1e-9).fit(*data(3000))
    for bad in (0, -1, float("nan"), float("inf"), "auto"):
        with pytest.raises(ValueError, match="minutes must be"):
            lt.TextClassifier(minutes=bad).fit(*data(60))


def test_the_clock_plans_by_the_speed_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(until=110.0, planned=5000)
    assert clock.rows(0) == 5000
    now[0] = 102.0
    assert clock.rows(200) == 200 + 800  # 100 rows a second, 8 seconds
    now[0] = 109.0
    assert clock.rows(4000) == 4444
    now[0] = 109.99
    assert clock.rows(4400) == 4400  # four more are not worth a call
    assert clock.over
    assert Clock(None, 7).rows(3) == 7


# -- checkpoints ----------------------------------------------------------------------


def saved(model: lt.TextClassifier, path: Path) -> bytes:
    model.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("stop", [1, 3, 6])
@pytest.mark.parametrize(
    "more", [{}, {"l2": 1e-3}, {"early_stopping": 6, "epochs": 40, "learning_rate": 4.0}]
)
def test_training_goes_on_from_a_checkpoint_to_the_same_model(
    tmp_path: Path, stop: int, more: dict[str, Any]
) -> None:
    texts, labels = data(300, noise=0.5)
    model = lt.TextClassifier(**FIXED | more)
    held: Any = {"validation": data(150, seed=3, noise=0.5)} if "early_stopping" in more else {}
    whole = saved(model.fit(texts, labels, **held), tmp_path / "whole")
    seen = []

    def crash(epoch: Epoch) -> None:
        seen.append(epoch)
        if len(seen) == stop:
            raise RuntimeError("crash")

    path = tmp_path / "part"
    keep = Checkpoint.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "__init__", lambda self, path, key: keep(self, path, key, seconds=0))
        with pytest.raises(RuntimeError, match="crash"):
            model.fit(texts, labels, **held, callback=crash, checkpoint=path)
    assert path.exists()
    assert saved(model.fit(texts, labels, **held, checkpoint=path), tmp_path / "resumed") == whole
    # Once more: it is at its end already.
    again: list[Epoch] = []
    model.fit(texts, labels, **held, checkpoint=path, callback=again.append)
    assert again == []
    assert saved(model, tmp_path / "again") == whole


def test_a_checkpoint_of_other_data_or_settings_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    texts, labels = data(100)
    path = tmp_path / "part"
    lt.TextClassifier(**FIXED).fit(texts, labels, checkpoint=path)
    lt.TextClassifier(**FIXED, threads=1).fit(texts, labels, checkpoint=path)
    for model, given in [
        (lt.TextClassifier(**FIXED | {"epochs": 7}), (texts, labels)),
        (lt.TextClassifier(**FIXED), (texts[1:], labels[1:])),
        (lt.TextClassifier(**FIXED), (texts, labels[::-1])),
    ]:
        with pytest.raises(
            CheckpointError, match="belongs to a training on other data or with other settings"
        ):
            model.fit(*given, checkpoint=path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], b"x" * 1000, whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is no checkpoint, or damaged"):
            lt.TextClassifier(**FIXED).fit(texts, labels, checkpoint=path)
        assert path.read_bytes() == damaged


def test_where_no_checkpoint_can_be_is_told_before_the_work(tmp_path: Path) -> None:
    told: list[str] = []
    for path in (tmp_path, tmp_path / "no" / "part"):
        with pytest.raises(CheckpointError, match="is a folder, or in one that does not exist"):
            lt.TextClassifier().fit(
                *data(60), checkpoint=path, progress=lambda what, share: told.append(what)
            )
    assert told == []


def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    texts, labels = data(30_000)
    table = tmp_path / "data.jsonl"
    rows = (json.dumps({"text": t, "label": k}) for t, k in zip(texts, labels, strict=True))
    table.write_text("\n".join(rows))
    arguments = ["train", str(table), "--char-ngrams", "none", "--learning-rate", "1", "--epochs", "30",
                 "--label-smoothing", "0.1", "-o"]  # fmt: skip
    command = Path(sys.executable).with_name("logitext")
    subprocess.run([command, *arguments, tmp_path / "whole"], check=True, capture_output=True)
    part = tmp_path / "part"
    code = (
        "import logitext.checkpoints as c; c.SECONDS = 0;"
        "c.Checkpoint.__init__.__defaults__ = (0,);"
        "from logitext.cli import main; main()"
    )
    argv = [sys.executable, "-c", code, *arguments, str(tmp_path / "model"), "--checkpoint", str(part)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if part.exists() and b'"weights"' in part.read_bytes():
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "model").exists()
    assert [name for name in load_file(part) if name == "weights"]
    done = subprocess.run(
        [command, *arguments, tmp_path / "model", "--checkpoint", part], check=True, capture_output=True
    )
    assert (tmp_path / "model").read_bytes() == (tmp_path / "whole").read_bytes(), done
    assert not part.exists()
    # What a kill left is hidden, beside the checkpoint; the model's folder has nothing half-written.
    assert {name for name in os.listdir(tmp_path) if not name.startswith(".")} == {
        "data.jsonl",
        "whole",
        "model",
    }


# -- what is told ------------------------------------------------------------------------


def test_cautions_by_hand() -> None:
    def epoch(loss: float, largest: float = 1.0) -> dict[str, float]:
        return {"loss": loss, "largest_logit": largest}

    names = ["a", "b"]
    assert cautions({"epochs": [epoch(0.6), epoch(0.3)]}, names) == []
    assert "above that of guessing" in cautions({"epochs": [epoch(0.8)]}, names)[0]
    assert "epoch 2 is above that of epoch 1" in cautions({"epochs": [epoch(0.2), epoch(0.5)]}, names)[0]
    assert "logits explode: one is 300" in cautions({"epochs": [epoch(0.2, 300.0)]}, names)[0]
    assert cautions({"loss_per_epoch": [1.0]}, names) == []  # an early build's record


def test_steps_that_are_too_large_are_told() -> None:
    model = lt.TextClassifier(**FIXED | {"learning_rate": 3000.0}).fit(*data(500, noise=0.5))
    told = " ".join(model.training_["warnings"])
    assert "logits explode" in told
    assert "the step may be too large" in told


def test_standing_survives_json() -> None:
    standing = Standing()
    standing.sums = Sums(3, 0.1 + 0.2, 2.5, 1 / 3, 2 / 3, 1e-300, 2)
    standing.end(2, None)
    standing.sums = Sums(1, 0.7, 1.0, 0.1, 0.2, 0.3, 0)
    assert Standing.from_json(json.loads(json.dumps(standing.to_json()))) == standing


def test_inspect_draws_the_training(tmp_path: Path) -> None:
    model = lt.TextClassifier(**FIXED).fit(*data(300), validation=data(50, seed=2))
    model.save(tmp_path / "m")
    command = Path(sys.executable).with_name("logitext")
    done = subprocess.run(
        [command, "inspect", "--training", tmp_path / "m"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert "held-out loss" in done.stdout
    rows = [line for line in lines if re.match(r" *[1-6] +0\.\d+ +0\.\d+ ", line)]
    assert len(rows) == 6
    assert "█" in rows[0]
