"""One peer of `benches.fasttext`, in a process and an environment of its own; it needs nothing of ours.

Reads a JSON object a line and answers by one: ``train`` a model, ``load`` a model and texts, ``time`` a pass,
tell the ``best`` two labels of each text.
"""

import contextlib
import importlib
import io
import json
import sys
import time
from typing import Any

sys.path.pop(0)  # there is a fasttext.py beside this one
try:
    peer = importlib.import_module("fasttext")
except ImportError:
    peer = importlib.import_module("fasttext_new")

model: Any = None
texts: list[str] = []


def predict(texts: list[str]) -> Any:
    """Ask for a list, or, where a fork cannot take one, for each text."""
    try:
        return model.predict(texts)
    except ValueError:
        one = model.predict
        found = [one(text) for text in texts]
        return [labels for labels, _ in found], [scores for _, scores in found]


def labels() -> list[str | None]:
    found = predict(texts)
    # One fork gives labels alone.
    own = found if len(found) == len(texts) != 2 else found[0]
    return [next(iter(names), None) for names in own]


def asked(question: dict[str, Any]) -> dict[str, Any]:
    global model, texts
    if question["do"] == "train":
        trained = peer.train_supervised(question["input"], thread=2, verbose=0, **question["options"])
        if question.get("quantise") is not None:
            trained.quantize(verbose=0, **question["quantise"])
        trained.save_model(question["to"])
        return {}
    if question["do"] == "load":
        with contextlib.redirect_stderr(io.StringIO()):
            model = peer.load_model(question["model"])
        with open(question["texts"], encoding="utf-8") as file:
            texts = json.load(file)
        return {"labels": labels()}
    if question["do"] == "best":
        with contextlib.redirect_stderr(io.StringIO()):
            model = peer.load_model(question["model"])
        with open(question["texts"], encoding="utf-8") as file:
            return {"best": [model.f.predict(text + "\n", 2, 0.0, "strict") for text in json.load(file)]}
    start = time.process_time()
    predict(texts)
    return {"seconds": time.process_time() - start}


for line in sys.stdin:
    try:
        told = asked(json.loads(line))
    except Exception as error:
        told = {"error": str(error)}
    print(json.dumps(told), flush=True)
