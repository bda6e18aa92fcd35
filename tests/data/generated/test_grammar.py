"""The grammars' shared parts: parts that do not overlap, cases in equal numbers, distinct rows."""

import random

import pytest
from pydantic import ValidationError

from skillneurons.data.generated.grammar import (
    SHARES,
    SIZES,
    Domain,
    divided,
    factors,
    generate,
    negated,
    pick,
    pick_two,
    plural,
    shuffled,
    with_article,
)


class Pairs(Domain):
    family = "none"
    fields = ("text",)

    @property
    def pools(self):
        return {"words": [(f"a{i}", f"b{j}") for i in range(40) for j in range(40)]}

    def row(self, pools, case, rng):
        first, second = pick(pools["words"], rng)
        return {"text": f"{first} {second} {int(rng.random() * 9)}", "label": case[0], "filling": (first, second)}


PAIRS = Pairs(cases=[[1, "x"], [2, "y"]])


def test_divided_gives_every_item_to_one_role():
    parts = divided(range(101), random.Random(0))
    assert sorted(item for part in parts.values() for item in part) == list(range(101))
    assert {role: len(part) for role, part in parts.items()} == {"train": 71, "dev": 15, "test": 15}
    assert list(parts) == list(SHARES)


def test_generate_gives_sizes_cases_and_fillings_apart():
    splits = generate("name", "seed", PAIRS)
    assert {role: len(rows) for role, rows in splits.items()} == SIZES
    fillings = {role: {row["filling"] for row in rows} for role, rows in splits.items()}
    assert not fillings["train"] & fillings["dev"]
    assert not fillings["train"] & fillings["test"]
    assert not fillings["dev"] & fillings["test"]
    for rows in splits.values():
        assert len({row["text"] for row in rows}) == len(rows)
        assert sum(row["label"] == "x" for row in rows) == pytest.approx(len(rows) / 3, abs=1)


def test_generate_depends_on_name_and_seed_alone():
    def rows(name, seed):
        return generate(name, seed, PAIRS)

    once = rows("name", "seed")
    random.seed(5)
    assert rows("name", "seed") == once
    assert rows("other", "seed") != once
    assert rows("name", "other") != once


def test_cases_come_as_often_as_told_and_other_keys_are_refused():
    assert PAIRS.cases == (("x",), ("y",), ("y",))
    with pytest.raises(ValidationError, match="word"):
        Pairs(cases=[[1, "x"]], word="z")


def test_picks_are_among_the_items_and_related():
    rng = random.Random(1)
    assert {pick("abc", rng) for _ in range(99)} == {*"abc"}
    assert sorted(shuffled(range(9), rng)) == list(range(9))
    pairs = {pick_two(range(9), lambda p, q: q == p + 1, rng) for _ in range(99)}
    assert pairs
    assert all(second == first + 1 for first, second in pairs)


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        *[("apple", "apples"), ("box", "boxes"), ("bus", "buses"), ("church", "churches"), ("lily", "lilies")],
        *[("monkey", "monkeys"), ("potato", "potatoes"), ("piano", "pianos"), ("dress", "dresses")],
    ],
)
def test_plural(noun, many):
    assert plural(noun) == many


def test_articles_and_negations():
    assert [with_article(word) for word in ("apple", "pear")] == ["an apple", "a pear"]
    assert [negated(text) for text in ("it is not so", "a knot", "nobody came")] == [True, False, True]


def test_factors_name_every_hidden_cause():
    found = factors(cause="c", negation=True, topic="t", long=False, template="x 1", fillings=[("a", "b"), ("c",)])
    assert found == {
        "cause": "c",
        "negation": True,
        "topic": "t",
        "length": "short",
        "template": "x 1",
        "filling": "a / b ; c",
    }
