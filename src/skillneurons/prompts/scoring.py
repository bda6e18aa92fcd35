"""Label scores of a prompt on a split, each row exactly once on any number of processes."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator

from skillneurons.backbones.base import Backbone, LabelWords
from skillneurons.backbones.batching import Encoded, batches_by_length


def score(
    backbone: Backbone,
    prompt: torch.Tensor,
    encoded: Encoded,
    words: LabelWords,
    accelerator: Accelerator,
    batch_size: int = 64,
) -> torch.Tensor:
    """Raw label-word scores of every row under one prompt `[P, E]`.

    Returns:
        float32 `[n, C]` on the CPU, in the order of the rows, the same on every process.
    """
    scores = torch.zeros(len(encoded), len(words.ids), device=backbone.device)
    seen = torch.zeros(len(encoded), dtype=torch.int64, device=backbone.device)
    batches = batches_by_length(encoded.lengths, batch_size)
    # in full precision whatever the tuning ran in: bf16 scores tie, and ties make accuracies arbitrary
    with torch.inference_mode():
        for rows in batches[accelerator.process_index :: accelerator.num_processes]:
            batch = backbone.info.collate([encoded.rows[i] for i in rows]).to(backbone.device)
            scores[rows] = backbone.label_scores(prompt.to(backbone.device), batch, words).float()
            seen[rows] += 1
    scores, seen = accelerator.reduce(scores, "sum"), accelerator.reduce(seen, "sum")
    if not bool((seen == 1).all()):
        raise RuntimeError("every row must be scored exactly once")
    result: torch.Tensor = scores.cpu()
    return result


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean cross-entropy over the label words, in nats. `scores` `[n, C]`, `labels` `[n]`."""
    return float(torch.nn.functional.cross_entropy(scores.double(), labels.cpu()))


def content_free(
    backbone: Backbone,
    prompt: torch.Tensor,
    texts: Sequence[tuple[str, ...]],
    words: LabelWords,
    max_length: int,
) -> torch.Tensor:
    """Label scores `[k, C]` at inputs without content, for contextual calibration (Zhao et al. 2021)."""
    batch = backbone.info.collate(backbone.info.encode(texts, max_length)).to(backbone.device)
    with torch.inference_mode():
        return backbone.label_scores(prompt.to(backbone.device), batch, words).float().cpu()
