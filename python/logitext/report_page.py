"""The page of a report: what makes HTML of words, numbers and text that nobody has checked."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "bar",
    "card",
    "fold",
    "page",
    "scoped",
    "section",
    "share",
    "shown",
    "side_by_side",
    "signed",
    "table",
]

MOST_SHOWN = 400
"""Characters of a text."""

# What a browser would obey or could not show: controls, marks of direction, halves of surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)

SCOPE = ".logitext-report"
STYLE = """
& { --page: #fff; --surface: #f4f6f8; --line: #d5dbe1; --ink: #171b20; --quiet: #59636e;
  --right: #1f66c9; --wrong: #c4500e; --band: #1f66c9;
  color-scheme: light; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; text-align: left; }
@media (prefers-color-scheme: dark) { & { --page: #14181c; --surface: #1d2329; --line: #38414b;
  --ink: #e8ecf0; --quiet: #a3aeba; --right: #74aefc; --wrong: #ff9b57; --band: #74aefc;
  color-scheme: dark; } }
& * { box-sizing: border-box; }
& main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
& h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
& h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; }
& h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
& p { margin: .35rem 0 .9rem; max-width: 46rem; }
& .quiet { color: var(--quiet); }
& .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .75rem;
  margin: 1.25rem 0; padding: 0; list-style: none; }
& .card { background: var(--surface); border: 1px solid var(--line); border-radius: .6rem;
  padding: .9rem 1rem; margin: 0; overflow-wrap: anywhere; }
& .card b { display: block; font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
& .card span { color: var(--quiet); font-size: .92rem; }
& .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1.5rem 2.5rem; align-items: start; }
& .pair > * { min-width: 0; }
& figure { margin: .5rem 0 0; max-width: 36rem; }
& figure svg { display: block; width: 100%; height: auto; }
& figcaption { color: var(--quiet); font-size: .92rem; margin-top: .4rem; }
& svg text { fill: var(--ink); font-family: inherit; }
& .scroll { overflow: auto; max-width: 100%; }
& .scroll + .scroll, & details { margin-top: 1.25rem; }
& .tall { max-height: 34rem; }
& .framed { border: 1px solid var(--line); border-radius: .6rem; }
& .framed table { min-width: 100%; }
& table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: 0;
  background: none; color: inherit; }
& th, & td { padding: .35rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); background: none; max-width: none; }
& thead th { position: sticky; top: 0; background: var(--surface); font-weight: 600;
  vertical-align: bottom; }
& tbody tr:last-child > * { border-bottom: 0; }
& .n { text-align: right; } & td.n { white-space: nowrap; }
& .text { min-width: 16rem; max-width: 34rem; overflow-wrap: break-word; }
& .name { min-width: 6rem; max-width: 18rem; overflow-wrap: break-word; }
& .mistakes { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr));
  gap: .9rem; }
& .mistake { border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; min-width: 0; }
& .mistake blockquote { margin: 0 0 .6rem; padding: 0 0 0 .8rem; border-left: 3px solid var(--line);
  overflow-wrap: anywhere; }
& .mistake p { margin: .2rem 0 .5rem; overflow-wrap: anywhere; max-width: none; }
& .given { color: var(--right); font-weight: 600; } & .decided { color: var(--wrong); font-weight: 600; }
& .gram { display: inline-block; background: var(--surface); border: 1px solid var(--line);
  border-radius: .3rem; padding: 0 .35rem; margin: 0 .15rem .15rem 0; white-space: pre-wrap;
  overflow-wrap: break-word; max-width: 16rem; }
& .bar { display: inline-block; height: .65em; border-radius: .15em; min-width: 1px;
  background: var(--right); }
& .bar.down { background: var(--wrong); }
& .unseen { font: .8em/1.2 ui-monospace, monospace; border: 1px solid var(--line); border-radius: .2rem;
  color: var(--quiet); padding: 0 .15rem; }
& summary { cursor: pointer; padding: .4rem 0; font-weight: 600; }
& details > .scroll { margin-top: .5rem; }
& .map { display: block; }
& .pair .map { max-width: 100%; height: auto; min-width: min(28rem, var(--own)); }
& .map text { font-size: 10px; } & .map .small { font-size: 9px; } & .map .count { font-size: 11px; }
& footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet);
  font-size: .88rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) { & { font-size: 15px; } & .card b { font-size: 1.5rem; }
  & th, & td { padding: .3rem .5rem; } & .text { min-width: 26rem; }
  & .pair { gap: 1rem; } }
