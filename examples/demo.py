"""The main job: from labelled sentences to a decision whose every step is seen."""

import csv
import math
import sys
import tempfile
import time
from pathlib import Path

import logitext as lt
from logitext import screen

HERE = Path(__file__).parent
SENTENCE = "The new smartphone has amazing features."


def read(name: str) -> tuple[list[str], list[str]]:
    with open(HERE / name, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def heading(text: str) -> None:
    print(f"\n{text}\n{'─' * len(text)}")


def worked_example() -> None:
    heading("From logits to a decision, by hand")
    classes, logits = ["News", "Entertainment", "Technology"], [2.0, 1.0, 0.1]
    print(f"Say a model's last layer gave these three scores, its logits: {logits}")
    exponentials = [math.exp(z) for z in logits]
    print("exponentials   " + "  ".join(f"{e:.2f}" for e in exponentials))
    rounded = sum(round(e, 2) for e in exponentials)
    print(f"their sum      {sum(exponentials):.2f}  (adding the rounded terms gives {rounded:.2f})")
    for name, p in zip(classes, lt.softmax(logits), strict=True):
        print(f"probability    {p:.2f}  {screen.bar(float(p)):<20} {name}")
    print(f"decision       {classes[int(lt.argmax(logits))]}: the largest logit; that needs no softmax")
    moved = [z + 1000 for z in logits]
    shares = ", ".join(f"{p:.2f}" for p in lt.softmax(moved))
    print(f"logits + 1000  {shares}: the same, and nothing overflows")


def main() -> None:
    worked_example()

    heading("A model from examples/headlines.csv")
    start = time.perf_counter()
    texts, labels = read("headlines.csv")
    with screen.progress() as tell:
        model = lt.TextClassifier().fit(texts, labels, progress=tell)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "headlines.safetensors"
        model.save(path)
        screen.training_summary(model, seconds, path.stat().st_size, path.name)
    result = model.evaluate(*read("headlines_test.csv"))
    print(f"accuracy on {result.rows} test rows it has not seen: {result.accuracy:.4f}")
    print(f"log loss there: {result.log_loss:.4f} nats")

    heading(f"The model on “{SENTENCE}”")
    screen.decision(model, model.explain(SENTENCE), None, 10)


if __name__ == "__main__":
    sys.exit(main())
