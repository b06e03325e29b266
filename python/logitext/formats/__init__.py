"""The formats of tables, each read as batches of texts and labels."""

from logitext.formats.delimited import delimited_columns, read_delimited
from logitext.formats.jsonlines import json_columns, read_json_lines
from logitext.formats.lines import FASTTEXT_PREFIX, LINES, read_fasttext, read_lines
from logitext.formats.parquet import open_parquet, parquet_columns, read_parquet

__all__ = [
    "FASTTEXT_PREFIX",
    "LINES",
    "delimited_columns",
    "json_columns",
    "open_parquet",
    "parquet_columns",
    "read_delimited",
    "read_fasttext",
    "read_json_lines",
    "read_lines",
    "read_parquet",
]
