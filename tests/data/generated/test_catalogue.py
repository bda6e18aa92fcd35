"""What holds for every built-in task: same bytes for a seed, splits kept apart, balanced, no easy way out.

Whether the labels are true is the business of test_labels.py.
"""

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache

import pytest
from pydantic import ValidationError

from conftest import ROOT
from skillneurons.data.generated.catalogue import ADVERSARIAL, CLEAN, GENERATORS, domain, roles_of
from skillneurons.data.generated.grammar import FACTORS, SIZES
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task

SRC = ROOT / "src"
TASKS = ROOT / "experiments" / "tasks"
DIGESTS = {
    "film_notes": "caae350211d72bf7",
    "meal_notes": "c79d0291be1ee2b6",
    "travel_questions": "bb1b37258db92a9b",
    "office_requests": "c4098869001a32e5",
    "household_facts": "f0a48a22acf22e3e",
    "street_scenes": "163ff35b9c7f1048",
    "duty_excuses": "af125d0d7e66d88c",
    "fairness_claims": "1a25ab617f3afaf4",
    "adv_film_notes": "56c9275fe2ba569e",
    "adv_meal_notes": "d1b1af1dcb6236b1",
    "adv_travel_questions": "67309cb9b251acb4",
    "adv_office_requests": "67e40b545cfed16f",
    "adv_household_facts": "1bb71d17be67f51c",
    "adv_street_scenes": "4baa4d460aa7b583",
}
FIELDS = {name: load_task(name, TASKS).fields for name in GENERATORS}
FAMILIES = ("sentiment", "paraphrase", "nli", "ethics")


@cache
def rows_of(name):
    return GENERATORS[name]("v1")


def _digest(rows):
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def _all(name):
    return [row for rows in rows_of(name).values() for row in rows]


def _text(name, row):
    return " ".join(row[field] for field in FIELDS[name])


def _by_lookup(name, key):
    """Test accuracy of the commonest training label among rows that share a key."""
    counts = defaultdict(Counter)
    for row in rows_of(name)["train"]:
        counts[key(row)][row["label"]] += 1
    guesses = {value: found.most_common(1)[0][0] for value, found in counts.items()}
    test = rows_of(name)["test"]
    return sum(guesses.get(key(row), test[0]["label"]) == row["label"] for row in test) / len(test)


class TestWords:
    def test_no_yaml_is_read_before_a_task_is_asked_for(self):
        code = "from skillneurons.data.generated import catalogue; print(catalogue.domain.cache_info().currsize)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=SRC)
        assert done.stdout.split() == [b"0"]

    @pytest.mark.parametrize("name", CLEAN)
    def test_every_key_is_needed_and_a_wrong_one_is_refused(self, name):
        kind, held = type(domain(name)), domain(name).model_dump()
        held["cases"] = [(1, *case) for case in held["cases"]]
        assert kind(**held) == domain(name)
        for key in held:
            with pytest.raises(ValidationError, match=key):
                kind(**{**held, f"{key}s": held[key]})
            with pytest.raises(ValidationError, match=key):
                kind(**{other: value for other, value in held.items() if other != key})


