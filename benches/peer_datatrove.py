"""datatrove's classifier filter over a corpus, in processes of its local executor. Run by the peer's Python.

    python -m benches.peer_datatrove MODEL INPUTS OUTPUT PROCESSES

Prints one line of JSON. Every document is kept, with the score of each label as a column.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    model, inputs, output, processes = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    os.environ["HF_ASSETS_CACHE"] = str(output / "cache")  # where it copies the model to
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import FastTextClassifierFilter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    from fasttext import load_model

    # Without a label to keep or remove it fails; this one keeps all.
    every = (load_model(str(model)).labels[0].removeprefix("__label__"), -1.0)
    steps = [
        ParquetReader(str(inputs)),
        FastTextClassifierFilter(str(model), keep_labels=every, newline_replacement=" "),
        ParquetWriter(str(output / "parts"), expand_metadata=True),
    ]
    files = len(list(inputs.glob("*.parquet")))
    logs = str(output / "logs")
    start = time.perf_counter()
    LocalPipelineExecutor(steps, tasks=files, workers=processes, logging_dir=logs).run()
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
