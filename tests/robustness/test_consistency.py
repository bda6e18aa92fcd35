"""Consistency by plain loops and scipy, on neurons of which it is known what became of them, and on mere noise."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.multitest import multipletests
from test_counting import stored

import tiny_models
from skillneurons.backbones.batching import Encoded
from skillneurons.neurons.activations import chosen_activations, standardised_shift
from skillneurons.neurons.intervention import Intervention, suppressed_scores
from skillneurons.neurons.selection import random_sets, top_neurons
from skillneurons.neurons.sites import site_of
from skillneurons.robustness.ceiling import Pool
from skillneurons.robustness.consistency import SKILL, Reading, Votes, consistency, shift_by_layer
from skillneurons.robustness.measure import PromptedModel
from skillneurons.stats.cluster_bootstrap import Clusters, mean_interval, sign_flip_p
from skillneurons.stats.intervals import passes

S, N, L, F = 3, 30, 2, 40


def noise(seed, n=N, shape=(L, F)):
    """Firing `[S, n, L, F]`, signs `[S, L, F]` and labels `[n]` that have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    fired = rng.random((S, n, *shape)) < 0.2 + 0.6 * rng.random(shape)
    return fired, rng.choice(np.array([-1, 1], dtype=np.int8), (S, *shape)), rng.integers(0, 2, n)


def right_by_hand(fired, signs, labels):
    """Whether each prompt's neuron is right at each row `[S, n, L, F]`."""
    right = np.zeros(fired.shape, dtype=bool)
    for s, i, layer, unit in product(*map(range, fired.shape)):
        says = fired[s, i, layer, unit] if signs[s, layer, unit] > 0 else not fired[s, i, layer, unit]
        right[s, i, layer, unit] = says == bool(labels[i])
    return right


def line(found, measure, percent=None, layer=None):
    [one] = [
        one for one in found.lines if (one.measure, one.layer) == (measure, layer) and percent in (None, one.percent)
    ]
    return one


def test_votes_by_hand():
    fired, signs, labels = noise(0, n=12, shape=(2, 5))
    votes, right = Votes.of(fired, signs), right_by_hand(fired, signs, labels)
    assert (len(votes), votes.shape, votes.prompts) == (12, (2, 5), S)
    assert votes.predictivity(labels) == pytest.approx(right.mean((0, 1)), abs=1e-6)
    several = np.stack([labels, 1 - labels, np.random.default_rng(1).permutation(labels)])
    expected = np.stack([right_by_hand(fired, signs, one).mean((0, 1)) for one in several])
    assert votes.predictivity(several) == pytest.approx(expected, abs=1e-6)
    weights = np.random.default_rng(2).dirichlet(np.ones(12), size=4)
    assert votes.resampled(labels, weights) == pytest.approx(
        np.einsum("bn,nlf->blf", weights, right.mean(0)), abs=1e-6
    )
    rows = np.array([3, 3, 0, 7])
    of_sample = np.bincount(rows, minlength=12)[None] / 4
    assert votes.resampled(labels, of_sample)[0] == pytest.approx(right[:, rows].mean((0, 1)), abs=1e-6)
    sets = np.random.default_rng(3).random((3, 2, 5)) < 0.5
    assert votes.of_sets(labels, sets) == pytest.approx(
        np.stack([right[..., one].mean((0, 2)) for one in sets]), abs=1e-6
    )


