"""Client: a model that a server holds, asked as if it were here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast
from urllib.parse import quote

import numpy as np

from logitext.features import as_texts
from logitext.labels import as_label_sets, as_objects
from logitext.multilabel import exact
from logitext.remote import Answers, Known, cut, explanation, float32, rows_of
from logitext.transport import ClientError, Transport

if TYPE_CHECKING:
    # Not when running: numpy.typing takes 20 ms to import.
    import pyarrow as pa
    from numpy.typing import NDArray

    from logitext.explanation import Explanation

__all__ = ["Client", "ClientError"]

MOST_TEXTS, MOST_BYTES = 1000, 4_000_000
"""Of a request; less if the server allows less."""
MOST_NUMBERS = 1 << 20
"""Of a reply: with many classes a request has fewer texts."""
CHANGES = 3
"""So often an answer is begun anew because the server has changed the model meanwhile."""


class _ChangedError(Exception):
    """Another model answers than the one that is known."""


T = TypeVar("T")


class Client:
    """A model behind ``logitext serve``, with the methods of `TextClassifier`.

    Answers are the same to the bit: logits and probabilities come with all the digits of a float32.
    Threads may share a client: each question has a connection to itself, kept open for the next one.
    After a fork the child makes its own. Proxies (``HTTP_PROXY``) are not used, redirections not
    followed.

    Parameters
    ----------
    url : str
        Where the server is, as ``http://127.0.0.1:8000``; https, and a path, are fine.
    model : str, optional
        Which model is asked; by default the server's first.
    token : str, optional
        What the server was given by LOGITEXT_TOKEN or --token-file.
    timeout : float, default 30
        Seconds for connecting, and then for each piece of a reply.
    retries : int, default 3
        How often a question is repeated after a connection that failed, and after a reply with status
        429, 502, 503 or 504: a tenth of a second later, then after twice as long each time, or when
        the server says (``Retry-After``), if that is within `timeout`.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Notes
    -----
    Texts go in requests of up to 1,000 texts and 4 MB, or of what the server allows. If the server
    changes the model between two of them, they are asked anew: one call is answered by one model.

    Whatever a server can refuse raises `ClientError`, a ValueError with its sentence and ``status``;
    where there is no reply, ConnectionError or TimeoutError.

    Examples
    --------
    In a terminal ``logitext serve model.safetensors``; here the same from Python:

    >>> import subprocess, sys
    >>> import logitext as lt
    >>> clf = lt.TextClassifier().fit(["good film", "bad film"] * 9, ["yes", "no"] * 9)
    >>> clf.save("model.safetensors")
    >>> command = "import logitext.cli; logitext.cli.main()"
    >>> asked = [sys.executable, "-c", command, "serve", "model.safetensors", "--port", "0"]
    >>> with subprocess.Popen(asked, stdout=-3, stderr=-1, text=True) as server:
    ...     url = server.stderr.readline().split()[-3]
    ...     with lt.Client(url) as client:
    ...         print(client.predict(["a good one", "bad"]).tolist())
    ...         print((client.logits(["a good one"]) == clf.logits(["a good one"])).all())
    ...     server.terminate()
    ['yes', 'no']
    True
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
    ) -> None:
        self.model = model
        self._transport = Transport(url, token, timeout, retries)
        self._known: Known | None = None

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    def __repr__(self) -> str:
        model = "" if self.model is None else f", model={self.model!r}"
        return f"Client({self.url!r}{model})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Not there if __init__ raised.
        if transport := getattr(self, "_transport", None):
            transport.close()

    def close(self) -> None:
        """Close the connections; asking again opens others."""
        self._transport.close()

    # -- the server -------------------------------------------------------------

    def models(self) -> list[dict[str, Any]]:
        """Return what the server says of each of its models, the first being the default.

        Returns
        -------
        list of dict
            ``name``, ``fingerprint``, ``classes`` and more.

        Raises
        ------
        ClientError, ConnectionError, TimeoutError
        """
        found: list[dict[str, Any]] = self._transport.ask("GET", "/models")["models"]
        return found

    def ready(self) -> bool:
        """Return whether the server can be asked now; it is not waited for.

        Raises
        ------
        ClientError
            If it answers, but neither yes nor no.
        """
        try:
            self._transport.ask("GET", "/ready", again=False)
        except (ConnectionError, TimeoutError):
            return False
        except ClientError as error:
            if error.status not in (502, 503, 504):
                raise
            return False
        return True

    def reload(self, name: str | None = None) -> dict[str, Any]:
        """Have the server read a model's file anew. This is not repeated if it fails.

        Parameters
        ----------
        name : str, optional
            By default the model that this client asks.

        Returns
        -------
        dict
            ``model``, ``fingerprint`` and ``previous``, the fingerprint until now.

        Raises
        ------
        ClientError
            If there is no such model, or its file is bad: then the old one goes on.
        ConnectionError, TimeoutError
        """
        name = self.model if name is None else name
        if name is None:
            name = self._about().name
        told: dict[str, Any] = self._transport.ask(
            "POST", f"/models/{quote(name, safe='')}/reload", b"", again=False
        )
        self._known = None
        return told

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, of the type they have in the model. They are asked for once."""
        return self._about().array

    # -- answers ----------------------------------------------------------------

    def predict(self, texts: Any, *, max_error: float | None = None) -> NDArray[Any]:
        """Return the decision of each text: see `TextClassifier.predict`.

        Parameters
        ----------
        texts : list of str, NumPy array, pandas or Polars series, Arrow column
        max_error : float, optional
            Answer only texts sure enough to keep the share of wrong answers below this; the others
            get None.

        Returns
        -------
        array, shape (n,)
            Labels, of the type they have in the model; of several labels a text, lists.

        Raises
        ------
        ValueError
            If a text is no string or null.
        ClientError, ConnectionError, TimeoutError
            ClientError, too, if the held-out rows cannot promise `max_error`.
        """

        def made(known: Known, answers: Answers) -> NDArray[Any]:
            if known.several:
                return as_objects([answer["labels"] for answer in answers])
            if max_error is not None:
                return as_objects([answer["label"] for answer in answers])
            codes = known.codes
            return known.array[np.array([codes[answer["label"]] for answer in answers], np.intp)]

        return self._ask(texts, made, max_error=max_error)

    def predict_proba(self, texts: Any) -> NDArray[np.float32]:
        """Return calibrated probabilities: see `TextClassifier.predict_proba`.

        Parameters
        ----------
        texts : as for `predict`

        Returns
        -------
        float32 array, shape (n, n_classes)

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`.
        """
        return self._ask(texts, rows_of("probabilities"), probabilities=True)

    def logits(self, texts: Any) -> NDArray[np.float32]:
        """Return the raw logits: see `TextClassifier.logits`.

        Parameters
        ----------
        texts : as for `predict`

        Returns
        -------
        float32 array, shape (n, n_classes)

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`.
        """
        return self._ask(texts, rows_of("logits"), logits=True)

    def logit(self, texts: Any, label: Any) -> NDArray[np.float32]:
        """Return the raw logit of one label.

        Parameters
        ----------
        texts : as for `predict`
        label : a class

        Returns
        -------
        float32 array, shape (n,)
            That label's column of `logits`; the server sends all of them.

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`, and if there is no such class.
        """
        rows = rows_of("logits")

        def made(known: Known, answers: Answers) -> NDArray[np.float32]:
            code = known.codes.get(label)
            if code is None:
                raise ValueError(f"{label!r} is not a class of the model")
            return rows(known, answers)[:, code].copy()

        return self._ask(texts, made, logits=True)

    def decision_function(self, texts: Any) -> NDArray[np.float32]:
        """Return scikit-learn's decision values: see `TextClassifier.decision_function`.

        Parameters
        ----------
        texts : as for `predict`

        Returns
        -------
        float32 array, shape (n,) for two classes, else (n, n_classes)

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`.
        """
        rows = rows_of("logits")

        def made(known: Known, answers: Answers) -> NDArray[np.float32]:
            z = rows(known, answers)
            return z[:, 1] - z[:, 0] if z.shape[1] == 2 and not known.several else z

        return self._ask(texts, made, logits=True)

    def predict_set(
        self, texts: Any, coverage: float = 0.9, *, allow_empty: bool = True
    ) -> NDArray[np.bool_]:
        """Return the set of plausible labels of each text: see `TextClassifier.predict_set`.

        Parameters
        ----------
        texts : as for `predict`
        coverage : float, default 0.9
            Above 0 and below 1: of texts like those trained on, the share whose label is in its set.
        allow_empty : bool, default True
            An empty set says that no label is plausible; False adds the decision.

        Returns
        -------
        bool array, shape (n, n_classes)

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`; and if a text may have several labels, or there are too few held-out rows.
        """

        def made(known: Known, answers: Answers) -> NDArray[np.bool_]:
            codes = known.codes
            found = np.zeros((len(answers), len(codes)), np.bool_)
            for row, answer in zip(found, answers, strict=True):
                labels = answer["set"] if answer["set"] or allow_empty else [answer["label"]]
                row[[codes[label] for label in labels]] = True
            return found

        return self._ask(texts, made, coverage=coverage)

    def novelty(self, texts: Any) -> NDArray[np.float32]:
        """Return how unlike the training texts each text is: see `TextClassifier.novelty`.

        Parameters
        ----------
        texts : as for `predict`

        Returns
        -------
        float32 array, shape (n,)

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`, and if a text may have several labels or no rows were held out.
        """

        def made(known: Known, answers: Answers) -> NDArray[np.float32]:
            return float32([answer["novelty"] for answer in answers])

        return self._ask(texts, made, novelty=True)

    def novelty_pvalue(self, texts: Any) -> NDArray[np.float64]:
        """Return how probable so high a novelty is: see `TextClassifier.novelty_pvalue`.

        Parameters
        ----------
        texts : as for `predict`

        Returns
        -------
        float64 array, shape (n,)

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `novelty`.
        """

        def made(known: Known, answers: Answers) -> NDArray[np.float64]:
            return np.array([answer["novelty_pvalue"] for answer in answers], np.float64)

        return self._ask(texts, made, novelty=True)

    def score(self, texts: Any, labels: Any, sample_weight: Any = None) -> float:
        """Return the accuracy on labelled texts: see `TextClassifier.score`.

        Parameters
        ----------
        texts : as for `predict`
        labels : one per text
            They stay here. A label the model does not know counts as a mistake.
        sample_weight : array of float, optional

        Returns
        -------
        float
            In [0, 1]; NaN for no texts.

        Raises
        ------
        ValueError, ClientError, ConnectionError, TimeoutError
            As `predict`, and if labels are not one per text.
        """
        decided = self.predict(texts)
        known = self._about()
        if known.several:
            if not len(decided):
                return math.nan
            truth = as_label_sets(labels, len(decided), known.classes, unknown=True)[1]
            given = as_label_sets(list(decided), len(decided), known.classes, unknown=True)[1]
            hits = exact(truth, given)
        else:
            values = labels.to_pylist() if hasattr(labels, "to_pylist") else list(labels)
            if len(values) != len(decided):
                raise ValueError(f"labels must be one per text: {len(decided)} texts, {len(values)} labels")
            pairs = zip(values, decided.tolist(), strict=True)
            hits = np.array([value == label for value, label in pairs], np.bool_)
        return float(np.average(hits, weights=sample_weight)) if len(hits) else math.nan

    def explain(self, text: str) -> Explanation:
        """Account for the logits of one text, n-gram by n-gram: see `TextClassifier.explain`.

        Parameters
        ----------
        text : str

        Returns
        -------
        Explanation

        Raises
        ------
        ValueError
            If `text` is not one string, or holds a lone surrogate.
        ClientError, ConnectionError, TimeoutError
        """
        if not isinstance(text, str):
            raise ValueError(f"explain takes one text, got {type(text).__name__}")

        def made(known: Known, answers: Answers) -> Explanation:
            return explanation(known, *answers)

        return self._ask([text], made, explain=True)

    # -- asking -----------------------------------------------------------------

    def _about(self) -> Known:
        """What is known of the model, asked for if nothing is."""
        known = self._known
        if known is None:
            said = self._transport.ask("GET", "/models")
            name = said["default"] if self.model is None else self.model
            cards = {card["name"]: card for card in said["models"]}
            if name not in cards:
                listed = ", ".join(map(repr, cards))
                raise ClientError(f"there is no model {name!r}: there are {listed}", 404)
            card, limits = cards[name], said["limits"]
            most = min(MOST_TEXTS, limits["texts"]), min(MOST_BYTES, limits["body"])
            known = Known(name, card["fingerprint"], card["labels"], card["multilabel"], *most)
            self._known = known
        return known

    def _ask(self, texts: Any, made: Callable[[Known, Answers], T], **wanted: Any) -> T:
        """Ask about texts, part by part; join what is made of the answers."""
        column = as_texts(texts)
        for _ in range(CHANGES):
            known = self._about()
            try:
                parts = [made(known, answers) for answers in self._parts(known, column, wanted)]
            except _ChangedError:
                self._known = None
                continue
            if len(parts) == 1:
                return parts[0]
            return cast(T, np.concatenate(parts)) if parts else made(known, [])  # type: ignore[arg-type]
        raise ClientError(f"{self.url} keeps changing the model while it is asked", 200)

    def _parts(self, known: Known, column: pa.LargeStringArray, wanted: dict[str, Any]) -> Iterator[Answers]:
        """The answers to texts, request by request."""
        asked = {name: value for name, value in wanted.items() if value is not None}
        if self.model is not None:
            asked["model"] = self.model
        rows = known.texts
        if "logits" in asked or "probabilities" in asked:
            rows = min(rows, max(1, MOST_NUMBERS // len(known.classes)))
        begin = 0
        for texts in cut(column, rows, known.size - len(json.dumps(asked)) - 20):
            opening = json.dumps(asked)[:-1] + (", " if asked else "")
            if len(texts) == 1:
                body = b"".join([opening.encode(), b'"text": ', texts[0], b"}"])
            else:
                body = b"".join([opening.encode(), b'"texts": [', b",".join(texts), b"]}"])
            try:
                reply = self._transport.ask("POST", "/predict", body)
            except ClientError as error:
                if not begin:
                    raise
                raise ClientError(f"{error} (of the texts from row {begin} on)", error.status) from None
            if reply.get("fingerprint") != known.fingerprint:
                raise _ChangedError
            yield [reply] if len(texts) == 1 else reply["answers"]
            begin += len(texts)
