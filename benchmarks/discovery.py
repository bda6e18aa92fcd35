"""Discovery beside a bare forward pass over the same rows and batches, and beside an implementation that stores all.

Each round times the implementations in turn in one process; the ratios are of medians. Random weights: speed
does not depend on them. `python benchmarks/discovery.py [width] [layers] [rows]`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from skillneurons.backbone import Backbone
from skillneurons.discovery import Question, combine, count, halves
from skillneurons.encoding import Encoded, batches_by_length
from skillneurons.loading import describe
from skillneurons.sites import site_of
from skillneurons.tokens import LabelWords

P, BATCH, PERMUTATIONS, ROUNDS = 100, 32, 200, 3


def a_backbone(folder: Path, width: int, layers: int, vocabulary: int = 50_265) -> Backbone:
    """A RoBERTa of that width with random weights, and a tokenizer of numbered words."""
    words = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])}
    words |= {f"w{i}": i for i in range(5, vocabulary)}
    pipeline = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    pipeline.pre_tokenizer = pre_tokenizers.Whitespace()
    pipeline.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=pipeline, unk_token="<unk>", **special).save_pretrained(folder)
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
    torch.manual_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    return describe(str(folder)).load()


def rows(n: int, seed: int) -> Encoded:
    """Texts of 10 to 40 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(10, 41, (n,), generator=generator).tolist()
    texts = [[0, *torch.randint(5, 2_000, (size,), generator=generator).tolist(), 2] for size in lengths]
    return Encoded(texts, torch.arange(n) % 2)


def bare(backbone: Backbone, prompt: torch.Tensor, asked: Question) -> None:
    """The forward passes alone: train once, dev once, in the same batches; the label is read."""
    words = LabelWords(("w5", "w6"), (5, 6), ("w5", "w6"))
    parts = [(asked.train, range(len(asked.train)))]
    parts += [(asked.dev, part) for part in asked.halves[: 1 if asked.protocol == "paper" else 2]]
    with torch.inference_mode():
        for encoded, part in parts:
            numbers = torch.as_tensor(part)
            for chosen in batches_by_length(encoded.lengths[numbers], BATCH):
                batch = backbone.info.collate([encoded.rows[i] for i in numbers[chosen].tolist()])
                backbone.label_scores(prompt, batch, words)


def storing(backbone: Backbone, prompt: torch.Tensor, asked: Question) -> torch.Tensor:
    """As published: rows padded to 128, activations of all positions kept, the head on all positions."""
    longest = 128

    def collect(encoded: Encoded) -> torch.Tensor:
        kept = []
        for start in range(0, len(encoded), BATCH):
            chosen = encoded.rows[start : start + BATCH]
            batch = backbone.info.collate([[*row, *[1] * (longest - len(row))] for row in chosen])
            batch.attention_mask[batch.input_ids == 1] = 0
            seen: list[torch.Tensor] = []
            inputs = backbone.place(prompt, batch)
            with backbone.tapped(lambda _, a, seen=seen: seen.append(a.clone())):
                backbone.model(inputs_embeds=inputs.embeds, attention_mask=inputs.attention_mask)
            kept.append(torch.stack(seen, dim=1)[:, :, :P].clone())
        return torch.cat(kept)

    with torch.inference_mode():
        baseline = collect(asked.train).mean(0)
        hits = (collect(asked.dev) > baseline) == (asked.dev.labels == 1)[:, None, None, None]
        accuracy = hits.float().mean(0)
    return torch.maximum(accuracy, 1 - accuracy).amax(1)


def median_seconds(implementations: dict[str, Callable[[], object]]) -> dict[str, float]:
    """In turn, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in implementations}
    for _ in range(ROUNDS):
        for name, run in implementations.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def main(width: int = 768, layers: int = 4, n: int = 96) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        backbone = a_backbone(Path(scratch) / "model", width, layers)
    site, prompt = site_of(backbone.info, "prompt", P), torch.randn(P, width) * 0.02
    train, dev = rows(n, 1), rows(n, 2)
    parts = halves(dev.labels.tolist(), [f"{i:05d}" for i in range(n)])
    accelerator = Accelerator(cpu=True)
    split = Question(train, dev, parts, (1,), 2, "split", PERMUTATIONS, 0, BATCH)
    paper = Question(train, dev, (range(n), range(n)), (1,), 2, "paper", PERMUTATIONS, 0, BATCH)

    def ours(asked: Question) -> object:
        return combine([count(backbone, site, prompt, asked, accelerator)], asked, {"targets": ["one"]})

    bare(backbone, prompt, split)  # warm up
    seconds = median_seconds(
        {
            "bare, split": lambda: bare(backbone, prompt, split),
            "discover": lambda: ours(split),
            "bare, paper": lambda: bare(backbone, prompt, paper),
            "discover, protocol paper": lambda: ours(paper),
            "storing": lambda: storing(backbone, prompt, paper),
        }
    )
    print(f"RoBERTa {layers} x {width}, P={P}, batch {BATCH}, {n} rows of train and of dev, R={PERMUTATIONS}")
    for name, value in seconds.items():
        print(f"  {name}: {value:.2f} s")
    print(f"discover / bare: {seconds['discover'] / seconds['bare, split']:.3f}")
    print(f"protocol paper / bare: {seconds['discover, protocol paper'] / seconds['bare, paper']:.3f}")
    print(f"storing / discover: {seconds['storing'] / seconds['discover']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
