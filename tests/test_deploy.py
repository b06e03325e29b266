"""What is in deploy/ fits the command: no engine runs here, so what can be read is read."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from logitext.cli.serve import serve
from logitext.server.gate import OPEN

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
TEXT = {path.name: path.read_text(encoding="utf-8") for path in DEPLOY.iterdir()}


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile, in order."""
    lines = [line for line in TEXT["Containerfile"].splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line]


def last(name: str) -> str:
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def parsed(words: list[str]) -> click.Context:
    """A command line as the command reads it."""
    assert words[:2] == ["logitext", "serve"]
    return serve.make_context("serve", words[2:])


def unit() -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(TEXT["logitext.service"])
    return found


def test_the_image_is_built_of_what_is_there() -> None:
    names = {name for name, _ in instructions()}
    assert names == {
        "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
        "CMD",
    }  # fmt: skip
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]]
    assert {"rust", "python", "Cargo.lock"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path


def test_the_image_serves_as_a_user_without_rights() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER"))
    assert last("STOPSIGNAL") == "SIGTERM"
    words = json.loads(last("ENTRYPOINT")) + json.loads(last("CMD"))
    context = parsed(words)
    assert context.params["host"] == "0.0.0.0"
    assert str(context.params["port"]) == last("EXPOSE")
    assert context.params["models"] == ("/models/model.safetensors",)
    assert not context.params["insecure"]  # so that it wants LOGITEXT_TOKEN


def test_the_image_looks_after_its_health() -> None:
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", command[2])
    assert found is not None
    assert found[1] == last("EXPOSE")
    assert found[2] in OPEN
    # It fails where nobody answers.
    nobody = command[2].replace(found[1], "9")
    assert subprocess.run([sys.executable, "-c", nobody], capture_output=True, check=False).returncode == 1


def test_the_unit_serves_and_reloads() -> None:
    service = unit()["Service"]
    program, *rest = shlex.split(service["ExecStart"])
    context = parsed([Path(program).name, *rest])
    # The supervisor cuts off what is left five seconds after the drain.
    assert int(service["TimeoutStopSec"]) > context.params["drain"] + 5
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    assert service["KillMode"] == "mixed"
    for name, value in {
        "DynamicUser": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "NoNewPrivileges": "yes",
    }.items():  # fmt: skip
        assert service[name] == value


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_is_one_to_systemd(tmp_path: Path) -> None:
    program = shlex.split(unit()["Service"]["ExecStart"])[0]
    copy = tmp_path / "logitext.service"
    copy.write_text(TEXT["logitext.service"].replace(program, "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_flags_that_are_told_of_exist() -> None:
    flags = {flag for option in serve.params for flag in option.opts if flag.startswith("--")}
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    told = set(re.findall(r"(?<=`)--[a-z-]+(?=[ `])", page))
    assert {"--host", "--token-file", "--drain", "--max-body"} <= told <= flags
    # And all that limit something are told of.
    assert {flag for flag in flags if flag.startswith("--max-")} <= told
    for command in re.findall(r"logitext /models/.*", TEXT["README.md"]):
        parsed(["logitext", "serve", *command.split()[1:]])
