"""The figures of a report, as SVG whose colours are the page's."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext.report_page import shown

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from logitext.reliability import Reliability
    from logitext.risk import RiskCoverage

__all__ = ["chain", "heat_map", "leads_figure", "need_matplotlib", "reliability_figure", "risk_figure"]

INK, QUIET, LINE, RIGHT, WRONG, PAGE = "#010203", "#020304", "#030405", "#040506", "#050607", "#060708"
VARIABLES = {INK: "ink", QUIET: "quiet", LINE: "line", RIGHT: "right", WRONG: "wrong", PAGE: "page"}
"""Colours drawn with, which no one would choose, and what the page calls them."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # Text stays text, in the page's font.
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def need_matplotlib() -> None:
    """Find out whether figures can be drawn.

    Raises
    ------
    ImportError
        With a sentence that says what to install.
    """
    try:
        import matplotlib.backends.backend_svg  # noqa: F401
    except ImportError as error:
        raise ImportError("the report draws with matplotlib: pip install 'logitext[report]'") from error


def _draw(salt: str, words: str, height: float, paint: Callable[[Any], None]) -> str:
    """SVG of a figure: the same bytes for the same numbers, told in words to who does not see it."""
    import io

    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {**STYLE, "svg.hashsalt": f"logitext {salt}"}
    with rc_context(style):
        figure = Figure(figsize=(5.0, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _of_the_page(out.getvalue(), words)


def _of_the_page(svg: str, words: str) -> str:
    """Matplotlib's SVG with the page's fonts and colours, and nothing that reaches beyond it."""
    svg = svg[svg.index("<svg") :]
    # What it says of itself, and a style for every element there is.
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    # Names of groups are the same in all figures, and nothing refers to them.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    root = svg[: svg.index(">")]
    svg = re.sub(r' (width|height|version)="[^"]*"', "", root) + svg[len(root) :]
    # The font that was measured; and as newer versions write it.
    svg = re.sub(r"font: [^;\"]*?([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)
    # Hundredths of a point are enough.
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{words}"', 1).strip() + "\n"


def _per_cent(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def reliability_figure(found: Reliability, least: float = 0.0) -> str:
    """Draw how often decisions are right, by their probability, and how many rows have which.

    Parameters
    ----------
    found : Reliability
    least : float, default 0
        The lowest probability there is.

    Returns
    -------
    str
        SVG.
    """
    start = min(math.floor(10 * least) / 10, 0.9)

    def paint(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        # Of 1,024 places a third will do; the kernel reaches below what there is.
        thin = np.arange(1, len(found.probability), 3)
        thin = thin[found.probability[thin] >= least - 0.01]
        x = found.probability[thin]
        above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        if found.low is not None and found.high is not None:
            above.fill_between(x, found.low[thin], found.high[thin], color=RIGHT, alpha=0.22, linewidth=0)
        above.plot(x, found.frequency[thin], color=RIGHT, linewidth=2)
        density = found.density[thin]
        above.set(xlim=(start, 1), ylim=(0, 1.005), ylabel="how often it is right")
        near = start + 0.9 * (1 - start)
        where = {"xytext": (-4, 6), "textcoords": "offset points", "ha": "right"}
        above.annotate("perfect", (near, near), fontsize=9, color=QUIET, **where)
        below.fill_between(x, density, color=QUIET, alpha=0.45, linewidth=0)
        below.set(xlabel="probability of the decision", ylabel="rows", yticks=[], ylim=(0, None))
        below.grid(False)
        for axis in (above.xaxis, above.yaxis):
            _per_cent(axis)

    words = f"Reliability diagram. Mean distance from the diagonal: {100 * found.error:.1f} points."
    return _draw("reliability", words, 4.3, paint)


def leads_figure(lead: NDArray[Any], calm: NDArray[Any], hits: NDArray[np.bool_]) -> str:
    """Draw how far the largest logit leads where decisions are right and wrong, calibrated or not.

    Parameters
    ----------
    lead : float array, shape (n,)
        The largest raw logit of each row less the second, at least 0.
    calm : float array, shape (n,)
        The same of calibrated logits.
    hits : bool array, shape (n,)
        Whether the decision is right.

    Returns
    -------
    str
        SVG.
    """
    both = [values[np.isfinite(values)] for values in (lead, calm)]
    most = max((float(np.quantile(values, 0.995)) for values in both if len(values)), default=1.0)
    most = most if most > 0 else 1.0
    edges = np.linspace(0, most, 41)

    def paint(figure: Any) -> None:
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        named = (("as they are", lead), ("calibrated", calm))
        for axes, (name, values) in zip(panels, named, strict=True):
            for mask, colour, kind in ((hits, RIGHT, "right"), (~hits, WRONG, "wrong")):
                if not mask.any():
                    continue
                counts = np.histogram(np.clip(values[mask], 0, most), edges)[0] / mask.sum()
                axes.stairs(counts, edges, fill=True, color=colour, alpha=0.25)
                axes.stairs(counts, edges, color=colour, linewidth=1.5, label=f"{kind} ({mask.sum():,} rows)")
            axes.set(xlim=(0, most), ylim=(0, None), yticks=[], ylabel="share of rows")
            axes.set_title(f"logits {name}", loc="left", fontsize=10)
        panels[0].legend(loc="upper right")
        panels[1].set_xlabel("lead of the largest logit over the second")

    words = "Distribution of the lead of the largest logit, for right and wrong decisions."
    return _draw("leads", words, 4.3, paint)


def risk_figure(
    found: RiskCoverage, coverages: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> str:
    """Draw the errors among the answers where only the surest rows are answered.

    Parameters
    ----------
    found : RiskCoverage
    coverages, low, high : float64 array, shape (k,)
        A band around it.

    Returns
    -------
    str
        SVG.
    """

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.fill_between(coverages, low, high, color=RIGHT, alpha=0.22, linewidth=0)
        # A hundredth of the rows is the least that says something.
        seen = found.coverage >= min(0.01, found.coverage[-1])
        points = np.unique(
            np.searchsorted(found.coverage[seen], np.linspace(0, 1, 400)).clip(max=seen.sum() - 1)
        )
        axes.plot(found.coverage[seen][points], found.risk[seen][points], color=RIGHT, linewidth=2)
        every = float(found.risk[-1])
        axes.axhline(every, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate("if sureness said nothing", (0.02, every), xytext=(0, 4), textcoords="offset points",
                      fontsize=9, color=QUIET)  # fmt: skip
        top = max(1.35 * every, float(np.max(high, initial=0.0)), 1e-3)
        axes.set(xlim=(0, 1), ylim=(0, min(1.0, top)), xlabel="share of the texts answered, the surest",
                 ylabel="share of the answers that is wrong")  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            _per_cent(axis)

    words = f"Risk by coverage. All answered: {100 * float(found.risk[-1]):.1f} per cent wrong."
    return _draw("risk", words, 3.6, paint)


def chain(similarity: NDArray[np.float64]) -> list[int]:
    """Return an order in which what is alike stands side by side.

    Pairs are taken from the most alike on; each joins the ends of two chains, until one is left.

    Parameters
    ----------
    similarity : float64 array, shape (k, k)
        Symmetric; the diagonal says nothing.

    Returns
    -------
    list of int
        Each of the k once.

    Examples
    --------
    >>> chain(np.array([[0, 0, 9.0], [0, 0, 1], [9, 1, 0]]))
    [1, 2, 0]
    """
    k = len(similarity)
    first, second = np.triu_indices(k, 1)
    alike = similarity[first, second]
    pairs = np.argsort(-alike, kind="stable")
    chains = {i: [i] for i in range(k)}
    owner = list(range(k))
    for at in pairs[: int((alike > 0).sum())].tolist():
        i, j = int(first[at]), int(second[at])
        a, b = owner[i], owner[j]
        ends = (chains[a][0], chains[a][-1]), (chains[b][0], chains[b][-1])
        if a == b or i not in ends[0] or j not in ends[1]:
            continue
        left = chains[a] if chains[a][-1] == i else chains[a][::-1]
        right = chains.pop(b)
        chains[a] = left + (right if right[0] == j else right[::-1])
        for place in right:
            owner[place] = a
    # Long chains first; those that nothing is like come last, in their own order.
    return [
        i for links in sorted(chains.values(), key=lambda links: (-len(links), min(links))) for i in links
    ]


def heat_map(confusion: NDArray[np.int64], names: Sequence[Any], order: Sequence[int]) -> str:
    """Draw a confusion matrix: true class down, decision across, what each cell is on hovering.

    Parameters
    ----------
    confusion : int64 array, shape (k, k)
    names : sequence
        Of the k classes.
    order : sequence of int
        Which of them to draw, in which order.

    Returns
    -------
    str
        SVG: only cells with rows are drawn, however many classes there are.
    """
    small = len(order) > 30
    # Few classes have large cells, so that a matrix of two is no stamp.
    cell = 13 if small else max(24, min(64, 400 // len(order)))
    longest = max(len(str(names[i])[:24]) for i in order)
    room = 14 + (5.4 if small else 6) * longest
    size = ' class="small"' if small else ""
    rows = confusion.sum(axis=1)
    width = room + cell * len(order) + 8
    parts = [
        f'<rect x="{room:g}" y="{room:g}" width="{cell * len(order)}" height="{cell * len(order)}"'
        ' fill="var(--surface)" stroke="var(--line)"/>'
    ]
    for place, i in enumerate(order):
        middle = room + cell * (place + 0.5)
        label, title = _label(names[i]), shown_plain(names[i])
        named = f"{label}<title>{title}</title></text>"
        turned = f"translate({middle + 3:g} {room - 5:g}) rotate(-90)"
        parts.append(f'<text x="{room - 5:g}" y="{middle + 3:g}" text-anchor="end"{size}>{named}')
        parts.append(f'<text transform="{turned}"{size}>{named}')
    for down, i in enumerate(order):
        for across, j in enumerate(order):
            count = int(confusion[i, j])
            if not count:
                continue
            part = count / rows[i]
            colour = "right" if i == j else "wrong"
            x, y = room + cell * across, room + cell * down
            said = f"{shown_plain(names[i])} → {shown_plain(names[j])}: {count:,} of {rows[i]:,} rows"
            # The root lets single rows be seen beside whole classes.
            parts.append(
                f'<rect x="{x:g}" y="{y:g}" width="{cell - 1}" height="{cell - 1}" fill="var(--{colour})"'
                f' fill-opacity="{0.12 + 0.88 * math.sqrt(part):.2f}"><title>{said}</title></rect>'
            )
            if not small:
                strong = ' style="fill: var(--page)"' if part > 0.3 else ""
                parts.append(
                    f'<text x="{x + cell / 2 - 0.5:g}" y="{y + cell / 2 + 3:g}" text-anchor="middle"{strong}'
                    f' class="count" pointer-events="none">{count if cell >= 32 else _short(count)}</text>'
                )
    height = room + cell * len(order) + 4
    return (
        f'<svg class="map" role="img" aria-label="Confusion matrix" width="{width:.0f}" height="{height:.0f}"'
        f' style="--own: {width:.0f}px" viewBox="0 0 {width:.0f} {height:.0f}">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _short(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.0f}k"


def _label(name: Any) -> str:
    text = str(name)
    return shown_plain(text if len(text) <= 24 else text[:23] + "…")


def shown_plain(name: Any) -> str:
    """Return what `shown` does, as text without elements: for SVG and titles.

    Examples
    --------
    >>> shown_plain("a<b\\x00")
    'a&lt;bU+0000'
    """
    return re.sub(r"<[^>]*>", "", shown(name, 100))
