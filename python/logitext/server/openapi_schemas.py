"""The shapes of what is asked and answered, as schemas of the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitext.server.questions import MOST_EXPLAINED

if TYPE_CHECKING:
    from logitext.server.settings import Limits

Schema = dict[str, Any]

FINGERPRINT = "0123456789abcdef"
"""In examples of answers."""


def text_of(limits: Limits, said: str) -> Schema:
    """Return the schema of one text."""
    most = f"at most {limits.text:,} bytes of UTF-8"
    return {"type": "string", "maxLength": limits.text, "description": f"{said}: {most}."}


def _list(items: Schema, said: str, **more: Any) -> Schema:
    return {"type": "array", "items": items, "description": said, **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(said: str, properties: Schema, required: str = "", **more: Any) -> Schema:
    needed = {"required": required.split()} if required else {}
    return {"type": "object", "description": said, "properties": properties, **needed, **more}


def _as(kind: str, said: str, **more: Any) -> Schema:
    return {"type": kind, "description": said, **more}


def _option(kind: str, said: str, **more: Any) -> Schema:
    """A field that is as if it were not there when it is null."""
    return {"type": [kind, "null"], "description": said, **more}


def _per_class(said: str) -> Schema:
    return {"type": "object", "description": said, "additionalProperties": {"type": "number"}}


def schemas(limits: Limits) -> dict[str, Schema]:
    """Return every schema, by name."""
    return {
        "Error": _object(
            "What every error but that of a client of text-embeddings-inference looks like.",
            {"error": _as("string", "A sentence that says what is wrong, and with which field.")},
            "error",
            examples=[{"error": '"coverage" must be above 0 and below 1, got 2'}],
        ),
        **_asking(limits),
        **_answering(),
        **_models(),
        **_embeddings(limits),
        **_inference(limits),
    }


def _asking(limits: Limits) -> dict[str, Schema]:
    options = {
        "model": _option("string", "Which model; by default the first that is served."),
        "logits": _option("boolean", "Add the raw logit of each class."),
        "probabilities": _option("boolean", "Add the calibrated probability of each class."),
        "top_k": _option("integer", "Add `top`, so many most probable labels, at most all.", minimum=1),
        "threshold": _option(
            "number",
            "`label` is null where its probability is below; of several labels a text, those are given "
            "whose probability is not below.",
            minimum=0,
            maximum=1,
        ),
        "max_error": _option(
            "number",
            "`label` is null where it is not sure enough to keep the share of wrong answers below this. "
            "Not every model can promise it: 422.",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
        ),
        "coverage": _option(
            "number",
            "Add `set`: labels that hold the true one with this probability. Not every model can: 422.",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
        ),
        "novelty": _option("boolean", "Add how unlike the training texts it is. Not every model can: 422."),
        "explain": _option(
            "boolean", f"Add what each n-gram gave to each logit; for at most {MOST_EXPLAINED} texts."
        ),
        "stream": _option(
            "boolean",
            "Answer with a line of JSON for each text, as they come; so does `Accept: application/x-ndjson`. "
            "Not with `explain`: 422.",
        ),
    }
    texts = _list(
        text_of(limits, "A text"), f"1 to {limits.texts:,} texts.", minItems=1, maxItems=limits.texts
    )
    more = {"additionalProperties": False}
    one = {"text": text_of(limits, "The text"), **options}
    return {
        "Question": _object("One text, and what is wanted of it.", one, "text", **more),
        "Questions": _object(
            "Several texts, and what is wanted of each.", {"texts": texts, **options}, "texts", **more
        ),
    }


def _answering() -> dict[str, Schema]:
    label: Schema = {"description": "A class, of the type it was trained with."}
    a_label = {**label, "type": ["string", "integer", "boolean"]}
    maybe = {
        "description": "The decision; null where it is not sure enough.",
        "type": [*a_label["type"], "null"],
    }
    row = {
        "label": maybe,
        "labels": _list(a_label, "The decision, of a model of several labels a text."),
        "probability": {
            "description": "That of the label; of several labels a list of theirs.",
            "anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}],
        },
        "set": _list(a_label, "Labels of the set of the coverage that was asked for."),
        "novelty": _as("number", "The larger, the less like the training texts."),
        "novelty_pvalue": _as("number", "Share of held-out texts at least as novel."),
        "logits": _per_class("Raw logits."),
        "probabilities": _per_class("Calibrated probabilities."),
        "top": _list(
            _object("A label and its probability.", {"label": a_label, "probability": {"type": "number"}}),
            "The most probable labels.",
        ),
        "explanation": _ref("Explanation"),
    }
    of = {
        "model": _as("string", "Who answered."),
        "fingerprint": _as("string", "Which version of it: it changes when another file is read."),
    }
    closed = {"additionalProperties": False}
    ngram = {
        "ngram": _as("string", "Its spelling."),
        "block": _as("string", "`words` or `chars`."),
        "contributions": _per_class("What it adds to each logit."),
    }
    explanation = {
        "label": maybe,
        "labels": _list(a_label, "Of several labels a text."),
        "logits": _per_class("The bias and all contributions, summed."),
        "probabilities": _per_class("Calibrated."),
        "thresholds": _per_class("From which logit on a label is given."),
        "bias": _per_class("What every text has."),
        "ngrams": _list(_object("An n-gram of the text.", ngram), "Those the model knows."),
        "unknown": _list({"type": "string"}, "Those it does not know."),
    }
    example = {"label": "Technology", "probability": 0.98}
    named = {"model": "news", "fingerprint": FINGERPRINT}
    return {
        "Row": _object(
            "The answer to one of several texts.", row, "probability", **closed, examples=[example]
        ),
        "Answer": _object(
            "The answer to one text.",
            {**of, **row},
            "model fingerprint probability",
            **closed,
            examples=[{**named, **example}],
        ),
        "Answers": _object(
            "The answers to several texts, in their order.",
            {**of, "answers": _list(_ref("Row"), "One for each text.")},
            "model fingerprint answers",
            **closed,
            examples=[{**named, "answers": [example]}],
        ),
        "Explanation": _object(
            "What each n-gram gave to each logit.", explanation, "logits probabilities bias ngrams unknown"
        ),
    }


def _models() -> dict[str, Schema]:
    card = {
        "name": _as("string", "By which requests ask for it."),
        "fingerprint": _as("string", "Of the file it was read from."),
        "classes": _list({"type": "string"}, "Names of the classes, in the order of logits."),
        "labels": _list({}, "The classes, of the type they were trained with."),
        "multilabel": _as("boolean", "Whether a text may have several labels."),
        "ngrams": _as("integer", "How many it knows."),
        "features": _as("object", "What n-grams are made of."),
        "calibration": {"type": ["object", "null"], "description": "What makes probabilities of logits."},
        "evidence": {
            "type": ["object", "null"],
            "description": "Held-out rows that `max_error`, `coverage`, `novelty` rest on; null: 422.",
        },
        "held_out": {"type": ["object", "null"], "description": "How well it did on rows it did not learn."},
        "rows": {"type": ["integer", "null"], "description": "It was trained on so many."},
        "warnings": _list({"type": "string"}, "What in its training a person should look into."),
        "library_version": _as("string", "Which wrote the file."),
        "report": _as("boolean", "Whether there is a report of it."),
    }
    required = "name fingerprint classes multilabel ngrams features calibration evidence held_out rows"
    required += " warnings library_version report"
    strongest = {
        "training": _as("object", "The record of its training."),
        "strongest": {
            "type": "object",
            "description": "N-grams with the largest weights, by class: n-gram, block, weight.",
            "additionalProperties": _list({"type": "array"}, "Largest first."),
        },
    }
    listed = {
        "models": _list(_ref("Model"), "In the order they were given in."),
        "default": _as("string", "Who answers where no model is named."),
        "limits": _as("object", "Bytes of a body, texts of a request, bytes of a text."),
    }
    reloaded = {
        "model": _as("string", "Its name."),
        "fingerprint": _as("string", "What it is now."),
        "previous": _as("string", "What it was."),
    }
    return {
        "Model": _object("What a model is.", card, required),
        "ModelCard": _object(
            "What a model is, how it was trained, what it looks at.",
            {**card, **strongest},
            f"{required} training strongest",
        ),
        "Models": _object("The models that are served.", listed, "models default"),
        "Reloaded": _object(
            "The file was read, checked and swapped in.", reloaded, "model fingerprint previous"
        ),
    }


def _embeddings(limits: Limits) -> dict[str, Schema]:
    one = _list({**text_of(limits, "The text"), "minLength": 1}, "A text.", minItems=1, maxItems=1)
    inputs = {
        "description": "A text, the same as a list of one, or a batch as a list of such lists.",
        "anyOf": [
            {**text_of(limits, "The text"), "minLength": 1},
            one,
            _list(one, f"A batch of 1 to {limits.texts:,}.", minItems=1, maxItems=limits.texts),
        ],
    }
    asked = {
        "inputs": inputs,
        "raw_scores": _as("boolean", "Scores are raw logits, not calibrated probabilities.", default=False),
        "truncate": _option("boolean", "Of no effect: a text is read whole, or refused."),
        "truncation_direction": _as("string", "Of no effect.", enum=["left", "right", "Left", "Right"]),
        "model": _option("string", "Which model, beyond what their server knows; by default the first."),
        # These make it a question of ours, and are refused with `inputs`.
        **dict.fromkeys(_asking(limits)["Question"]["properties"].keys() - {"model"}, False),
        "texts": False,
    }
    score = {"score": _as("number", "Probability or logit."), "label": _as("string", "The class.")}
    kinds = ["Validation", "Empty", "Overloaded", "Backend"]
    return {
        "ScoresQuestion": _object(
            "What clients of text-embeddings-inference ask. Other fields are not looked at.", asked, "inputs"
        ),
        "Score": _object("A class and its score.", score, "score label", additionalProperties=False),
        "Scores": _list(_ref("Score"), "All classes by falling score."),
        "ScoresOfBatch": _list(_ref("Scores"), "One list for each text."),
        "ScoresError": _object(
            "What an error of a request with `inputs` looks like.",
            {"error": _as("string", "A sentence."), "error_type": _as("string", "Its kind.", enum=kinds)},
            "error error_type",
            additionalProperties=False,
        ),
    }


def _inference(limits: Limits) -> dict[str, Schema]:
    parameters = _as("object", "Anything.")
    flat = _list(text_of(limits, "A text"), "A text each.", minItems=1, maxItems=limits.texts)
    column = _list({**flat, "minItems": 1, "maxItems": 1}, "A row each.", minItems=1, maxItems=limits.texts)
    tensor = {
        "name": _as("string", "Any."),
        "datatype": _as("string", "Only texts are read.", const="BYTES"),
        "shape": {
            "type": "array",
            "description": "[n], or [n, 1], of n texts.",
            "prefixItems": [{"type": "integer", "minimum": 1, "maximum": limits.texts}, {"const": 1}],
            "minItems": 1,
            "maxItems": 2,
            "items": False,
        },
        "data": {
            "description": "The texts, row by row, flat or nested as the shape is.",
            "anyOf": [flat, column],
        },
        "parameters": _option("object", "Not looked at."),
    }
    output = {
        "name": _as("string", "`label`, `probability`, `probabilities`, `logits`; or `labels`."),
        "parameters": {**parameters, "description": "Not looked at."},
    }
    asked = {
        "id": _as("string", "Comes back."),
        "parameters": _option("object", "Come back."),
        "inputs": _list(_ref("InputTensor"), "The one tensor of texts.", minItems=1, maxItems=1),
        "outputs": {
            "type": ["array", "null"],
            "items": _object("A tensor that is wanted.", output, "name"),
            "description": "By default `label` and `probability`; `labels` and `probabilities` of a model "
            "of several labels a text. A tensor the model does not give is refused: 400.",
        },
    }
    scalar = {"type": ["number", "string", "boolean"]}
    given = {
        "name": _as("string", "As it was asked for."),
        "datatype": _as("string", "Of its elements.", enum=["BYTES", "FP32", "BOOL"]),
        "shape": _list({"type": "integer"}, "[n], or [n, classes]."),
        "data": _list(scalar, "Row by row, flat."),
    }
    answered = {
        "model_name": _as("string", "Who answered."),
        "model_version": _as("string", "Its fingerprint."),
        "id": _as("string", "If one was given."),
        "parameters": {**parameters, "description": "If any were given."},
        "outputs": _list(_object("A tensor.", given, "name datatype shape data"), "In the order asked for."),
    }
    described = _object("A tensor; -1 is any number.", {**given, "data": False}, "name datatype shape")
    about = {
        "name": _as("string", "Its name."),
        "versions": _list({"type": "string"}, "Its fingerprint."),
        "platform": _as("string", "`logitext`."),
        "inputs": _list(described, "What it takes."),
        "outputs": _list(described, "What it can give."),
        "parameters": _as("object", "`classes`, `multilabel`, `default_outputs`."),
    }
    server = {
        "name": _as("string", "`logitext`."),
        "version": _as("string", "Of the library."),
        "extensions": _list({"type": "string"}, "None."),
    }
    ready = {"name": _as("string", "Its name."), "ready": _as("boolean", "True.")}
    health = {"live": _as("boolean", "True."), "ready": _as("boolean", "True.")}
    return {
        "InputTensor": _object("Texts.", tensor, "name datatype shape data"),
        "InferenceRequest": _object("Texts as a tensor.", asked, "inputs"),
        "InferenceResponse": _object("Answers as tensors.", answered, "model_name model_version outputs"),
        "ModelMetadata": _object(
            "What a model takes and gives.", about, "name versions platform inputs outputs"
        ),
        "ServerMetadata": _object("What this server is.", server, "name version extensions"),
        "ModelReady": _object("It answers.", ready, "name ready"),
        "ServerHealth": _object("It answers.", health, "live"),
    }
