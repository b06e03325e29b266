"""``logitext explain`` and ``logitext inspect``: why a model decides so, and what it is."""

from __future__ import annotations

import os

import click

from logitext.cli.options import COUNT, finder, print_json, standard_input

_NAMED = click.IntRange(0, 100)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("text")
@click.option("--label", metavar="NAME", help="The class whose logit to account for (default: the decision).")
@click.option("--most", metavar="N", type=COUNT, default=10, help="How many n-grams to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every n-gram.")
def explain(model: str, text: str, label: str | None, most: int, as_json: bool) -> None:
    """Show the way from a text to the decision, n-gram by n-gram.

    TEXT - is standard input; put -- before a text that starts with a dash.

    \b
    logitext explain news.safetensors "The new smartphone has amazing features."
    """
    from logitext import screen
    from logitext.answers import explained
    from logitext.classifier import load

    classifier = load(model)
    explanation = classifier.explain(standard_input() if text == "-" else text)
    classes = explanation.classes
    shown = explanation.leading if label is None else classes[finder(classes)(label, "")]
    if not as_json:
        screen.decision(classifier, explanation, shown, most)
        return
    print_json(explained(classifier, explanation))


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--verify", is_flag=True, help="Read and check every byte, however large the file.")
@click.option("--ngrams", metavar="N", type=_NAMED, default=8, help="How many to show of each class.")
@click.option("--training", is_flag=True, help="How training went, epoch by epoch.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole header as JSON.")
def inspect(model: str, verify: bool, ngrams: int, training: bool, as_json: bool) -> None:
    """Show what a model is: classes, settings, training record, strongest n-grams.

    \b
    logitext inspect news.safetensors
    """
    from logitext import screen
    from logitext.classifier import FastTextClassifier, load

    classifier = load(model, verify=True if verify else "auto")
    if as_json:
        print_json(classifier.model_.header)
        return
    if isinstance(classifier, FastTextClassifier):
        if training:
            raise ValueError(f"{model}: is a fastText model, which keeps no record of its training")
        screen.fasttext_card(classifier, model, os.path.getsize(model), ngrams)
        return
    if training:
        screen.training_record(classifier)
        return
    screen.model_card(classifier, model, os.path.getsize(model), ngrams)
