"""Discovery beside a bare forward pass over the same rows and batches, and beside an implementation that stores all.

Each round times the implementations in turn in one process; the ratios are of medians. Random weights: speed
does not depend on them. On CUDA where there is one.
`python benchmarks/discovery.py [roberta or t5] [width] [layers] [rows] [rounds]`, by default both, 768 wide, 4 deep.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from skillneurons.backbones import loading
from skillneurons.backbones.base import Backbone
from skillneurons.backbones.batching import Encoded, batches_by_length
from skillneurons.backbones.loading import describe
from skillneurons.backbones.taps import tapped
from skillneurons.backbones.tokenization import LabelWords
from skillneurons.data.splits import halves
from skillneurons.discover.counting import Counted, Question, count
from skillneurons.discover.permutation_null import permuted_labels
from skillneurons.discover.predictivity import combine
from skillneurons.neurons.scores import Neurons
from skillneurons.neurons.sites import Site, site_of
from skillneurons.stats import neuron_tests

P, BATCH, PERMUTATIONS = 100, 32, 200
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORDS = LabelWords(("w5", "w6"), (5, 6), ("w5", "w6"))
VOCABULARY = {"roberta": 50_265, "t5": 32_128}


def a_backbone(folder: Path, family: str, width: int, layers: int, vocabulary: int | None = None) -> Backbone:
    """A RoBERTa or T5 of that width with random weights, and a tokenizer of numbered words."""
    vocabulary = vocabulary or VOCABULARY[family]
    words = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])}
    words |= {f"w{i}": i for i in range(5, vocabulary)}
    pipeline = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    pipeline.pre_tokenizer = pre_tokenizers.Whitespace()
    begin = "<s> " if family == "roberta" else ""
    pipeline.post_processor = processors.TemplateProcessing(
        single=f"{begin}$A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=pipeline, unk_token="<unk>", **special).save_pretrained(folder)
    torch.manual_seed(0)
    _model(family, width, layers, vocabulary).save_pretrained(folder)
    return loading.load(describe(str(folder)), device=torch.device(DEVICE))


def _model(family: str, width: int, layers: int, vocabulary: int) -> PreTrainedModel:
    if family == "t5":
        sizes = {"d_model": width, "d_ff": 4 * width, "d_kv": 64, "num_heads": width // 64, "num_layers": layers}
        ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        return T5ForConditionalGeneration(T5Config(vocab_size=vocabulary, **sizes, **ids))
    config = RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    return RobertaForMaskedLM(config)


def rows(n: int, seed: int, begin: tuple[int, ...] = (0,)) -> Encoded:
    """Texts of 10 to 40 tokens, behind what the family puts before a text."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(10, 41, (n,), generator=generator).tolist()
    texts = [[*begin, *torch.randint(5, 2_000, (size,), generator=generator).tolist(), 2] for size in lengths]
    return Encoded(texts, torch.arange(n) % 2)


def bare(backbone: Backbone, prompt: torch.Tensor, asked: Question) -> None:
    """The forward passes alone: train once, dev once, in the same batches; the label is read."""
    parts = [(asked.train, range(len(asked.train)))]
    parts += [(asked.dev, part) for part in asked.halves[: 1 if asked.protocol == "paper" else 2]]
    with torch.inference_mode():
        for encoded, part in parts:
            numbers = torch.as_tensor(part)
            for chosen in batches_by_length(encoded.lengths[numbers], BATCH):
                batch = backbone.info.collate([encoded.rows[i] for i in numbers[chosen].tolist()])
                backbone.label_scores(prompt, batch.to(DEVICE), WORDS)


