"""What the documentation shows is what happens: docstrings, Python blocks, terminal sessions."""

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import logitext

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SECONDS = 120
"""Longest that one command of a session may take."""

MODULES = sorted(info.name for info in pkgutil.walk_packages(logitext.__path__, "logitext."))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("._core")])
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0, "see the output above"


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, the line its text begins at."""

    language: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    for match in re.finditer(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", page, re.MULTILINE | re.DOTALL):
        indent, language, text = match.groups()
        line = page.count("\n", 0, match.start(3)) + 1
        yield Block(language, textwrap.dedent(text) if indent else text, line)


def run_python(block: Block, names: dict[str, object], where: str) -> str | None:
    """Run a block; say what was not as shown. One with prompts is a doctest."""
    source = "\n" * (block.line - 1) + block.text
    if not re.search(r"^>>> ", block.text, re.MULTILINE):
        exec(compile(source, where, "exec"), names)
        return None
    test = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line - 1)
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=output.append, clear_globs=False)
    names.update(test.globs)
    return "".join(output) if runner.failures else None


def sessions(block: Block) -> Iterator[tuple[str, str]]:
    """Give each command after a `$ ` and the output shown; after a backslash it goes on."""
    command, shown = "", ""
    lines = iter(block.text.splitlines(keepends=True))
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], ""
            while command.endswith("\\\n"):
                command += next(lines).removeprefix("> ")
        else:
            shown += line
    if command:
        yield command, shown


class Servers:
    """The servers that a page starts by ``logitext serve``.

    The page shows them in the foreground, as in a terminal of their own. Here they go on until the page
    ends, each at a free port: whatever is asked of 127.0.0.1:8000 on the page is asked of that port.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.ports: dict[str, str] = {}

    def port(self, shown: str) -> str:
        if shown not in self.ports:
            with socket.socket() as held:
                held.bind(("127.0.0.1", 0))
                self.ports[shown] = str(held.getsockname()[1])
        return self.ports[shown]

    def moved(self, text: str) -> str:
        """Give a text of the page with the ports that are in use here."""
        return re.sub(
            r"(127\.0\.0\.1:|localhost:|--port )(80\d\d)\b",
            lambda found: found[1] + self.port(found[2]),
            text,
        )

    def start(self, command: str, environment: dict[str, str]) -> str:
        """Start a server; give what it tells until it listens, or all if it does not."""
        if "--port" not in command:
            command = command.replace("logitext serve", f"logitext serve --port {self.port('8000')}", 1)
        told = self.folder / f"server{len(self.running)}.log"
        with told.open("wb") as file:
            server = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], cwd=self.folder, env=environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
            )  # fmt: skip
        until = time.monotonic() + SECONDS
        while b"(Ctrl-C ends)" not in told.read_bytes() and time.monotonic() < until:
            if server.poll() is not None:
                return told.read_text()
            time.sleep(0.02)
        self.running.append(server)
        return told.read_text()

    def end(self) -> list[int]:
        """End them in order; give the exit codes that are not 0."""
        for server in self.running:
            server.terminate()
        return [code for server in self.running if (code := server.wait(SECONDS))]


def run_session(block: Block, folder: Path, servers: Servers) -> str | None:
    """Run the commands of a block one after another; say what was not as shown."""
    scripts = os.pathsep.join([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
    environment |= {"NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8"}
    for command, shown in sessions(block):
        command, shown = servers.moved(command), servers.moved(shown)
        if re.search(r"\bcurl\b", command) and shutil.which("curl") is None:
            continue
        if re.match(r"(\w+=\S* )*logitext serve ", command):
            printed = servers.start(command, environment)
        else:
            printed = subprocess.run(
                ["bash", "-c", command], cwd=folder, env=environment, encoding="utf-8", timeout=SECONDS,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            ).stdout  # fmt: skip
        example = doctest.Example(command, shown)
        checker = doctest.OutputChecker()
        # White space at the ends of lines is not seen, and so is not compared.
        got = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        example.want = "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
        if not checker.check_output(example.want, got, doctest.ELLIPSIS):
            return f"$ {command}{checker.output_difference(example, got, doctest.ELLIPSIS)}"
    return None


def check_page(page: str, where: str, folder: Path) -> list[str]:
    """Run all blocks of a page in its order, the Python ones in one namespace; say what went wrong."""
    names: dict[str, object] = {"__name__": "__main__"}
    servers = Servers(folder)
    wrong = []
    try:
        for block in blocks(page):
            fault = None
            if block.language == "python":
                fault = run_python(block._replace(text=servers.moved(block.text)), names, where)
            elif block.language == "console":
                fault = run_session(block, folder, servers)
            if fault:
                wrong.append(f"{where}:{block.line}\n{fault}")
    finally:
        codes = servers.end()
    return wrong + [f"{where}: a server ended with {code}" for code in codes]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_shows_is_what_happens(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    wrong = check_page(path.read_text(encoding="utf-8"), path.name, tmp_path)
    assert wrong == [], "\n".join(wrong)


# -- the runner itself ----------------------------------------------------------

PAGE = """
# A page

```python
x = 20
```

Text between.

```python
>>> import logitext as lt
>>> x + 1
21
>>> lt.softmax([2.0, 1.0, 0.1])
array([0.65..., 0.24..., 0.09...])
```

```console
$ echo one; echo two \\
>   three
one
two three
$ printf 'a  b\\nsome number: %s\\n' $RANDOM
a  b
some number: ...
$ logitext --version
logitext...
```

- in a list:

  ```console
  $ pwd > where && cat where
  ...
  ```

```text
$ false is not run
```
"""


def test_the_runner_passes_what_is_right(tmp_path: Path) -> None:
    assert [block.language for block in blocks(PAGE)] == ["python", "python", "console", "console", "text"]
    assert [PAGE.splitlines()[block.line - 1].strip() for block in blocks(PAGE)] == [
        block.text.splitlines()[0] for block in blocks(PAGE)
    ]
    assert check_page(PAGE, "page.md", tmp_path) == []
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("21\n", "22\n", 11),
        ("0.24...", "0.25...", 11),
        ("one\ntwo", "one\ntoo", 19),
        ("some number: ...", "some string: ...", 19),
        ("logitext...", "", 19),
        ("a  b\nsome", "a b\nsome", 19),
    ],
)
def test_the_runner_finds_what_is_wrong(right: str, wrong: str, line: int, tmp_path: Path) -> None:
    assert PAGE.count(right) == 1
    found = check_page(PAGE.replace(right, wrong), "page.md", tmp_path)
    assert [fault.splitlines()[0] for fault in found] == [f"page.md:{line}"]


def test_the_runner_raises_what_a_block_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        check_page("```python\nx = 1 / 0\n```\n", "page.md", tmp_path)
    assert check_page("no blocks", "page.md", tmp_path) == []
