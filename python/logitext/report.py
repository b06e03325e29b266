"""A report on a model, as one page: how good it is, where it errs, why, and which labels to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitext import report_page, report_sections, report_words
from logitext.evaluation import evaluate
from logitext.features import as_texts
from logitext.files import replacing
from logitext.logits import argmax, margin
from logitext.reliability import reliability
from logitext.report_figures import leads_figure, need_matplotlib, reliability_figure, risk_figure
from logitext.report_page import section, shown, side_by_side
from logitext.risk import risk_band
from logitext.scoring import score_rows

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import NDArray

    from logitext.answering import Answering

__all__ = ["Report"]


class Report:
    """What a model does on labelled texts, as a page for people.

    Parameters
    ----------
    model : TextClassifier
        Trained, for one label a text.
    texts : list of str, NumPy array, pandas or Polars series, Arrow column
        Texts the model did not learn from.
    labels : one per text, each a class of the model
    title : str, optional
        Of the page.
    resamples : int, default 1000
        Of the rows, for intervals and bands; at least 1.

    Attributes
    ----------
    evaluation : Evaluation
        The numbers.

    Raises
    ------
    ImportError
        If matplotlib, which draws the figures, is not installed (``pip install 'logitext[report]'``).
    NotFittedError
        If the model is not trained.
    ValueError
        If the model gives several labels a text, or as `TextClassifier.evaluate`.

    Notes
    -----
    The page is one file that asks for nothing from anywhere: no script, no font, no image. The same
    input gives the same bytes. A notebook shows it where it is the value of a cell.

    Examples
    --------
    >>> import logitext as lt
    >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
    >>> report = lt.Report(clf, ["a good one", "a bad one"], ["yes", "no"], title="Films")
    >>> report.save("films.html")
    >>> report.evaluation.accuracy
    1.0
    """

    def __init__(
        self,
        model: Answering,
        texts: Any,
        labels: Any,
        *,
        title: str | None = None,
        resamples: int = 1000,
    ) -> None:
        need_matplotlib()
        self.title = "How good the model is" if title is None else title
        self._resamples = max(1, resamples)
        column = as_texts(texts)
        z = model.logits(column)
        if model.thresholds_ is not None:
            raise ValueError("a report is for one label per text, and this model gives several: see evaluate")
        truth = np.asarray(model.encode(labels), np.int64)
        if len(truth) != len(column):
            raise ValueError(f"labels must be one per text: {len(column)} texts, {len(truth)} labels")
        calm = model.model_.calibrated(z)
        self.evaluation = evaluate(
            z,
            truth,
            classes=model.model_.classes,
            calibrated=calm,
            sets=_sets(model, column) if len(column) else None,
            resamples=self._resamples,
        )
        decided: NDArray[np.int64] = argmax(z)
        probabilities = model.model_.probabilities(z)
        self._facts = report_sections.Facts(
            model=model,
            evaluation=self.evaluation,
            texts=column,
            truth=truth,
            decided=decided,
            z=z,
            probabilities=probabilities,
            given=probabilities[np.arange(len(truth)), truth],
            confidence=score_rows(calm, truth, decided, 1.0).confidence,
            novelty=_novelty(model, column),
        )

    def html(self) -> str:
        """Return the page.

        Returns
        -------
        str
        """
        return report_page.page(self.title, self._body())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all.

        Parameters
        ----------
        path : path
            Usually named ``something.html``.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        page = self.html().encode("utf-8")
        with replacing(Path(path)) as file:
            file.write(page)

    def _repr_html_(self) -> str:
        return report_page.scoped(self._body())

    def _body(self) -> str:
        facts = self._facts
        rows, classes = len(facts.truth), len(facts.model.classes_)
        return "".join(
            [
                f"<h1>{shown(self.title, 200)}</h1>\n",
                f'<p class="quiet">{rows:,} labelled texts, {classes:,} classes</p>\n',
                report_sections.headlines(facts),
                section("Can its probabilities be taken at their word?", self._probabilities()),
                section("What if it answers only when it is sure?", self._answering()),
                section("What is taken for what", report_sections.confusion(facts)),
                section("Each class, the weakest first", report_sections.classes(facts)),
                section("The most confident mistakes, and why", report_sections.mistakes(facts)),
                section("Labels to look at", report_sections.labels(facts)),
                section("Texts unlike those it was trained on", report_sections.novel(facts)),
                section("All numbers", report_sections.numbers(facts)),
                report_sections.foot(facts),
            ]
        )

    def _probabilities(self) -> str:
        facts = self._facts
        hits = facts.truth == facts.decided
        curve = reliability(facts.confidence, hits, resamples=self._resamples)
        lead = np.asarray(margin(facts.z), np.float64)
        calm = np.asarray(margin(facts.model.model_.calibrated(facts.z)), np.float64)
        words = report_words.RELIABILITY.format(f"{100 * curve.error:.1f}")
        return side_by_side(
            _figure(reliability_figure(curve, float(facts.confidence.min())), words),
            _figure(leads_figure(lead, calm, hits), report_words.LEADS),
        )

    def _answering(self) -> str:
        facts = self._facts
        hits, coverages = facts.truth == facts.decided, np.linspace(0.02, 1, 50)
        band = risk_band(facts.confidence, hits, coverages, resamples=self._resamples)
        drawn = risk_figure(self.evaluation.risk_coverage, coverages, *band)
        return side_by_side(_figure(drawn, report_words.RISK), report_sections.answered(facts))


def _figure(svg: str, words: str) -> str:
    return f"<figure>{svg}<figcaption>{words}</figcaption></figure>\n"


def _sets(model: Any, texts: Any) -> NDArray[np.bool_] | None:
    """Sets of labels, of models that give them."""
    try:
        given: NDArray[np.bool_] = model.predict_set(texts, coverage=report_sections.COVERAGE)
    except ValueError:  # No rows were held out for it, or too few.
        return None
    return given


def _novelty(model: Any, texts: Any) -> NDArray[np.float64] | None:
    """Novelty p-values, of models that give them."""
    try:
        return np.asarray(model.novelty_pvalue(texts), np.float64)
    except ValueError:  # No rows were held out for it.
        return None
