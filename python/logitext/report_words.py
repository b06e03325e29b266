"""What a report says beside its figures and tables: how to read them."""

from __future__ import annotations

RELIABILITY = (
    "Where the line is on the diagonal, four in five of the decisions given 80 % are right. Below it the "
    "model is too sure, above it not sure enough. The band holds what other texts like these would show. "
    "The mean distance from the diagonal, where texts are, is {} points (smooth ECE)."
)
LEADS = (
    "The further the largest logit leads, the surer the decision. Above as the model gives them, below "
    "calibrated on texts it did not learn from: the further the two colours are apart, the more sureness "
    "says."
)
RISK = (
    "The model answers the texts it is surest of and leaves the rest to a person. Where the line falls to "
    "the left, its sureness can be relied upon. The band holds what other texts like these would show."
)
MAP = (
    "<p>A row is a true class, a column what was decided. Blue is right, orange is not; the stronger, the "
    "larger the share of the class. Hover over a cell to read it. Classes that the model takes for like "
    "stand side by side.</p>\n"
)
CLASSES = (
    "<p>Found: the share of the class's texts that were decided so (recall). Right when given: the share of "
    "the texts decided so that are of the class (precision). What speaks for it: the n-grams with the "
    "largest weights; runs of characters are in ‹ ›.</p>\n"
)
MISTAKES = (
    "<p>The model is wrong here, or the label is. The lead is the logit of the decision less that of the "
    "label; each n-gram says what it adds to it.</p>\n"
)
LABELS = (
    "<p>{:,} labels have a probability below {}. Where the model is right, they are mistakes in the data: "
    "worth a look, the least likely first.{}</p>\n"
)
NOVEL = (
    "<p>{:,} texts have a novelty p-value below {}; if all were like those it was trained on, it would be "
    "about {}. What it decides on them is a guess.</p>\n"
)
SCOPE = (
    "Intervals and bands (95 %) say how far another sample of texts may be, not how far another training. "
    "All of it holds for texts like these."
)
MEANINGS = {
    "accuracy": ("accuracy", "share of the texts decided rightly"),
    "balanced_accuracy": (
        "balanced accuracy",
        "mean over classes of the share found: rare classes count alike",
    ),
    "macro_f1": ("macro F1", "mean over classes of F1, between precision and recall"),
    "log_loss": (
        "log loss, nats",
        "minus the logarithm of the true class's probability, in the mean; 0 is perfect",
    ),
    "brier": (
        "Brier score",
        "squared distance of the probabilities from what was so, 0 to 2; 0 is perfect",
    ),
    "smooth_ece": (
        "calibration error (smooth)",
        "how far probability is from frequency, in the mean; smECE",
    ),
    "debiased_ece": (
        "calibration error (L2, debiased)",
        "the same as a root mean square, less what is chance",
    ),
    "binned_ece": (
        "calibration error (15 bins)",
        "only for comparison with papers: it depends on the bins",
    ),
    "augrc": ("AUGRC", "mean share of unnoticed mistakes, over all shares that may be answered"),
    "coverage": ("coverage of sets", "share of the texts whose set of labels holds the true one"),
    "set_size": ("size of sets", "labels in a set, in the mean"),
}
"""Of each number: its name, and what it is."""
