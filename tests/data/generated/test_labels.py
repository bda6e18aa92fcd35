"""The labels of built-in tasks, worked out again from the texts alone, by other means than the grammars.

Sentiment: quality words and negations as a reader lists them. Paraphrase: texts parsed back into what they
ask. Entailment: small worlds, searched for one where the premise holds and the hypothesis does not. Ethics:
the reason looked up among those of the duty or treatment that the text names.
"""

import itertools
import re
from functools import cache

import pytest
from test_catalogue import rows_of

from skillneurons.data.generated.catalogue import domain
from skillneurons.data.generated.grammar import plural

SENTIMENT = {name: domain(name) for name in ("film_notes", "meal_notes")}
PARAPHRASE = {name: domain(name) for name in ("travel_questions", "office_requests")}
NLI = {name: domain(name) for name in ("household_facts", "street_scenes")}
DUTIES, FAIRNESS = domain("duty_excuses"), domain("fairness_claims")
TURNING = (" not ", " never ", " far from ", "nobody ", " hardly ")
KEEPING = ("never seen a more", "nothing else was as", "without any doubt", "not once did")
LEFT_TO_TURN = ("anything but", "by no means", "there is nothing", "at no moment")
LEFT_TO_KEEP = ("no denying", "nobody can claim", "not be wrong", "cannot deny")


def sentiment_of(text, domain):
    """The polarity of the one quality word about an aspect, turned by a negation that turns."""
    found = {
        polarity
        for topic, nouns in domain.nouns.items()
        if any(re.search(rf"\b{noun}\b", text) for noun in nouns)
        for polarity in ("negative", "positive")
        for word in domain.words(topic, polarity)
        if re.search(rf"\b{word}\b", text)
    }
    [polarity] = found
    if any(words in text for words in (*KEEPING, *LEFT_TO_KEEP)):
        return polarity
    turned = any(words in f" {text}" for words in (*TURNING, *LEFT_TO_TURN))
    return {"negative": "positive", "positive": "negative"}[polarity] if turned else polarity


@pytest.mark.parametrize("name", SENTIMENT)
def test_sentiment(name):
    negations = 0
    for row in itertools.chain(*rows_of(name).values()):
        assert sentiment_of(row["text"], SENTIMENT[name]) == row["label"], row
        assert row["negation"] == any(words in f" {row['text']}" for words in (*TURNING, *KEEPING)), row
        negations += row["negation"]
    assert 0.14 < negations / 5600 < 0.18


@pytest.mark.parametrize("name", SENTIMENT)
def test_sentiment_with_twisted_negations(name):
    twisted = [row for row in rows_of(f"adv_{name}")["test"] if row["method"] == "negation_twist"]
    clean = " ".join(row["text"] for row in rows_of(name)["train"])
    assert twisted
    assert not any(words in clean for words in (*LEFT_TO_TURN, *LEFT_TO_KEEP))
    for row in twisted:
        assert sentiment_of(row["text"], SENTIMENT[name]) == row["label"], row
        assert any(words in row["text"] for words in (*LEFT_TO_TURN, *LEFT_TO_KEEP)), row


@cache
def readings(name):
    """(pattern, intent) of every wording, with named groups for giver, receiver and thing."""
    found = []
    for intent, wordings in PARAPHRASE[name].wordings.items():
        for wording in wordings:
            pattern = re.escape(wording)
            for place in "xym":
                group = re.escape("{" + place + "}")
                pattern = pattern.replace(group, rf"(?P<{place}>\w+)", 1).replace(group, rf"(?P={place})")
            found.append((re.compile(pattern + "$"), intent))
    return found


def asked(text, name):
    """What a text means: intent, giver, receiver, thing. An opening before it means nothing."""
    found = {(intent, *match.group("x", "y", "m")) for p, intent in readings(name) if (match := p.search(text))}
    [meaning] = found
    return meaning


@pytest.mark.parametrize("name", PARAPHRASE)
def test_paraphrase(name):
    for row in itertools.chain(*rows_of(name).values()):
        same = asked(row["a"], name) == asked(row["b"], name)
        assert row["label"] == ("paraphrase" if same else "not_paraphrase"), row


@pytest.mark.parametrize("name", PARAPHRASE)
@pytest.mark.parametrize("method", ["distracting_clause", "negation_twist"])
def test_paraphrase_attacked_by_clauses(name, method):
    rows = [row for row in rows_of(f"adv_{name}")["test"] if row["method"] == method]
    assert rows
    for row in rows:
        same = asked(row["a"], name) == asked(row["b"], name)
        assert row["label"] == ("paraphrase" if same else "not_paraphrase"), row


