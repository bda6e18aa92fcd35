"""Restoration: its arithmetic, the patch by hand, and models of which it is known how an attack works."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from statsmodels.stats.multitest import multipletests
from test_counting import one_process
from test_intervention import DECODERS, PROJECTIONS, named
from torch import Tensor

import tiny_models
from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import describe
from skillneurons.data.splits import halves
from skillneurons.discover.counting import Question, count
from skillneurons.discover.predictivity import combine
from skillneurons.neurons.intervention import Intervention, suppressed_scores
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import random_sets, top_neurons
from skillneurons.neurons.sites import Site, site_of
from skillneurons.robustness.measure import PromptedModel
from skillneurons.robustness.restoration import (
    ALL,
    DIRECTIONS,
    SKILL,
    Direction,
    Donor,
    Patched,
    Restored,
    Rival,
    judged,
    restoration_effects,
    rival,
    verdict,
)
from skillneurons.robustness.rival_sets import Movers, donors_of_label, rival_sets
from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, ratio_interval
from skillneurons.stats.control_sets import contrast
from skillneurons.stats.intervals import Estimate, exact
from skillneurons.stats.paired_accuracy import PairedAccuracy, compare, margin

P = 5
PATCH = Intervention("resample", "prompt")

# Arithmetic


def scores_of(answers: np.ndarray, size: float = 1.0) -> np.ndarray:
    """Scores `[..., n, 2]` that answer so."""
    return np.stack([np.where(answers == 0, size, 0), np.where(answers == 1, size, 0)], axis=-1).astype(np.float32)


def test_a_margin_is_the_right_score_less_the_best_wrong_one():
    scores = np.array([[[1.0, 4.0, 2.5], [0.0, -1.0, -3.0]]], dtype=np.float32)
    assert margin(scores, np.array([1, 2])).tolist() == [[1.5, -3.0]]
    kept = scores.copy()
    margin(scores, np.array([0, 0]))
    assert np.array_equal(scores, kept)
    two = np.random.default_rng(0).normal(size=(4, 2, 9, 2))
    labels = np.arange(9) % 2
    assert margin(two, labels) == pytest.approx((two[..., 1] - two[..., 0]) * (2 * labels - 1))


def made(seed: int = 0, direction: str = "restore", prompts: int = 2, n: int = 80, controls: int = 5):
    """Random answers: start, goal, two percentages beside random sets and all neurons."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)

    def answers(rate: float, *more: int) -> np.ndarray:
        wrong = rng.random((*more, prompts, n)) >= rate
        return scores_of(labels ^ wrong) + rng.normal(0, 0.1, (*more, prompts, n, 2)).astype(np.float32)

    start, goal = answers(0.4), answers(0.9)
    patched = [Patched(k, 3, answers(rate), answers(0.45, controls)) for k, rate in ((1, 0.6), (5, 0.7), (9, 0.5))]
    patched.append(Patched(ALL, 96, answers(0.85), None))
    clusters = Clusters.by([f"{label} {i % 30}" for i, label in enumerate(labels)])
    effects = restoration_effects(direction, start, goal, patched, labels, clusters, 3)
    return labels, start, goal, patched, clusters, effects


def test_every_number_by_its_definition():
    labels, start, goal, patched, clusters, found = made()
    was, aim = start.argmax(-1) == labels, goal.argmax(-1) == labels
    for one, from_ in zip(found, patched, strict=True):
        now = from_.scores.argmax(-1) == labels
        assert (one.n, one.percent, one.neurons) == (80, from_.percent, from_.neurons)
        assert one.majority == max(labels.mean(), 1 - labels.mean())
        assert (one.start.value, one.goal.value, one.patched.value) == pytest.approx(
            (was.mean(), aim.mean(), now.mean())
        )
        assert one.returned.value == pytest.approx((now.mean() - was.mean()) / (aim.mean() - was.mean()))
        moved, way = (part.mean(0) for part in (now * 1.0 - was, aim * 1.0 - was))
        theirs = ratio_interval(moved, way, clusters)
        assert (one.returned.low, one.returned.high) == pytest.approx((theirs.low, theirs.high))
        gained, whole = ((margin(x, labels) - margin(start, labels)).mean(0) for x in (from_.scores, goal))
        assert one.margin.value == pytest.approx(gained.mean())
        assert one.margin_returned.value == pytest.approx(gained.sum() / whole.sum())
        theirs = mean_interval(gained, clusters)
        assert (one.margin.low, one.margin.high) == pytest.approx((theirs.low, theirs.high))
        if from_.random is None:
            assert one.against is one.margin_against is None
            continue
        random = from_.random.argmax(-1) == labels
        assert replace(one.against, holm_p=0) == replace(
            contrast(now, random, 3, clusters=clusters, upward=True), holm_p=0
        )
        assert one.margin_against.difference.value == pytest.approx(
            margin(from_.scores, labels).mean() - margin(from_.random, labels).mean()
        )


