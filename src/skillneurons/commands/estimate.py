"""What a tune command would cost, from its sizes and a quarter-second of matrix products."""

import time
from dataclasses import dataclass

import torch

from skillneurons.backbones.base import BackboneInfo

# Share of the matrix-product rate that a whole forward and backward pass reaches; measured on two
# cores with SmolLM2-135M (see docs/internals.md).
EFFICIENCY = 0.5
ACTIVATIONS_PER_TOKEN = 34  # values of width H kept for the backward pass a token and layer


@dataclass(frozen=True)
class Work:
    """What decides the cost: rows are read once an evaluation, steps are training steps."""

    info: BackboneInfo
    seeds: int
    steps: int
    batch_size: int
    prompt_length: int
    tokens_per_row: float
    evaluations: int
    dev_rows: int
    test_rows: int


@dataclass(frozen=True)
class Estimate:
    """Seconds, bytes of memory, bytes of disk."""

    seconds: float
    memory: float
    disk: float


def estimate(work: Work, device: str) -> Estimate:
    """Time, memory and disk of a tune command; the time is right within a factor of about two.

    A token costs 2 floating-point operations a parameter forward and as many backward: the gradient
    flows through the frozen weights to the prompt, but none is computed for the weights themselves.
    """
    parameters, width, layers = _shape(work.info)
    tokens = work.prompt_length + work.tokens_per_row
    training = work.seeds * work.steps * work.batch_size * tokens * 4
    # dev at each evaluation and once more at the end; test for the tuned and the random prompt
    rows = work.seeds * ((work.evaluations + 1) * work.dev_rows + 2 * work.test_rows) + work.test_rows
    operations = parameters * (training + rows * tokens * 2)
    activations = work.batch_size * tokens * layers * width * ACTIVATIONS_PER_TOKEN * 4
    state = 5 * work.prompt_length * work.info.embedding_width * 4
    return Estimate(
        operations / (EFFICIENCY * matrix_rate(device)),
        parameters * 4 + activations + 600 * 2**20,
        work.seeds * (3 * state + 24 * (work.dev_rows + 4 * work.test_rows) + 2**20),
    )


def forward_seconds(info: BackboneInfo, tokens: float, device: str) -> float:
    """Seconds to read so many tokens, forward alone; right within a factor of about two."""
    return _shape(info)[0] * tokens * 2 / (EFFICIENCY * matrix_rate(device))


def layer_count(info: BackboneInfo) -> int:
    """Layers of all stacks."""
    return _shape(info)[2]


def matrix_rate(device: str) -> float:
    """Floating-point operations a second of a float32 matrix product on this device, measured now."""
    left, right = torch.randn(512, 768, device=device), torch.randn(768, 3072, device=device)
    done, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < 0.25:
        float((left @ right).sum())
        done += 1
    return done * 2 * 512 * 768 * 3072 / spent


def _shape(info: BackboneInfo) -> tuple[int, int, int]:
    """Parameters that are multiplied, width and layers."""
    # encoder and decoder may be models of their own, and the text's sizes nested in those of all modalities
    parts = [getattr(info.config, name, None) for name in ("encoder", "decoder")]
    texts = [part.get_text_config() for part in parts if part is not None] or [info.config.get_text_config()]
    # embeddings are looked up, not multiplied
    weights = info.parameter_count_estimate - texts[0].vocab_size * info.embedding_width
    layers = sum(text.num_hidden_layers + getattr(text, "num_decoder_layers", 0) for text in texts)
    return weights, max(text.hidden_size for text in texts), layers
