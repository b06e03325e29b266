"""A process that answers a corpus as JSON on its command line has it, for benches that watch or kill it.

    python -m benches.answer_corpus '{"model": …, "inputs": …, "output": …, "bytes": {…}, …}'

``bytes`` sets how much makes a part, a batch and a span; ``engine`` may be "ray"; the rest goes to
`logitext.predict_corpus`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import pyarrow as pa

import logitext as lt
from logitext.corpus import inputs, parts


def main() -> None:
    asked = json.loads(sys.argv[1])
    sizes = asked.pop("bytes", {})
    parts.PART_BYTES = sizes.get("part", parts.PART_BYTES)
    parts.BATCH_BYTES = sizes.get("batch", parts.BATCH_BYTES)
    inputs.SPAN_BYTES = sizes.get("span", inputs.SPAN_BYTES)
    outcome = lt.predict_corpus(asked.pop("model"), asked.pop("inputs"), asked.pop("output"), **asked)
    said = {
        "pool": pa.default_memory_pool().backend_name,
        "arrow_peak": pa.default_memory_pool().max_memory(),
    }
    print(json.dumps(asdict(outcome) | said))


if __name__ == "__main__":
    main()
