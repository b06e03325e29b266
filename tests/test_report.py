"""The report: what stands in it, that hostile text does nothing, and that a browser shows it."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import logitext as lt
from logitext.report_figures import chain, heat_map
from logitext.report_page import SCOPE, STYLE, share, shown

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICK = {"learning_rate": 1.0, "epochs": 3, "char_ngrams": None}


def read(name: str) -> tuple[list[str], list[str]]:
    with open(EXAMPLES / name, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


@pytest.fixture(scope="module")
def model() -> lt.TextClassifier:
    return lt.TextClassifier(**QUICK).fit(*read("headlines.csv"))


@pytest.fixture(scope="module")
def report(model: lt.TextClassifier) -> lt.Report:
    return lt.Report(model, *read("headlines_test.csv"), title="Headlines", resamples=100)


@pytest.fixture(scope="module")
def html(report: lt.Report) -> str:
    return report.html()


@pytest.fixture(scope="module")
def many() -> lt.Report:
    """A hundred and twenty classes, in tens that share their words."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 120, 3000)
    texts = [f"about{c // 10} about{c // 10} of{c + rng.integers(0, 3)} so" for c in labels]
    names = [f"topic {c // 10:02}.{c % 10}" for c in labels]
    clf = lt.TextClassifier(**QUICK).fit(texts, names)
    return lt.Report(clf, texts[:600], names[:600], resamples=50)


class Tags(HTMLParser):
    """Every tag and attribute, and whether elements that need it are closed."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def harmless(page: str) -> None:
    """Nothing in it runs, and nothing is asked for."""
    for tag, attributes in Tags(page).seen:
        assert tag not in {"script", "iframe", "object", "embed", "link", "img", "form", "base", "image"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "xlink:href", "src"):
                assert str(value).startswith("#"), (tag, value)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_what_stands_in_it(report: lt.Report, html: str, model: lt.TextClassifier) -> None:
    expected = model.evaluate(*read("headlines_test.csv"))
    assert report.evaluation.accuracy == expected.accuracy
    assert f"{100 * expected.accuracy:.1f} %" in html
    harmless(html)
    assert html.count('<svg role="img"') == 3
    assert html.count('class="map"') == 1
    for title in ("Each class", "The most confident mistakes", "Labels to look at", "All numbers"):
        assert title in html
    assert "Texts unlike those" in html
    wrong = round((1 - expected.accuracy) * expected.rows)
    assert html.count('class="mistake"') == min(10, wrong)
    for name in report.evaluation.intervals:
        of_sets = name in ("coverage", "set_size")
        found = report.evaluation.sets if of_sets else report.evaluation
        assert f"{getattr(found, name.removeprefix('set_')):.4f}" in html
    for figure in re.findall(r"<figure>.*?</figure>", html, re.DOTALL):
        assert "var(--right)" in figure
        assert re.findall(r": ?#[0-9a-f]{6}", figure) == []  # Each colour is the page's.


def test_the_same_bytes(model: lt.TextClassifier, html: str, tmp_path: Path) -> None:
    again = lt.Report(model, *read("headlines_test.csv"), title="Headlines", resamples=100)
    again.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
    with pytest.raises(FileNotFoundError, match="folder"):
        again.save(tmp_path / "no" / "report.html")


def test_a_notebook_keeps_its_style(report: lt.Report, html: str) -> None:
    part = report._repr_html_()
    assert part in html
    assert "<html" not in part
    harmless(part)
    style = part[part.index("<style>") + 7 : part.index("</style>")]
    rules = re.sub(r"@media[^{]*\{", "", style)
    selectors = [one for many in re.findall(r"([^{}]+)\{", rules) for one in many.split(",")]
    assert len(selectors) > 40
    assert [one for one in selectors if not one.strip().startswith(SCOPE)] == []
    assert STYLE.count("&") > 40


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><h1>gone",
    "\u202eright to left\u2066 \x00\x1b[31m nothing",
    "&lt;b&gt; &amp;",
    "العربية עברית",
    "a\u0301\u0302\u0303" * 20,
]


def test_hostile_texts_and_labels_do_nothing() -> None:
    labels = [text for text in HOSTILE for _ in range(6)]
    texts = [f"word{i} {text}" for text in HOSTILE for i in range(6)]
    clf = lt.TextClassifier(**QUICK).fit(texts, labels)
    # Each is called by the next one's name, so all of them are mistakes.
    page = lt.Report(clf, texts, labels[6:] + labels[:6], title=HOSTILE[2], resamples=10).html()
    harmless(page)
    assert "&lt;script&gt;" in page
    assert "U+202E" in page
    assert "U+0000" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
    page.encode("utf-8")


def test_long_texts_are_cut(model: lt.TextClassifier) -> None:
    long = "feature " * 1_250_000
    report = lt.Report(model, [long, "film"], ["News", "Entertainment"], resamples=10)
    page = report.html()
    assert len(page) < 400_000
    assert "10,000,000 characters" in page
    assert "Too long to be explained" in page


def test_shown() -> None:
    assert shown("a\ud800b") == '<bdi>a<span class="unseen">U+D800</span>b</bdi>'
    assert shown(3) == "<bdi>3</bdi>"
    assert shown("x" * 401).endswith("(401 characters)</span>")
    assert [share(x) for x in (0.5, 0.9996, 0.0001, 0.0, 1.0)] == [
        "50 %",
        "99.96 %",
        "0.01 %",
        "0 %",
        "100 %",
    ]


def test_many_classes_stay_readable(many: lt.Report) -> None:
    page = many.html()
    harmless(page)
    assert page.count('class="map"') == 2
    assert re.search("All 1[0-9]{2} classes", page)
    assert len(page) < 1_000_000


def test_no_mistakes(model: lt.TextClassifier) -> None:
    texts, _ = read("headlines_test.csv")
    page = lt.Report(model, texts, model.predict(texts), resamples=20).html()
    harmless(page)
    assert "there are no mistakes" in page
    one = lt.Report(model, texts[:1], model.predict(texts[:1]), resamples=20).html()
    harmless(one)
    assert "nan" not in one.lower().replace("entertainment", "")


def test_sets_and_novelty_where_there_are_any() -> None:
    test = read("headlines_test.csv")
    for calibration in ("auto", None):
        model = lt.TextClassifier(**{**QUICK, "calibration": calibration}).fit(*read("headlines.csv"))
        report = lt.Report(model, *test, resamples=20)
        page = report.html()
        harmless(page)
        assert ("in its set" in page) == (calibration is not None)
        assert ("Texts unlike those" in page) == (calibration is not None)
        if calibration is not None:
            assert report.evaluation.sets.coverage > 0.8


def test_what_has_no_report(model: lt.TextClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = lt.TextClassifier(multilabel=True, **QUICK).fit(
        ["good film", "bad film"] * 9, [["a"], ["b"]] * 9
    )
    with pytest.raises(ValueError, match="one label per text"):
        lt.Report(tagger, ["good"], [["a"]])
    with pytest.raises(ValueError, match="2 texts, 1 labels"):
        lt.Report(model, ["good", "bad"], ["News"])
    with pytest.raises(ValueError, match="is not a class"):
        lt.Report(model, ["good"], ["Sports"])
    with pytest.raises(ValueError, match="at least one row"):
        lt.Report(model, [], [])
    with pytest.raises(lt.NotFittedError):
        lt.Report(lt.TextClassifier(), ["good"], ["News"])
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_svg", None)
    with pytest.raises(ImportError, match=r"pip install 'logitext\[report\]'"):
        lt.Report(model, ["good"], ["News"])


# -- figures --------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_chain_has_each_once(k: int, seed: int, empty: float) -> None:
    rng = np.random.default_rng(seed)
    alike = np.where(rng.random((k, k)) < empty, 0, rng.random((k, k)))
    order = chain(alike + alike.T)
    assert sorted(order) == list(range(k))


def test_a_chain_finds_neighbours() -> None:
    place = np.random.default_rng(0).permutation(20)
    alike = np.exp(-np.abs(place[:, None] - place) / 2)
    ordered = place[chain(alike)]
    assert ordered.tolist() in (list(range(20)), list(range(19, -1, -1)))


def test_a_heat_map_has_a_cell_for_each_count() -> None:
    confusion = np.array([[5, 2, 0], [0, 7, 0], [1, 0, 0]])
    drawn = heat_map(confusion, ["a<", "b", "c"], [2, 0, 1])
    assert drawn.count("fill-opacity") == 4
    assert "<title>a&lt; → b: 2 of 7 rows</title>" in drawn
    assert drawn.count("rotate(-90)") == 3


# -- a browser ------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("NO BROWSER: chromium is not installed, so that a report opens in one is not tested")
    playwright = pytest.importorskip("playwright.sync_api", reason="NO BROWSER: playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def opened(browser: Any, path: Path, width: int, scheme: str, said: list[str]) -> Any:
    """Open a file; what the page says on its console and asks for is kept."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri(), wait_until="load")
    return page