class TestAll:
    def test_four_families_of_two_domains_three_with_an_adversarial_version(self):
        assert Counter(load_task(name, TASKS).family for name in CLEAN) == dict.fromkeys(FAMILIES, 2)
        assert {f"adv_{name}" for name in CLEAN if load_task(name, TASKS).family != "ethics"} == set(ADVERSARIAL)

    @pytest.mark.parametrize("name", GENERATORS)
    def test_the_bytes_of_a_seed_are_fixed(self, name):
        assert _digest(rows_of(name)) == DIGESTS[name]

    def test_other_processes_with_other_hash_seeds_change_nothing(self):
        code = (
            "import json; from skillneurons.data.generated.catalogue import GENERATORS; "
            "print(json.dumps({name: generator('v1') for name, generator in GENERATORS.items()}))"
        )
        random.seed(3)
        for hash_seed in ("0", "77"):
            env = {**os.environ, "PYTHONHASHSEED": hash_seed}
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=SRC, env=env)
            assert {name: _digest(rows) for name, rows in json.loads(done.stdout).items()} == DIGESTS

    @pytest.mark.parametrize("name", GENERATORS)
    def test_a_second_call_gives_the_same_and_another_seed_other_rows(self, name):
        assert GENERATORS[name]("v1") == rows_of(name)
        assert GENERATORS[name]("v2")["test"] != rows_of(name)["test"]

    @pytest.mark.parametrize("name", GENERATORS)
    def test_roles_are_those_announced_and_every_row_is_there_once(self, name):
        assert tuple(rows_of(name)) == roles_of(name)
        texts = [tuple(row[field] for field in FIELDS[name]) for row in _all(name)]
        assert len(set(texts)) == len(texts) >= 1000

    @pytest.mark.parametrize("name", GENERATORS)
    def test_texts_are_plain_lower_case_sentences(self, name):
        for text in (row[field] for row in _all(name) for field in FIELDS[name]):
            assert text.isascii()
            assert text == text.lower() == " ".join(text.split())
            assert text.endswith((" .", " ?"))
            assert not set("{}") & set(text)

    @pytest.mark.parametrize("name", GENERATORS)
    def test_articles_fit_the_word_that_follows(self, name):
        for first, second in itertools.pairwise(word for row in _all(name) for word in _text(name, row).split()):
            if first in ("a", "an") and second != "hour":
                assert (first == "an") == (second[0] in "aeiou"), (first, second)

    @pytest.mark.parametrize("name", GENERATORS)
    def test_every_split_is_balanced(self, name):
        for rows in rows_of(name).values():
            counts = Counter(row["label"] for row in rows)
            assert set(counts) == set(load_task(name, TASKS).labels)
            assert all(0.45 < n / len(rows) < 0.55 for n in counts.values())

    @pytest.mark.parametrize("name", GENERATORS)
    def test_the_task_file_carries_every_hidden_factor_and_loses_no_row(self, name):
        task = load_task(name, TASKS)
        columns = {column for row in _all(name) for column in row}
        assert set(task.builtin.extras) == columns - {*task.fields, "label"} >= set(FACTORS)
        splits = load_splits(task, roles=roles_of(name))
        assert {role: len(split) for role, split in splits.items()} == {r: len(x) for r, x in rows_of(name).items()}
        assert all(split.dropped_leaks == 0 for split in splits.values())


@pytest.mark.parametrize("name", CLEAN)
class TestClean:
    def test_sizes(self, name):
        assert {role: len(rows) for role, rows in rows_of(name).items()} == SIZES

    def test_no_filling_is_in_two_splits(self, name):
        def fillings(role):
            return {frozenset(one.split(" / ")) for row in rows_of(name)[role] for one in row["filling"].split(" ; ")}

        parts = [fillings(role) for role in SIZES]
        assert all(len(part) > 50 for part in parts)
        assert not any(one & two for one, two in itertools.combinations(parts, 2))

    def test_a_filling_is_in_the_text(self, name):
        for row in _all(name):
            words = {word for one in row["filling"].split(" ; ") for word in one.split(" / ")}
            text = f" {_text(name, row)} ".replace("ies ", "y ")
            assert all(word in text for word in words) or row["label"] == "not_entailment", row

    def test_every_word_of_dev_and_test_is_in_train(self, name):
        words = {role: {w for row in rows for w in _text(name, row).split()} for role, rows in rows_of(name).items()}
        assert words["dev"] | words["test"] <= words["train"]

    def test_lengthening_clauses_are_recorded_and_both_lengths_are_common(self, name):
        counts = Counter(row["length"] for row in rows_of(name)["train"])
        assert set(counts) == {"short", "long"}
        assert min(counts.values()) > 0.25 * SIZES["train"]

    @pytest.mark.parametrize("factor", ["length", "negation", "topic"])
    def test_no_factor_tells_the_label(self, name, factor):
        assert _by_lookup(name, lambda row: row[factor]) < 0.57

    def test_number_of_words_does_not_tell_the_label(self, name):
        assert _by_lookup(name, lambda row: len(_text(name, row).split())) < 0.57
        for field in FIELDS[name]:
            assert _by_lookup(name, lambda row, field=field: len(row[field].split())) < 0.57

    def test_no_template_tells_the_label(self, name):
        for i in range(len(FIELDS[name]) if load_task(name, TASKS).family in ("paraphrase", "nli") else 1):
            assert _by_lookup(name, lambda row, i=i: row["template"].split(", ")[i]) < 0.6

    def test_no_single_word_tells_the_label(self, name):
        words = Counter(word for row in rows_of(name)["train"] for word in {*_text(name, row).split()})
        compared = 0
        for word in (word for word, n in words.items() if n > 0.01 * SIZES["train"]):
            compared += 1
            assert _by_lookup(name, lambda row, word=word: word in _text(name, row).split()) < 0.65, word
        assert compared > 50
