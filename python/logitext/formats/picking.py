"""Which columns of a table are read, and what each is for."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from logitext.columns import Wanted, text_and_label

SEVERAL = "for several labels per text give --multilabel"


def picked_columns(names: Sequence[str], wanted: Wanted) -> list[int]:
    """Where the text is, the label if it is wanted, and what is carried along."""
    text, label = text_and_label(names, wanted)
    carried = (
        [] if wanted.carried is None else [place_of(name, names, wanted) for name in wanted.carried.names]
    )
    return [text, *([] if label is None else [label]), *carried]


def place_of(name: str, names: Sequence[str], wanted: Wanted) -> int:
    if name not in names:
        raise wanted.error(f"it has no column {name!r}; the files of a corpus have the same columns")
    if names.count(name) > 1:
        raise wanted.error(f"{names.count(name)} columns are named {name!r}; rename all but one")
    return names.index(name)


def dealt(
    columns: list[pa.Array], wanted: Wanted, row: int
) -> tuple[pa.Array, pa.Array | None, int, list[pa.Array]]:
    """The picked columns as a batch takes them."""
    first = 2 if wanted.labelled else 1
    return columns[0], columns[1] if wanted.labelled else None, row, columns[first:]