def storing(backbone: Backbone, site: Site, prompt: torch.Tensor, asked: Question) -> Counted:
    """What `count` gives, from activations of all positions, kept: rows padded to 128, the head on all positions."""
    longest, (first, second) = 128, asked.halves

    def collect(encoded: Encoded) -> torch.Tensor:
        kept, places = [], []
        for start in range(0, len(encoded), BATCH):
            chosen = encoded.rows[start : start + BATCH]
            batch = backbone.info.collate([[*row, *[1] * (longest - len(row))] for row in chosen])
            batch.attention_mask[batch.input_ids == 1] = 0
            seen: list[torch.Tensor] = []
            inputs = backbone.place(prompt, batch.to(DEVICE))
            with tapped(backbone.model, site.taps(backbone), lambda _, a, seen=seen: seen.append(a.clone())):
                backbone._scores(inputs, torch.tensor(WORDS.ids), head=None)
            kept.append(torch.stack(seen, dim=1))
            places.append(inputs.prompt_positions)
        where = torch.cat(places)[:, None, :, None].to(DEVICE)
        return torch.take_along_dim(torch.cat(kept), where, dim=2)

    def at_chosen(values: torch.Tensor) -> torch.Tensor:
        index = position[:, None].expand(*values.shape[:-2], 1, -1)
        return torch.take_along_dim(values, index, dim=-2).squeeze(-2)

    with torch.inference_mode():
        train = collect(asked.train)
        baseline = train.mean(0)
        one, zero = (train[asked.train.labels == label] for label in (1, 0))
        moments = [one.mean(0), one.var(0), zero.mean(0), zero.var(0)]
        del train, one, zero
        above = collect(asked.dev) > baseline
        labels = asked.dev.labels.to(DEVICE)
        hits = above == (labels == 1)[:, None, None, None]
        right = hits[first].sum(0)
        position = torch.maximum(right, len(first) - right).argmax(1)
        sign = torch.where(2 * at_chosen(right) >= len(first), 1, -1)
        fired = at_chosen(above[second]).float()
        permuted = permuted_labels(asked.dev.labels[second], asked.permutations, asked.seed).to(DEVICE)
        by_chance = ((permuted == 1).float() @ fired.flatten(1)).view(-1, *sign.shape)
        lucky = 2 * by_chance - fired.sum(0) + (permuted[0] != 1).sum()
        null = torch.where(sign > 0, lucky, len(second) - lucky)
        auc = neuron_tests.binormal_auc(*(at_chosen(part).cpu().numpy() for part in moments))
        ones = fired[labels[second] == 1].sum(0)
        found = (hits.sum(0), position, sign, ones.int(), fired.sum(0).int(), torch.from_numpy(auc), null.int())
    return Counted(baseline.cpu(), *(values[None].cpu() for values in found))


def check_same(stored: Neurons, streamed: Neurons) -> None:
    """Both found the same, but where rounding between batches matters: activations that rows hardly change."""
    same = stored.position == streamed.position
    assert same.mean() > 0.98, same.mean()
    for name in ("baseline", "accuracy", "auc", "seed_predictivity", "p_value"):
        ours, theirs = getattr(streamed, name), getattr(stored, name)
        differs = np.abs(ours - theirs) > 1e-3
        share = (differs if name in ("baseline", "accuracy") else differs[same]).mean()
        assert share < 0.01, (name, share)
    gap = {name: abs(stored.card["chance"][name] - value) for name, value in streamed.card["chance"].items()}
    assert max(gap.values()) < 0.01, gap


def median_seconds(implementations: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """In turn, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in implementations}
    for _ in range(rounds):
        for name, run in implementations.items():
            started = time.perf_counter()
            run()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def main(family: str, width: int = 768, layers: int = 4, n: int = 96, rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        backbone = a_backbone(Path(scratch) / "model", family, width, layers)
    site, prompt = site_of(backbone.info, "prompt", P), (torch.randn(P, width) * 0.02).to(DEVICE)
    begin = tuple(backbone.info.frame.begin)
    train, dev = rows(n, 1, begin), rows(n, 2, begin)
    parts = halves([f"{i:05d}" for i in range(n)])
    accelerator = Accelerator(cpu=DEVICE == "cpu")
    split = Question(train, dev, parts, (1,), 2, "split", PERMUTATIONS, 0, BATCH)
    paper = Question(train, dev, (range(n), range(n)), (1,), 2, "paper", PERMUTATIONS, 0, BATCH)

    def judged(counted: Counted, asked: Question) -> Neurons:
        return combine([counted], 1, asked, {"targets": ["one"]})

    def ours(asked: Question) -> Neurons:
        return judged(count(backbone, site, prompt, asked, accelerator), asked)

    def stored() -> Neurons:
        return judged(storing(backbone, site, prompt, split), split)

    bare(backbone, prompt, split)  # warm up
    check_same(stored(), ours(split))
    seconds = median_seconds(
        {
            "bare, split": lambda: bare(backbone, prompt, split),
            "discover": lambda: ours(split),
            "bare, paper": lambda: bare(backbone, prompt, paper),
            "discover, protocol paper": lambda: ours(paper),
            "storing": stored,
        },
        rounds,
    )
    where = torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{family} {layers} x {width}, P={P}, batch {BATCH}, {n} rows of train and dev, R={PERMUTATIONS}; {where}")
    for name, value in seconds.items():
        print(f"  {name}: {value:.2f} s")
    print(f"discover / bare: {seconds['discover'] / seconds['bare, split']:.3f}")
    print(f"protocol paper / bare: {seconds['discover, protocol paper'] / seconds['bare, paper']:.3f}")
    print(f"storing / discover: {seconds['storing'] / seconds['discover']:.2f}", flush=True)


if __name__ == "__main__":
    asked_for = sys.argv[1:]
    for name in asked_for[:1] or VOCABULARY:
        main(name, *map(int, asked_for[1:]))
