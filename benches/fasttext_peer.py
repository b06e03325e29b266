"""One peer of `benches.fasttext`, in a process and an environment of its own; it needs nothing of ours.

Reads a JSON object a line and answers by one: ``train`` a model, ``load`` a model and texts, ``time`` a pass.
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


def asked(question: dict[str, Any]) -> dict[str, Any]:
    global model, texts
    if question["do"] == "train":
        trained = peer.train_supervised(question["input"], thread=2, verbose=0, **question["options"])
        trained.save_model(question["to"])
        return {}
    if question["do"] == "load":
        with contextlib.redirect_stderr(io.StringIO()):
            model = peer.load_model(question["model"])
        with open(question["texts"], encoding="utf-8") as file:
            texts = json.load(file)
        found = model.predict(texts)
        # One fork gives labels alone.
        labels = found if len(found) == len(texts) != 2 else found[0]
        return {"labels": [next(iter(own), None) for own in labels]}
    start = time.process_time()
    model.predict(texts)
    return {"seconds": time.process_time() - start}


for line in sys.stdin:
    try:
        told = asked(json.loads(line))
    except Exception as error:
        told = {"error": str(error)}
    print(json.dumps(told), flush=True)
