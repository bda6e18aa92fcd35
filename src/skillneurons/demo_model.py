"""A tiny randomly initialised masked LM, so that the whole chain can be seen without any download.

It has learned nothing: what a prompt reaches on it is what a frozen random network lets through, and
says nothing about language models. The stage that uses it says so.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def build(folder: Path, texts: Sequence[str], words: Sequence[str], seed: int = 0) -> Path:
    """Write the model with a word-level tokenizer of `texts` and `words`; the same bytes for a seed."""
    vocabulary = sorted({word for text in texts for word in _words(text)} | set(words))
    ids = {token: index for index, token in enumerate([*SPECIAL, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    config = RobertaConfig(
        vocab_size=len(ids),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=130,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        # wide enough that attention tells words apart without training
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RobertaForMaskedLM(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def _words(text: str) -> list[str]:
    return [word for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)]
