"""What JSON values are, and which column can hold them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from logitext.columns import Wanted

NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a fraction",
    bool: "a boolean",
    type(None): "null",
}
TYPES: dict[type, pa.DataType] = {str: pa.large_string(), int: pa.int64(), bool: pa.bool_()}
NOTHING = pa.struct([])
"""Objects that are always empty: Parquet has no room for them."""


def type_of(values: Iterable[Any], name: str, wanted: Wanted) -> pa.DataType:
    """What a column of JSON values holds; what is always null may turn out to be text."""
    counts = Counter(type(value) for value in values if value is not None)
    if set(counts) == {int, float}:
        return pa.float64()
    if len(counts) > 1 and not wanted.lenient:
        kinds = " and ".join(sorted(NAMES[kind] for kind in counts))
        raise wanted.error(
            f"the column {name!r} is {kinds} in different rows; name those to carry along with --columns"
        )
    kind = counts.most_common(1)[0][0] if counts else str
    own: list[Any] = [value for value in values if type(value) is kind]
    if kind is list:
        item = type_of([item for value in own for item in value], name, wanted)
        return NOTHING if item == NOTHING else pa.list_(item)
    if kind is dict:
        names = dict.fromkeys(inner for value in own for inner in value)
        inner = [(inner, type_of([v.get(inner) for v in own], name, wanted)) for inner in names]
        return pa.struct([(inner, kind) for inner, kind in inner if kind != NOTHING])
    return pa.float64() if kind is float else TYPES[kind]


def holds(kind: pa.DataType, value: Any) -> bool:
    """Whether a column holds a JSON value as it is: Arrow would cut 1.5 to an integer."""
    if value is None:
        return True
    if pa.types.is_list(kind):
        return type(value) is list and all(holds(kind.value_type, item) for item in value)
    if pa.types.is_struct(kind):
        return type(value) is dict and all(holds(field.type, value.get(field.name)) for field in kind)
    if pa.types.is_integer(kind):
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    if pa.types.is_floating(kind):
        return type(value) in (int, float)
    if pa.types.is_boolean(kind):
        return type(value) is bool
    return type(value) is str and not re.search("[\ud800-\udfff]", value)