@media print { & { --page: #fff; --surface: #f4f6f8; --line: #c3cad1; --ink: #000; --quiet: #444c55;
  --right: #1f66c9; --wrong: #c4500e; --band: #1f66c9; color-scheme: light; font-size: 10.5pt; }
  & * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  & main { max-width: none; padding: 0; }
  & .scroll, & .tall { overflow: visible; max-height: none; }
  & .map { width: 100%; height: auto; }
  & thead th { position: static; }
  & h2, & h3 { break-after: avoid; }
  & figure, & tr, & .card, & .mistake { break-inside: avoid; }
  & .text { min-width: 0; } }
"""
"""& is what holds the report, so that nothing of it reaches the rest of a notebook."""


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """Return HTML that shows a text and does nothing else, however hostile the text.

    Parameters
    ----------
    value : str, or a label
        Cut to `most` characters, saying how long it was.
    most : int

    Returns
    -------
    str
        Its direction is its own and does not reach what is around it; what cannot be seen is
        written as its number.

    Examples
    --------
    >>> shown("<b>bold</b>\\x00")
    '<bdi>&lt;b&gt;bold&lt;/b&gt;<span class="unseen">U+0000</span></bdi>'
    >>> shown("a" * 1000, 3)
    '<bdi>aaa</bdi><span class="quiet">… (1,000 characters)</span>'
    """
    text = str(value)
    parts, last = [], 0
    cut = text[:most]
    for found in _UNSEEN.finditer(cut):
        parts += [
            html.escape(cut[last : found.start()]),
            f'<span class="unseen">U+{ord(found[0]):04X}</span>',
        ]
        last = found.end()
    parts.append(html.escape(cut[last:]))
    rest = f'<span class="quiet">… ({len(text):,} characters)</span>' if len(text) > most else ""
    return f"<bdi>{''.join(parts)}</bdi>{rest}"


def share(part: float, digits: int = 1) -> str:
    """Return a share in per cent.

    Examples
    --------
    >>> share(0.9231), share(0.5), share(0.00004), share(0.99999)
    ('92.3 %', '50 %', '&lt; 0.01 %', '&gt; 99.99 %')
    """
    percent = 100 * part
    if 0 <= percent < 0.005:
        return "0 %" if percent == 0 else "&lt; 0.01 %"
    if 99.995 <= percent < 100:
        return "&gt; 99.99 %"
    # Two decimals of what one would round to nothing, or to all.
    if min(percent, 100 - percent) < 10**-digits and percent < 100:
        digits = 2
    return f"{percent:.{digits}f}".removesuffix("." + "0" * digits) + " %"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, tall: bool = False) -> str:
    """Return a table that scrolls where it is too wide, and where it is long if `tall`.

    Parameters
    ----------
    head : sequence of str
        HTML of each column; one that ends in > holds numbers, in : names, in | texts.
    rows : iterable of sequences of str
        HTML of the cells.
    tall : bool, default False

    Returns
    -------
    str

    Examples
    --------
    >>> table(["class:", "rows>"], [["a", "3"]]).count("<td")
    2
    """
    kinds = [
        {">": ' class="n"', ":": ' class="name"', "|": ' class="text"'}.get(name[-1:], "") for name in head
    ]
    titles = "".join(
        f'<th scope="col"{kind}>{name[:-1] if kind else name}</th>'
        for name, kind in zip(head, kinds, strict=True)
    )
    lines = (
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    body = "\n".join(lines)
    where = "scroll framed tall" if tall else "scroll"
    # What scrolls can be reached by the keyboard.
    return (
        f'<div class="{where}" tabindex="0"><table><thead><tr>{titles}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def signed(amount: float) -> str:
    """Return a number with its sign, minus as wide as plus.

    Examples
    --------
    >>> signed(-0.5)
    '−0.50'
    """
    return f"{amount:+.2f}".replace("-", "−")


def bar(part: float, *, down: bool = False, most: float = 7.0) -> str:
    """Return a bar of a share of `most` em.

    Examples
    --------
    >>> bar(0.5)
    '<span class="bar" style="width:3.50em"></span>'
    """
    side = " down" if down else ""
    return f'<span class="bar{side}" style="width:{max(0.0, min(1.0, part)) * most:.2f}em"></span>'


def card(figure: str, words: str) -> str:
    """Return a headline: a figure, and what it says in words."""
    return f'<li class="card"><b>{figure}</b><span>{words}</span></li>\n'


def section(title: str, *parts: str) -> str:
    """Return a part of the page under its title; nothing where there are no parts."""
    body = "".join(parts)
    return f"<section><h2>{title}</h2>\n{body}</section>\n" if body else ""


def side_by_side(*parts: str) -> str:
    """Return parts beside each other where there is room, else below each other."""
    return '<div class="pair">' + "".join(f"<div>{part}</div>\n" for part in parts) + "</div>\n"


def fold(title: str, body: str) -> str:
    """Return what is seen after a click."""
    return f"<details><summary>{title}</summary>\n{body}</details>\n"


def scoped(body: str) -> str:
    """Return a report to be put into another page: its style reaches nothing else."""
    return (
        f'<div class="{SCOPE[1:]}"><style>{STYLE.replace("&", SCOPE)}</style>\n<main>\n{body}</main></div>\n'
    )


def page(title: str, body: str) -> str:
    """Return the whole page.

    Parameters
    ----------
    title : str
        Not yet HTML.
    body : str
        HTML.

    Returns
    -------
    str
        It asks for nothing from anywhere, and the browser is told to allow no script and no request.
    """
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(_UNSEEN.sub('', title)[:200])}</title>\n"
        "<style>html, body { margin: 0; }"
        " @media (prefers-color-scheme: dark) { html { background: #14181c; } }"
        " @media print { html { background: none; } }</style>\n"
        f"</head>\n<body>\n{scoped(body)}</body>\n</html>\n"
    )