def test_the_margins_of_one_percentage_are_one_family_and_all_else_another():
    both = judged({way: made(i, way)[-1] for i, way in enumerate(("restore", "corrupt"))}, 5)
    everything = [one for effects in both.values() for one in effects]
    assert [one.percent for one in everything if one.primary] == [5, 5]
    first = [one.margin_against for one in everything if one.primary]
    rest = [one.margin_against for one in everything if not one.primary and one.margin_against]
    rest += [one.against for one in everything if one.against]
    for family in (first, rest):
        expected = multipletests([one.rank_p for one in family], method="holm")[1]
        assert [one.holm_p for one in family] == pytest.approx(expected)
    assert (len(first), len(rest)) == (2, 4 + 6)


def test_what_is_restored_is_expected_above_random_sets_and_what_is_corrupted_below():
    labels = np.arange(40) % 2
    wrong, right = scores_of(1 - labels)[None], scores_of(labels)[None]
    single, four = Clusters.single(40), lambda scores: np.stack([scores] * 4)
    up = restoration_effects("restore", wrong, right, [Patched(5, 1, right, four(wrong))], labels, single)
    down = restoration_effects("corrupt", right, wrong, [Patched(5, 1, wrong, four(right))], labels, single)
    for [one] in (up, down):
        assert one.returned.value == 1
        assert one.against.rank_p == one.against.rank_floor == one.margin_against.rank_p == 1 / 5
    assert up[0].against.difference.value == -down[0].against.difference.value == 1
    assert (up[0].margin.value, down[0].margin.value) == (2, -2)


def test_a_row_of_the_table_has_every_number_once():
    *_, found = made()
    first, last = found[0].row(), found[-1].row()
    assert first["accuracy_difference"] == found[0].against.difference.value
    assert first["random_margin"] == found[0].margin_against.control.value
    assert (first["accuracy_rank_p"], first["margin_rank_p"]) == (
        found[0].against.rank_p,
        found[0].margin_against.rank_p,
    )
    assert first["random_accuracy_chance"] == found[0].majority
    assert "accuracy_difference" not in last
    assert last["returned"] == found[-1].returned.value


def test_where_there_is_no_way_nothing_is_a_share_of_it():
    labels = np.arange(30) % 2
    same = scores_of(labels)[None]
    patched = [Patched(5, 1, same, np.stack([same] * 3))]
    [one] = restoration_effects("restore", same, same, patched, labels, Clusters.single(30))
    assert np.isnan(one.returned.value)
    assert one.against.difference.value == 0
    assert one.against.rank_p == 1


# Verdicts


