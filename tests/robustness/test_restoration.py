"""Restoration: its arithmetic, the patch by hand, and models of which it is known how an attack works."""

from dataclasses import replace
from math import nan
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
from skillneurons.neurons.sites import Site, site_of
from skillneurons.robustness.measure import PromptedModel
from skillneurons.robustness.restoration import ALL, Patched, Restored, margin, restoration_effects, verdict
from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, ratio_interval
from skillneurons.stats.control_sets import contrast
from skillneurons.stats.paired_accuracy import PairedAccuracy, compare

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
        theirs = ratio_interval(moved, way, clusters, 3)
        assert (one.returned.low, one.returned.high) == (theirs.low, theirs.high)
        gained = (margin(from_.scores, labels) - margin(start, labels)).mean(0)
        assert one.margin.value == pytest.approx(gained.mean())
        theirs = mean_interval(gained, clusters, 3)
        assert (one.margin.low, one.margin.high) == pytest.approx((theirs.low, theirs.high))
        if from_.random is None:
            assert one.against is one.margin_against is None
            assert np.isnan(one.margin_holm_p)
            continue
        random = from_.random.argmax(-1) == labels
        assert replace(one.against, holm_p=nan, holm_another_p=nan) == contrast(
            now, random, 3, clusters=clusters, upward=True
        )
        assert one.margin_against.difference.value == pytest.approx(
            margin(from_.scores, labels).mean() - margin(from_.random, labels).mean()
        )
    tested = found[:-1]
    for got, of in (
        (lambda one: one.against.holm_p, lambda one: one.against.p_value),
        (lambda one: one.against.holm_another_p, lambda one: one.against.another_set_p),
        (lambda one: one.margin_holm_p, lambda one: one.margin_against.both_p),
    ):
        expected = multipletests([of(one) for one in tested], method="holm")[1]
        assert [got(one) for one in tested] == pytest.approx(expected)


def test_what_is_restored_is_expected_above_random_sets_and_what_is_corrupted_below():
    labels = np.arange(40) % 2
    wrong, right = scores_of(1 - labels)[None], scores_of(labels)[None]
    single, four = Clusters.single(40), lambda scores: np.stack([scores] * 4)
    up = restoration_effects("restore", wrong, right, [Patched(5, 1, right, four(wrong))], labels, single)
    down = restoration_effects("corrupt", right, wrong, [Patched(5, 1, wrong, four(right))], labels, single)
    for [one] in (up, down):
        assert one.returned.value == 1
        assert one.against.rank_p == one.against.rank_floor == one.margin_against.rank_p == 1 / 5
        assert one.against.significant
    assert up[0].against.difference.value == -down[0].against.difference.value == 1
    assert (up[0].margin.value, down[0].margin.value) == (2, -2)


def test_a_row_of_the_table_has_every_number_once():
    *_, found = made()
    first, last = found[0].row(), found[-1].row()
    assert first["accuracy_difference"] == found[0].against.difference.value
    assert first["random_margin"] == found[0].margin_against.control.value
    assert (first["holm_p"], first["margin_holm_p"]) == (found[0].against.holm_p, found[0].margin_holm_p)
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
    assert not one.against.significant


# Verdicts