LIGHTNESS = """selector => {
  const found = document.querySelector(selector);
  const style = getComputedStyle(found);
  const light = colour => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, x) => sum + Number(x), 0) / 765;
  const drawn = getComputedStyle(found.querySelector("svg text"));
  return [light(style.backgroundColor), light(style.color), light(drawn.fill)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser(
    browser: Any, html: str, many: lt.Report, tmp_path: Path, scheme: str, width: int
) -> None:
    for name, text in (("headlines", html), ("many", many.html())):
        path = tmp_path / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        said: list[str] = []
        page = opened(browser, path, width, scheme, said)
        for fold in page.query_selector_all("summary"):
            fold.click()
        assert said == []
        # Wide tables scroll by themselves; the page does not.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground, ink, figure = page.evaluate(LIGHTNESS, SCOPE)
        assert abs(ground - ink) > 0.6
        assert abs(ground - figure) > 0.6
        assert (ground > 0.5) == (scheme == "light")
        drawn = page.evaluate(
            "[...document.querySelectorAll('figure svg')].map(x => x.getBoundingClientRect().width)"
        )
        assert len(drawn) == 3
        assert all(250 < size <= width for size in drawn)
        page.emulate_media(media="print")
        ground, ink, figure = page.evaluate(LIGHTNESS, SCOPE)
        assert ground == 1
        assert ink < 0.2
        assert figure < 0.2
        page.context.close()


def test_hostile_text_in_a_browser(browser: Any, tmp_path: Path) -> None:
    clf = lt.TextClassifier(**QUICK).fit(HOSTILE * 4, HOSTILE * 4)
    path = tmp_path / "hostile.html"
    lt.Report(clf, HOSTILE, HOSTILE[1:] + HOSTILE[:1], title=HOSTILE[1], resamples=10).save(path)
    said: list[str] = []
    page = opened(browser, path, 800, "light", said)
    assert said == []
    assert page.evaluate("document.querySelectorAll('script, img, main h1:not(:first-child)').length") == 0
    page.context.close()
