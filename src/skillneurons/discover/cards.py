"""Cards of the most predictive neurons: what a person needs to judge one.

Shapes: S seeds, m neurons on cards, n judged rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from skillneurons.backbones.base import Backbone
from skillneurons.discover.counting import Question
from skillneurons.neurons.activation_stream import ActivationReader, Rows, summed
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.sites import Site
from skillneurons.stats.neuron_tests import auc_interval, exact_auc

RESAMPLES = 2_000
EXAMPLES, TOKENS = 3, 8
PAGE = Path(__file__).with_name("cards.html.jinja")


@dataclass(frozen=True)
class NeuronCard:
    """One neuron of one target; lists have one entry a seed.

    Attributes:
        predictivity: on the judged rows, mean over seeds, with its bootstrap interval over rows.
        chance_low, chance_high: the central 95% of a single neuron's under permuted labels.
        best_by_chance: what the best of all neurons reaches in 97.5% of permutations at most.
        auc: exact on the judged rows, mean over seeds, with the interval of Hanley & McNeil (1982);
            auc_binormal: from train.
        highest, lowest: texts with the highest and lowest activation, of the seed where it is most predictive.
        promotes, suppresses: vocabulary its output weights raise and lower; none where its stack has no head.
    """

    rank: int
    target: str
    layer: int
    neuron: int
    predictivity: float
    low: float
    high: float
    n: int
    majority: float
    chance_low: float
    chance_high: float
    best_by_chance: float
    q_value: float
    family_p: float
    signs: tuple[int, ...]
    positions: tuple[int, ...]
    auc: float
    auc_low: float
    auc_high: float
    auc_chance: float
    auc_binormal: float
    highest: tuple[str, ...]
    lowest: tuple[str, ...]
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]

    def row(self) -> dict[str, object]:
        """As a row of a table: sequences as text."""
        joined = {"signs": " ".join(f"{s:+d}" for s in self.signs), "positions": " ".join(map(str, self.positions))}
        lists = {name: " · ".join(getattr(self, name)) for name in ("highest", "lowest", "promotes", "suppresses")}
        found = {**asdict(self), **joined, **lists}
        # the binormal one is of train, and stands on the card beside the exact one
        return {name: value for name, value in found.items() if name != "auc_binormal"}


def top_of(neurons: Neurons, count: int) -> list[tuple[int, int, int]]:
    """(target, layer, neuron) of those ranked first, ties in order of their AUC's distance from 1/2."""
    edge, ranking = np.abs(neurons.auc.mean(axis=1) - 0.5), neurons.selected.mean(axis=1)
    order = np.lexsort((-edge.ravel(), -ranking.ravel()))[:count]
    places = np.unravel_index(order, neurons.predictivity.shape)
    return [(int(k), int(layer), int(unit)) for k, layer, unit in zip(*places, strict=True)]


def make_cards(
    backbone: Backbone,
    site: Site,
    prompts: Sequence[Tensor],
    neurons: Neurons,
    asked: Question,
    texts: Sequence[str],
    accelerator: Accelerator,
    count: int,
) -> list[NeuronCard]:
    """Read the judged rows once more at the chosen positions of the top neurons, and describe them.

    Args:
        backbone: loaded.
        site: where the neurons were read.
        prompts: one `[P, E]` a seed, in the order of the seeds.
        asked: rows, halves and targets of the discovery.
        neurons: what was found.
        texts: the dev split's rows as text.
        accelerator: every process reads its share.
        count: m.
    """
    chosen = top_of(neurons, count)
    read = [_activations(backbone, site, p, neurons, s, chosen, asked, accelerator) for s, p in enumerate(prompts)]
    activations = np.stack(read)
    return [
        _card(rank, place, neurons, activations[:, rank], asked, texts, _words(backbone, site, place[1], place[2]))
        for rank, place in enumerate(chosen)
    ]


def page(cards: Sequence[NeuronCard], title: str, finding: str) -> str:
    """The cards as one HTML page that needs nothing else."""
    from jinja2 import Template

    template = Template(PAGE.read_text(encoding="utf-8"), autoescape=True, keep_trailing_newline=True)
    return str(template.render(cards=cards, title=title, finding=finding, facts=_facts))