def judgement(
    restored: float = 0,
    corrupted: float = 0,
    by_random: float | np.ndarray = 0,
    n: int = 200,
    lost: float = 0.5,
    allowed: float = 0.03,
    rivals: tuple[Rival, ...] = (),
    sets: int = 39,
    originals: int | None = None,
) -> list[str]:
    """Claims about n rows of which an attack turns a share: patching turns shares of these back, or turns them."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % 2)
    attacked = np.arange(n) < round(n * lost)

    def answers(right: float) -> np.ndarray:
        """Of the attacked rows this share right, in the same order each time, with a little noise of the scores."""
        wrong = attacked & (np.arange(n) >= right * n * lost)
        return (scores_of(labels ^ wrong) + rng.normal(0, 1e-3, (n, 2)).astype(np.float32))[None]

    clean, start, both = answers(1), answers(0), {}
    spread = by_random if np.ndim(by_random) else [by_random] * sets
    for way, (from_, to, share) in {
        "restore": (start, clean, restored),
        "corrupt": (clean, start, 1 - corrupted),
    }.items():
        random = np.stack([answers(x if way == "restore" else 1 - x) for x in spread])
        patched = [Patched(5, 9, answers(share), random), Patched(ALL, 99, to, None)]
        both[way] = restoration_effects(way, from_, to, patched, labels, Clusters.single(n))
    pair = compare(clean.argmax(-1) == labels, start.argmax(-1) == labels, Clusters.single(n), 2)
    return verdict(judged(both, 5), rivals, replace(pair, originals=originals or n), allowed)


def holds(claims) -> list:
    """Of sufficient, then necessary."""
    assert [claim.name for claim in claims[:2]] == ["sufficient", "necessary"]
    return [claim.holds for claim in claims[:2]]


def test_both_directions_make_the_verdict():
    both = judgement(restored=0.6, corrupted=0.5)
    assert holds(both) == [True, True]
    assert [claim.verdict for claim in both[:2]] == ["sufficient", "necessary"]
    assert [round(claim.figure.value, 2) for claim in both[:2]] == [0.6, 0.5]
    assert "clean activations in the adversarial text: the top 5%" in both[0].plain
    assert "n=200 pairs" in both[0].plain
    assert holds(judgement(restored=0.6, corrupted=0)) == [True, False]
    other = judgement(restored=0, corrupted=0.6)
    assert holds(other) == [False, True]
    assert other[0].verdict == "not sufficient"


def test_more_than_random_neurons_do_but_too_little_to_count_is_not_sufficient():
    little = judgement(restored=0.03, corrupted=0.03, n=400, allowed=0.05)
    assert "p 0.05 by rank of 39, Holm" in little[0].plain
    assert holds(little) == [False, False]
    assert holds(judgement(restored=0.03, corrupted=0.03, n=400, allowed=0.005))[0] is True
    # too little by its interval, and yet so few originals that more cannot be excluded
    few = judgement(restored=0.03, corrupted=0.03, n=400, allowed=0.05, originals=40)
    assert "p 0.05 by rank" in few[0].plain
    assert holds(few) == [None, None]
    assert "5 count as none" in few[0].plain


def test_neither_is_said_only_where_a_difference_is_excluded():
    assert holds(judgement()) == [False, False]
    few = judgement(n=60)
    assert holds(few) == [None, None]
    assert few[0].verdict == "cannot tell whether sufficient"
    assert f"up to {100 * proportion_room(60):.1f} points of accuracy not excluded" in few[0].plain
    assert holds(judgement(n=60, allowed=proportion_room(60) + 0.001)) == [False, False]
    assert holds(judgement(restored=0.9, corrupted=0.02, n=60)) == [True, None]


def test_what_random_sets_do_too_is_nothing():
    as_random = judgement(restored=0.7, corrupted=0.7, by_random=0.7)
    assert holds(as_random) == [False, False]
    assert as_random[0].figure.chance == pytest.approx(0.7, abs=0.02), "the random sets' own share stands beside it"
    assert holds(judgement(restored=0, by_random=0.8))[0] is not True
    among = judgement(restored=0.5, corrupted=0.5, by_random=np.linspace(0, 0.6, 39))
    assert holds(among) == [None, None], "one more of very different random sets"


def test_a_share_that_is_not_known_shows_nothing():
    """Margins that hardly tell which way to go: beyond random sets, and yet of no known share of the loss."""
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 2
    start, goal = (scores_of(labels) + rng.normal(0, 1, (60, 2)) for _ in range(2))
    moved = start + 0.3 * (scores_of(labels) - scores_of(1 - labels))
    sets = start + rng.normal(0, 0.01, (39, 1, 60, 2))
    patched = [Patched(5, 1, moved[None].astype(np.float32), sets.astype(np.float32))]
    of = (patched, labels, Clusters.single(60))
    both = judged({way: restoration_effects(way, start[None], goal[None], *of) for way in DIRECTIONS}, 5)
    assert np.isnan(both["restore"][0].margin_returned.value)
    assert both["restore"][0].margin_against.significant
    pair = compare(np.ones((1, 60)), np.zeros((1, 60)), Clusters.single(60), 2)
    found = verdict(both, (), pair, 0.03)
    assert holds(found) == [None, None]
    assert "an unknown share" in found[0].plain


def test_nothing_to_restore():
    for lost, n in ((0, 100), (0.02, 50)):
        assert [claim.verdict for claim in judgement(1, 1, n=n, lost=lost)] == ["nothing to restore"]
    assert holds(judgement(1, 1, n=200, lost=0.05)) != [False]


def proportion_room(n: int) -> float:
    """The largest difference of pairs of which none differs that Tango's test keeps: z² / (n + z²)."""
    return 1.959964**2 / (n + 1.959964**2)


