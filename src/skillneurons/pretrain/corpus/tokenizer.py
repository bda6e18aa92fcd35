"""The tokenizer that both backbones of a pair share: byte-level BPE, lower-cased."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from skillneurons.backbones.tokenization import Family
from skillneurons.errors import InputError, listed

# the first five where RoBERTa has them: its position tables count from the padding id
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BEGIN, PAD, END, _, MASK = range(5)
SENTINELS = 32
FIRST_SENTINEL = len(SPECIALS)
FIRST_WORD = FIRST_SENTINEL + SENTINELS
WORD_BOOST = 20_000


def train_tokenizer(texts: Iterable[str], words: Sequence[str], size: int) -> Tokenizer:
    """Train the tokenizer on texts; each of `words` becomes one token.

    A text starts as if a space stood before it, so that a word is the same token at the start of a text
    and within it, and a label word resolves with and without a leading space.

    Raises:
        InputError: a word did not become one token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*map(_special, SPECIALS), *map(_special, sentinels())],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_words(texts, words), trainer)
    if split := [word for word in words if len(tokenizer.encode(word).ids) != 1]:
        must = f"a vocabulary of {size} holds each of the recipe's words as one token"
        raise InputError(must, f"pieces for {listed(split)}", "Raise vocabulary_size or take the word away.")
    return tokenizer


def sentinels() -> tuple[str, ...]:
    """`<extra_id_0>` and so on, as T5 calls them."""
    return tuple(f"<extra_id_{index}>" for index in range(SENTINELS))


def for_family(tokenizer: Tokenizer, family: Family) -> Any:
    """The tokenizer as transformers loads it, with the frame of one family around a text."""
    own = Tokenizer.from_str(tokenizer.to_str())
    masked = family == "masked_lm"
    own.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if masked else "$A </s>",
        pair="<s> $A </s> </s> $B </s>" if masked else "$A </s> $B </s>",
        special_tokens=[("<s>", BEGIN), ("</s>", END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=_special("<mask>"),
        add_prefix_space=True,
        model_input_names=["input_ids", "attention_mask"],
        **({"cls_token": "<s>", "sep_token": "</s>"} if masked else {}),
    )


def load_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer from its `tokenizer.json`."""
    return Tokenizer.from_file(str(file))


def _special(token: str) -> AddedToken:
    # the gap in a text swallows the space before it: the word that fills it brings its own
    return AddedToken(
        token, lstrip=token == "<mask>" or token.startswith("<extra_id_"), special=True, normalized=False
    )


def _with_words(texts: Iterable[str], words: Sequence[str]) -> Iterable[str]:
    yield from texts
    for word in words:
        yield f"{word} " * WORD_BOOST