def _activations(
    backbone: Backbone,
    site: Site,
    prompt: Tensor,
    neurons: Neurons,
    seed: int,
    chosen: Sequence[tuple[int, int, int]],
    asked: Question,
    accelerator: Accelerator,
) -> NDArray[np.float32]:
    """Activations `[m, n]` of one seed, in the order of the judged rows."""
    found = torch.zeros(len(chosen), len(asked.dev), device=backbone.device)
    wanted = [(i, int(neurons.position[k, seed, layer, f]), f, layer) for i, (k, layer, f) in enumerate(chosen)]

    def consume(layer: int, activation: Tensor, batch: Rows) -> None:
        for i, position, unit, where in wanted:
            if where == layer:
                found[i, batch.numbers.to(found.device)] = activation[:, position, unit]

    ActivationReader(backbone, site, prompt, asked.classes, accelerator, asked.batch_size).read(
        asked.dev, asked.judged, consume
    )
    return np.asarray(summed(accelerator, found)[:, torch.as_tensor(asked.judged)].cpu().numpy())


def _card(
    rank: int,
    place: tuple[int, int, int],
    neurons: Neurons,
    activations: NDArray[np.float32],
    asked: Question,
    texts: Sequence[str],
    words: tuple[tuple[str, ...], tuple[str, ...]],
) -> NeuronCard:
    k, layer, unit = place
    labels = asked.dev.labels[torch.as_tensor(asked.judged)].numpy() == asked.targets[k]
    signs, positions = neurons.sign[k, :, layer, unit], neurons.position[k, :, layer, unit]
    baseline = np.array([neurons.baseline[s, layer, p, unit] for s, p in enumerate(positions)])
    right = ((activations > baseline[:, None]) == labels) == (signs[:, None] > 0)
    low, high = _bootstrap(right.mean(axis=0))
    best = int(neurons.seed_predictivity[k, :, layer, unit].argmax())
    order = np.argsort(activations[best], kind="stable")
    text = [texts[i] for i in asked.judged]
    chance = neurons.card["chance"]
    auc = float(np.mean([exact_auc(one, labels) for one in activations]))
    edges = auc_interval(auc, int(labels.sum()), int((~labels).sum()))
    return NeuronCard(
        rank=rank + 1,
        target=neurons.targets[k],
        layer=layer,
        neuron=unit,
        predictivity=float(neurons.predictivity[k, layer, unit]),
        low=low,
        high=high,
        n=len(asked.judged),
        majority=float(neurons.card["majority"]),
        chance_low=chance["low"],
        chance_high=chance["high"],
        best_by_chance=chance["best_high"],
        q_value=float(neurons.q_value[k, layer, unit]),
        family_p=float(neurons.family_p[k, layer, unit]),
        signs=tuple(map(int, signs)),
        positions=tuple(map(int, positions)),
        auc=auc,
        auc_low=edges.low,
        auc_high=edges.high,
        auc_chance=0.5,
        auc_binormal=float(neurons.auc[k, :, layer, unit].mean()),
        highest=tuple(text[i] for i in order[::-1][:EXAMPLES]),
        lowest=tuple(text[i] for i in order[:EXAMPLES]),
        promotes=words[0],
        suppresses=words[1],
    )


def _bootstrap(rows: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile interval of a mean over rows."""
    rng = np.random.default_rng(0)
    means = [float(rows[rng.integers(len(rows), size=len(rows))].mean()) for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _words(backbone: Backbone, site: Site, layer: int, unit: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    direction = backbone.vocabulary_direction(site.taps(backbone)[layer], unit)
    if direction is None:
        return (), ()
    order = torch.argsort(direction)
    decode = backbone.info.tokenizer.decode
    return (
        tuple(decode([i]).strip() for i in order.flip(0)[:TOKENS].tolist()),
        tuple(decode([i]).strip() for i in order[:TOKENS].tolist()),
    )


def _facts(card: NeuronCard) -> dict[str, str]:
    return {
        "predictivity": f"{card.predictivity:.3f} [{card.low:.3f}, {card.high:.3f}], n = {card.n}",
        "chance": f"one neuron {card.chance_low:.3f} to {card.chance_high:.3f}; "
        f"best of all up to {card.best_by_chance:.3f}; majority {card.majority:.3f}",
        "q · family-wise p": f"{card.q_value:.2g} · {card.family_p:.2g}",
        "AUC": f"{card.auc:.3f} [{card.auc_low:.3f}, {card.auc_high:.3f}] exact (chance 0.5), "
        f"{card.auc_binormal:.3f} binormal from train",
        "sign · position by seed": " ".join(
            f"{'+' if s > 0 else '−'}{p}" for s, p in zip(card.signs, card.positions, strict=True)
        ),
        "highest at": " · ".join(card.highest),
        "lowest at": " · ".join(card.lowest),
        "raises": ", ".join(card.promotes) or "its stack has no head of its own",
        "lowers": ", ".join(card.suppresses) or "–",
    }