def some_rival(name: str, donor: Donor, share: float, low: float) -> Rival:
    return Rival(
        name, 9, donor, 50, exact(share), Estimate(share, share - 0.1, share + 0.1), Estimate(0.4 - share, low, 0.9)
    )


def test_readings_that_are_not_excluded_are_named():
    rivals = (
        some_rival("the largest movers", Donor.OWN, 0.5, -0.2),
        some_rival("next best neurons", Donor.OWN, 0.1, 0.2),
        some_rival(SKILL, Donor.SAME, 0.55, -0.1),
        some_rival(SKILL, Donor.OTHER, -0.7, 0.9),
    )
    said = {claim.verdict: claim for claim in judgement(0.6, 0, rivals=rivals)}
    written_in = said["a label written in, as far as can be told"]
    assert "another text of the other label returns -70%" in written_in.plain
    assert "of the same 55.0% [45.0%, 65.0%]" in written_in.plain
    assert "the largest movers 50%" in said["not told apart from rivals"].plain
    assert "next best neurons 10%" in said["more than rivals"].plain
    own = (some_rival(SKILL, Donor.SAME, 0.1, 0.2), rivals[-1])
    assert "this text's own state" in [claim.verdict for claim in judgement(0.6, 0, rivals=own)]
    assert len(judgement(0, 0.6, rivals=rivals)) == 2, "of what is not shown no reading is told"


def test_a_rival_by_its_definition():
    labels, start, goal, patched, clusters, _ = made()
    skill, now = patched[1].scores, patched[0].scores
    found = rival(
        "others", 7, Donor.OWN, {"start": start, "goal": goal, "skill": skill, "now": now}, labels, clusters
    )
    m = {name: margin(x, labels).mean() for name, x in (("s", start), ("g", goal), ("k", skill), ("n", now))}
    assert found.margin_returned.value == pytest.approx((m["n"] - m["s"]) / (m["g"] - m["s"]))
    assert found.less.value == pytest.approx((m["k"] - m["n"]) / (m["g"] - m["s"]))
    right = [(x.argmax(-1) == labels).mean() for x in (start, goal, now)]
    assert found.returned.value == pytest.approx((right[2] - right[0]) / (right[1] - right[0]))
    assert found.row()["donor"] == "own original"


def test_rival_sets_are_as_large_in_each_layer_and_apart():
    rng = np.random.default_rng(3)
    ranking, shift = rng.random((2, 40)), rng.random((30, 2, 40)).astype(np.float32)
    top, clusters = top_neurons(ranking, 10), Clusters.by(np.arange(30) // 2)
    movers = Movers(shift, np.ones((2, 40), dtype=np.float32), clusters, 0)
    found = {one.name: one for one in rival_sets(ranking, top, movers)}
    for name in ("next best neurons", "neurons matched for shift times output norm", "the largest movers"):
        assert (found[name].mask.sum(1) == 4).all()
    assert not (found["next best neurons"].mask & top).any()
    assert ranking[found["next best neurons"].mask].min() >= np.sort(ranking, axis=1)[:, -8].min()
    matched = found["neurons matched for shift times output norm"].mask
    assert not (matched & top).any()
    moved = shift.mean(0)
    assert np.abs(np.sort(moved[matched]) - np.sort(moved[top])).max() < 0.1
    rest = found["the largest movers"].rows
    chosen = np.setdiff1d(np.arange(30), rest)
    assert not set(clusters.of[rest]) & set(clusters.of[chosen]), "chosen on other originals than judged"
    want = top_neurons(shift[chosen].mean(0), 10)
    assert np.array_equal(found["the largest movers"].mask, want)
    assert np.array_equal(found["skill neurons of layer 1 alone"].mask[1], top[1])
    assert not found["skill neurons of layer 1 alone"].mask[0].any()


def test_donors_are_of_another_original_with_the_label_that_was_asked_for():
    labels, clusters = np.array([0, 0, 0, 1, 1, 1]), Clusters.by([0, 0, 1, 2, 3, 3])
    for same in (True, False):
        rows, others = donors_of_label(labels, clusters, same, 0)
        assert rows.tolist() == [0, 1, 2, 3, 4, 5]
        assert ((labels[rows] == labels[others]) == same).all()
        assert (clusters.of[rows] != clusters.of[others]).all()
    rows, _ = donors_of_label(np.array([0, 1, 1]), Clusters.single(3), True, 0)
    assert rows.tolist() == [1, 2], "a row without a donor is left out"


# The patch by hand


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_models.loaded(name, root / name) for name in ("roberta", "t5", "gpt2")}


