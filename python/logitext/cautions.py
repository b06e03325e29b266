"""What in a training record a person should look into."""

from __future__ import annotations

import math
from typing import Any

LARGE_LOGIT = 200.0
"""Probabilities of such logits are 0 and 1: e to the 200th is beyond float32."""
RISE = 1.1
"""A loss that grows by this factor from one epoch to the next: the step is too large."""


def cautions(record: dict[str, Any], classes: list[Any]) -> list[str]:
    """Return a sentence for each thing that looks wrong in a training record.

    Parameters
    ----------
    record : dict
        As `logitext.training.fit` makes it.
    classes : list
        The labels.

    Returns
    -------
    list of str
        Empty where nothing looks wrong.

    Examples
    --------
    >>> from logitext.cautions import cautions
    >>> cautions({"epochs": [], "contradictions": 2, "never_predicted": [1]}, ["no", "yes"])
    ['2 rows have the same text as one of another class', 'no held-out row was taken for yes']
    """
    found = []
    if count := record.get("contradictions"):
        found.append(f"{count:,} rows have the same text as one of another class")
    if never := record.get("never_predicted"):
        names = ", ".join(str(classes[code]) for code in never[:5])
        more = f" and {len(never) - 5:,} more" if len(never) > 5 else ""
        found.append(f"no held-out row was taken for {names}{more}")
    if known := record.get("validation", {}).get("trained_on"):
        found.append(f"{known:,} rows of the validation set stand in the training data, too: it flatters")
    epochs = record.get("epochs", [])
    largest = max((epoch["largest_logit"] for epoch in epochs), default=0.0)
    if largest > LARGE_LOGIT:
        found.append(f"logits explode: one is {largest:,.0f}; try a smaller step, l2 or z_loss")
    guessing = record.get("guessing", math.log(len(classes)))
    losses = [guessing, *(epoch["loss"] for epoch in epochs)]
    for i in range(1, len(losses)):
        if losses[i] > RISE * losses[i - 1]:
            before = "guessing" if i == 1 else f"epoch {i - 1}"
            found.append(f"the loss of epoch {i} is above that of {before}: the step may be too large")
            break
    return found
