"""What a robustness command reads: predictions, activations, and predictions with neurons changed.

Shapes: S prompts, n adversarial rows, m pairs, C classes, L layers, F FFN width, K random sets.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from skillneurons.neurons.selection import Mask, top_neurons
from skillneurons.neurons.staged_sets import read_in_stages
from skillneurons.prompts.scoring import score
from skillneurons.robustness.ceiling import Pool
from skillneurons.robustness.consistency import Consistency, Reading, consistency, shift_by_layer
from skillneurons.robustness.plan import LEAST_ROWS, Attacked, RobustnessPlan
from skillneurons.robustness.restoration import (
    ALL,
    SKILL,
    Direction,
    Donor,
    Patched,
    Restored,
    Rival,
    judged,
    restoration_effects,
    rival,
)
from skillneurons.robustness.rival_sets import Movers, donors_of_label, rival_sets
from skillneurons.robustness.votes import Votes
from skillneurons.seeds import mix
from skillneurons.stats.cluster_bootstrap import Clusters
from skillneurons.stats.control_sets import Contrast
from skillneurons.stats.neuron_tests import spearman
from skillneurons.stats.paired_accuracy import margin
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
        rivals: other neurons and other donors, of the site that verdicts rest on.
    """

    site: str
    consistency: Consistency
    shift: dict[float, list[tuple[int, Contrast, float]]]
    restored: dict[Direction, list[Restored]]
    rivals: tuple[Rival, ...] = ()


