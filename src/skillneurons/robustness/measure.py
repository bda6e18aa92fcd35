"""What a robustness command reads: predictions, activations, and predictions with neurons changed.

Shapes: S prompts, n adversarial rows, m pairs, C classes, L layers, F FFN width, K random sets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded
from skillneurons.commands.evaluated_task import EvaluatedTask
from skillneurons.neurons.activations import chosen_activations, standardised_shift
from skillneurons.neurons.intervention import Intervention, Sets, sets_at, suppressed_scores
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.selection import Mask, random_sets, top_neurons
from skillneurons.prompts.scoring import score
from skillneurons.robustness.consistency import Consistency, Reading, Votes, consistency, shift_by_layer
from skillneurons.robustness.plan import Attacked, RobustnessPlan
from skillneurons.robustness.restoration import ALL, Direction, Patched, Restored, restoration_effects
from skillneurons.seeds import mix
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.control_sets import Contrast
from skillneurons.suppress.report import SetPredictions

Scores = NDArray[np.float32]
Say = Callable[[str], None]
ACTIVATION_BATCH = 32


@dataclass(frozen=True)
class SiteMeasured:
    """One site on one adversarial set.

    Attributes:
        site: name.
        consistency: of the clean skill neurons.
        shift: by percentage: (layer, skill minus random, Holm p); empty without pairs that keep the label.
        restored: both directions; empty without such pairs.
    """

    site: str
    consistency: Consistency
    shift: dict[float, list[tuple[int, Contrast, float]]]
    restored: dict[Direction, list[Restored]]


@dataclass(frozen=True)
class SetMeasured:
    """One adversarial set.

    Attributes:
        attacked: its rows.
        scores: `[S, n, C]`.
        clean: of the originals `[S, m, C]`; None where there are none.
        same_text: pairs that no longer differ after cutting to `max_length` tokens.
        sites: one a discovery, the one that verdicts rest on last.
        suppressed: the clean skill neurons suppressed on the adversarial rows.
        reverse: neurons ranked on the adversarial rows, suppressed on the clean test rows.
        sets: what `suppressed` and `reverse` suppress, by rising rate.
    """

    attacked: Attacked
    scores: Scores
    clean: Scores | None
    same_text: int
    sites: tuple[SiteMeasured, ...]
    suppressed: SetPredictions
    reverse: SetPredictions
    sets: tuple[tuple[Sets, ...], tuple[Sets, ...]]


@dataclass(frozen=True)
class PromptedModel:
    """A loaded backbone and what to do with it."""

    plan: RobustnessPlan
    backbone: Backbone
    say: Say

    @cached_property
    def own(self) -> Encoded:
        """The clean test rows, tokenised once for all sets."""
        return self.plan.own.encode(self.plan.info)

    def scores(self, of: EvaluatedTask, encoded: Encoded) -> Scores:
        """Label scores `[S, n, C]` of the untouched model."""
        accelerator = Accelerator(cpu=self.plan.config.device_type == "cpu")
        size = self.plan.config.eval_batch_size
        found = [score(self.backbone, p.embeddings, encoded, of.words, accelerator, size) for p in of.prompts]
        return np.stack([one.numpy() for one in found])

    def measure(self, attacked: Attacked) -> SetMeasured:
        """One adversarial set whole."""
        rows, clean = attacked.rows.encode(self.plan.info), None
        scores, clean_scores, same = self.scores(attacked.rows, rows), None, 0
        if attacked.clean is not None:
            clean = attacked.clean.encode(self.plan.info)
            clean_scores = self.scores(attacked.clean, clean)
        if clean is not None and attacked.pairs.paired:
            same = sum(list(a) == list(b) for a, b in zip(_some(rows, attacked.places).rows, clean.rows, strict=True))
        self.say(f"{attacked.name}: {len(rows)} rows, {len(clean) if clean else 0} originals scored")
        sites = tuple(
            self._site(attacked, neurons, rows, clean, scores, clean_scores) for neurons in self.plan.neurons
        )
        main = self.plan.neurons[-1]
        found = [self._sets(main.ranking), self._sets(sites[-1].consistency.predictivity)]
        suppressed = self._suppressed(attacked.rows, rows, main, found[0], attacked.clusters)
        reverse = self._suppressed(self.plan.own, self.own, main, found[1], None)
        self.say(f"{attacked.name}: suppression read")
        return SetMeasured(attacked, scores, clean_scores, same, sites, suppressed, reverse, (found[0], found[1]))

    def _site(
        self,
        attacked: Attacked,
        neurons: Neurons,
        rows: Encoded,
        clean: Encoded | None,
        scores: Scores,
        clean_scores: Scores | None,
    ) -> SiteMeasured:
        c, paired = self.plan.config, attacked.pairs.paired
        changed = [self._activations(neurons, number, rows) for number in range(len(self.plan.prompts))]
        originals = [self._activations(neurons, n, clean) for n in range(len(changed))] if clean and paired else []
        reading = self._reading(attacked, neurons, changed, originals)
        held = consistency(neurons.ranking, reading, self.plan.rates, c.controls, c.permutations, c.seed)
        self.say(f"{attacked.name}, site {neurons.card['site']}: activations read")
        if not attacked.restorable or clean is None or clean_scores is None:
            return SiteMeasured(neurons.card["site"], held, {}, {})
        places, clusters = attacked.places, attacked.clusters.take(attacked.places)
        shift = standardised_shift([one[places] for one in changed], originals)
        tops = {rate: top_neurons(neurons.ranking, rate) for rate in self.plan.rates}
        moved = {r: shift_by_layer(shift, top, r, clusters, c.controls, c.seed) for r, top in tops.items()}
        labels = attacked.pairs.changed.labels
        both: tuple[tuple[Direction, Encoded, Encoded, Scores, Scores], ...] = (
            ("restore", _some(rows, places), clean, scores[:, places], clean_scores),
            ("corrupt", clean, _some(rows, places), clean_scores, scores[:, places]),
        )
        patched = {}
        for direction, read, donors, start, goal in both:
            found = self._patched(attacked, neurons, read, donors)
            patched[direction] = restoration_effects(direction, start, goal, found, labels, clusters, c.seed)
            self.say(f"{attacked.name}, site {neurons.card['site']}: {direction} read")
        return SiteMeasured(neurons.card["site"], held, moved, patched)

    def _reading(
        self,
        attacked: Attacked,
        neurons: Neurons,
        changed: Sequence[NDArray[np.float32]],
        originals: Sequence[NDArray[np.float32]],
    ) -> Reading:
        labels = attacked.pairs.adversarial.labels
        votes = self._votes(neurons, changed)
        if not originals or attacked.pairs.clean is None:
            return Reading(votes, labels, attacked.clusters)
        theirs = self._votes(neurons, originals)
        return Reading(votes, labels, attacked.clusters, theirs, attacked.pairs.clean.labels, attacked.places)

    def _activations(self, neurons: Neurons, number: int, encoded: Encoded) -> NDArray[np.float32]:
        prompt = self.plan.prompts[number]
        site, place = self.plan.site(neurons, prompt), self.plan.place(neurons, prompt)
        position = neurons.position[0, place]
        return chosen_activations(self.backbone, site, prompt.embeddings, encoded, position, ACTIVATION_BATCH)

    def _votes(self, neurons: Neurons, activations: Sequence[NDArray[np.float32]]) -> Votes:
        """Firing is above the *clean* baseline, whatever rows are read."""
        fired, signs = [], []
        for prompt, values in zip(self.plan.prompts, activations, strict=True):
            place = self.plan.place(neurons, prompt)
            position = neurons.position[0, place].astype(np.int64)
            baseline = np.take_along_axis(neurons.baseline[place], position[:, None], axis=1)[:, 0]
            fired.append(np.asarray(values > baseline))
            signs.append(neurons.sign[0, place])
        return Votes.of(fired, signs)

    def _patched(self, attacked: Attacked, neurons: Neurons, read: Encoded, donors: Encoded) -> list[Patched]:
        c, parts = self.plan.config, []
        for rate in self.plan.rates:
            top = top_neurons(neurons.ranking, rate)
            parts.append(np.stack([top, *random_sets(top, rate, c.controls, c.seed)]))
        everything = np.ones((1, *neurons.shape), dtype=np.bool_)
        scores = self._changed(neurons, read, attacked.rows, np.concatenate([*parts, everything]), donors)
        found, size = [], 1 + c.controls
        for number, (rate, masks) in enumerate(zip(self.plan.rates, parts, strict=True)):
            block = scores[number * size : (number + 1) * size]
            found.append(Patched(rate, int(masks[0].sum()), block[0], block[1:]))
        return [*found, Patched(ALL, everything.size, scores[-1], None)]

    def _changed(
        self, neurons: Neurons, encoded: Encoded, of: EvaluatedTask, masks: Mask, donors: Encoded | None
    ) -> Scores:
        """Label scores `[M, S, n, C]` with sets of neurons taken from the donors; without donors set to 0."""
        c, found = self.plan.config, []
        keys = range(len(encoded))
        for prompt in self.plan.prompts:
            how = Intervention("zero") if donors is None else Intervention("resample", "prompt", seed=mix(c.seed))
            site = self.plan.site(neurons, prompt)
            arguments = (self.backbone, site, prompt.embeddings, encoded, of.words, masks, how, keys)
            found.append(suppressed_scores(*arguments, c.eval_batch_size, donors).numpy())
        return np.stack(found, axis=1)

    def _sets(self, ranking: NDArray[np.floating]) -> tuple[Sets, ...]:
        c = self.plan.config
        return tuple(sets_at(ranking, rate, "layer", c.controls, c.seed) for rate in self.plan.rates)

    def _suppressed(
        self, of: EvaluatedTask, encoded: Encoded, neurons: Neurons, sets: Sequence[Sets], clusters: Clusters | None
    ) -> SetPredictions:
        none, own = np.zeros((1, *neurons.shape), dtype=np.bool_), of is self.plan.own
        masks = [none, *(part for one in sets for part in (one.skill[None], one.controls) if part is not None)]
        scores = self._changed(neurons, encoded, of, np.concatenate(masks), None)
        prompts, predictions = [prompt.fingerprint for prompt in of.prompts], scores.argmax(-1).swapaxes(0, 1)
        return SetPredictions(of.task.name, own, of.split, prompts, predictions, clusters)


def _some(encoded: Encoded, rows: NDArray[np.int64]) -> Encoded:
    return Encoded([encoded.rows[i] for i in rows.tolist()], encoded.labels[rows])
