"""Where skill neurons stand, and in which direction: counted by hand on arrays made up for it."""

from dataclasses import replace

import numpy as np
from test_similarity import F, L, neurons

from skillneurons.discover.figures import significant_by_layer


def shares(made) -> dict[str, list[float]]:
    (axes,) = significant_by_layer(made, "quips").axes
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}


def test_a_direction_counts_where_all_prompts_agree():
    made = neurons("quips", np.full((2, L, F), 0.6))
    sign, q = np.ones((1, 2, L, F), dtype=np.int8), np.ones((1, L, F))
    sign[0, :, :, :20], sign[0, 1, :, 20:50] = -1, -1
    q[0, 0, :60], q[0, 1, 10:30] = 0.01, 0.01
    made = replace(made, sign=sign, q_value=q)
    found = shares(made)
    assert list(found) == ["excitatory", "inhibitory", "prompts disagree on its direction"]
    np.testing.assert_allclose(list(found.values()), np.array([[10, 0, 0], [20, 10, 0], [30, 10, 0]]) / F)
    agreed = shares(replace(made, sign=np.ones_like(sign)))
    assert list(agreed) == ["excitatory", "inhibitory"]
    np.testing.assert_allclose(list(agreed.values()), np.array([[60, 20, 0], [0, 0, 0]]) / F)


def test_of_several_targets_the_surest_gives_the_direction():
    made = neurons("quips", np.full((3, 2, L, F), 0.6))
    sign, q = np.ones((3, 2, L, F), dtype=np.int8), np.ones((3, L, F))
    sign[2] = -1
    q[0, 0, :10], q[2, 0, :4] = 0.04, 0.01
    found = shares(replace(made, sign=sign, q_value=q))
    np.testing.assert_allclose(found["excitatory"], [6 / F, 0, 0])
    np.testing.assert_allclose(found["inhibitory"], [4 / F, 0, 0])