def test_travel_names_the_place_to_leave_after_from_and_the_one_to_reach_after_to():
    for row in rows_of("travel_questions")["test"]:
        for text in (row["a"], row["b"]):
            _, x, y, _ = asked(text, "travel_questions")
            assert f"from {x} " in text
            assert f"to {y} " in text


def test_swapped_and_changed_pairs_share_their_words():
    for name in PARAPHRASE:
        shared = {"swapped": [], "same": []}
        for row in rows_of(name)["train"]:
            a, b = ({*row[field].split()} for field in ("a", "b"))
            if row["cause"] in shared:
                shared[row["cause"]].append(len(a & b) / len(a | b))
        means = {cause: sum(values) / len(values) for cause, values in shared.items()}
        assert means["swapped"] > means["same"] - 0.05


def small_worlds(leaves, places, states):
    """Every world of up to two things, and those of three to eight things that are all alike."""
    cells = list(itertools.product(leaves, places, states))
    for size in range(3):
        yield from itertools.combinations_with_replacement(cells, size)
    for number in range(3, 9):
        yield (cells[0],) * number


FORMS = (  # a pattern, and whether it holds of the things n named, those s of them in the state, and a number k
    (r"there (?:are|is) more than (?P<k>\w+) (?P<n>.+)", lambda n, s, k: n > k),
    (r"there are fewer than (?P<k>\w+) (?P<n>.+)", lambda n, s, k: n < k),
    (r"there are (?P<k>three|four|five|six|seven) (?P<n>.+)", lambda n, s, k: n == k),
    (r"(?:all the|every) (?P<n>.+?) are (?P<s>\w+)", lambda n, s, k: s == n),
    (r"(?:some|a few) (?P<n>.+?) are (?P<s>\w+)", lambda n, s, k: s >= 1),
    (r"none of the (?P<n>.+?) are (?P<s>\w+)", lambda n, s, k: s == 0),
    (r"it is not true that the (?P<n>.+?) is (?P<s>\w+)", lambda n, s, k: n == 1 and s == 0),
    (r"the (?P<n>.+?) is not (?P<s>\w+)", lambda n, s, k: n == 1 and s == 0),
    (r"the (?P<n>.+?) (?:is|that is) (?P<s>\w+)", lambda n, s, k: n == 1 and s == 1),
    (r"(?:there is )?(?:no|not any|not a single) (?P<n>.+?)(?: is)?", lambda n, s, k: n == 0),
    (r"(?:there is )?an? (?P<n>.+?)(?: is)?", lambda n, s, k: n >= 1),
)
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
COUNTS = {word: i for i, word in enumerate(NUMBERS, 1)}


class Reader:
    """Reads a sentence of a domain as a condition on worlds."""

    def __init__(self, domain):
        self.domain = domain
        self.states = {state: pair for pair in domain.opposites for state in pair}
        self.opposite = {pair[i]: pair[1 - i] for pair in domain.opposites for i in (0, 1)}
        nouns = {noun: {noun} for members in domain.kinds.values() for noun in members}
        nouns |= {kind: {*members} for kind, members in domain.kinds.items()}
        self.members = nouns | {plural(noun): members for noun, members in nouns.items()}

    def read(self, text):
        """(place, leaves, state or None, test of the numbers)."""
        text = text.removesuffix(" .")
        [place] = [p for p in self.domain.places if re.search(rf"\b{self.domain.at} the {p}\b", text)]
        at = f"{self.domain.at} the {place}"
        bare = re.sub(rf"(somewhere |altogether )?\b{at}\b", "", text).replace("altogether ", "")
        bare = re.sub(r"^every (.*) is ", r"every \1 are ", bare.replace("that is  is", "is"))
        bare = re.sub(r"^no (.*) is (\w+)$", r"none of the \1 are \2", " ".join(bare.split()))
        for pattern, holds in FORMS:
            if match := re.fullmatch(pattern, bare):
                return place, *self._noun(match), holds, COUNTS.get(match.groupdict().get("k"), 0)
        raise AssertionError(f"cannot read {text!r} ({bare!r})")

    def _noun(self, match):
        noun, state = match["n"], match.groupdict().get("s")
        first, _, rest = noun.partition(" ")
        if first in self.states:
            return self.members[rest], first, True
        return self.members[noun], state, False

    def holds(self, said, world):
        place, leaves, state, narrowed, test, number = said
        named = [s for leaf, where, s in world if leaf in leaves and where == place]
        if narrowed:
            named = [s for s in named if s == state]
        return test(len(named), sum(s == state for s in named), number)


