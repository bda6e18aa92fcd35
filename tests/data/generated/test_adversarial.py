"""Adversarial versions: what changed, that nothing else did, and that the clean row is in the clean test split."""

import random
from collections import Counter

import pytest
from test_catalogue import FIELDS, rows_of

from skillneurons.data.generated.adversarial import METHODS, ROWS_PER_METHOD, misspelled, with_rare_words
from skillneurons.data.generated.catalogue import ADVERSARIAL, CLEAN, domain

DOMAINS = [name for name in CLEAN if f"adv_{name}" in ADVERSARIAL]
NEGATIONS = {"no", "not", "never", "nobody", "nothing", "cannot"}


def _changes(name, method):
    """(row, changed field, clean text, new text) of every row of a method."""
    rows = [row for row in rows_of(f"adv_{name}")["test"] if row["method"] == method]
    assert rows
    return [(row, field, text, row[field]) for row in rows for field, text in row["original"].items()]


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_method_has_its_rows_half_of_each_label(name):
    counts = Counter((row["method"], row["label"]) for row in rows_of(name)["test"])
    assert set(counts.values()) == {ROWS_PER_METHOD // 2}
    assert {method for method, _ in counts} == set(METHODS)


@pytest.mark.parametrize("name", DOMAINS)
def test_putting_the_original_back_gives_a_row_of_the_clean_test_split(name):
    clean = {tuple(row[field] for field in FIELDS[name]): row for row in rows_of(name)["test"]}
    for row in rows_of(f"adv_{name}")["test"]:
        [(field, text)] = row["original"].items()
        assert row[field] != text
        restored = {**row, field: text}
        found = clean[tuple(restored[field] for field in FIELDS[name])]
        assert {key: restored[key] for key in found} == found
        assert set(restored) - set(found) == {"method", "original"}


@pytest.mark.parametrize("name", DOMAINS)
def test_methods_share_clean_rows_so_that_they_can_be_compared(name):
    of_method = {}
    for row in rows_of(f"adv_{name}")["test"]:
        restored = {**row, **row["original"]}
        of_method.setdefault(row["method"], set()).add(tuple(restored[field] for field in FIELDS[name]))
    assert all(len(rows) == ROWS_PER_METHOD for rows in of_method.values())
    assert len(set.intersection(*of_method.values())) > 0.3 * ROWS_PER_METHOD


@pytest.mark.parametrize("name", DOMAINS)
def test_misspelled_words_differ_a_little_and_are_no_words_of_the_task(name):
    known = {word for row in rows_of(name)["train"] for field in FIELDS[name] for word in row[field].split()}
    for _, _, clean, text in _changes(name, "misspelling"):
        pairs = [(a, b) for a, b in zip(clean.split(), text.split(), strict=True) if a != b]
        assert 1 <= len(pairs) <= 2
        for word, wrong in pairs:
            assert wrong not in known
            assert wrong[0] == word[0]
            assert abs(len(wrong) - len(word)) <= 1
            assert sum((Counter(word) - Counter(wrong)).values()) <= 1


@pytest.mark.parametrize("name", DOMAINS)
def test_rare_synonyms_stand_for_the_words_they_are_listed_under(name):
    synonyms = domain(name).rare
    back = {rare: word for word, rare in synonyms.items()}
    assert len(back) == len(synonyms), "one rare word for two common ones"
    assert not set(back) & {word for row in rows_of(name)["train"] for f in FIELDS[name] for word in row[f].split()}
    for _, _, clean, text in _changes(name, "rare_synonym"):
        plain = f" {text} "
        for rare, word in sorted(back.items(), key=lambda pair: -len(pair[0])):
            plain = plain.replace(f" {rare} ", f" {word} ")
        assert plain.replace(" an ", " a ").split() == f" {clean} ".replace(" an ", " a ").split()


@pytest.mark.parametrize("name", DOMAINS)
def test_a_distracting_clause_leaves_the_clean_text_whole(name):
    for _, _, clean, text in _changes(name, "distracting_clause"):
        assert clean[:-2] in text
        assert len(text.split()) > len(clean.split()) + 2


@pytest.mark.parametrize("name", ["film_notes", "meal_notes"])
def test_a_distracting_clause_speaks_well_of_something_else_where_the_note_does_not(name):
    for row, _, clean, text in _changes(name, "distracting_clause"):
        clause = text.replace(clean[:-2], "")
        good = any(word in clause for word in ("wonderful", "charming", "excellent", "perfect"))
        assert good == (row["label"] == "negative"), row


@pytest.mark.parametrize("name", DOMAINS)
def test_a_negation_twist_negates(name):
    for row, _, _, text in _changes(name, "negation_twist"):
        assert NEGATIONS & {*text.split()} or "anything but" in text, row


@pytest.mark.parametrize("name", ["household_facts", "street_scenes"])
def test_a_twisted_hypothesis_says_the_hypothesis_holds(name):
    frames = ("nobody can deny that", "there is no doubt that", "it is not wrong to say that", "it is not false that")
    for _, field, clean, text in _changes(name, "negation_twist"):
        assert field == "hypothesis"
        assert text in {f"{frame} {clean}" for frame in frames}


def test_misspelling_spares_short_and_other_words():
    rng = random.Random(0)
    assert misspelled("the cat saw a fish", frozenset({"cat"}), rng) == "the cat saw a fish"
    assert misspelled("the horse saw a fish", frozenset({"horse"}), rng).endswith(" saw a fish")


def test_rare_words_bring_their_articles():
    assert with_rare_words("a tool , a box", {"tool": "implement"}) == "an implement , a box"
    assert with_rare_words("an hour in an old attic", {"old": "vintage"}) == "an hour in a vintage attic"
