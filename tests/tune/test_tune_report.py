"""What a finished tuning or search says of its seeds: intervals end where an accuracy can be."""

from dataclasses import replace

import numpy as np
import pytest

from skillneurons.search.figures import Tried
from skillneurons.search.report import FinalSeed, Verdict
from skillneurons.stats.intervals import Accuracy, Estimate, accuracy
from skillneurons.stats.mcnemar import mcnemar_exact
from skillneurons.tune.report import BASELINES, SeedResult, Summary

N = 40


def scored(right: int) -> Accuracy:
    labels = np.arange(N) % 2
    return accuracy(labels, np.where(np.arange(N) < right, labels, 1 - labels), 2)


def compared(ours: int, theirs: int):
    return mcnemar_exact(np.arange(N) < ours, np.arange(N) < theirs)


def summary(*right: int) -> Summary:
    results = [
        SeedResult(
            seed=seed,
            run_id=str(seed),
            dev=scored(count),
            test=scored(count),
            baselines={name: scored(0) for name in BASELINES},
            against={name: compared(count, 0) for name in BASELINES},
            best_step=1,
            steps=1,
            seconds=1.0,
            train_curve=[],
            dev_curve=[],
            right=np.packbits(np.arange(N) < count).tobytes().hex(),
        )
        for seed, count in enumerate(right)
    ]
    return Summary.of("made up", results)


def verdict(ours: list[int], theirs: list[int]) -> Verdict:
    trial = Tried(0, {"batch_size": 4}, Estimate(0.5, 0.4, 0.6), True)
    pairs = [
        FinalSeed(seed, "a", "b", scored(one), scored(other), compared(one, other))
        for seed, (one, other) in enumerate(zip(ours, theirs, strict=True))
    ]
    return Verdict(
        title="made up",
        complete=2,
        pruned=0,
        winner=trial,
        first=trial,
        seeds=range(len(pairs)),
        winner_test=[scored(one) for one in ours],
        dev_n=N,
        dev_majority=0.5,
        pairs=pairs,
        adjusted=[1.0] * len(pairs),
    )


@pytest.mark.parametrize(("right", "low", "high"), [((40, 40, 30), None, 1.0), ((0, 0, 10), 0.0, None)])
def test_the_interval_of_seeds_ends_at_0_and_1(right, low, high):
    found = [summary(*right).metrics, verdict(list(right), [20, 20, 20]).metrics]
    for metrics in found:
        assert 0 <= metrics["test/accuracy_low"] < metrics["test/accuracy"] < metrics["test/accuracy_high"] <= 1
        assert low in (None, metrics["test/accuracy_low"])
        assert high in (None, metrics["test/accuracy_high"])
    claim = summary(*right).finding().claims[0]
    assert (claim.figure.low, claim.figure.high) == (found[0]["test/accuracy_low"], found[0]["test/accuracy_high"])
    assert "95% interval over 3 seeds" in claim.plain


def test_the_interval_of_a_difference_ends_at_1():
    metrics = verdict([40, 40, 30], [0, 0, 8]).metrics
    assert metrics["test/difference"] == pytest.approx(np.mean([1.0, 1.0, 0.55]))
    assert metrics["test/difference_high"] == 1.0
    assert "+100.0]" in verdict([40, 40, 30], [0, 0, 8]).finding().text


def test_seeds_that_differ_by_more_than_the_rows_explain_are_flagged():
    apart, alike = summary(36, 20, 30), summary(30, 30, 30)
    assert apart.results[0].correct.tolist() == [True] * 36 + [False] * 4
    assert apart.signatures == ["sensitive to the seed"]
    said = "**Sensitive to the seed**: seeds differ by more than rows explain (Cochran's Q, p "
    assert said in apart.finding().markdown
    assert alike.signatures == []
    assert "sensitive" not in alike.finding().text
    assert summary(30).seeds_differ is None
    older = replace(apart, results=[replace(result, right="") for result in apart.results])
    assert older.seeds_differ is None


def test_one_class_for_every_row_is_flagged():
    one = summary(30, 30)
    fallen = replace(one.results[0], test=replace(one.results[0].test, collapsed=True))
    assert replace(one, results=[fallen, one.results[1]]).signatures == ["collapse"]