def follows(reader, row, kind, noun):
    """Whether no small world makes the premise true and the hypothesis false; a premise on all presupposes one."""
    opening = next((o for o in reader.domain.settings if row["premise"].startswith(o)), "")
    premise, hypothesis = reader.read(row["premise"].removeprefix(opening)), reader.read(row["hypothesis"])
    kinds = reader.domain.kinds
    others = [k for k in kinds if k != kind]
    other = next((k for k in others if k in row["hypothesis"]), others[0])
    leaves = (noun, next(n for n in kinds[kind] if n != noun), kinds[other][0])
    state = premise[2] or reader.domain.opposites[0][0]
    worlds = small_worlds(leaves, sorted({premise[0], hypothesis[0]}), (state, reader.opposite[state]))
    possible = [world for world in worlds if reader.holds(premise, world)]
    if re.search(r"\b(all|every)\b", row["premise"]):
        possible = [w for w in possible if any(leaf in premise[1] and at == premise[0] for leaf, at, _ in w)]
    assert possible, row
    return all(reader.holds(hypothesis, world) for world in possible)


@pytest.mark.parametrize("name", NLI)
def test_entailment(name):
    reader = Reader(NLI[name])
    for row in itertools.chain(rows_of(name)["test"], rows_of(name)["dev"], rows_of(name)["train"][:1000]):
        noun, _ = row["filling"].split(" / ")
        expected = "entailment" if follows(reader, row, row["topic"], noun) else "not_entailment"
        assert row["label"] == expected, row


@pytest.mark.parametrize("name", NLI)
def test_no_noun_is_of_two_kinds(name):
    nouns = [noun for members in NLI[name].kinds.values() for noun in members]
    assert len(set(nouns)) == len(nouns) > 40


def test_the_checker_finds_counterexamples():
    reader = Reader(NLI["household_facts"])

    def says(premise, hypothesis):
        return follows(reader, {"premise": f"{premise} .", "hypothesis": f"{hypothesis} ."}, "fruit", "apple")

    assert says("there is an apple in the attic", "a fruit is in the attic")
    assert not says("there is a fruit in the attic", "an apple is in the attic")
    assert says("no fruit is in the attic", "there is no apple in the attic")
    assert not says("no apple is in the attic", "there is no fruit in the attic")
    assert says("every apple in the attic is wet", "some apples in the attic are wet")
    assert not says("some apples in the attic are wet", "every apple in the attic is wet")
    assert not says("there are three apples in the attic", "there are fewer than three apples in the attic")


def excuse_holds(scenario, excuse):
    """Whether an excuse covers the duty that a scenario names."""
    [duty] = [d for d in DUTIES.duties if f" {d.do} " in scenario]
    done = any(f"{duty.did} {when}" in excuse for when in DUTIES.recent)
    handed_over = "took this over" in excuse or "took over" in excuse
    return done or handed_over or any(reason in excuse for reason in (*duty.obstacles, *DUTIES.reasons["unable"]))


def test_duty_excuses():
    for row in itertools.chain(*rows_of("duty_excuses").values()):
        expected = "reasonable" if excuse_holds(row["scenario"], row["excuse"]) else "unreasonable"
        assert row["label"] == expected, row


def test_fairness_claims():
    pronouns = re.compile(r"\b(she|her|his|him|he)\b")

    def neutral(text):
        return pronouns.sub("x", text.replace("{he}", "x").replace("{him}", "x").replace("{his}", "x"))

    for row in itertools.chain(*rows_of("fairness_claims").values()):
        text = neutral(row["scenario"])
        ways = [way for way in FAIRNESS.treatments if neutral(way.phrase).partition("{person}")[0] in text]
        ways = [way for way in ways if neutral(way.phrase).partition("{person}")[2] in text]
        way = max(ways, key=lambda way: len(way.phrase))
        reasons = (*way.reasons, *FAIRNESS.always[way.kind])
        good = any(f" {neutral(reason)} ." in text for reason in reasons)
        assert row["label"] == ("reasonable" if good else "unreasonable"), (row, way)


def test_reasons_of_one_group_are_given_for_others_too():
    own = {row["excuse"] for row in rows_of("duty_excuses")["train"] if row["cause"] == "obstacle"}
    elsewhere = {row["excuse"] for row in rows_of("duty_excuses")["train"] if row["cause"].startswith("obstacle to")}
    assert len(own & elsewhere) > 0.8 * max(len(own), len(elsewhere))