@dataclass(frozen=True)
class SetMeasured:
    """One adversarial set.

    Attributes:
        attacked: its rows.
        scores: `[S, n, C]`.
        clean: of the originals `[S, m, C]`; None where there are none.
        same_text: pairs that do not differ, or no longer after cutting to `max_length` tokens.
        sites: one a discovery, the one that verdicts rest on last.
        suppressed: the clean skill neurons suppressed on the adversarial rows.
        reverse: neurons ranked on the adversarial rows, suppressed on the clean test rows.
    """

    attacked: Attacked
    scores: Scores
    clean: Scores | None
    same_text: int
    sites: tuple[SiteMeasured, ...]
    suppressed: SetPredictions
    reverse: SetPredictions


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
        found = [self._sets(self._ranked(main)), self._sets(sites[-1].consistency.predictivity)]
        suppressed = self._suppressed(attacked.rows, rows, main, found[0], attacked.clusters)
        reverse = self._suppressed(self.plan.own, self.own, main, found[1], None)
        self.say(f"{attacked.name}: suppression read")
        return SetMeasured(attacked, scores, clean_scores, same, sites, suppressed, reverse)

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
        held = consistency(neurons.ranking, reading, self.plan.rates, c.random_sets, c.permutations, c.seed)
        self.say(f"{attacked.name}, site {neurons.card['site']}: activations read")
        if not attacked.restorable or clean is None or clean_scores is None:
            return SiteMeasured(neurons.card["site"], held, {}, {})
        places, clusters = attacked.places, attacked.clusters.take(attacked.places)
        shift = standardised_shift([one[places] for one in changed], originals)
        tops = {rate: top_neurons(neurons.ranking, rate) for rate in self.plan.rates}
        moved = {r: shift_by_layer(shift, top, r, clusters, c.seed) for r, top in tops.items()}
        labels = attacked.pairs.changed.labels
        both: tuple[tuple[Direction, Encoded, Encoded, Scores, Scores], ...] = (
            ("restore", _some(rows, places), clean, scores[:, places], clean_scores),
            ("corrupt", clean, _some(rows, places), clean_scores, scores[:, places]),
        )
        patched: dict[Direction, list[Patched]] = {}
        effects = {}
        for direction, read, donors, start, goal in both:
            patched[direction] = self._patched(attacked, neurons, direction, read, donors, labels)
            of = (start, goal, patched[direction], labels, clusters, c.seed)
            effects[direction] = restoration_effects(direction, *of)
            self.say(f"{attacked.name}, site {neurons.card['site']}: {direction} read")
        rivals: tuple[Rival, ...] = ()
        if neurons is self.plan.neurons[-1]:
            after = np.mean(
                [np.abs(a[places] - b).astype(np.float32) for a, b in zip(changed, originals, strict=True)], 0
            )
            skill = next(one.scores for one in patched["restore"] if one.percent == self.plan.primary)
            rivals = tuple(self._rivals(attacked, neurons, both[0], after, skill))
        return SiteMeasured(neurons.card["site"], held, moved, judged(effects, self.plan.primary), rivals)

    def _rivals(
        self,
        attacked: Attacked,
        neurons: Neurons,
        restore: tuple[Direction, Encoded, Encoded, Scores, Scores],
        shift: NDArray[np.float32],
        skill: Scores,
    ) -> Iterator[Rival]:
        """Other explanations of what restoring returns; `shift` is |changed - clean| `[m, L, F]`."""
        _, read, clean, start, goal = restore
        c, labels, clusters = self.plan.config, attacked.pairs.changed.labels, attacked.clusters.take(attacked.places)
        ranking = self._ranked(neurons)
        top = top_neurons(ranking, self.plan.primary)
        norms = self.backbone.output_norms(self.plan.site(neurons, self.plan.prompts[0]).taps(self.backbone)).numpy()
        random = neurons.random_ranking if neurons.random_selected.shape[1] else None
        sets = rival_sets(ranking, top, Movers(shift, norms, clusters, c.seed), random)
        found = self._changed(neurons, read, attacked.rows, np.stack([one.mask for one in sets]), clean)

        def rated(name: str, size: int, donor: Donor, now: Scores, rows: NDArray[np.int64]) -> Rival:
            versions = {"start": start, "goal": goal, "skill": skill, "now": now}
            some = {key: one[:, rows] for key, one in versions.items()}
            return rival(name, size, donor, some, labels[rows], clusters.take(rows))

        for one, now in zip(sets, found, strict=True):
            yield rated(one.name, int(one.mask.sum()), Donor.OWN, now, one.rows)
        for donor in (Donor.SAME, Donor.OTHER):
            rows, others = donors_of_label(labels, clusters, donor is Donor.SAME, c.seed)
            if len(rows):
                given = _some(clean, others)
                [now] = self._changed(neurons, _some(read, rows), attacked.rows, top[None], given)
                whole = skill.copy()
                whole[:, rows] = now
                yield rated(SKILL, int(top.sum()), donor, whole, rows)

    def _reading(
        self,
        attacked: Attacked,
        neurons: Neurons,
        changed: Sequence[NDArray[np.float32]],
        originals: Sequence[NDArray[np.float32]],
    ) -> Reading:
        reading = Reading(
            self._votes(neurons, changed),
            attacked.pairs.adversarial.labels,
            attacked.clusters,
            pool=self._pools[neurons.fingerprint],
            reliability=spearman(neurons.ranking, neurons.predictivity[0]),
            kinds={name: rows for (_, name), rows in attacked.kinds.items() if len(rows) >= LEAST_ROWS},
        )
        if not originals or attacked.pairs.clean is None:
            return reading
        theirs, places = self._votes(neurons, originals), attacked.places
        return replace(reading, clean=theirs, clean_labels=attacked.pairs.clean.labels, rows=places)

    @cached_property
    def _pools(self) -> dict[str, Pool]:
        """The clean test rows at each site, read once for all sets."""
        return {neurons.fingerprint: self._pool(neurons) for neurons in self.plan.neurons}

    def _pool(self, neurons: Neurons) -> Pool:
        """One prompt after another: activations of hundreds of rows are large, votes are not."""
        rows, found = self.plan.pool.encode(self.plan.info), []
        for number in range(len(self.plan.prompts)):
            found.append(self._fired(neurons, number, self._activations(neurons, number, rows)))
        return Pool(Votes.of(found, self._signs(neurons)), self.plan.pool.split.labels)

    def _activations(self, neurons: Neurons, number: int, encoded: Encoded) -> NDArray[np.float32]:
        prompt = self.plan.prompts[number]
        site, place = self.plan.site(neurons, prompt), self.plan.place(neurons, prompt)
        position = neurons.position[0, place]
        return chosen_activations(self.backbone, site, prompt.embeddings, encoded, position, ACTIVATION_BATCH)

    def _votes(self, neurons: Neurons, activations: Sequence[NDArray[np.float32]]) -> Votes:
        """Firing is above the *clean* baseline, whatever rows are read."""
        fired = [self._fired(neurons, number, values) for number, values in enumerate(activations)]
        return Votes.of(fired, self._signs(neurons))

    def _fired(self, neurons: Neurons, number: int, activations: NDArray[np.float32]) -> NDArray[np.bool_]:
        place = self.plan.place(neurons, self.plan.prompts[number])
        position = neurons.position[0, place].astype(np.int64)
        return np.asarray(activations > np.take_along_axis(neurons.baseline[place], position[:, None], axis=1)[:, 0])

    def _signs(self, neurons: Neurons) -> list[NDArray[np.int8]]:
        return [neurons.sign[0, self.plan.place(neurons, prompt)] for prompt in self.plan.prompts]

    def _patched(
        self,
        attacked: Attacked,
        neurons: Neurons,
        direction: Direction,
        read: Encoded,
        donors: Encoded,
        labels: NDArray[np.int64],
    ) -> list[Patched]:
        asked = (*self._sets(self._ranked(neurons)), Sets(ALL, np.ones(neurons.shape, dtype=np.bool_), None))
        sets, scores = read_in_stages(
            asked,
            lambda masks: self._changed(neurons, read, attacked.rows, masks, donors),
            lambda answers: float(margin(answers, labels).mean()),
            upward=direction == "restore",
        )
        found, place = [], 1
        for one in sets:
            after = place + 1 + (0 if one.controls is None else len(one.controls))
            random = None if one.controls is None else scores[place + 1 : after]
            found.append(Patched(one.rate, one.size, scores[place], random, one.planned))
            place = after
        return found

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

    def _ranked(self, neurons: Neurons) -> NDArray[np.float32]:
        """What is patched and suppressed is ranked so; what is said of predictivity stays with its own ranking."""
        return neurons.ranked(self.plan.config.ranking_by)

    def _sets(self, ranking: NDArray[np.floating]) -> tuple[Sets, ...]:
        c = self.plan.config
        return tuple(sets_at(ranking, rate, "layer", c.random_sets, c.seed) for rate in self.plan.rates)

    def _suppressed(
        self, of: EvaluatedTask, encoded: Encoded, neurons: Neurons, sets: Sequence[Sets], clusters: Clusters | None
    ) -> SetPredictions:
        read, scores = read_in_stages(
            sets,
            lambda masks: self._changed(neurons, encoded, of, masks, None).argmax(-1),
            lambda answers: float((answers == of.split.labels).mean()),
        )
        prompts, own = [prompt.fingerprint for prompt in of.prompts], of is self.plan.own
        return SetPredictions(of.task.name, own, of.split, prompts, scores.swapaxes(0, 1), read, clusters)


def _some(encoded: Encoded, rows: NDArray[np.int64]) -> Encoded:
    return Encoded([encoded.rows[i] for i in rows.tolist()], encoded.labels[rows])
