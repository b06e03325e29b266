"""The example headlines: the rules they were written by."""

import csv
import hashlib
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
FOUNDING = "The new smartphone has amazing features."


def read(name: str) -> list[tuple[str, str]]:
    with open(EXAMPLES / name, newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file, strict=True)]


def words(text: str) -> list[str]:
    """Give the words, folded; what a hyphen joins ("end-to-end") is several."""
    return re.findall(r"\w+", text.casefold())


def order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


TRAIN, TEST = read("headlines.csv"), read("headlines_test.csv")
ALL = TRAIN + TEST


def test_there_are_enough_rows_of_three_classes() -> None:
    assert len(ALL) >= 900
    for rows in (TRAIN, TEST):
        counts = Counter(label for _, label in rows)
        assert set(counts) == {"News", "Entertainment", "Technology"}
        assert min(counts.values()) >= 0.25 * len(rows)


def test_no_row_is_empty_or_there_twice() -> None:
    seen = Counter(" ".join(words(text)) for text, _ in ALL)
    assert [text for text, n in seen.items() if n > 1] == []
    assert all(text == text.strip() and words(text) for text, _ in ALL)


def test_a_hash_of_the_text_decides_which_rows_are_test_rows_and_their_order() -> None:
    def is_test(text: str) -> bool:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 5 == 0

    assert all(is_test(text) for text, _ in TEST)
    assert not any(is_test(text) for text, _ in TRAIN)
    for rows in (TRAIN, TEST):
        assert all(order(a) < order(b) for (a, _), (b, _) in pairwise(rows))


def shared_runs(texts: list[str], n: int) -> list[tuple[str, str, str]]:
    """Find two texts that share a run of `n` words: (run, text, text)."""
    first: dict[tuple[str, ...], str] = {}
    found = []
    for text in texts:
        own = words(text)
        for at in range(len(own) - n + 1):
            other = first.setdefault(tuple(own[at : at + n]), text)
            if other != text:
                found.append((" ".join(own[at : at + n]), other, text))
    return found


def test_no_two_sentences_share_a_run_of_five_words() -> None:
    assert shared_runs([text for text, _ in ALL], 5) == []


def test_no_sentence_shares_three_words_with_the_founding_one() -> None:
    founding = set(words(FOUNDING))
    assert len(founding) == 6
    assert [text for text, _ in ALL if len(founding & set(words(text))) >= 3] == []


@pytest.mark.parametrize(("n", "count"), [(5, 1), (6, 0)])
def test_the_check_of_runs_can_fail(n: int, count: int) -> None:
    texts = ["One, two three four five six.", "And one two THREE four five!"]
    assert len(shared_runs(texts, n)) == count
