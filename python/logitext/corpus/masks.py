"""Columns compared with each other and with values: by value, exactly, and null where a side is null."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logitext.features import arrow_numbers, arrow_strings

__all__ = ["Column", "Constant", "among", "boolean", "compared", "holding"]

NULL = pa.scalar(None, pa.bool_())
WHOLE = pa.decimal128(20)
"""Holds signed and unsigned integers of 64 bits."""
UNORDERED = ("equal", "not_equal")
"""What can be asked of booleans."""
KINDS = {
    "null": (pa.types.is_null,),
    "boolean": (pa.types.is_boolean,),
    "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "list": (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    ),
}


@dataclass(frozen=True)
class Column:
    """A column, by its name."""

    name: str

    def read(self, batch: pa.RecordBatch) -> pa.Array:
        found = batch.schema.get_all_field_indices(self.name)
        if len(found) != 1:
            names = ", ".join(map(repr, batch.schema.names[:20])) or "none"
            more = ", ..." if len(batch.schema.names) > 20 else ""
            fault = f"{len(found)} columns are called" if found else "there is no column"
            raise ValueError(f"{fault} {self.name!r}; the columns are {names}{more}")
        return batch.column(found[0])

    def told(self, batch: pa.RecordBatch) -> str:
        return f"the column {self.name!r} is {self.read(batch).type}"


@dataclass(frozen=True)
class Constant:
    """A value written in a condition."""

    value: str | float | bool

    @property
    def kind(self) -> str:
        return {str: "text", bool: "boolean"}.get(type(self.value), "number")

    def __str__(self) -> str:
        return f"the {self.kind} {self.value!r}"


def _kind(kind: pa.DataType) -> str:
    return next((name for name, tests in KINDS.items() if any(test(kind) for test in tests)), "other")


def _plain(array: pa.Array) -> pa.Array:
    """Bring a column into one of the types that can be compared."""
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_float16(array.type) or pa.types.is_decimal(array.type):
        return array.cast(pa.float64())
    return array


def boolean(column: Column, batch: pa.RecordBatch) -> pa.Array:
    """Take a column of booleans as it is."""
    array = _plain(column.read(batch))
    if _kind(array.type) not in ("boolean", "null"):
        raise ValueError(
            f"{column.told(batch)}: compare it with something; only bool is true or false by itself"
        )
    return array.cast(pa.bool_())


def compared(name: str, left: Column | Constant, right: Column | Constant, batch: pa.RecordBatch) -> pa.Array:
    """Compare a column with a constant or another column, by the name of the function of pyarrow.compute."""
    if isinstance(left, Constant):
        mirrored = {"less": "greater", "greater": "less"}
        name = re.sub("less|greater", lambda found: mirrored[found[0]], name)
        left, right = right, left
    assert isinstance(left, Column)
    array = _plain(left.read(batch))
    if isinstance(right, Constant):
        return _against(name, array, right, left.told(batch))
    other = _plain(right.read(batch))
    kinds = {_kind(array.type), _kind(other.type)}
    if "null" in kinds:
        return pa.nulls(len(batch), pa.bool_())
    if kinds not in ({"number"}, {"text"}, {"boolean"}) or (kinds == {"boolean"} and name not in UNORDERED):
        raise ValueError(f"{left.told(batch)} and cannot be compared so with {right.name!r}, {other.type}")
    if kinds == {"number"} and array.type != other.type:
        whole = pa.types.is_integer(array.type) and pa.types.is_integer(other.type)
        common = WHOLE if whole else pa.float64()
        array, other = array.cast(common, safe=False), other.cast(common, safe=False)
    return getattr(pc, name)(array, other)


def _against(name: str, array: pa.Array, constant: Constant, told: str) -> pa.Array:
    """Compare a column with a constant, exactly."""
    kind, value = _kind(array.type), constant.value
    if kind == "null":
        return pa.nulls(len(array), pa.bool_())
    if kind == "list":
        raise ValueError(f"{told}: ask what its lists hold, as in {value!r} in labels")
    if kind != constant.kind or (kind == "boolean" and name not in UNORDERED):
        raise ValueError(f"{told} and cannot be compared so with {constant}")
    if not pa.types.is_integer(array.type):
        common = pa.float64() if kind == "number" else array.type
        return getattr(pc, name)(array, pa.scalar(float(value) if kind == "number" else value, common))
    if isinstance(value, float) and value.is_integer() and abs(value) <= 1 << 64:
        value = int(value)
    if isinstance(value, float):
        # Rounding integers keeps them on their side of a number with decimals, or of a larger one.
        return getattr(pc, name)(array.cast(pa.float64(), safe=False), pa.scalar(value))
    try:
        return getattr(pc, name)(array, pa.scalar(value, array.type))
    except (pa.ArrowInvalid, OverflowError):  # a number the type does not hold, such as -1 for uint64
        return getattr(pc, name)(array.cast(WHOLE), pa.scalar(Decimal(value), WHOLE))


def among(column: Column, constants: list[Constant], batch: pa.RecordBatch) -> pa.Array:
    """Ask whether a column is one of some constants."""
    array, told = _plain(column.read(batch)), column.told(batch)
    if _kind(array.type) == "text" and all(constant.kind == "text" for constant in constants):
        values = arrow_strings([str(constant.value) for constant in constants]).cast(array.type)
        return pc.if_else(array.is_valid(), pc.is_in(array, value_set=values), NULL)
    none = pc.if_else(array.is_valid(), pa.scalar(False), NULL)
    return reduce(pc.or_kleene, [none, *(_against("equal", array, each, told) for each in constants)])


def holding(column: Column, constant: Constant, batch: pa.RecordBatch) -> pa.Array:
    """Ask whether a column of lists holds a constant, or one of text holds it as a part."""
    array, told = _plain(column.read(batch)), column.told(batch)
    kind = _kind(array.type)
    if kind == "null":
        return pa.nulls(len(array), pa.bool_())
    if kind == "text" and constant.kind == "text":
        return pc.match_substring(array, constant.value)
    if kind != "list":
        raise ValueError(f"{told} and cannot hold {constant}")
    hits = pc.fill_null(_against("equal", _plain(pc.list_flatten(array)), constant, told), False)
    rows = arrow_numbers(np.arange(len(array)))
    found = pc.is_in(rows, value_set=pc.list_parent_indices(array).filter(hits))
    return pc.if_else(array.is_valid(), found, NULL)