def judged(n: int, lost: float, returned: float, by_random: float | np.ndarray, seed: int = 0):
    """A verdict on n rows of which an attack turns a share; skill and random sets turn shares of these back."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    attacked = np.arange(n) < round(n * lost)

    def answers(back: float) -> np.ndarray:
        return scores_of(labels ^ (attacked & (rng.random(n) >= back)))[None]

    clean, start, skill = answers(1), answers(0), answers(returned)
    random = np.stack([answers(rate) for rate in (by_random if np.ndim(by_random) else [by_random] * 6)])
    nothing = Patched(1, 2, start, np.stack([start] * 6))
    patched = [nothing, Patched(5, 9, skill, random), Patched(ALL, 99, clean, None)]
    found = restoration_effects("restore", start, clean, patched, labels, Clusters.single(n))
    pair = compare(clean.argmax(-1) == labels, start.argmax(-1) == labels, Clusters.single(n), 2)
    return found, pair, verdict(found, pair)


def test_a_cause():
    _, _, text = judged(100, lost=0.5, returned=1, by_random=0)
    assert text.startswith(
        "**Cause**, of 100% of the loss of 50.0 points: at 5% (9 neurons) accuracy goes from 50.0% to"
    )
    assert "with random sets to 50.0% (lowest 50.0%, highest 50.0% of 6): +50.0 points" in text
    assert text.endswith("Restoring all neurons there returns 100.0% [100.0%, 100.0%] of the loss.")


def test_no_evidence():
    _, _, text = judged(200, lost=0.5, returned=0, by_random=0)
    assert text.startswith("**No evidence** that the attack works through the skill neurons")
    assert "could not be seen with these rows" in text
    _, _, random_do_as_well = judged(200, lost=0.5, returned=0.7, by_random=0.7)
    assert random_do_as_well.startswith("**No evidence**")
    _, _, harmful = judged(200, lost=0.5, returned=0, by_random=0.8)
    assert harmful.startswith("**No evidence**"), "random neurons return more: that is no cause either"


def test_one_more_random_set_is_no_cause():
    """Skill neurons that return as much as the best of some very different random sets."""
    found, _, text = judged(300, lost=0.6, returned=0.5, by_random=np.linspace(0, 0.5, 12), seed=1)
    assert found[1].against.holm_p < 0.05 <= found[1].against.holm_another_p
    assert not text.startswith("**Cause**")


def reaching(against, reach):
    return replace(against, difference=replace(against.difference, low=-reach, high=reach))


def test_too_few_rows():
    found, pair, _ = judged(60, lost=0.1, returned=0.5, by_random=0.5, seed=2)
    assert pair.difference.low > 0

    def within(reach: float) -> str:
        """The verdict if every interval reached so far to either side; the loss is 0.1."""
        held = [one if one.against is None else replace(one, against=reaching(one.against, reach)) for one in found]
        return verdict(held, pair)

    assert within(0.2).startswith("**Too few rows to tell**: even if the skill neurons returned the whole loss (10.0")
    assert "±20.0 points" in within(0.2)
    assert within(0.11).startswith("**Too few rows to tell**")
    assert within(0.09).startswith("**No evidence**")


def test_answers_that_never_change_are_no_proof_of_a_difference_of_zero():
    _, _, text = judged(200, lost=0.5, returned=0, by_random=0)
    none = proportion_room(200)
    assert f"A difference below {100 * none:.1f} points could not be seen" in text
    found, pair, _ = judged(60, lost=0.1, returned=0, by_random=0)
    assert verdict(found, pair).startswith("**No evidence**")
    assert verdict(found, replace(pair, originals=20)).startswith("**Too few rows to tell**")


def proportion_room(n: int) -> float:
    """The largest difference of pairs of which none differs that Tango's test keeps: z² / (n + z²)."""
    return 1.959964**2 / (n + 1.959964**2)


def test_nothing_to_restore():
    for lost, n in ((0, 100), (0.02, 50)):
        _, pair, text = judged(n, lost=lost, returned=1, by_random=0)
        assert text.startswith("**Nothing to restore**"), pair.difference
    _, pair, text = judged(200, lost=0.05, returned=1, by_random=0)
    assert pair.difference.low > 0
    assert not text.startswith("**Nothing")


