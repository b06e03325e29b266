"""Sets of labels that hold the truth as often as asked: split conformal prediction on anyone's logits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from logitext.checked import as_labels, as_logits, as_share, log_probabilities
from logitext.clusters import cluster_classes
from logitext.conformity import adaptive, row_numbers
from logitext.logits import argmax

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConformalSets"]

Method = Literal["lac", "aps", "raps"]
METHODS = ("lac", "aps", "raps")


class ConformalSets:
    """Sets of labels with a promised coverage, from the logits of held-out rows.

    Of rows drawn like those fitted on, a share of at least `coverage` has its true label in its set,
    and at most ``1 / (n + 1)`` more than that, ties aside: whatever the model, however wrong its
    probabilities. It is a mean over rows, and over draws of the calibration rows; with `by_class` it
    holds for each class or cluster of classes. One fit serves every coverage.

    Parameters
    ----------
    method : {"lac", "aps", "raps"}, default "lac"
        What a label is judged by. "lac": its probability; the smallest sets on average. "aps": the
        probability left beyond it, in the order of the ranks; sets grow where a row is hard, and easy
        rows are not covered more than hard ones. "raps": the same, later ranks penalised; smaller sets.
    by_class : bool, default False
        Promise the coverage for each class, not only for all rows together. Classes with fewer than
        `class_rows` rows share clusters: see `cluster_classes`.
    class_rows : int, default 100
        Rows from which a class is calibrated by itself; at least `minimum_rows` of the coverages that
        will be asked for.
    penalty : float, default 0.1
        Of "raps": taken for each rank after the first `free_ranks`.
    free_ranks : int, default 1
        Of "raps".
    seed : int or None, default 0
        Of "aps" and "raps": what share of a label's own probability counts is drawn for each row, by
        its logits and this seed: the same row always has the same set. None counts nothing of it, only
        what stands before the label: the decision is in every set, so that the coverage is at least the
        accuracy, however little was asked.

    Attributes
    ----------
    scores_ : float array, shape (n_calibrating,)
        Conformity of the true labels, rising within each cluster: log-probabilities for "lac".
    offsets_ : int64 array, shape (n_clusters + 1,)
        Where clusters begin in it.
    clusters_ : int32 array, shape (n_classes,)
        The cluster of each class: 0 for all unless `by_class`.

    References
    ----------
    Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005; Papadopoulos et al.,
    "Inductive confidence machines for regression", ECML 2002 (the split); Sadinle, Lei & Wasserman,
    "Least ambiguous set-valued classifiers with bounded error levels", JASA 2019 (LAC); for the others
    see `logitext.conformity` and `logitext.clusters`.

    Examples
    --------
    >>> import numpy as np
    >>> import logitext as lt
    >>> z = np.log([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.3, 0.6, 0.1]])
    >>> sets = lt.ConformalSets().fit(z, [0, 0, 1, 1])  # true labels of probability .8, .6, .3, .6
    >>> sets.predict_set(np.log([[0.5, 0.35, 0.15]]), coverage=0.8).tolist()  # at least .3
    [[True, True, False]]
    >>> sets.p_values(np.log([[0.5, 0.35, 0.15]])).tolist()
    [[0.4, 0.4, 0.2]]
    """

    scores_: NDArray[np.floating[Any]]
    offsets_: NDArray[np.int64]
    clusters_: NDArray[np.int32]

    def __init__(
        self,
        *,
        method: Method = "lac",
        by_class: bool = False,
        class_rows: int = 100,
        penalty: float = 0.1,
        free_ranks: int = 1,
        seed: int | None = 0,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if class_rows < 1:
            raise ValueError(f"class_rows must be at least 1, got {class_rows}")
        if not 0 <= penalty < math.inf:
            raise ValueError(f"penalty must be at least 0 and finite, got {penalty}")
        if free_ranks < 0:
            raise ValueError(f"free_ranks must be at least 0, got {free_ranks}")
        if seed is not None and seed < 0:
            raise ValueError(f"seed must be at least 0 or None, got {seed}")
        self.method: Method = method
        self.by_class = bool(by_class)
        self.class_rows = int(class_rows)
        self.penalty = float(penalty)
        self.free_ranks = int(free_ranks)
        self.seed = None if seed is None else int(seed)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"ConformalSets({settings})"

    @staticmethod
    def minimum_rows(coverage: float) -> int:
        """Return how many calibration rows a coverage takes: ``ceil(1 / (1 - coverage)) - 1``.

        Parameters
        ----------
        coverage : float

        Returns
        -------
        int
            With fewer only the set of all labels could promise it.

        Raises
        ------
        ValueError
            If `coverage` is not above 0 and below 1.

        Examples
        --------
        >>> [ConformalSets.minimum_rows(coverage) for coverage in (0.5, 0.9, 0.95, 0.99)]
        [1, 9, 19, 99]
        """
        return math.ceil(1 / (1 - as_share(coverage, "coverage"))) - 1

    def fit(self, z: ArrayLike, y: ArrayLike) -> Self:
        """Take the logits and true classes of rows the model did not learn from.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Logits, raw or calibrated, of any real dtype; ``-inf`` for a masked class. The sets of "lac"
            are those of the softmax of just these logits: a temperature changes them.
        y : int array, shape (n,)
            True classes. A row whose true class is masked is legal, and counts as the worst.

        Returns
        -------
        ConformalSets
            Itself.

        Raises
        ------
        ValueError
            If shapes do not fit; a row of `z` holds NaN or ``+inf``, or is masked as a whole; or labels
            are not integers in ``[0, n_classes)``.
        """
        logits = as_logits(z)
        labels = as_labels(y, logits.shape)
        # Half precision is computed in single, which these hold exactly.
        parts = [np.zeros(0, np.float32)]
        for here, conformity in self._conformity(logits):
            parts.append(np.take_along_axis(conformity, labels[here, None], axis=1)[:, 0])
        scores = np.concatenate(parts)
        self.clusters_ = np.zeros(logits.shape[1], np.int32)
        if self.by_class:
            self.clusters_, calibrating = cluster_classes(scores, labels, logits.shape[1], self.class_rows)
            scores, labels = scores[calibrating], labels[calibrating]
        cluster = self.clusters_[labels]
        self.scores_ = scores[np.lexsort((scores, cluster))]
        sizes = np.bincount(cluster, minlength=int(self.clusters_.max()) + 1)
        self.offsets_ = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return self

    def predict_set(
        self, z: ArrayLike, coverage: float = 0.9, *, allow_empty: bool = True
    ) -> NDArray[np.bool_]:
        """Return the set of labels of each row.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Logits of the same kind as those fitted on.
        coverage : float, default 0.9
            Above 0 and below 1. It is read as the decimal it is written as: 0.9 is nine tenths.
        allow_empty : bool, default True
            False adds the decision to every set: coverage can only rise.

        Returns
        -------
        bool array, shape (n, n_classes)
            Whether a label is in the set: just where its p-value is above ``1 - coverage``. A masked
            class never is.

        Raises
        ------
        ValueError
            If `coverage` is out of range or takes more calibration rows than there are; or `z` cannot
            be used: see `fit`.
        """
        lowest = self._lowest(as_share(coverage, "coverage"))
        logits = as_logits(z, len(self.clusters_))
        sets = np.empty(logits.shape, np.bool_)
        for here, conformity in self._conformity(logits):
            np.greater_equal(conformity, lowest, out=sets[here])
        if not allow_empty:
            sets[np.arange(len(sets)), argmax(logits)] = True
        return sets

    def p_values(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return the conformal p-value of each label: how unusual the row would be if that were its class.

        Parameters
        ----------
        z : array, shape (n, n_classes)
            Logits of the same kind as those fitted on.

        Returns
        -------
        float64 array, shape (n, n_classes)
            ``(1 + c) / (n + 1)``, where c of the n calibration rows (of the label's cluster) conform no
            better; 0 for a masked class. The p-value of the true label is at most t with a probability
            of at most t.

        Raises
        ------
        ValueError
            If `z` cannot be used: see `fit`.
        """
        self._check_fitted()
        logits = as_logits(z, len(self.clusters_))
        found = np.empty(logits.shape)
        members = [np.flatnonzero(self.clusters_ == one) for one in range(len(self.offsets_) - 1)]
        for here, conformity in self._conformity(logits):
            part = found[here]
            for one, columns in enumerate(members):
                own = self._cluster(one)
                no_better = np.searchsorted(own, conformity[:, columns], side="right")
                part[:, columns] = (1 + no_better) / (len(own) + 1)
            part[np.isneginf(conformity)] = 0
        return found

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what was fitted, for a file.

        Returns
        -------
        settings : dict
            The arguments by name, fit for JSON.
        arrays : dict of ndarray
            ``scores`` (float32, or float64), ``offsets`` (int64), ``clusters`` (int32).

        Raises
        ------
        ValueError
            If nothing was fitted.
        """
        self._check_fitted()
        arrays = {"scores": self.scores_, "offsets": self.offsets_, "clusters": self.clusters_}
        return self._settings(), arrays

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Bring back what `to_state` gave.

        Parameters
        ----------
        settings : mapping
        arrays : mapping of str to ndarray

        Returns
        -------
        ConformalSets

        Raises
        ------
        ValueError
            If they are not what `to_state` gives.
        """
        names = ("scores", "offsets", "clusters")
        if not set(names) <= set(arrays):
            raise ValueError(f"not a state of ConformalSets: it lacks some of {', '.join(names)}")
        try:
            sets = cls(**settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a state of ConformalSets: {error}") from None
        scores, offsets, clusters = (np.asarray(arrays[name]) for name in names)
        wrong = (
            (scores.dtype not in (np.float32, np.float64) and "scores must be float32 or float64")
            or (any(one.ndim != 1 for one in (scores, offsets, clusters)) and "arrays must have one axis")
            or (offsets.dtype != np.int64 and "offsets must be int64")
            or (clusters.dtype != np.int32 and "clusters must be int32")
            or (len(offsets) < 2 and "there must be a cluster")
            or ((offsets[0] != 0 or offsets[-1] != len(scores)) and "offsets must span the scores")
            or (bool((np.diff(offsets) < 0).any()) and "offsets must rise")
            or (not np.isin(clusters, np.arange(len(offsets) - 1)).all() and "no such cluster")
            or (len(clusters) == 0 and "there must be a class")
        )
        if wrong:
            raise ValueError(f"not a state of ConformalSets: {wrong}")
        sets.scores_, sets.offsets_, sets.clusters_ = scores, offsets, clusters
        for one in range(len(offsets) - 1):
            # NaN, too, is not at least what stands before it.
            own = sets._cluster(one)
            if not (own[1:] >= own[:-1]).all() or np.isnan(own[:1]).any():
                raise ValueError("not a state of ConformalSets: scores must rise within a cluster")
        return sets

    def _settings(self) -> dict[str, Any]:
        names = ("method", "by_class", "class_rows", "penalty", "free_ranks", "seed")
        return {name: getattr(self, name) for name in names}

    def _check_fitted(self) -> None:
        if not hasattr(self, "scores_"):
            raise ValueError("there are no calibration rows yet: call fit(z, y) first")

    def _cluster(self, one: int) -> NDArray[np.floating[Any]]:
        return self.scores_[self.offsets_[one] : self.offsets_[one + 1]]

    def _conformity(self, logits: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
        """Give that of every label, block by block of rows."""
        penalty = self.penalty if self.method == "raps" else 0.0
        for here, block, log_p in log_probabilities(logits):
            if self.method == "lac":
                yield here, log_p
            else:
                numbers = row_numbers(block, self.seed)
                yield here, adaptive(log_p, numbers, penalty=penalty, free_ranks=self.free_ranks)

    def _lowest(self, coverage: Fraction) -> NDArray[np.floating[Any]]:
        """Return the conformity from which on each label is in a set.

        By what does not conform it is the ceil((n + 1) * coverage)-th smallest of n scores; here
        counted from the other end.
        """
        self._check_fitted()
        needed = math.ceil(1 / (1 - coverage)) - 1
        sizes = np.diff(self.offsets_)
        if len(self.scores_) < needed:
            raise ValueError(
                f"coverage {float(coverage):g} takes at least {needed} calibration rows, "
                f"there are {len(self.scores_)}"
            )
        if sizes.min() < needed:
            raise ValueError(
                f"coverage {float(coverage):g} takes at least {needed} calibration rows of each class or "
                f"cluster, one has {sizes.min()}: fit with class_rows={needed} or more"
            )
        at = [size - math.ceil((size + 1) * coverage) for size in sizes.tolist()]
        lowest: NDArray[np.floating[Any]] = self.scores_[self.offsets_[:-1] + at]
        if len(lowest) > 1:  # One for all compares faster.
            lowest = lowest[self.clusters_]
        # A masked class is in no set, even if calibration rows with masked truths reach as far.
        np.maximum(lowest, np.finfo(lowest.dtype).min, out=lowest)
        return lowest
