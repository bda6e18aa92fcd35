"""What many sets of neurons cost: as rows of one batch and in stages, beside one set after another.

`python benchmarks/patching.py [texts] [rounds]`, by default 64 and 3. Clean activations are put into other texts,
under the skill neurons and 59 random sets a rate at three rates, as `robustness` does. One after another, each set is
a reading of its own, in which the donors are read again; as rows of a batch, donors are read once. Both are asserted
to give the same scores. In stages, a rate whose test is lost reads no more sets.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from skillneurons.backbones.batching import Encoded
from skillneurons.backbones.loading import describe, load
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task
from skillneurons.neurons.intervention import Intervention, sets_at, suppressed_scores
from skillneurons.neurons.selection import Mask
from skillneurons.neurons.sites import site_of
from skillneurons.neurons.staged_sets import read_in_stages
from skillneurons.stats.control_sets import least_sets

PROMPT, RATES = 20, (1.0, 5.0, 15.0)


def seconds(work: Callable[[], object]) -> float:
    """Of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def line(name: str, texts: int, rounds: int) -> str:
    """Both ratios of a model."""
    info, task = describe(name), load_task("film_notes")
    rows = list(load_splits(task, roles=("train",))["train"].rows)
    backbone, words, site = (
        load(info),
        info.label_words(task.words(info.family)),
        site_of(info, "prompt-body", PROMPT),
    )
    prompt = backbone.vocabulary_embeddings()[300 : 300 + PROMPT]
    encoded = info.encode(rows[: 2 * texts], 64)
    read, donors = (Encoded(part, torch.zeros(texts).long()) for part in (encoded[:texts], encoded[texts:]))
    taps = site.taps(backbone)
    ranking = np.random.default_rng(0).random((len(taps), taps[0].width))
    sets = [sets_at(ranking, rate, "layer", least_sets(len(RATES)), 0) for rate in RATES]
    masks = np.concatenate([part for one in sets for part in (one.skill[None], one.controls) if part is not None])
    counted: list[int] = []

    def changed(some: Mask) -> NDArray[np.float32]:
        counted.append(len(some))
        how = Intervention("resample", "prompt")
        return suppressed_scores(backbone, site, prompt, read, words, some, how, range(texts), 64, donors).numpy()[
            :, None
        ]

    apart = np.concatenate([changed(one[None]) for one in masks])
    assert np.abs(apart - changed(masks)).max() < 1e-3
    one = statistics.median(seconds(lambda: [changed(one[None]) for one in masks]) for _ in range(rounds))
    together = statistics.median(seconds(lambda: changed(masks)) for _ in range(rounds))
    counted.clear()
    staged = statistics.median(
        seconds(lambda: read_in_stages(sets, changed, lambda scores: float(scores[..., 0].mean()), True))
        for _ in range(rounds)
    )
    return (
        f"{name}, {len(masks)} sets, {texts} texts: one after another / rows of a batch {one / together:.2f} "
        f"({one:.1f} s / {together:.1f} s); all / in stages, by sets that do nothing special {together / staged:.2f} "
        f"({sum(counted) // rounds} sets read)"
    )


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:3]]
    for model in ("pocket-roberta", "pocket-t5"):
        print(line(model, *(given + [64, 3][len(given) :])))