def test_scores_that_move_without_answers_are_told():
    labels = np.arange(80) % 2
    start, clean = scores_of(1 - labels)[None], scores_of(labels)[None]
    nearer = scores_of(1 - labels, 0.3)[None]
    rng = np.random.default_rng(0)
    random = start + rng.normal(0, 0.01, (6, *start.shape)).astype(np.float32)
    found = restoration_effects("restore", start, clean, [Patched(5, 1, nearer, random)], labels, Clusters.single(80))
    pair = compare(np.ones((1, 80)), np.zeros((1, 80)), Clusters.single(80), 2)
    text = verdict(found, pair)
    assert text.startswith("**No evidence**")
    assert "The scores move, the answers do not: at 5% the margin rises" in text
    # one more of random sets that move the scores by very different amounts is nothing to tell
    apart = start + (scores_of(labels) - scores_of(1 - labels)) * np.linspace(0, 0.4, 12)[:, None, None, None]
    wide = Patched(5, 1, nearer, apart.astype(np.float32))
    again = restoration_effects("restore", start, clean, [wide], labels, Clusters.single(80))
    assert again[0].margin_against.p_value < 0.05
    assert "The scores move" not in verdict(again, pair)


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
    (train, _), (dev, _) = marked(60, 1), marked(200, 2)
    parts = halves([f"{i:05d}" for i in range(len(dev))])
    asked = Question(train, dev, parts, (1,), 2, batch_size=64)
    site = site_of(backbone.info, "prompt-body", P)
    card = {"targets": ["positive"]}
    return combine([count(backbone, site, planted_prompt(), asked, one_process())], 1, asked, card).ranking


def experiment(backbone: Backbone, ranking: np.ndarray, seed: int = 3) -> tuple[list[Restored], PairedAccuracy]:
    """Both versions scored, the top neurons and random sets restored as a command does; the bias is set first."""
    site, words = site_of(backbone.info, "prompt-body", P), backbone.info.label_words(tiny_models.WORDS)
    clean, changed = marked(N, seed, attacked=0.6)
    labels, of = clean.labels.numpy(), SimpleNamespace(words=words)
    config = SimpleNamespace(controls=10, seed=1, eval_batch_size=64, device_type="cpu")
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
    neurons = SimpleNamespace(ranking=ranking, shape=ranking.shape)
    patched = bench._patched(SimpleNamespace(rows=of), neurons, changed, clean)
    pair = compare(goal.argmax(-1) == labels, start.argmax(-1) == labels, Clusters.single(N), 2)
    return restoration_effects("restore", start, goal, patched, labels, Clusters.single(N)), pair


def test_an_attack_through_a_planted_neuron_is_a_cause(tmp_path):
    backbone = planted(tmp_path, through=True)
    ranking = ranked(backbone)
    assert ranking[0, CAUSE] == 1
    found, pair = experiment(backbone, ranking)
    assert pair.clean.value == 1
    assert pair.success.value == pytest.approx(0.6, abs=0.15)
    text = verdict(found, pair)
    assert text.startswith("**Cause**"), text
    assert found[0].returned.value == found[-1].returned.value == 1
    assert found[0].against.control.highest == found[0].start.value, "no random set returns anything"
    assert found[0].margin.low > 0


def test_neurons_that_tell_the_label_but_do_not_pass_it_on_are_no_cause(tmp_path):
    """The mask reads the text itself: what the prompt's neurons know makes no difference."""
    backbone = planted(tmp_path, through=False)
    ranking = ranked(backbone)
    assert ranking[0, CAUSE] == 1, "predictive all the same"
    found, pair = experiment(backbone, ranking)
    assert (pair.clean.value, pair.difference.low > 0) == (1, True)
    text = verdict(found, pair)
    assert text.startswith("**No evidence**"), text
    assert found[0].returned.value == found[-1].returned.value == 0


def test_bystanders_of_a_cause_are_no_cause(tmp_path):
    """Neurons beside the planted one tell the label as well as it does, and nothing hangs on them."""
    backbone = planted(tmp_path, through=True)
    ranking = ranked(backbone)
    assert (ranking[0] == 1).sum() > 10
    ranking[:, CAUSE] = 0
    found, pair = experiment(backbone, ranking)
    assert verdict(found, pair).startswith("**No evidence**")
    assert found[-1].returned.value == 1, "all neurons hold the planted one"


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
