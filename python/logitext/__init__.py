"""Logitext: text to decisions you can trust, through the logits."""

from logitext._core import __version__
from logitext.calibrators import Calibrator
from logitext.classifier import FastTextClassifier, NotFittedError, TextClassifier, load
from logitext.client import Client, ClientError
from logitext.comparison import Comparison, compare
from logitext.conformal import ConformalSets
from logitext.corpus import predict_corpus
from logitext.description import Description, describe
from logitext.evaluation import Evaluation, Interval, evaluate
from logitext.explanation import Explanation, Share
from logitext.logits import (
    argmax,
    binary_cross_entropy,
    cross_entropy,
    energy,
    entropy,
    log_softmax,
    logsumexp,
    margin,
    sigmoid,
    softmax,
    summarize,
    top_k,
)
from logitext.many import predict_many
from logitext.modelfile import ModelFileError
from logitext.multilabel import MultilabelEvaluation, evaluate_multilabel
from logitext.novelty import Novelty
from logitext.report import Report
from logitext.selective import Selective, UnattainableError

__all__ = [
    "Calibrator",
    "Client",
    "ClientError",
    "Comparison",
    "ConformalSets",
    "Description",
    "Evaluation",
    "Explanation",
    "FastTextClassifier",
    "Interval",
    "ModelFileError",
    "MultilabelEvaluation",
    "NotFittedError",
    "Novelty",
    "Report",
    "Selective",
    "Share",
    "TextClassifier",
    "UnattainableError",
    "__version__",
    "argmax",
    "binary_cross_entropy",
    "compare",
    "cross_entropy",
    "describe",
    "energy",
    "entropy",
    "evaluate",
    "evaluate_multilabel",
    "load",
    "log_softmax",
    "logsumexp",
    "margin",
    "predict_corpus",
    "predict_many",
    "sigmoid",
    "softmax",
    "summarize",
    "top_k",
]
