"""A training step of ours beside the straightforward one, on the same rows in the same process.

The other implementation: rows padded to max_length, the whole vocabulary head at every position, the label
words picked from its output. Both compute the same loss; that is asserted. Printed: the ratio of medians.
Random weights, RoBERTa's vocabulary (50,265), 4 layers x 256, P=20, max_length 128, batch 16.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from skillneurons.backbones.loading import describe
from skillneurons.data.splits import load_splits
from skillneurons.data.tasks import load_task

ROWS, LENGTH, PROMPT, ROUNDS = 16, 128, 20, 15


def model_folder(folder: Path) -> Path:
    describe("pocket-roberta").tokenizer.save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=50_265,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=260,
    )
    torch.manual_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


def main() -> None:
    torch.set_num_threads(2)
    texts = [row[0] for row in load_splits(load_task("film_notes"), roles=["train"])["train"].rows]
    with tempfile.TemporaryDirectory() as scratch:
        backbone = describe(str(model_folder(Path(scratch) / "model"))).load()
    words = backbone.info.label_words(["negative", "positive"])
    batch = backbone.info.collate(backbone.info.encode([(text,) for text in texts[:ROWS]], LENGTH))
    pad = LENGTH - batch.input_ids.shape[1]
    full_ids = torch.nn.functional.pad(batch.input_ids, (0, pad), value=backbone.info.tokenizer.pad_token_id)
    full_mask = torch.nn.functional.pad(batch.attention_mask, (0, pad))
    full = type(batch)(full_ids, full_mask)
    labels = torch.arange(ROWS) % 2
    prompt = torch.nn.Parameter(backbone.vocabulary_embeddings()[:PROMPT].clone())

    def ours() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(backbone.label_scores(prompt, batch, words), labels)

    def plain() -> torch.Tensor:
        inputs = backbone.place(prompt, full)
        with backbone._placed(inputs):
            logits = backbone.model(**backbone._arguments(inputs)).logits
        return torch.nn.functional.cross_entropy(logits[:, 0][:, list(words.ids)], labels)

    torch.testing.assert_close(ours(), plain(), atol=1e-5, rtol=1e-5)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS):
        for name, step in (("ours", ours), ("plain", plain)):
            prompt.grad, started = None, time.perf_counter()
            step().backward()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"tokens a row: {batch.attention_mask.sum(1).float().mean():.1f} of {LENGTH}; prompt {PROMPT}")
    print(f"ours {medians['ours'] * 1e3:.0f} ms, plain {medians['plain'] * 1e3:.0f} ms a step (median of {ROUNDS})")
    print(f"ratio plain / ours: {medians['plain'] / medians['ours']:.1f}")


if __name__ == "__main__":
    main()
