"""Corpora on Ray: a cluster on this machine gives the bytes and bits of the plain run, whatever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import logitext as lt
from clusters import (
    SMALL_BATCHES,
    SMALL_PARTS,
    SMALL_SPANS,
    answer,
    begun_again,
    both,
    command,
    connected,
    ended,
    files,
    hidden,
    rows,
    write,
)
from logitext import ray as on_ray
from logitext.corpus import inputs, parts

ray = pytest.importorskip("ray", reason="Ray is not installed: what runs on it is not tested")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster that the tests are connected to."""
    with connected() as one:
        yield one


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "films.safetensors"
    texts = [f"{word} film number {number}" for number in range(200) for word in ("good", "bad")]
    lt.TextClassifier().fit(texts, ["yes", "no"] * 200).save(path)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here as in the workers."""
    monkeypatch.setattr(parts, "PART_BYTES", SMALL_PARTS)
    monkeypatch.setattr(parts, "BATCH_BYTES", SMALL_BATCHES)
    monkeypatch.setattr(inputs, "SPAN_BYTES", SMALL_SPANS)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A Parquet file that is cut, and others that are not."""
    write(tmp_path / "in" / "a.parquet", 4000, 1)
    write(tmp_path / "in" / "b.jsonl", 700, 2)
    write(tmp_path / "in" / "c.jsonl.gz", 300, 3)
    return tmp_path / "in"


# -- the same bytes -----------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"format": "jsonl", "columns": ["id"], "logits": True, "probability_of": ["yes"]},
        {"keep": 'p(yes) > 0.5 and share < 0.9 and label == "yes"'},
        {"keep_top": 0.1, "by": "p(yes)"},
    ],
    ids=["all", "some", "filtered", "top"],
)
def test_the_bytes_are_those_of_the_plain_run(
    cluster: Any, tmp_path: Path, model: Path, corpus: Path, how: Any
) -> None:
    path = str(corpus / "a.parquet")
    spans = list(inputs.spans_of(0, path, inputs.states_of([path])[0], None))
    assert len(spans) > 2, "the Parquet file is cut"
    outcome = both(tmp_path, model, corpus, **how)
    assert outcome.rows == 5000
    assert outcome.parts > len(spans) + 2, "spans have several parts"


