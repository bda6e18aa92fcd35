"""Skill beyond chance: beside Fisher's exact test, with clusters, and where accuracy is below the majority rate."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.skill_test import skill


def test_of_one_prompt_and_two_classes_it_is_fishers_exact_test():
    rng = np.random.default_rng(0)
    for agreement in (0.5, 0.57, 0.65):
        labels = (rng.random(90) < 0.4).astype(int)
        predictions = np.where(rng.random(90) < agreement, labels, 1 - labels)
        table = [[int(((labels == i) & (predictions == j)).sum()) for j in (0, 1)] for i in (0, 1)]
        found = skill(predictions[None], labels)
        assert found.value == pytest.approx(balanced_accuracy_score(labels, predictions))
        boot = [
            balanced_accuracy_score(labels[rows], predictions[rows])
            for rows in np.random.default_rng(1).integers(90, size=(1500, 90))
        ]
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(boot, (0.025, 0.975))), abs=0.02)
        assert found.p_value == pytest.approx(stats.fisher_exact(table, "greater").pvalue, abs=0.015)


def test_accuracy_below_the_majority_rate_may_be_skill():
    rng = np.random.default_rng(1)
    labels = (rng.random(400) < 0.62).astype(int)
    predictions = np.where(labels == 1, rng.random(400) < 0.55, rng.random(400) < 0.35).astype(int)
    assert (predictions == labels).mean() < labels.mean()
    found = skill(predictions[None], labels)
    assert found.shown
    assert found.p_value < 0.01


def test_prompts_are_averaged_and_classes_may_be_three():
    rng = np.random.default_rng(2)
    labels, predictions = rng.integers(0, 3, 60), rng.integers(0, 3, (2, 60))
    found = skill(predictions, labels)
    assert found.value == pytest.approx(np.mean([balanced_accuracy_score(labels, one) for one in predictions]))
    assert found.chance == pytest.approx(1 / 3)


@pytest.mark.parametrize("clustered", [False, True])
def test_without_skill_the_error_is_the_level(clustered):
    """Rows of one original answered alike: rows taken as independent would be called skilled too often."""
    rng, shown = np.random.default_rng(3), 0
    for repetition in range(200):
        groups = np.repeat(np.arange(20), 3)
        labels, said = rng.integers(0, 2, 20), rng.integers(0, 2, 20)
        if len(set(labels)) < 2:
            continue
        clusters = Clusters.by(groups) if clustered else Clusters.single(20)
        rows = groups if clustered else np.arange(20)
        shown += skill(said[rows][None], labels[rows], clusters, repetition).shown
    assert shown / 200 < 0.09
