"""``logitext serve``: the command line of the server."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

_N = click.IntRange(min=1)
_SECONDS = click.FloatRange(0, min_open=True)


def _bytes(value: str) -> int:
    from logitext.arguments import as_bytes

    try:
        return as_bytes(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+", value.rstrip("/")):
        raise click.BadParameter(f"{value!r} is not like https://example.org.")
    return value.rstrip("/")


@click.command()
@click.argument("models", metavar="[NAME=]MODEL...", nargs=-1, required=True)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="Where to listen.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=8000, help="0: any free one.")
@click.option("--workers", metavar="N", type=_N, default=1, help="Processes; they share the models' memory.")
@click.option("--threads", metavar="N", type=_N, help="Of each worker (default: the CPUs, shared out).")
@click.option(
    "--report",
    "reports",
    metavar="[NAME=]FILE",
    multiple=True,
    help="A page by logitext report, to be shown.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Its content, or LOGITEXT_TOKEN, is what requests must bear: Authorization: Bearer TOKEN.",
)
@click.option("--insecure", is_flag=True, help="Serve other machines without a token.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="Answer to this name, beside localhost.")
@click.option(
    "--cors-origin",
    metavar="ORIGIN",
    multiple=True,
    type=_origin,
    help="Let pages of this origin ask, as https://example.org.",
)
@click.option("--max-body", metavar="SIZE", type=_bytes, default="16MB", help="Of a request.")
@click.option("--max-texts", metavar="N", type=_N, default=10_000, help="In one request.")
@click.option("--max-text", metavar="SIZE", type=_bytes, default="1MB", help="Of one text, in UTF-8.")
@click.option(
    "--timeout", metavar="S", type=_SECONDS, default=30.0, help="For a request to arrive, and for its answer."
)
@click.option(
    "--max-concurrent", metavar="N", type=_N, default=64, help="Long requests a worker has at hand at once."
)
@click.option(
    "--drain",
    metavar="S",
    type=_SECONDS,
    default=30.0,
    help="For requests at hand when the server is to end.",
)
@click.option("--no-access-log", is_flag=True, help="Write no line for each request.")
@click.option("--log-texts", is_flag=True, help="Keep the texts of requests in those lines.")
def serve(models: tuple[str, ...], **options: Any) -> None:
    """Answer over HTTP, and show a page where people see the logits.

    The first MODEL answers requests that name none. Only this machine can ask, unless --host says
    otherwise, which takes a token. SIGHUP, or POST /models/NAME/reload, reads model files anew.

    \b
    logitext serve news.safetensors
    logitext serve news.safetensors old=news1.safetensors --port 8080 --workers 2
    curl 127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{"text": "A new phone"}'
    """
    from logitext import _core

    try:
        from logitext.server.settings import Limits, Settings, threads_of, token_of_environment
        from logitext.server.supervisor import Source, Supervisor
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install 'logitext[serve]'") from None

    if not hasattr(os, "fork"):
        raise ValueError("serve needs a system with fork, as Linux and macOS are")
    token = token_of_environment()
    if options["token_file"] is not None:
        token = Path(options["token_file"]).read_text(encoding="utf-8").strip()
    if token is not None and not (
        token.isascii() and token.isprintable() and 8 <= len(token.strip()) <= 1000
    ):
        raise ValueError("a token has 8 to 1,000 printable ASCII characters")
    settings = Settings(
        host=options["host"],
        port=options["port"],
        workers=options["workers"],
        threads=options["threads"] or threads_of(options["workers"], _core.available_threads()),
        token=token,
        insecure=options["insecure"],
        hosts=options["allow_host"],
        origins=options["cors_origin"],
        limits=Limits(
            options["max_body"],
            options["max_texts"],
            options["max_text"],
            options["timeout"],
            options["max_concurrent"],
        ),
        access_log=not options["no_access_log"],
        log_texts=options["log_texts"],
        drain=options["drain"],
    )
    if settings.public and token is None and not settings.insecure:
        raise click.UsageError(
            f"{settings.host} can be reached by others: give a token by LOGITEXT_TOKEN or --token-file, "
            "or say --insecure."
        )
    sources = _sources(models, options["reports"], Source)
    supervisor = Supervisor(sources, settings, _tell)
    names = ", ".join(f"{one.name} {one.fingerprint}" for one in supervisor.models)
    _tell(f"serving {names} at {supervisor.address} (Ctrl-C ends)")
    code = supervisor.run()
    _tell("ended")
    if code:
        raise ValueError("the workers ended by themselves: what they wrote says why")


def _tell(sentence: str) -> None:
    print(f"logitext: {sentence}", file=sys.stderr, flush=True)


def _sources(models: tuple[str, ...], reports: tuple[str, ...], source: Any) -> list[Any]:
    pages = dict(_named(report) for report in reports)
    found: dict[str, Any] = {}
    for given in models:
        name, path = _named(given)
        name = name or re.sub(r"[^\w.-]", "_", Path(path).name.removesuffix(".safetensors"))
        if not re.fullmatch(r"[\w.-]{1,100}", name):
            raise click.UsageError(f"{name!r} is no name for a model: letters, digits, - . and _ make one.")
        if name in found:
            raise click.UsageError(f"two models have the name {name!r}: call one NAME=FILE.")
        found[name] = source(name, path)
    if "" in pages:
        pages.setdefault(next(iter(found)), pages.pop(""))
    for name, page in pages.items():
        if name not in found:
            raise click.UsageError(f"--report: there is no model {name!r}.")
        found[name] = source(name, found[name].path, page)
    return list(found.values())


def _named(given: str) -> tuple[str, str]:
    """A name, perhaps empty, and a path: a path that is there may hold an equals sign."""
    name, equals, path = given.partition("=")
    if not equals or os.path.exists(given) or "/" in name:
        return "", given
    return name, path
