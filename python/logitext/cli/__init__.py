"""The command line: one verb, one library call."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import cast

import click

from logitext import _core
from logitext.cli.convert import convert
from logitext.cli.evaluate import evaluate, report
from logitext.cli.explain import explain, inspect
from logitext.cli.logits import logits
from logitext.cli.predict import predict
from logitext.cli.serve import serve
from logitext.cli.train import train
from logitext.cli.trust import calibrate, drift

DONE, FAILED, INTERRUPTED = 0, 1, 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 could not be done, 2 wrong command line."""
    _open_standard_streams()
    code = DONE
    try:
        # Not by click's own `main`, which exits with 1 where a pipe was closed.
        with suppress(click.exceptions.Exit), cli.make_context("logitext", sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted" if sys.stderr.isatty() else "interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        pass  # Whoever read us has enough.
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        code = FAILED
    _close_standard_output()
    sys.exit(code)


def _open_standard_streams() -> None:
    """Whatever the locale says, text is UTF-8; a stream that was closed is an empty one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    cast(io.TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8")


def _close_standard_output() -> None:
    """What cannot be written now is not tried again, and complained about, at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: BaseException) -> str:
    message = str(error)
    if isinstance(error, MemoryError):
        message = "out of memory"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(message.split())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(_core.__version__, prog_name="logitext")
def cli() -> None:
    """Turn text into decisions you can trust, through the logits.

    \b
    logitext train news.csv -o news.safetensors
    echo "The new smartphone has amazing features." | logitext predict news.safetensors -
    """


for command in (train, predict, evaluate, explain, calibrate, drift, report, logits, inspect, convert, serve):
    cli.add_command(command)
