"""Sets, abstention, novelty and drift of a classifier: what held-out rows promise, and whether it is kept."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

import logitext as lt
from logitext.choosing import Folds
from logitext.drift import _evidence, _quantile, smirnov, tail
from logitext.evidence import Evidence, HeldRows
from logitext.features import as_texts, known_ngrams, recipe
from logitext.modelfile import ModelFileError, save
from logitext.novelty import Novelty
from logitext.search import set_aside

COMMAND = str(Path(sys.executable).with_name("logitext"))
TOPICS = {
    "sport": "match goal team player score league coach win season cup",
    "food": "bread soup salt oven taste cook sugar pan dish butter",
    "work": "office email meeting salary boss report desk project team score",
}
COMMON = ["the", "a", "of", "and", "to", "in", "is", "it", "that", "for", "on", "with", "was", "as"]


def made(rows: int, seed: int, noise: float = 0.05) -> tuple[list[str], list[str]]:
    """Texts of three topics, some of which say nothing of theirs, or have a wrong label."""
    rng = np.random.default_rng(seed)
    names = list(TOPICS)
    texts, labels = [], []
    for _ in range(rows):
        topic = names[rng.integers(3)]
        words = rng.choice(TOPICS[topic].split(), rng.integers(0, 4)).tolist()
        words += rng.choice(COMMON, rng.integers(2, 9)).tolist()
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(names[rng.integers(3)] if rng.random() < noise else topic)
    return texts, labels


@pytest.fixture(scope="module")
def exact() -> lt.TextClassifier:
    return lt.TextClassifier(threads=1).fit(*made(3000, 0), holdout=0.4)


@pytest.fixture(scope="module")
def usual() -> lt.TextClassifier:
    return lt.TextClassifier(threads=1).fit(*made(3000, 1))


def covered(clf: lt.TextClassifier, coverage: float, rows: int = 20_000) -> float:
    texts, labels = made(rows, 99)
    return float(clf.predict_set(texts, coverage)[np.arange(rows), clf.encode(labels)].mean())


def test_holdout_keeps_coverage(exact: lt.TextClassifier) -> None:
    held = exact.evidence()
    assert held.exact
    n = len(held.selective.hits_)
    assert 1100 < n < 1300
    for coverage in (0.8, 0.9, 0.95):
        least = int(np.floor((n + 1) * (1 - coverage)))
        low, high = stats.beta(n + 1 - least, least).ppf([0.0005, 0.9995])
        assert low - 0.01 < covered(exact, coverage) < high + 0.01


def test_rows_that_were_trained_on_do_not_keep_it() -> None:
    """The twin: the same check finds out a model judged by rows it learned by heart."""
    texts, labels = made(600, 2)
    own = [f"{text} w{i}" for i, text in enumerate(texts)]  # each has a word of its own to be known by
    clf = lt.TextClassifier(threads=1, learning_rate=8.0, epochs=60, char_ngrams=None).fit(own, labels)
    clf.calibrate(own, labels)
    assert covered(clf, 0.9) < 0.87


def test_the_usual_fit_is_near_it(usual: lt.TextClassifier) -> None:
    assert not usual.evidence().exact
    assert abs(covered(usual, 0.9) - 0.9) < 0.04


def test_empty_sets_and_decisions(usual: lt.TextClassifier) -> None:
    texts, _ = made(500, 5)
    sets = usual.predict_set(texts, 0.5)
    assert (~sets.any(axis=1)).any()
    full = usual.predict_set(texts, 0.5, allow_empty=False)
    assert full.any(axis=1).all()
    decided = usual.predict(texts)
    assert all(full[i, usual.classes_.tolist().index(label)] for i, label in enumerate(decided))
    assert (full >= sets).all()
    wider = usual.predict_set(texts, 0.95)
    assert (wider >= sets).all()


def test_abstention_keeps_the_error(usual: lt.TextClassifier) -> None:
    texts, labels = made(5000, 7)
    answers = usual.predict(texts, max_error=0.08)
    answered = [(a, b) for a, b in zip(answers, labels, strict=True) if a is not None]
    assert 500 < len(answered) < 5000
    assert np.mean([a != b for a, b in answered]) < 0.08
    plain = usual.predict(texts)
    assert all(a is None or a == b for a, b in zip(answers, plain, strict=True))


def test_what_cannot_be_promised_is_said(usual: lt.TextClassifier) -> None:
    with pytest.raises(lt.UnattainableError, match="the smallest that can is"):
        usual.predict(["a goal"], max_error=0.0001)
    with pytest.raises(ValueError, match="calibration rows"):
        usual.predict_set(["a goal"], 0.9999)
    for wrong in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="coverage"):
            usual.predict_set(["a goal"], wrong)
        with pytest.raises(ValueError, match="max_error"):
            usual.predict(["a goal"], max_error=wrong)


def test_novelty_pvalues_are_uniform_on_what_is_alike(exact: lt.TextClassifier) -> None:
    p = exact.novelty_pvalue(made(4000, 11)[0])
    n = len(exact.evidence().novelty.scores_)
    for level in (0.02, 0.05, 0.1, 0.3):
        spread = np.sqrt(level * (1 - level) * (1 / 4000 + 1 / n))
        assert abs((p <= level).mean() - level) < 0.2 * level + 3 * spread


def test_what_is_unlike_is_novel(exact: lt.TextClassifier) -> None:
    strange = ["quantum chromodynamics lattice gauge", "ключевые слова на русском", "", "🦀🦀🦀"]
    assert (exact.novelty_pvalue(strange) < 0.02).all()
    mixed = exact.novelty_pvalue(["match of the quantum lattice", "match of the team"])
    assert mixed[0] < mixed[1]


def test_known_ngrams_of_a_row_do_not_count_itself() -> None:
    """Held-out rows are judged as new ones: an n-gram of theirs alone is unknown."""
    texts, labels = made(1500, 3)
    texts = [f"{text} only{i}" for i, text in enumerate(texts)]
    clf = lt.TextClassifier(threads=1).fit(texts, labels)
    new = [f"{text} only{i + 5000}" for i, text in enumerate(made(1500, 4)[0])]
    p = clf.novelty_pvalue(new)
    assert abs((p <= 0.1).mean() - 0.1) < 0.06


@pytest.mark.parametrize("how", [{}, {"word_ngrams": None}, {"char_ngrams": None}])
def test_known_ngrams_come_from_the_same_reading(how: dict[str, None]) -> None:
    clf = lt.TextClassifier(threads=1, epochs=2, **how).fit(*made(600, 0))
    texts = as_texts([*made(200, 31)[0], "", "match match match quantum", "新手机 goal"])
    model = clf.model_
    z, amounts = model.read(texts, 2)
    assert (z == model.logits(texts, 1)).all()
    (name, hashes, _, frequency), *_ = model.layer()[1]
    ngrams = model.features[f"{name.removesuffix('s')}_ngrams"]
    wanted = known_ngrams(texts, recipe(name, "unicode", tuple(ngrams)), name, hashes, frequency, threads=1)
    assert amounts == pytest.approx(wanted, rel=1e-6)
    assert amounts[200].tolist() == [0, 0]


def test_files_hold_the_evidence(usual: lt.TextClassifier, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    usual.save(path)
    again = lt.load(path, verify=True)
    texts = made(50, 8)[0]
    assert (again.predict_set(texts) == usual.predict_set(texts)).all()
    assert (again.novelty_pvalue(texts) == usual.novelty_pvalue(texts)).all()
    assert again.predict(texts, max_error=0.08).tolist() == usual.predict(texts, max_error=0.08).tolist()
    again.save(tmp_path / "m2.safetensors")
    assert path.read_bytes() == (tmp_path / "m2.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("held_scores", lambda a: a[:-1]),
        ("held_scores", lambda a: a[::-1].copy()),
        ("held_confidence", lambda a: np.full_like(a, np.nan)),
        ("held_hits", lambda a: a + np.uint8(2)),
        ("held_novelty", lambda a: np.append(a, a[-1:])),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    usual: lt.TextClassifier, tmp_path: Path, name: str, change: object
) -> None:
    model = usual.model_
    arrays = {**model.arrays, name: change(model.arrays[name])}  # type: ignore[operator]
    with pytest.raises(ModelFileError):
        save(tmp_path / "m.safetensors", arrays, model.header)
    assert not list(tmp_path.iterdir())


def test_a_calibration_that_does_not_fit_the_classes_is_refused(
    usual: lt.TextClassifier, tmp_path: Path
) -> None:
    model = usual.model_
    classes = len(model.classes)
    arrays = {
        **model.arrays,
        "calibration_scale": np.ones(classes + 1, np.float32),
        "calibration_bias": np.zeros(classes, np.float32),
    }
    header = {**model.header, "calibration": {"method": "vector", "temperature": 1.0}}
    with pytest.raises(ModelFileError, match="calibration_scale"):
        save(tmp_path / "m.safetensors", arrays, header)


def test_without_held_out_rows_nothing_is_promised() -> None:
    for clf in (
        lt.TextClassifier(threads=1).fit(["good", "bad"], ["yes", "no"]),
        lt.TextClassifier(threads=1, calibration=None).fit(*made(300, 0)),
    ):
        for ask in (clf.predict_set, clf.novelty, clf.novelty_pvalue, clf.drift):
            with pytest.raises(ValueError, match="call calibrate"):
                ask(["good"])  # type: ignore[operator]
        clf.calibrate(["good bad"] * 30, [clf.classes_[0]] * 29 + [clf.classes_[1]])
        assert clf.predict_set(["good"], 0.9).shape == (1, len(clf.classes_))
    several = lt.TextClassifier(threads=1, multilabel=True).fit(["good", "bad"] * 30, [["a"], ["b"]] * 30)
    with pytest.raises(ValueError, match="one label per text"):
        several.predict_set(["good"])


def test_holdout_that_cannot_be(tmp_path: Path) -> None:
    texts, labels = made(40, 0)
    for share in (0, 1, -1, 2, float("nan"), "a", True):
        with pytest.raises(ValueError, match="holdout must be"):
            lt.TextClassifier().fit(texts, labels, holdout=share)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none that can be spared"):
        lt.TextClassifier().fit(["a", "b"], ["x", "y"], holdout=0.5)


@given(st.data())
def test_rows_set_aside(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 60))
    codes = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), np.uint32)
    texts = np.array(data.draw(st.lists(st.integers(0, 30), min_size=n, max_size=n)), np.uint64)
    share = data.draw(st.floats(0.01, 0.99))
    chosen = set_aside(codes, texts, share, 0)
    assert set(codes[~chosen]) == set(codes)  # every class is still learned
    assert not set(texts[chosen]) & set(texts[~chosen])  # equal texts stay together
    assert (chosen == set_aside(codes, texts, share, 0)).all()


def test_partial_fit_makes_it_stale(usual: lt.TextClassifier) -> None:
    clf = lt.TextClassifier(threads=1).fit(*made(400, 0))
    assert not clf.evidence().stale
    clf.partial_fit(*made(50, 1))
    assert clf.evidence().stale
    assert clf.predict_set(["goal"]).shape == (1, 3)
    clf.calibrate(*made(300, 2))
    assert not clf.evidence().stale
    clf.partial_fit(*made(50, 3), validation=made(100, 4))
    assert not clf.evidence().stale


def test_a_compressed_model_wants_to_be_calibrated(usual: lt.TextClassifier) -> None:
    clf = lt.TextClassifier(threads=1).fit(*made(2000, 0)).compress("9kB", made(200, 1)[0])
    with pytest.raises(ValueError, match="call calibrate"):
        clf.predict_set(["goal"])
    clf.calibrate(*made(2000, 5))
    assert len(clf.evidence().selective.hits_) == 1000
    assert abs(covered(clf, 0.9) - 0.9) < 0.04


def test_a_killed_training_keeps_its_held_out_rows(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: object) -> None:
        raise Stop

    texts, labels = made(500, 0)
    path = tmp_path / "part"
    with pytest.raises(Stop):
        lt.TextClassifier(threads=1).fit(texts, labels, checkpoint=path, callback=stop)
    resumed = lt.TextClassifier(threads=1).fit(texts, labels, checkpoint=path)
    whole = lt.TextClassifier(threads=1).fit(texts, labels)
    for clf, name in ((resumed, "a"), (whole, "b")):
        clf.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# -- novelty by itself ---------------------------------------------------------------


def test_novelty_by_hand() -> None:
    """Three rows of one length: mean and spread of the largest logits and of the unknown shares."""
    z = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    ngrams = np.array([[4.0, 0.0], [3.0, 1.0], [2.0, 2.0]])
    novelty = Novelty().fit(z, ngrams)
    low = (np.array([-1.0, -2.0, -3.0]) + 2) / np.sqrt(2 / 3)
    unknown = (np.array([0.0, 0.25, 0.5]) - 0.25) / (0.25 * np.sqrt(2 / 3))
    wanted = np.log(np.exp(low) + np.exp(unknown))  # two classes: weight 1
    assert novelty.score(z, ngrams) == pytest.approx(wanted, rel=1e-6)
    assert novelty.p_values(novelty.score(z, ngrams)).tolist() == pytest.approx(
        (1 + (wanted[:, None] <= wanted + 1e-6).sum(axis=1)) / 4
    )
    assert novelty.p_values([99.0, -99.0]).tolist() == [0.25, 1.0]


def test_novelty_of_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Novelty().fit(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="row 1"):
        Novelty().fit([[0.0, 1.0], [np.nan, 0.0]])
    with pytest.raises(ValueError, match="row 0"):
        Novelty().fit([[-np.inf, -np.inf]])
    with pytest.raises(ValueError, match="call fit"):
        Novelty().score([[0.0, 1.0]])
    with pytest.raises(ValueError, match="just if"):
        Novelty().fit([[0.0, 1.0]]).score([[0.0, 1.0]], [[1.0, 0.0]])
    with pytest.raises(ValueError, match="at least 0"):
        Novelty().fit([[0.0, 1.0]], [[1.0, -1.0]])
    with pytest.raises(ValueError, match="shape"):
        Novelty().fit([[0.0, 1.0]], [[1.0, 1.0], [2.0, 2.0]])
    same = Novelty().fit([[1.0, 0.0]] * 5, [[3.0, 0.0]] * 5)
    assert np.isfinite(same.score([[0.0, 0.0], [5.0, 0.0]], [[0.0, 9.0], [0.0, 0.0]])).all()
    for state in ({}, {"weight": 1.0, "low": [[0.0]], "unknown": None}, {"weight": "x", "low": 1}):
        with pytest.raises(ValueError, match="not the state"):
            Novelty.from_state(state, np.zeros(1, np.float32))


# -- evidence and drift by themselves -------------------------------------------------


def test_cross_fitting_uses_no_row_for_itself() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)).astype(np.float32)
    codes, part = rng.integers(0, 3, 200), np.arange(200) % 5
    before = Folds(z, codes, None, keep=True, part=part).calibrated("temperature")
    changed = codes.copy()
    changed[7] = (changed[7] + 1) % 3
    after = Folds(z, changed, None, keep=True, part=part).calibrated("temperature")
    # Its fold begins at what all rows say, and ends within the tolerance of where it would have otherwise.
    moved = np.abs(after - before).max(axis=1)
    assert moved[7] < 1e-6 * np.abs(before).max()
    assert moved[8] > 1e-4


def test_evidence_survives_its_state() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(300, 4)).astype(np.float32)
    held = HeldRows(z, rng.integers(0, 4, 300).astype(np.uint32), rng.random((300, 2)).astype(np.float32))
    found = Evidence.of(held, z, exact=True)
    state, tables = found.to_state()
    again = Evidence.from_state(json.loads(json.dumps(state)), tables, 4)
    assert (again.sets.predict_set(z) == found.sets.predict_set(z)).all()
    assert (again.novelty.score(z, held.ngrams) == found.novelty.score(z, held.ngrams)).all()
    assert again.exact
    assert not again.stale


@given(
    arrays(float, st.integers(20, 60), elements=st.integers(0, 1000).map(float)),
    arrays(float, st.integers(20, 60), elements=st.integers(0, 1000).map(float)),
)
def test_smirnov_against_scipy(new: np.ndarray, old: np.ndarray) -> None:
    statistic, p = smirnov(new, old)
    # SciPy's "less" is: the first distribution function is below the second.
    theirs = stats.ks_2samp(new, old, alternative="less", method="asymp")
    assert statistic == pytest.approx(theirs.statistic, abs=1e-12)
    assert p == pytest.approx(theirs.pvalue, abs=0.06)


def test_tail_against_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        new, old = rng.normal(0.4, 1, 60), rng.normal(size=150)
        largest = np.argsort(-np.concatenate([new, old]))[:10]
        seen = int((largest < 60).sum())
        assert tail(new, old) == pytest.approx(stats.hypergeom(210, 60, 10).sf(seen - 1))


def test_evidence_of_ngrams_against_scipy() -> None:
    for before, now in ((3, 9), (0, 8), (40, 2), (10, 5)):
        mine = _evidence(np.array([before]), 100, np.array([now]), 50)[0]
        table = [[before, 100 - before], [now, 50 - now]]
        theirs = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")[0]
        assert mine == pytest.approx(theirs)
    assert _quantile(0.001) == pytest.approx(stats.chi2(1).isf(0.001), rel=1e-6)


def test_drift_of_what_is_alike_and_what_is_not(exact: lt.TextClassifier) -> None:
    alike = [exact.drift(made(400, 50 + seed)[0]).p_value for seed in range(20)]
    assert sum(p < 0.05 for p in alike) <= 4
    texts = [text.replace("goal", "touchdown").replace("soup", "ramen") for text in made(400, 71)[0]]
    found = exact.drift(texts)
    assert found.drifted
    assert found.auroc > 0.5
    moved = {one.ngram: one for one in found.moved}
    assert moved["touchdown"].before == 0 < moved["touchdown"].now
    assert moved["goal"].now == 0 < moved["goal"].before
    with pytest.raises(ValueError, match="at least one text"):
        exact.drift([])


# -- the command line ------------------------------------------------------------------


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    for name, (texts, labels) in {"train": made(1500, 0), "fresh": made(800, 9)}.items():
        rows = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "new.txt").write_text("match of the team\nquantum chromodynamics\n\n")
    run("train", str(folder / "train.jsonl"), "-o", str(folder / "m.safetensors"), "--holdout", "0.3")
    return folder


def test_predict_with_promises(place: Path) -> None:
    model, texts = str(place / "m.safetensors"), str(place / "new.txt")
    out = run("predict", model, texts, "--set", "0.9", "--novelty", "--max-error", "0.2")
    rows = [json.loads(line) for line in out.splitlines()]
    clf = lt.load(model)
    given = ["match of the team", "quantum chromodynamics", ""]
    assert [row["label"] for row in rows] == clf.predict(given, max_error=0.2).tolist()
    sets = clf.predict_set(given, 0.9)
    assert [row["set"] for row in rows] == [clf.classes_[own].tolist() for own in sets]
    assert [row["novelty_pvalue"] for row in rows] == pytest.approx(clf.novelty_pvalue(given).tolist())
    assert rows[1]["novelty"] > rows[0]["novelty"]
    csv = run("predict", model, texts, "--set", "0.99", "--format", "csv")
    assert csv.splitlines()[0] == '"label","probability","set"'
    assert "cannot be promised" in run("predict", model, texts, "--max-error", "0.001", code=1)
    assert "--set" in run("predict", model, texts, "--set", "1.5", code=2)


def test_calibrate_a_model_and_anyones_logits(place: Path) -> None:
    model, fresh = str(place / "m.safetensors"), str(place / "fresh.jsonl")
    again = str(place / "again.safetensors")
    assert "log loss" in run("calibrate", model, fresh, "-o", again)
    before, after = lt.load(model), lt.load(again)
    assert (before.logits(["a goal"]) == after.logits(["a goal"])).all()
    assert len(after.evidence().selective.hits_) == 800
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 3)).astype(np.float32) * 5
    y = rng.integers(0, 3, 500)
    np.save(place / "z.npy", z)
    np.save(place / "y.npy", y)
    ours = ["--logits", str(place / "z.npy"), "--labels", str(place / "y.npy")]
    assert "temperature" in run("calibrate", *ours, "-o", str(place / "calm.npy"))
    calm = np.load(place / "calm.npy")
    assert lt.evaluate(calm, y).log_loss < lt.evaluate(z, y).log_loss
    assert (calm.argmax(axis=1) == z.argmax(axis=1)).all()
    run("calibrate", "-o", str(place / "x"), code=2)
    run("calibrate", model, "-o", str(place / "x"), code=2)
    run("calibrate", *ours[:2], "-o", str(place / "x"), code=2)
    assert not (place / "x").exists()


def test_drift_on_the_command_line(place: Path) -> None:
    model = str(place / "m.safetensors")
    assert "none to be seen" in run("drift", model, str(place / "fresh.jsonl"))
    (place / "odd.txt").write_text("the crab in the quantum lattice\n" * 60)
    found = json.loads(run("drift", model, str(place / "odd.txt"), "--json", "--most", "3"))
    assert found["drifted"]
    assert found["p_value"] < 1e-6
    assert len(found["moved"]) == 3