def test_several_models_and_relative_paths(
    cluster: Any, tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = both(Path("."), {"one": lt.load(model), "two": model}, ["in/b.jsonl", "in/a.parquet"])
    assert outcome.rows == 4700
    assert "two_label" in pq.read_schema(next(Path("ray").glob("*.parquet"))).names


@pytest.mark.parametrize("on_bad_row", ["skip", "keep"])
def test_bad_rows_are_listed(cluster: Any, tmp_path: Path, model: Path, on_bad_row: Any) -> None:
    bad = ['{"id": 1, "text": null, "share": 0.5}', '{"id": 1, "te']
    write(tmp_path / "in" / "a.jsonl", 300, 1, lines=bad)
    write(tmp_path / "in" / "b.jsonl", 300, 2)
    outcome = both(tmp_path, model, tmp_path / "in", on_bad_row=on_bad_row)
    assert outcome.bad_rows == 2
    assert len((tmp_path / "ray/_logitext/bad_rows.jsonl").read_bytes().splitlines()) == 2


def test_a_bad_file_is_left_out_or_named(cluster: Any, tmp_path: Path, model: Path, corpus: Path) -> None:
    data = (corpus / "c.jsonl.gz").read_bytes()
    (corpus / "bb.jsonl.gz").write_bytes(data[: len(data) // 2])
    outcome = both(tmp_path, model, corpus, on_bad_file="skip")
    assert outcome.rows == 5000
    assert len(outcome.failed) == 1
    assert "bb.jsonl.gz" in outcome.failed[0]
    with pytest.raises(ValueError, match=r"bb\.jsonl\.gz") as caught:
        lt.predict_corpus(model, corpus, tmp_path / "error", engine=on_ray.Engine())
    assert "\n" not in str(caught.value)


# -- once, and going on -------------------------------------------------------------


def test_what_is_done_is_not_done_again(
    cluster: Any, tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(tmp_path, model, corpus)
    monkeypatch.setattr(on_ray.Engine, "__call__", lambda *_: pytest.fail("there is nothing to do"))
    outcome = lt.predict_corpus(model, corpus, tmp_path / "ray", engine=on_ray.Engine())
    assert outcome.done_before == outcome.rows == 5000


def test_a_run_that_was_stopped_goes_on(cluster: Any, tmp_path: Path, model: Path, corpus: Path) -> None:
    lt.predict_corpus(model, corpus, tmp_path / "plain")

    def stop(rows: int, text: int, done: int, total: int) -> None:
        assert 0 < done < total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lt.predict_corpus(model, corpus, tmp_path / "slow", engine=on_ray.Engine(), progress=stop)
    assert hidden(tmp_path / "slow") == []
    told: list[tuple[int, ...]] = []
    outcome = lt.predict_corpus(
        model, corpus, tmp_path / "slow", engine=on_ray.Engine(), progress=lambda *said: told.append(said)
    )
    assert 0 < outcome.done_before < 5000
    assert outcome.rows == 5000
    assert files(tmp_path / "slow") == files(tmp_path / "plain")
    assert len(told) > 10, "parts are told of as they come"
    assert told[-1][2] == told[-1][3]
    assert sorted(told) == told


# -- what dies ----------------------------------------------------------------------


def test_a_node_is_killed_half_way(
    cluster: Any, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write(tmp_path / "in" / f"{number}.jsonl", 2000, number)
    lt.predict_corpus(model, tmp_path / "in", tmp_path / "plain")
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    known: list[int] = []
    at_work: set[Any] = set()

    def kill(rows: int, *_: int) -> None:
        known.append(rows)
        at_work.update(file.name.split("-")[1] for file in (tmp_path / "slow").glob("part-*"))
        if len(at_work) >= 3 and not killed:  # so one of them is there
            killed.append(len(known))
            cluster.remove_node(node, allow_graceful=False)

    killed: list[int] = []
    with begun_again(monkeypatch) as begun:
        outcome = lt.predict_corpus(
            model, tmp_path / "in", tmp_path / "slow", engine=on_ray.Engine(), progress=kill
        )
    assert killed
    assert begun, "something was lost"
    assert known[killed[0] - 1] < 12_000, "half-way"
    assert outcome.rows == 12_000
    assert files(tmp_path / "slow") == files(tmp_path / "plain")
    assert hidden(tmp_path / "slow") == []


def test_a_worker_is_killed(
    cluster: Any, tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lt.predict_corpus(model, corpus, tmp_path / "plain")
    with begun_again(monkeypatch) as begun:
        lt.predict_corpus(model, corpus, tmp_path / "killed", engine=on_ray.Engine())
    assert len(begun) == 1
    assert files(tmp_path / "killed") == files(tmp_path / "plain")


def test_a_task_that_kills_every_worker_is_given_up(
    cluster: Any, tmp_path: Path, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "TRIES", 0)
    with pytest.raises(OSError, match=r"b\.jsonl: Ray lost its worker 1 times: ") as caught:
        lt.predict_corpus(model, corpus, tmp_path / "killed", engine=on_ray.Engine())
    assert "\n" not in str(caught.value)


# -- what goes wrong ----------------------------------------------------------------


def test_a_full_disk_is_one_sentence(cluster: Any, tmp_path: Path, model: Path, corpus: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        lt.predict_corpus(model, corpus / "b.jsonl", tmp_path / "full", engine=on_ray.Engine())
    assert type(caught.value) is OSError
    assert ray.is_initialized(), "whoever is connected stays so"


def test_a_node_that_does_not_see_the_files_or_has_another_logitext(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 3)
    (tmp_path / "out/_logitext").mkdir(parents=True)
    span = inputs.Span(0, str(path))
    task = on_ray.Task(on_ray.Job(), span, "part", str(tmp_path / "out"))
    on_ray._check_node(task, lt.__version__)
    with pytest.raises(ValueError, match=r"the node \S+ has logitext .*, not 0\.0: install the same"):
        on_ray._check_node(task, "0.0")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.jsonl: not there on the node"):
        on_ray._check_node(task, lt.__version__)


def test_without_ray(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"Ray is not installed: pip install 'logitext\[ray\]'"):
        on_ray.Engine()
    with pytest.raises(ValueError, match="Ray is not installed"):
        on_ray.predict(None, model)


# -- the command --------------------------------------------------------------------


def but_progress(error: str) -> str:
    """What is on stderr beside the lines of progress, which a slow machine gets to see."""
    return "".join(line for line in error.splitlines(keepends=True) if not re.match(r"[\d,]+ rows?, ", line))


def test_the_command_on_a_ray_of_its_own(tmp_path: Path, model: Path, corpus: Path) -> None:
    sessions = set(Path("/tmp/ray").glob("session_2*"))
    assert ended(command(model, corpus, "-o", tmp_path / "plain/"))[0] == 0
    code, out, error = ended(command(model, corpus, "-o", tmp_path / "ray/", "--engine", "ray"))
    assert (code, but_progress(error)) == (0, ""), "nothing of Ray's own"
    assert [line.split()[0] for line in out.splitlines()] == ["rows", "seconds", "output"]
    assert files(tmp_path / "ray") == files(tmp_path / "plain")
    assert set(Path("/tmp/ray").glob("session_2*")) <= sessions, "nothing is left of it"


def test_ctrl_c_and_going_on(cluster: Any, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", 500)
    line = json.dumps(rows(200)) + "\n"
    (tmp_path / "in" / "b.jsonl").write_text(
        "".join(json.dumps({"id": 1, "text": line, "share": 0.5}) + "\n" for _ in range(600))
    )
    asked = (model, tmp_path / "in", "-o", tmp_path / "ray/", "--engine", "ray", "--address", cluster.address)
    process = command(*asked)
    until = time.monotonic() + 60
    while not hidden(tmp_path / "ray") and time.monotonic() < until and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    code, _, error = ended(process)
    assert (code, but_progress(error)) == (130, "interrupted\n")
    assert hidden(tmp_path / "ray") == []
    assert not (tmp_path / "ray/_logitext/manifest.json").exists()
    code, _, error = ended(command(*asked))
    assert (code, but_progress(error)) == (0, "")
    assert ended(command(model, tmp_path / "in", "-o", tmp_path / "plain/"))[0] == 0
    assert files(tmp_path / "ray") == files(tmp_path / "plain")


@pytest.mark.parametrize("what", ["closed", "silent", "no Ray", "nowhere", "client", "nonsense"])
def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        if what != "closed":
            listening.listen()
        if what == "no Ray":
            threading.Thread(target=answer, args=(listening,), daemon=True).start()
        other = {"nowhere": "nowhere.invalid:6379", "client": f"ray://{address}", "nonsense": "nonsense"}
        given = other.get(what, address)
        start = time.monotonic()
        with pytest.raises(ValueError if what == "client" else ConnectionError) as caught:
            on_ray.Engine(address=given)
    assert time.monotonic() - start < 8
    assert str(caught.value).startswith("Ray Client" if what == "client" else f"no Ray cluster at {given}: ")


def test_the_command_says_that_a_cluster_is_not_there(tmp_path: Path, model: Path, corpus: Path) -> None:
    to = ("-o", tmp_path / "out/", "--engine", "ray")
    code, out, error = ended(command(model, corpus, *to, RAY_ADDRESS="127.0.0.1:1"))
    assert (code, out) == (1, "")
    assert error.startswith("error: no Ray cluster at 127.0.0.1:1: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# -- answers for a dataset ----------------------------------------------------------


@pytest.fixture
def dataset(cluster: Any) -> Callable[[Any], Any]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return lambda table: ray.data.from_arrow(table)


def taken(dataset: Any) -> pa.Table:
    tables = [table for table in ray.get(dataset.to_arrow_refs()) if table.num_rows]
    return pa.concat_tables(tables).sort_by("id").combine_chunks()


def test_answers_have_the_bits_of_the_model(dataset: Any, model: Path) -> None:
    clf = lt.load(model)
    tables = [pa.table({**rows(900, 1), "id": range(900)}), pa.table({**rows(90, 2), "id": range(900, 990)})]
    found = taken(on_ray.predict(dataset(tables), model, probability_of=["yes"], logits=True))
    texts = pa.concat_tables(tables).column("text")
    assert found.column("text").equals(texts)
    shares = clf.predict_proba(texts)
    assert found.column("label").to_pylist() == clf.predict(texts).tolist()
    assert (found.column("probability").to_numpy() == shares.max(axis=1)).all()
    assert (found.column("p(yes)").to_numpy() == shares[:, 1]).all()
    assert (found.column("logits").combine_chunks().field("no").to_numpy() == clf.logits(texts)[:, 0]).all()


def test_nulls_several_models_and_a_filter_behind(dataset: Any, model: Path) -> None:
    from ray.data.expressions import col

    texts = ["a good film", None, "a bad film", "", None]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"id": range(5), "words": pa.array(texts).cast(kind)})
        answered = on_ray.predict(
            dataset([table]), {"a": model, "b": lt.load(model)}, text="words", prefix="a_", batch_size=2
        )
        found = taken(answered)
        labels = found.column("a_label").to_pylist()
        assert [label is None for label in labels] == [text is None for text in texts]
        assert found.column("b_label").to_pylist() == labels
        kept = answered.filter(expr=col("a_label") == "yes").select_columns(["id", "b_probability"])
        assert taken(kept).column("id").to_pylist() == [at for at in range(5) if labels[at] == "yes"]


def test_no_rows(dataset: Any, model: Path) -> None:
    from ray.data.expressions import col

    empty = pa.table({"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())})
    assert on_ray.predict(dataset([empty]), model).count() == 0
    some = pa.table({"id": [1], "text": ["good"]})
    answered = on_ray.predict(dataset([empty, some, empty]), model)
    assert taken(answered).column("label").to_pylist() == ["yes"]
    nothing = dataset([some]).filter(expr=col("id") > 5)
    assert on_ray.predict(nothing, model).count() == 0
    for table in (empty, pa.table({"text": pa.nulls(2)})):
        found = on_ray._answered(table, [ray.put({"m": lt.load(model)})], on_ray.Job(), "text")
        assert found.column("label").null_count == table.num_rows
        assert found.schema.field("probability").type == pa.float32()


@pytest.mark.parametrize(
    ("table", "how", "sentence"),
    [
        ({"words": ["a"]}, {}, "no column is named 'text'; there are 'words'"),
        ({"text": ["a"], "label": ["b"]}, {}, "there is a column 'label' already: give the answers a prefix"),
        ({"text": ["a"]}, {"probability_of": ["maybe"]}, "'maybe' is not a class of the model"),
        ({"text": [1]}, {}, "texts must be strings, got int64"),
    ],
)
def test_what_cannot_be_answered(
    dataset: Any, model: Path, table: Mapping[str, Any], how: Any, sentence: str
) -> None:
    with (
        pytest.raises(ValueError, match=sentence)
        if "int64" not in sentence
        else pytest.raises(Exception, match=sentence)
    ):
        on_ray.predict(dataset([pa.table(table)]), model, **how).materialize()


def test_the_model_is_not_copied(cluster: Any, model: Path) -> None:
    stored = ray.put({"m": lt.load(model)})

    @ray.remote
    def look(models: dict[str, lt.TextClassifier]) -> list[tuple[bool, bool]]:
        return [(a.flags.owndata, a.flags.writeable) for a in models["m"].model_.arrays.values()]

    assert set(ray.get(look.remote(stored))) == {(False, False)}