def prompt_of(backbone: Backbone) -> Tensor:
    return torch.randn(P, backbone.info.embedding_width, generator=torch.Generator().manual_seed(1))


def versions_of(backbone: Backbone) -> tuple[Encoded, Encoded]:
    """Adversarial and clean texts of different lengths."""
    rows = backbone.info.encode(tiny_models.TEXTS, 24)
    labels = torch.arange(len(rows)) % 2
    return Encoded(rows, labels), Encoded(rows[3:] + rows[:3], labels)


def one_text(backbone: Backbone, row: list[int], names: list[str], change=lambda layer, value: value) -> Tensor:
    """Scores `[C]` of a text alone, `change(layer, [N, F])` being what each named projection reads."""
    words, calls = backbone.info.label_words(tiny_models.WORDS), iter(range(len(names)))

    def hook(module, args):
        given = args[0]
        return (change(next(calls), given.reshape(-1, given.shape[-1]).clone()).reshape(given.shape),)

    handles = [backbone.model.get_submodule(name).register_forward_pre_hook(hook) for name in names]
    try:
        with torch.no_grad():
            return backbone.label_scores(prompt_of(backbone), backbone.info.collate([row]), words)[0]
    finally:
        for handle in handles:
            handle.remove()


def places(name: str, site: str, text: int) -> list[int]:
    """Positions of a site in a text of so many tokens, written out."""
    if site == "decoder":
        return [-1]
    prompt = list(range(P)) if name != "gpt2" else list(range(text, text + P))
    if site == "prompt-body":
        prompt = {"roberta": prompt[1:], "t5": prompt, "gpt2": prompt[:-1]}[name]
    return prompt


def patched_by_hand(backbone: Backbone, name: str, site: str, read: Encoded, donors: Encoded, mask: np.ndarray):
    """One neuron at one position after another takes what it had when the donor was read alone."""
    names, out = named(DECODERS if site == "decoder" else PROJECTIONS, name), []
    for row, donor in zip(read.rows, donors.rows, strict=True):
        seen: dict[int, Tensor] = {}

        def keep(layer: int, value: Tensor, seen: dict[int, Tensor] = seen) -> Tensor:
            seen[layer] = value.clone()
            return value

        def put(layer: int, value: Tensor, seen=seen, row=row, donor=donor) -> Tensor:
            for here, there in zip(places(name, site, len(row)), places(name, site, len(donor)), strict=True):
                for neuron in np.flatnonzero(mask[layer]):
                    value[here, neuron] = seen[layer][there, neuron]
            return value

        one_text(backbone, donor, names, keep)
        out.append(one_text(backbone, row, names, put))
    return torch.stack(out)


def patched(backbone: Backbone, site: Site, read: Encoded, donors: Encoded, masks: np.ndarray, batch_size: int):
    words, keys = backbone.info.label_words(tiny_models.WORDS), range(len(read))
    return suppressed_scores(
        backbone, site, prompt_of(backbone), read, words, masks, PATCH, keys, batch_size, donors=donors
    )


def masks_of(backbone: Backbone, site: Site, count: int = 3) -> np.ndarray:
    taps = site.taps(backbone)
    return np.random.default_rng(0).random((count, len(taps), taps[0].width)) < 0.4