def test_one_line_is_one_number_of_the_definition():
    fired, signs, labels = noise(4)
    votes, right = Votes.of(fired, signs), right_by_hand(fired, signs, labels)
    ranking, percents = np.random.default_rng(5).random((L, F)), (5, 20)
    clusters = Clusters.single(N)
    found = consistency(ranking, Reading(votes, labels, clusters), percents, controls=4, permutations=30, seed=6)
    score = right.mean((0, 1))
    assert found.predictivity == pytest.approx(score, abs=1e-6)
    permuted = clusters.permuted(labels, 30, 6)
    null = np.stack([right_by_hand(fired, signs, one).mean((0, 1)) for one in permuted])
    assert found.null == pytest.approx(tuple(np.quantile(null, (0.025, 0.975))), abs=1e-6)
    ps = []
    for percent in percents:
        # the best of every layer, neuron by neuron
        best = [sorted(range(F), key=lambda u, row=row: -row[u])[: F * percent // 100] for row in ranking]
        top = np.zeros((L, F), dtype=bool)
        for layer, units in enumerate(best):
            top[layer, units] = True
        by_row, by_chance = right[..., top].mean((0, 2)), null[:, top].mean(1)
        one = found.skill[percent]
        assert one is line(found, f"{SKILL}, adversarial rows", percent)
        assert (one.n, one.neurons) == (N, L * F * percent // 100)
        assert one.estimate.value == pytest.approx(score[top].mean(), abs=1e-6)
        interval = mean_interval(by_row, clusters)
        assert (one.estimate.low, one.estimate.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
        assert one.estimate.chance == pytest.approx(by_chance.mean(), abs=1e-6)
        assert (one.null_low, one.null_high) == pytest.approx(tuple(np.quantile(by_chance, (0.025, 0.975))), abs=1e-6)
        assert one.p == pytest.approx((1 + (by_chance >= by_row.mean() - 1e-6).sum()) / 31)
        assert one.p_floor == 1 / 31
        ps.append(one.p)
        sets = list(random_sets(top, percent, 4, 6))
        expected = score[top].mean() - np.mean([score[one].mean() for one in sets])
        gap = found.difference[percent]
        assert gap.estimate.value == pytest.approx(expected, abs=1e-6)
        others = np.array([score[one].mean() for one in sets])
        assert gap.p == pytest.approx((1 + (others >= score[top].mean() - 1e-9).sum()) / 5)
        theirs = [set(sorted(range(F), key=lambda u, row=row: -row[u])[: len(best[0])]) for row in found.predictivity]
        shares = [len(set(a) & b) / len(a) for a, b in zip(best, theirs, strict=True)]
        shared = found.overlap[percent]
        assert shared.estimate.value == pytest.approx(np.mean(shares))
        assert shared.estimate.chance == pytest.approx(percent / 100)
        for layer, share in enumerate(shares):
            assert line(found, f"overlap@{percent}%", percent, layer).estimate.value == pytest.approx(share)
    assert [found.skill[k].holm_p for k in percents] == pytest.approx(multipletests(ps, method="holm")[1])
    everything = line(found, "all neurons, adversarial rows")
    assert everything.estimate.value == pytest.approx(score.mean(), abs=1e-6)
    assert everything.neurons == L * F
    assert found.agreement.estimate.value == pytest.approx(
        stats.spearmanr(ranking.ravel(), found.predictivity.ravel()).statistic
    )
    of_permuted = votes.predictivity(permuted)
    by_chance = np.array([stats.spearmanr(ranking.ravel(), one.ravel()).statistic for one in of_permuted])
    assert found.agreement.null_low == pytest.approx(np.quantile(by_chance, 0.025))
    assert found.agreement.p == pytest.approx((1 + (by_chance >= found.agreement.estimate.value - 1e-9).sum()) / 31)
    assert np.isnan([found.agreement.estimate.low, found.agreement.ceiling.value]).all(), "no clean rows, no ceiling"
    assert found.agreement.lost is None


def test_a_ranking_agrees_with_itself_and_not_with_its_reverse():
    fired, signs, labels = noise(7, n=400)
    votes = Votes.of(fired, signs)
    reading, own = Reading(votes, labels, Clusters.single(400)), votes.predictivity(labels)
    same = consistency(own, reading, (5, 10), permutations=20)
    assert same.agreement.estimate.value == pytest.approx(1)
    assert {one.estimate.value for one in same.overlap.values()} == {1}
    assert same.skill[5].estimate.value > same.skill[10].estimate.value > 0.5
    # the least predictive must not be taken for the most
    turned = consistency(-own, reading, (5, 10), permutations=20)
    assert turned.agreement.estimate.value == pytest.approx(-1)
    assert {one.estimate.value for one in turned.overlap.values()} == {0}
    assert turned.skill[5].estimate.value < 0.5
    assert turned.skill[5].estimate.value == pytest.approx(np.sort(own, axis=1)[:, :2].mean())
    # layers of other levels are ranked each by itself
    lifted = consistency(own + np.array([[0], [9]]), reading, (5, 10), permutations=20)
    assert {one.estimate.value for one in lifted.overlap.values()} == {1}


def test_the_change_is_that_of_the_same_rows():
    fired, signs, labels = noise(8)
    before = fired[:, :20] ^ (np.random.default_rng(9).random((S, 20, L, F)) < 0.3)
    rows, ranking = np.random.default_rng(10).permutation(N)[:20], np.random.default_rng(11).random((L, F))
    clusters = Clusters.by([f"{label} {i % 9}" for i, label in enumerate(labels)])
    reading = Reading(Votes.of(fired, signs), labels, clusters, Votes.of(before, signs), labels[rows], rows)
    found, top = consistency(ranking, reading, (10,), permutations=20), top_neurons(ranking, 10)
    was = right_by_hand(before, signs, labels[rows])[..., top].mean((0, 2))
    now = right_by_hand(fired, signs, labels)[..., top].mean((0, 2))[rows]
    clean = line(found, f"{SKILL}, clean originals")
    assert clean.n == 20
    assert clean.estimate.value == pytest.approx(was.mean(), abs=1e-6)
    change = line(found, f"{SKILL}, adversarial minus clean")
    assert change.estimate.value == pytest.approx((now - was).mean(), abs=1e-6)
    assert change.estimate.chance == 0
    assert change.p == pytest.approx(sign_flip_p(now - was, clusters.take(rows)), abs=0.01)


def planted(seed, hold, n=150, percent=10, clusters=None):
    """Clean ranking and adversarial reading: the top neurons of every layer hold the label at a share of rows."""
    rng = np.random.default_rng(seed)
    fired, signs, _ = noise(seed, n)
    labels = rng.integers(0, 2, n)
    ranking = rng.random((L, F))
    top = top_neurons(ranking, percent)
    follow = rng.random((S, n, L, F)) < hold
    told = (labels == 1)[None, :, None, None] == (signs > 0)[:, None]
    fired = np.where(top & follow, told, fired)
    return ranking, Reading(Votes.of(fired, signs), labels, clusters or Clusters.single(n)), top


def test_skill_neurons_that_hold_are_beyond_chance_and_random_ones():
    for seed in range(5):
        ranking, reading, _ = planted(seed, hold=0.6)
        found = consistency(ranking, reading, (10,), permutations=60, seed=seed)
        skill, gap = found.skill[10], found.difference[10]
        assert skill.p == skill.p_floor == 1 / 61
        assert skill.estimate.value == pytest.approx(0.8, abs=0.05)
        assert skill.estimate.low > skill.null_high
        assert gap.estimate.low > 0.1
        assert gap.holm_p < 0.05
        # neurons that fire as one rank as one under some permuted labels too: no p at its floor here
        assert found.overlap[10].p <= 0.05
        assert found.overlap[10].estimate.value > 0.7


def test_skill_neurons_that_break_are_at_chance():
    alarms, values = 0, []
    for seed in range(12):
        ranking, reading, _ = planted(seed, hold=0)
        found = consistency(ranking, reading, (10,), permutations=39, seed=seed)
        alarms += sum(one.p <= 0.05 for one in (found.skill[10], found.difference[10], found.overlap[10]))
        values.append(found.skill[10].estimate.value)
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)
    assert alarms <= 6  # of 36


@pytest.mark.parametrize("copies", [1, 4])
def test_p_values_hold_their_level_on_labels_that_mean_nothing(copies):
    """With several rows of one original too, which fire alike; single rows then alarm far too often."""
    runs, alarms, naive = 100, {"skill": 0, "overlap": 0, "agreement": 0}, 0
    for seed in range(runs):
        rng, names = np.random.default_rng(seed), np.repeat(np.arange(48 // copies), copies)
        common = rng.random((48 // copies, 1, 1)) < 0.5  # neurons fire together, as a text's words make them
        fired = (rng.random((1, 48 // copies, L, F)) < np.where(common, 0.7, 0.3))[:, names]
        votes = Votes.of(fired, np.ones((1, L, F), dtype=np.int8))
        labels, ranking = rng.integers(0, 2, 48 // copies)[names], rng.random((L, F))
        found = consistency(ranking, Reading(votes, labels, Clusters.by(names)), (10,), 2, 39, seed)
        for name, one in (("skill", found.skill[10]), ("overlap", found.overlap[10]), ("agreement", found.agreement)):
            alarms[name] += one.p <= 0.05
        if copies > 1:
            alone = Clusters.single(48).permuted(labels, 39, seed)
            top = top_neurons(ranking, 10)
            by_chance = votes.predictivity(alone)[:, top].mean(1)
            naive += (1 + (by_chance >= found.skill[10].estimate.value).sum()) / 40 <= 0.05
    assert max(alarms.values()) <= 12, alarms  # 5 expected
    assert alarms["skill"] >= 1
    if copies > 1:
        assert naive > 12


def test_random_sets_are_several_seeded_and_as_large_in_every_layer():
    top = np.zeros((3, 50), dtype=bool)
    top[0, :5], top[2, 10:12] = True, True
    sets, again = list(random_sets(top, 5, 6, 1)), list(random_sets(top, 5, 6, 1))
    assert np.array_equal(sets, again)
    assert len({one.tobytes() for one in sets}) == 6
    assert all(one.sum(1).tolist() == [5, 0, 2] for one in sets)
    assert not np.array_equal(sets, list(random_sets(top, 5, 6, 2)))
    assert not np.array_equal(sets, list(random_sets(top, 6, 6, 1)))


def test_the_layer_that_moves_is_found():
    rng = np.random.default_rng(0)
    shift = rng.gamma(2, 0.5, (80, 3, F)).astype(np.float32)
    top = top_neurons(rng.random((3, F)), 10)
    shift[:, 1] += np.where(top[1], 1.0, 0.0)
    found = shift_by_layer(shift, top, 10, Clusters.single(80), 0)
    assert [layer for layer, _, _ in found] == [0, 1, 2]
    sets = list(random_sets(top, 10, 59, 0))  # as a test over three layers needs
    for layer, against, _ in found:
        ours, theirs = shift[:, layer, top[layer]].mean(), np.mean([shift[:, layer, s[layer]].mean() for s in sets])
        assert against.difference.value == pytest.approx(ours - theirs, abs=1e-6)
        assert against.sets == 59
    assert [passes(p) for _, _, p in found] == [False, True, False]
    ps = [a.rank_p for _, a, _ in found]
    assert [p for _, _, p in found] == pytest.approx(multipletests(ps, method="holm")[1])
    top[0] = False
    assert [layer for layer, _, _ in shift_by_layer(shift, top, 10, Clusters.single(80), 0)] == [1, 2]


def test_random_neurons_do_not_move_more_than_random_neurons():
    """Neurons move by very different amounts, so any set is off the average one: that alone is no finding."""
    alarms, off_average = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shift = (np.abs(rng.normal(size=(60, 1, 100))) * rng.gamma(2, 0.5, (1, 100))).astype(np.float32)
        top = top_neurons(rng.random((1, 100)), 8)
        [(_, against, p)] = shift_by_layer(shift, top, 8, Clusters.single(60), seed)
        alarms += passes(p)
        off_average += not against.difference.low <= 0 <= against.difference.high
    assert alarms <= 20, "10 expected"
    assert off_average >= 20, "so the finding may not rest on the interval of the difference"


def test_a_shift_by_hand():
    clean = np.array([[[0.0, 1.0, 3.0]], [[2.0, 1.0, 3.0]], [[4.0, 1.0, 0.0]]], dtype=np.float32)
    moved = np.array([[[1.0, -3, 0]], [[-2, 3, 0]], [[0, 3, 0]]], dtype=np.float32)
    found = standardised_shift([clean + moved, clean], [clean, clean])
    spread = np.sqrt(8 / 3)  # of 0, 2, 4
    assert found[:, 0, 0] == pytest.approx(np.array([1, 2, 0]) / spread / 2)
    assert (found[:, 0, 1] == 0).all(), "what does not vary has no scale to move on"
    assert (found[:, 0, 2] == 0).all()
    assert standardised_shift([clean + 2 * clean.std(0)], [clean])[:, 0, [0, 2]] == pytest.approx(2)


# Activations: of the positions chosen on clean rows, compared with the clean baseline


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: tiny_models.loaded(name, folder / name) for name in ("roberta", "t5", "gpt2")}


def texts_of(backbone, part):
    rows = backbone.info.encode(tiny_models.TEXTS[part], 24)
    return Encoded(rows, torch.arange(len(rows)) % 2)


@pytest.mark.parametrize("site", ["prompt", "prompt-body", "label"])
@pytest.mark.parametrize("name", ["roberta", "t5", "gpt2"])
def test_activations_are_those_of_the_chosen_positions(backbones, name, site):
    backbone = backbones[name]
    prompt = torch.randn(4, backbone.info.embedding_width, generator=torch.Generator().manual_seed(1))
    encoded, found = texts_of(backbone, slice(None)), site_of(backbone.info, site, 4)
    everything = stored(backbone, name, site, prompt, encoded)
    layers, width, units = everything.shape[1:]
    position = np.random.default_rng(0).integers(0, width, (layers, units)).astype(np.int16)
    where = np.indices((layers, units))
    expected = everything[:, where[0], position, where[1]]
    for batch_size in (1, 3, 32):
        got = chosen_activations(backbone, found, prompt, encoded, position, batch_size)
        assert got == pytest.approx(expected, abs=2e-5)


def test_firing_is_above_the_clean_baseline_which_stays_what_it_is(backbones):
    backbone, site = backbones["roberta"], "prompt-body"
    rng, shape = np.random.default_rng(2), (3, 48)
    prompts = [torch.randn(4, 32, generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    placed = site_of(backbone.info, site, 4)
    clean = texts_of(backbone, slice(4, None))
    whole = [stored(backbone, "roberta", site, prompt, clean) for prompt in prompts]
    baseline = np.stack([one.mean(0) for one in whole])
    position = rng.integers(0, 3, (1, 2, *shape)).astype(np.int16)
    sign = rng.choice(np.array([-1, 1], dtype=np.int8), (1, 2, *shape))
    neurons = SimpleNamespace(baseline=baseline.copy(), position=position, sign=sign)
    plan = SimpleNamespace(
        prompts=[SimpleNamespace(embeddings=one) for one in prompts],
        site=lambda neurons, prompt: placed,
        # the neurons know the prompts in another order
        place=lambda neurons, prompt: 1 - [one is prompt.embeddings for one in prompts].index(True),
    )
    neurons.baseline, neurons.position, neurons.sign = baseline[::-1].copy(), position[:, ::-1], sign[:, ::-1]
    kept = neurons.baseline.copy()
    bench = PromptedModel(plan, backbone, lambda text: None)
    where = np.indices(shape)
    for part in (slice(None, 4), slice(4, None)):
        encoded = texts_of(backbone, part)
        activations = [bench._activations(neurons, s, encoded) for s in (0, 1)]
        votes = bench._votes(neurons, activations)
        expected, unsure = np.zeros((len(encoded), *shape)), np.zeros((len(encoded), *shape), dtype=bool)
        for s in (0, 1):
            chosen = position[0, s]
            values = stored(backbone, "roberta", site, prompts[s], encoded)[:, where[0], chosen, where[1]]
            line_at = baseline[s][where[0], chosen, where[1]]
            assert activations[s] == pytest.approx(values, abs=2e-5)
            expected += (values > line_at) ^ (sign[0, s] < 0)
            unsure |= np.abs(values - line_at) < 1e-4
        assert unsure.mean() < 0.05
        assert (votes.counts == expected)[~unsure].all()
        assert np.array_equal(neurons.baseline, kept)


def test_what_was_read_is_not_changed_by_what_is_suppressed_later(backbones):
    for name, backbone in backbones.items():
        prompt = torch.randn(4, backbone.info.embedding_width, generator=torch.Generator().manual_seed(1))
        encoded, site = texts_of(backbone, slice(None)), site_of(backbone.info, "prompt", 4)
        layers, units = 3, site.taps(backbone)[0].width
        position = np.zeros((layers, units), dtype=np.int16)
        read = chosen_activations(backbone, site, prompt, encoded, position)
        copy = read.copy()
        words = backbone.info.label_words(tiny_models.WORDS)
        masks = np.ones((1, layers, units), dtype=bool)
        suppressed_scores(backbone, site, prompt, encoded, words, masks, Intervention("zero"), range(8))
        assert np.array_equal(read, copy), name
        assert (read != 0).any()
        assert np.array_equal(chosen_activations(backbone, site, prompt, encoded, position), copy), name


def test_a_kind_of_attack_is_measured_as_if_its_rows_were_all():
    fired, signs, labels = noise(31, n=90)
    votes, ranking = Votes.of(fired, signs), np.random.default_rng(32).random((L, F))
    clusters = Clusters.by(np.arange(90) // 2 * 2 + labels)
    pool_fired, _, pool_labels = noise(33, n=400)
    pool = Pool(Votes.of(pool_fired, signs), pool_labels)
    kinds = {"typos": np.arange(0, 40), "human": np.arange(50, 90)}
    found = consistency(ranking, Reading(votes, labels, clusters, pool=pool, kinds=kinds), (5, 10), permutations=20)
    assert [(one.group, one.measure) for one in found.kinds] == [
        (kind, what) for what in ("Spearman", "overlap@5%", "overlap@10%") for kind in kinds
    ]
    alone = {}
    for kind, rows in kinds.items():
        part = Votes.of([one[rows] for one in fired], signs)
        reading = Reading(part, labels[rows], clusters.take(rows), pool=pool)
        alone[kind] = consistency(ranking, reading, (5, 10), permutations=20)
    for one in found.kinds:
        lines = alone[one.group]
        expected = lines.agreement if np.isnan(one.percent) else lines.overlap[one.percent]
        assert (one.estimate.value, one.n, one.ceiling) == (expected.estimate.value, 40, expected.ceiling)
    by_kind = [one.agreement.ceiling.p_value for one in alone.values()]
    adjusted = multipletests(by_kind, method="holm")[1]
    assert [one.lost_holm_p for one in found.kinds[:2]] == pytest.approx(adjusted)
    rest = consistency(ranking, Reading(votes, labels, clusters, pool=pool), (5, 10), permutations=20)
    assert repr(found.lines[: -len(found.kinds)]) == repr(rest.lines)
