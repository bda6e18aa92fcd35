"""The generated task: same bytes for a seed, labels true by construction, splits kept apart."""

import hashlib
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from skillneurons.builtin import GENERATORS, QUALITIES, SETTINGS, TOPICS, film_notes

SRC = Path(__file__).parents[1] / "src"
NEGATIONS = (" not ", " never ", " far from ", "nobody ", " hardly ")  # written out again, as a reader would


@pytest.fixture(scope="module")
def notes():
    return film_notes("v1")


def _digest(rows):
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def _found(words, text):
    return [word for word in words if f" {word} " in f" {text} "]


def test_the_bytes_of_a_seed_are_fixed(notes):
    assert _digest(notes) == "7167d8b4144a5f4c"


def test_another_process_and_a_used_generator_change_nothing(notes):
    code = "import json; from skillneurons.builtin import film_notes; print(json.dumps(film_notes('v1')))"
    random.seed(3)
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SRC)
    assert json.loads(other.stdout) == json.loads(json.dumps(notes)) == film_notes("v1")


def test_another_seed_gives_other_rows(notes):
    assert {row["text"] for row in film_notes("v2")["test"]} != {row["text"] for row in notes["test"]}


def test_every_text_is_there_once(notes):
    texts = [row["text"] for rows in notes.values() for row in rows]
    assert len(texts) == len(set(texts)) == 1728


def test_labels_follow_from_the_words(notes):
    polarity_of = {word: polarity for polarity, words in QUALITIES.items() for word in words}
    for row in (row for rows in notes.values() for row in rows):
        [quality] = _found(polarity_of, row["text"])
        negated = any(negation in row["text"] for negation in NEGATIONS)
        assert row["negation"] == negated
        assert row["polarity"] == polarity_of[quality]
        assert (row["label"] == polarity_of[quality]) == (not negated)


def test_hidden_factors_are_those_of_the_text(notes):
    for row in (row for rows in notes.values() for row in rows):
        frames = [part for setting in SETTINGS for part in setting.split("{note}") if part]
        assert _found(TOPICS[row["topic"]], row["text"]), row
        assert (row["length"] == "long") == any(part in row["text"] for part in frames), row


def test_no_noun_and_quality_pair_is_in_two_splits(notes):
    qualities, nouns = sum(QUALITIES.values(), ()), sum(TOPICS.values(), ())

    def pairs(role):
        texts = [row["text"] for row in notes[role]]
        return {(max(_found(nouns, t), key=len), *_found(qualities, t)) for t in texts}

    train, dev, test = pairs("train"), pairs("dev"), pairs("test")
    assert not train & dev
    assert not train & test
    assert not dev & test
    assert len(train) + len(dev) + len(test) == len(nouns) * len(qualities)


def test_every_word_of_dev_and_test_is_in_train(notes):
    words = {role: {w for row in rows for w in row["text"].split()} for role, rows in notes.items()}
    assert words["dev"] | words["test"] <= words["train"]


@pytest.mark.parametrize("role", ["train", "dev", "test"])
def test_word_lookup_is_not_enough_and_classes_are_balanced(notes, role):
    rows = notes[role]
    lookup = sum(row["polarity"] == row["label"] for row in rows) / len(rows)
    positive = sum(row["label"] == "positive" for row in rows) / len(rows)
    assert 0.6 < lookup < 0.8
    assert 0.45 < positive < 0.55


def test_articles_fit_the_word_that_follows(notes):
    checked = 0
    for row in (row for rows in notes.values() for row in rows):
        words = row["text"].split()
        for article, word in itertools.pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), row["text"]
                checked += 1
    assert checked > 100


def test_every_generator_gives_the_three_roles():
    assert GENERATORS
    for generator in GENERATORS.values():
        assert list(generator("x")) == ["train", "dev", "test"]
