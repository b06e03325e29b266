"""Train and predict as whole commands, against scikit-learn doing the same from the same file.

The answer first: on each data set the accuracy must reach its target, and on
ag_news_52k the peer's less half a point. Then the times, in turn, several rounds.
Needs the development data: LOGITEXT_DATA, by default ../shared/data.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benches.measure import DATA, ROOT, in_turn, ratio, store

PYTHON = sys.executable
LOGITEXT = [str(Path(PYTHON).parent / "logitext")]
RUNS, PEER_RUNS = 5, 3  # a round of the peer takes minutes

TARGETS = {
    "ag_news_52k": 0.914,
    "imdb": 0.905,
    "clinc150": 0.920,
    "20newsgroups": 0.845,
    "trec6": 0.885,
    "thucnews_zh": 0.860,
    "langid_79": 0.970,
}


def parquet(name: str, split: str) -> str:
    return str(DATA / name / f"{split}.parquet")


def train(name: str, model: Path, *options: str) -> list[str]:
    return [*LOGITEXT, "train", parquet(name, "train"), "-o", str(model), *options]


def evaluate(name: str, model: Path) -> dict[str, Any]:
    command = [*LOGITEXT, "evaluate", str(model), parquet(name, "test"), "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {key: result[key] for key in ("rows", "accuracy", "log_loss")}


def answers(folder: Path) -> dict[str, Any]:
    """Accuracy on the test split of each set, default arguments; fails below its target."""
    found = {}
    for name, target in TARGETS.items():
        model = folder / f"{name}.safetensors"
        subprocess.run(train(name, model), check=True, stdout=subprocess.DEVNULL)
        found[name] = {"target": target, "model_bytes": model.stat().st_size, **evaluate(name, model)}
        print(f"{name}: accuracy {found[name]['accuracy']:.4f}, target {target}", flush=True)
        if found[name]["accuracy"] < target:
            sys.exit(f"{name} misses its target: the times would be of no use")
    return found


def against_peer(folder: Path) -> dict[str, Any]:
    ours, theirs = folder / "ours.safetensors", folder / "theirs.joblib"
    peer = [PYTHON, "-m", "benches.peer_sklearn", parquet("ag_news_52k", "train"), str(theirs)]
    times = in_turn(PEER_RUNS, train("ag_news_52k", ours), peer)
    check = [*peer, parquet("ag_news_52k", "test")]
    printed = subprocess.run(check, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    accuracy = evaluate("ag_news_52k", ours)["accuracy"]
    if accuracy < float(printed) - 0.005:
        sys.exit(f"accuracy {accuracy:.4f} is below the peer's {float(printed):.4f}")
    print(f"train ag_news_52k: {times[0].median:.2f} s, peer {times[1].median:.2f} s")
    return {
        "seconds": times[0].seconds,
        "accuracy": accuracy,
        "peer": "TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True) + LogisticRegression(C=10)",
        "peer_seconds": times[1].seconds,
        "peer_accuracy": float(printed),
        "times_faster": ratio(times[1], times[0]),
    }


def two_threads(folder: Path) -> dict[str, Any]:
    models = [folder / "one.safetensors", folder / "two.safetensors"]
    commands = [train("imdb", model, "--threads", str(n)) for n, model in zip((1, 2), models, strict=True)]
    one, two = in_turn(RUNS, *commands)
    if models[0].read_bytes() != models[1].read_bytes():
        sys.exit("the model depends on the number of threads")
    print(f"train imdb: 1 thread {one.median:.2f} s, 2 threads {two.median:.2f} s")
    return {"one": one.seconds, "two": two.seconds, "two_over_one": ratio(two, one)}


def cold_start(folder: Path) -> dict[str, Any]:
    line = folder / "line.txt"
    line.write_text("The new smartphone has amazing features.\n")
    model = folder / "ag_news_52k.safetensors"
    predict, numpy, package, needs = in_turn(
        2 * RUNS,
        [*LOGITEXT, "predict", str(model), str(line)],
        [PYTHON, "-c", "import numpy"],
        [PYTHON, "-c", "import logitext"],
        [PYTHON, "-c", "import numpy, pyarrow"],
    )
    found = {
        "predict_one_line_over_import_numpy": predict.median - numpy.median,
        "import_over_numpy_and_pyarrow": package.median - needs.median,
    }
    for what, seconds in found.items():
        print(f"{what}: {seconds:.3f} s")
    return found


def main() -> None:
    missing = [name for name in TARGETS if not (DATA / name).is_dir()]
    if missing:
        sys.exit(f"skipped: no data at {DATA} for {', '.join(missing)} (set LOGITEXT_DATA)")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = {
            "accuracy": answers(folder),
            "against_scikit_learn": against_peer(folder),
            "threads": two_threads(folder),
            "cold_start_seconds": cold_start(folder),
        }
    print(f"{results['against_scikit_learn']['times_faster']:.1f} times faster than scikit-learn")
    print(f"2 threads take {results['threads']['two_over_one']:.2f} of the time of 1")
    store("train-predict", results)


if __name__ == "__main__":
    main()
