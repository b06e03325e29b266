"""The layer rule of DESIGN.md: nothing imports what stands after it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "logitext"

# Modules of one layer may import each other, as long as they do not go in circles.
LAYERS = [
    ["_core"],
    ["arrays", "losses", "logits", "features", "labels", "binomial"],
    ["checked"],
    [
        "calibration",
        "clusters",
        "conformity",
        "descent",
        "scalings",
        "decisions",
        "choosing",
        "calibrators",
        "conformal",
        "selective",
        "novelty",
        "intervals",
        "scoring",
        "byclass",
        "reliability",
        "risk",
        "evaluation",
        "comparison",
        "multilabel",
        "thresholds",
        "tallies",
        "description",
    ],
    [
        "modelschema",
        "fasttextschema",
        "modelfile",
        "addresses",
        "columns",
        "streams",
        "formats",
        "tables",
        "files",
        "writing",
        "npy",
        "spill",
        "sources",
    ],
    ["evidence"],
    ["weights", "layers"],
    ["teaching"],
    ["checkpoints", "epochs"],
    ["workshop"],
    ["search"],
    ["gathering", "training"],
    ["streaming"],
    [
        "cautions",
        "explanation",
        "judging",
        "model",
        "fasttextmodel",
        "drift",
        "arguments",
        "compression",
        "continuing",
    ],
    ["learner"],
    ["answering", "fasttextclassifier", "classifier"],
    ["answers", "many"],
    ["report", "report_figures", "report_page", "report_sections", "report_words", "fasttext", "corpus"],
    ["remote", "transport", "duckdb", "polars", "spark", "ray", "client", "server"],
    ["screen", "cli"],
]
LAYER = {module: number for number, layer in enumerate(LAYERS) for module in layer}
OPTIONAL = {"sklearn", "scipy", "pandas", "polars", "joblib", "ray", "torch", "ml_dtypes", "matplotlib"}
OPTIONAL |= {"datasketches", "duckdb", "fsspec", "pyspark"}
OF_SERVER = {"uvicorn", "orjson", "httptools", "uvloop"}
"""Only the server imports them, and nothing imports the server at its top."""
SLOW = {"rich", "click"}
"""Required, but imported only by what draws on the terminal."""


def nodes(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Give each node, and whether it runs only when called or is read only by type checkers."""
    for child in ast.iter_child_nodes(tree):
        deferred = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            deferred = True
        yield child, deferred
        yield from nodes(child, deferred)


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Give the dotted name of each import, and whether it is deferred."""
    for node, deferred in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((f"{node.module}.{alias.name}", deferred) for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func).rpartition(".")[2]:
            raise AssertionError(f"line {node.lineno} imports by a call, which no one can check")


def faults(module: str, source: str) -> list[str]:
    """Say what breaks the rule in the source of one module."""
    found = []
    for name, deferred in imports(source):
        parts = name.split(".")
        if parts[0] in OPTIONAL and not deferred:
            found.append(f"{module} imports {parts[0]} at its top")
        if parts[0] in SLOW and not deferred and module not in ("cli", "screen", "report"):
            found.append(f"{module} imports {parts[0]} at its top")
        if parts[0] == "logitext":
            other = PUBLIC.get(parts[1], parts[1])
            if other not in LAYER:
                found.append(f"{module} imports {name}, which is in no layer")
            elif LAYER[other] > LAYER[module]:
                found.append(f"{module} imports {other}, which stands after it")
    return found


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


PUBLIC = {
    name.rpartition(".")[2]: name.split(".")[1]
    for name, _ in imports((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
}
"""Where the public names come from: who imports them from the package imports that module."""

SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_nothing_imports_what_stands_after_it(path: Path) -> None:
    assert module_of(path) in LAYER, "a new module needs its place in LAYERS"
    assert faults(module_of(path), path.read_text(encoding="utf-8")) == []


def test_modules_do_not_import_each_other_in_circles() -> None:
    wanted = {
        module_of(path): {
            PUBLIC.get(name.split(".")[1], name.split(".")[1])
            for name, _ in imports(path.read_text(encoding="utf-8"))
            if name.startswith("logitext.")
        }
        for path in SOURCES
    }
    done = {"_core"}
    while more := {module for module, needs in wanted.items() if needs <= done | {module}} - done:
        done |= more
    assert set(wanted) - done == set()


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("from logitext.training import fit", "stands after it"),
        ("def late():\n    from logitext import cli", "stands after it"),
        ("from logitext import TextClassifier", "stands after it"),
        ("if TYPE_CHECKING:\n    from logitext.classifier import TextClassifier", "stands after it"),
        ("import pandas as pd", "imports pandas at its top"),
        (
            "try:\n    from scipy.special import expit\nexcept ImportError:\n    pass",
            "imports scipy at its top",
        ),
        ("import rich", "imports rich at its top"),
        ("from logitext.nowhere import thing", "in no layer"),
    ],
)
def test_the_check_can_fail(source: str, fault: str) -> None:
    assert [fault in found for found in faults("features", source)] == [True]
    assert (
        faults("features", "import numpy\nfrom logitext import _core\ndef late():\n    import sklearn") == []
    )


def rust_code(path: Path) -> str:
    """Give the source without comments and strings."""
    return re.sub(r'//[^\n]*|"(?:\\.|[^"\\])*"', "", path.read_text(encoding="utf-8"))


def test_one_part_of_rust_knows_python_and_one_file_is_unsafe() -> None:
    rust = ROOT / "rust"
    sources = {str(path.relative_to(rust)): rust_code(path) for path in rust.rglob("*.rs")}
    assert len(sources) >= 20
    pythons = {name for name, code in sources.items() if re.search(r"\b(pyo3|numpy)\b", code)}
    assert pythons == {"python.rs", "python/arrays.rs", "python/fasttext.rs"}
    assert {name for name, code in sources.items() if re.search(r"\bunsafe\b", code)} == {"simd.rs"}
