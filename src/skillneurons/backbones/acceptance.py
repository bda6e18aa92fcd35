"""What a loaded backbone must do before anything is tuned on it, tried on two short texts.

Some architectures read embeddings otherwise than token ids (they count positions from elsewhere, or look
the ids up in further tables), some let padding into the scores, some give a prompt no gradient. None of
that ends in an error by itself; the scores would be those of another model, or depend on the batch.
"""

from dataclasses import replace

import torch
from torch import Tensor

from skillneurons.backbones.base import Backbone, TextBatch
from skillneurons.backbones.tokenization import LabelWords
from skillneurons.errors import InputError

TEXTS = (("good",), ("it is one of the best , and we would not see it again",))
PROMPT_LENGTH = 3
SCORED = 64  # tokens of the vocabulary
# root mean square of a difference, in standard deviations of the scores over the tokens
TOLERANCE = 1e-3
TOLERANCE_EPS = 8


def check(backbone: Backbone) -> None:
    """Compare a backbone's scores with its model's own, with and without padding, and look at the gradient.

    Raises:
        InputError: tuning on this model would be wrong or without effect.
    """
    both, short = _batch(backbone, 2), _batch(backbone, 1)
    ids = _prompt_ids(backbone, both)
    prompt = backbone.embed(ids)
    alone = backbone.place(prompt, short)
    with torch.no_grad():
        own = backbone.own_scores(alone, _in_order(backbone, ids, short))[0]
        chosen = torch.arange(0, len(own), -(-len(own) // SCORED))
        words = LabelWords((), tuple(chosen.tolist()), ())
        # the model by itself has positions at a masked LM's prompt, so for once we leave them there
        read = backbone.scores(replace(alone, prompt_positions=alone.prompt_positions[:, :0]), words)[0]
        single = backbone.scores(alone, words)[0]
        padded = backbone.label_scores(prompt, both, words)[0]
    own = own[chosen.to(own.device)]
    _same(backbone, own, read, "scores embeddings as it scores their token ids (a prompt has no ids)")
    _same(backbone, single, padded, "scores a row alike with and without padding (else batch sizes decide)")
    _reached(backbone, prompt, both, words)


def _batch(backbone: Backbone, rows: int) -> TextBatch:
    room = backbone.info.num_positions or 99
    encoded = backbone.info.encode(TEXTS, min(24, room - PROMPT_LENGTH))
    return backbone.info.collate(encoded[:rows]).to(backbone.device)


def _prompt_ids(backbone: Backbone, batch: TextBatch) -> Tensor:
    """Tokens of the long text for a prompt; a masked LM's begins with the mask, as `place` makes it."""
    ids = batch.input_ids[1, -1 - PROMPT_LENGTH : -1].clone()
    if backbone.info.family == "masked_lm":
        ids[0] = backbone.info.tokenizer.mask_token_id
    return ids


def _in_order(backbone: Backbone, prompt: Tensor, batch: TextBatch) -> Tensor:
    parts = [prompt[None], batch.input_ids]
    return torch.cat(parts if backbone.prompt_first else parts[::-1], dim=1)


def _same(backbone: Backbone, expected: Tensor, got: Tensor, what: str) -> None:
    tolerance = max(TOLERANCE, TOLERANCE_EPS * torch.finfo(backbone.dtype).eps)
    difference = float((expected - got).square().mean().sqrt() / expected.std())
    if not difference <= tolerance:
        _refuse(backbone, what, f"a difference of {difference:.2g} standard deviations of its scores")


def _reached(backbone: Backbone, prompt: Tensor, batch: TextBatch, words: LabelWords) -> None:
    with torch.enable_grad():
        prompt = prompt.detach().requires_grad_()
        scores = backbone.label_scores(prompt, batch, words)
        (gradient,) = torch.autograd.grad(scores.logsumexp(dim=1).sum(), prompt)
    # the mask stands in a masked LM's first row
    sizes = gradient.abs().sum(dim=1)[int(backbone.info.family == "masked_lm") :]
    if not (sizes.isfinite() & (sizes > 0)).all():
        got = ", ".join(f"{size:.2g}" for size in sizes.tolist())
        _refuse(backbone, "gives every row of a prompt a finite gradient above 0", f"gradients of {got}")


def _refuse(backbone: Backbone, what: str, got: str) -> None:
    must = f"a backbone {what}"
    kind = backbone.info.config.model_type
    raise InputError(must, f"{backbone.info.name}, of type {kind}: {got}", "Choose another model.")
