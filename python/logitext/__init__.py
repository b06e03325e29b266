"""Logitext: text to decisions you can trust, through the logits."""

from logitext._core import __version__
from logitext.classifier import NotFittedError, TextClassifier, load
from logitext.evaluation import Evaluation, evaluate
from logitext.explanation import Explanation, Share
from logitext.logits import argmax, cross_entropy, log_softmax, logsumexp, softmax, top_k
from logitext.modelfile import ModelFileError

__all__ = [
    "Evaluation",
    "Explanation",
    "ModelFileError",
    "NotFittedError",
    "Share",
    "TextClassifier",
    "__version__",
    "argmax",
    "cross_entropy",
    "evaluate",
    "load",
    "log_softmax",
    "logsumexp",
    "softmax",
    "top_k",
]