@pytest.mark.parametrize(
    ("name", "site"),
    [*((n, s) for n in ("roberta", "t5", "gpt2") for s in ("prompt", "prompt-body")), ("t5", "decoder")],
)
def test_clean_activations_are_put_back_as_by_hand(backbones, name, site):
    backbone = backbones[name]
    found, (read, donors) = site_of(backbone.info, site, P), versions_of(backbone)
    masks = masks_of(backbone, found)
    expected = torch.stack([patched_by_hand(backbone, name, site, read, donors, mask) for mask in masks])
    untouched = torch.stack([one_text(backbone, row, []) for row in read.rows])
    assert (expected - untouched).abs().amax((1, 2)).min() > 1e-3, "the patch matters"
    for batch_size in (1, 4, 7, 64):
        got = patched(backbone, found, read, donors, masks, batch_size)
        torch.testing.assert_close(got, expected, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("site", ["prompt", "prompt-body", "label"])
@pytest.mark.parametrize("name", ["roberta", "t5", "gpt2"])
def test_a_rows_own_activations_change_nothing(backbones, name, site):
    backbone = backbones[name]
    found, (read, donors) = site_of(backbone.info, site, P), versions_of(backbone)
    everything = np.ones_like(masks_of(backbone, found, 1))
    untouched = torch.stack([one_text(backbone, row, []) for row in read.rows])
    for batch_size in (1, 5, 64):
        own = patched(backbone, found, read, read, everything, batch_size)[0]
        torch.testing.assert_close(own, untouched, atol=3e-5, rtol=1e-5)
    none = patched(backbone, found, read, donors, ~everything, 5)[0]
    torch.testing.assert_close(none, untouched, atol=3e-5, rtol=1e-5)
    assert not torch.allclose(patched(backbone, found, read, donors, everything, 5)[0], untouched, atol=1e-3)


# Models of which it is known how an attack works

N, FILLER, WIDTH = 80, 8, 64
MARK, CARRY, TOLD, BODY = (0, 1), (2, 3), (4, 5), (6, 7)  # pairs of coordinates (v, -v), so that no norm tells v
FOR_ONE, FOR_ZERO, CAUSE = 20, 21, 0


def planted(folder: Path, through: bool) -> Backbone:
    """A masked LM of two layers that tells FOR_ONE from FOR_ZERO in a text.

    The first layer's attention carries the mark of either token to every position. At the prompt's body (never at the
    mask or in the text) neuron CAUSE of the first layer fires for FOR_ONE. If `through`, it writes what the second
    layer's attention takes to the mask, and the mark itself ends with the first layer. Else the mask reads its mark.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models.build("roberta", folder / "source"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 1, "num_hidden_layers": 2, "intermediate_size": WIDTH}
    config = transformers.RobertaConfig(
        **sizes,
        vocab_size=len(tokenizer),
        max_position_embeddings=66,
        type_vocab_size=1,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = transformers.RobertaForMaskedLM(config)
    with torch.no_grad():
        table, (first, second) = model.roberta.embeddings, model.roberta.encoder.layer
        for part in (table.word_embeddings, table.position_embeddings, table.token_type_embeddings):
            part.weight.copy_(_plain(part.weight))
        for token, sign in ((FOR_ONE, 30.0), (FOR_ZERO, -30.0)):
            table.word_embeddings.weight[token] = 0
            table.word_embeddings.weight[token, MARK] = torch.tensor([sign, -sign])
        for layer in (first, second):
            for part in (*layer.attention.self.children(), layer.attention.output.dense):
                for value in part.parameters():
                    value.zero_()
            layer.output.dense.weight.copy_(_plain(layer.output.dense.weight.T).T)
        _carry(first, MARK[0], MARK, 20)
        first.intermediate.dense.weight[CAUSE] = 0
        first.intermediate.dense.weight[CAUSE, [MARK[0], BODY[0]]] = 10
        first.intermediate.dense.bias[CAUSE] = -46.5
        first.output.dense.weight[:, CAUSE] = 0
        if through:
            first.output.dense.weight[CARRY, CAUSE] = torch.tensor([5.0, -5.0])
            first.output.LayerNorm.weight[list(MARK)] = 0
            _carry(second, CARRY[0], TOLD, 50)
        model.lm_head.dense.weight.copy_(torch.eye(32))
    model.save_pretrained(folder / "planted")
    tokenizer.save_pretrained(folder / "planted")
    backbone = loading.load(describe(str(folder / "planted")))
    negative, positive = backbone.info.label_words(tiny_models.WORDS).ids
    with torch.no_grad():
        decoder = backbone.model.lm_head.decoder.weight
        decoder[[negative, positive]] = 0
        decoder[positive, list(TOLD if through else MARK)] = torch.tensor([1.0, -1.0])
    return backbone


def _plain(weight: Tensor) -> Tensor:
    """Rows without a part in the special coordinates, and of mean 0: a norm takes off the mean."""
    weight = weight.clone()
    weight[:, :8] = 0
    weight[:, 8:] -= weight[:, 8:].mean(1, keepdim=True)
    return weight


def _carry(layer: torch.nn.Module, source: int, target: tuple[int, int], scale: float) -> None:
    """Uniform attention takes a coordinate of all positions to every position, as a pair."""
    layer.attention.self.value.weight[source, source] = 1
    layer.attention.output.dense.weight[target, source] = torch.tensor([1.0, -1.0]) * scale


def planted_prompt() -> Tensor:
    prompt = _plain(torch.randn(P, 32, generator=torch.Generator().manual_seed(2)))
    prompt[:, BODY] = torch.tensor([6.0, -6.0])
    return prompt


def marked(n: int, seed: int, attacked: float = 0.0) -> tuple[Encoded, Encoded]:
    """Clean texts, and the same with the telling token turned in a share of them."""
    rng = np.random.default_rng(seed)
    labels, turned = rng.permutation(np.arange(n) % 2), rng.random(n) < attacked
    clean, changed = [], []
    for label, other in zip(labels, turned, strict=True):
        ids, place = rng.integers(30, 200, FILLER), rng.integers(FILLER)
        for rows, told in ((clean, label), (changed, label ^ other)):
            ids[place] = FOR_ONE if told else FOR_ZERO
            rows.append([0, *ids.tolist(), 2])
    return tuple(Encoded(rows, torch.from_numpy(labels.astype(np.int64))) for rows in (clean, changed))


def ranked(backbone: Backbone) -> np.ndarray:
    """Predictivities `[L, F]` of a discovery at prompt-body on clean rows."""
    return discovered(backbone).ranking


def discovered(backbone: Backbone) -> Neurons:
    (train, _), (dev, _) = marked(60, 1), marked(200, 2)
    parts = halves([f"{i:05d}" for i in range(len(dev))])
    words = backbone.info.label_words(tiny_models.WORDS)
    asked = Question(train, dev, parts, (1,), 2, batch_size=64, words=words)
    site = site_of(backbone.info, "prompt-body", P)
    card = {"targets": ["positive"]}
    return combine([count(backbone, site, planted_prompt(), asked, one_process())], 1, asked, card)


def without_the_planted() -> int:
    """A seed with which no random set of one neuron a layer holds the planted one."""
    one = np.zeros((2, WIDTH), dtype=bool)
    one[:, 0] = True
    return next(s for s in range(99) if not any(s_[0, CAUSE] for s_ in random_sets(one, 100 / WIDTH, 39, s)))


def experiment(
    backbone: Backbone, ranking: np.ndarray, seed: int = 3
) -> tuple[dict[Direction, list[Restored]], PairedAccuracy]:
    """Both versions scored, the top neurons and random sets restored as a command does; the bias is set first."""
    site, words = site_of(backbone.info, "prompt-body", P), backbone.info.label_words(tiny_models.WORDS)
    clean, changed = marked(N, seed, attacked=0.6)
    labels, of = clean.labels.numpy(), SimpleNamespace(words=words)
    asked = {"random_sets": 39, "seed": without_the_planted(), "ranking_by": "predictivity"}
    config = SimpleNamespace(**asked, eval_batch_size=64, device_type="cpu")
    prompts = (SimpleNamespace(embeddings=planted_prompt()),)
    plan = SimpleNamespace(config=config, prompts=prompts, rates=(100 / WIDTH, 5), site=lambda neurons, prompt: site)
    bench = PromptedModel(plan, backbone, print)
    of.prompts = prompts
    gap = np.subtract(*bench.scores(of, clean)[0].T[::-1])
    assert gap[labels == 1].min() > gap[labels == 0].max() + 0.1, "the model tells the tokens apart"
    with torch.no_grad():
        cut = (gap[labels == 1].min() + gap[labels == 0].max()) / 2
        backbone.model.lm_head.decoder.bias[words.ids[1]] -= float(cut)
    start, goal = bench.scores(of, changed), bench.scores(of, clean)
    neurons = SimpleNamespace(ranked=lambda by: ranking, shape=ranking.shape)
    pair, both = compare(goal.argmax(-1) == labels, start.argmax(-1) == labels, Clusters.single(N), 2), {}
    versions = ((changed, clean, start, goal), (clean, changed, goal, start))
    for way, (read, donors, from_, to) in zip(DIRECTIONS, versions, strict=True):
        patched = bench._patched(SimpleNamespace(rows=of), neurons, way, read, donors, labels)
        both[way] = restoration_effects(way, from_, to, patched, labels, Clusters.single(N))
    return judged(both, plan.rates[0]), pair


def test_an_attack_through_a_planted_neuron_is_a_cause(tmp_path):
    backbone = planted(tmp_path, through=True)
    ranking = ranked(backbone)
    assert ranking[0, CAUSE] == 1
    found, pair = experiment(backbone, ranking)
    assert pair.clean.value == 1
    assert pair.success.value == pytest.approx(0.6, abs=0.15)
    first, _ = verdict(found, (), pair, 0.03)
    assert (first.verdict, first.figure.value) == ("sufficient", pytest.approx(1, abs=0.01)), first
    assert holds(verdict(found, (), pair, 0.03)) == [True, True]
    for way in DIRECTIONS:
        first, last = found[way][0], found[way][-1]
        assert first.returned.value == last.returned.value == 1
        assert first.against.control.highest == first.against.control.lowest == first.start.value, (
            "random sets do nothing"
        )


def test_neurons_that_tell_the_label_but_do_not_pass_it_on_are_no_cause(tmp_path):
    """The mask reads the text itself: what the prompt's neurons know makes no difference."""
    backbone = planted(tmp_path, through=False)
    ranking = ranked(backbone)
    assert ranking[0, CAUSE] == 1, "predictive all the same"
    found, pair = experiment(backbone, ranking)
    assert (pair.clean.value, pair.difference.low > 0) == (1, True)
    assert holds(verdict(found, (), pair, 0.05)) == [False, False]
    assert found["restore"][0].returned.value == found["restore"][-1].returned.value == 0


def test_bystanders_of_a_cause_are_no_cause(tmp_path):
    """Neurons beside the planted one tell the label as well as it does, and nothing hangs on them."""
    backbone = planted(tmp_path, through=True)
    ranking = ranked(backbone)
    assert (ranking[0] == 1).sum() > 10
    ranking[:, CAUSE] = 0
    found, pair = experiment(backbone, ranking)
    assert holds(verdict(found, (), pair, 0.05)) == [False, False]
    assert found["restore"][-1].returned.value == 1, "all neurons hold the planted one"


@pytest.mark.parametrize("through", [True, False])
def test_the_neuron_that_acts_is_ranked_first_by_effect_and_its_bystanders_are_not(tmp_path, through):
    found = discovered(planted(tmp_path, through))
    assert (found.ranking[0] == 1).sum() > 10, "many tell the label"
    effect = found.effect_selected[0]
    if through:
        assert effect[0].argmax() == CAUSE
        assert effect[0, CAUSE] > 20 * np.sort(np.abs(effect[0]))[-2]
        assert found.effect_p[0, CAUSE] == 1 / 201
    else:
        assert abs(effect[0, CAUSE]) < 1e-6


def test_all_neurons_return_all_where_nothing_of_the_text_goes_round_them(tmp_path):
    """The mark ends with the first layer, so the clean activations at the whole prompt give the clean scores."""
    backbone = planted(tmp_path, through=True)
    words, (clean, changed) = backbone.info.label_words(tiny_models.WORDS), marked(20, 5, attacked=0.5)
    everything = np.ones((1, 2, WIDTH), dtype=bool)

    def scores(site: str, read: Encoded, masks: np.ndarray, donors: Encoded) -> Tensor:
        arguments = (planted_prompt(), read, words, masks, PATCH, range(20), 8, donors)
        return suppressed_scores(backbone, site_of(backbone.info, site, P), *arguments)[0]

    goal, start = (scores("prompt", read, ~everything, clean) for read in (clean, changed))
    assert (start - goal).abs().max() > 0.1
    torch.testing.assert_close(scores("prompt", changed, everything, clean), goal, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(scores("prompt", clean, everything, changed), start, atol=2e-5, rtol=1e-5)
    assert (scores("label", changed, everything, clean) - goal).abs().max() > 0.1, "the effect is not the mask's own"
