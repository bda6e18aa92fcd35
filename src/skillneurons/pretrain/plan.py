"""Everything about a pretrain command that can be known before the corpus is read, and the corpus made ready."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tokenizers import Tokenizer

from skillneurons import fingerprints
from skillneurons.commands.config import parse
from skillneurons.declarations import find, folders
from skillneurons.errors import InputError, listed
from skillneurons.pretrain.config import PretrainConfig
from skillneurons.pretrain.corpus import tokens as token_corpus
from skillneurons.pretrain.corpus.texts import corpus_files, corpus_fingerprint, hashes_of, read_corpus
from skillneurons.pretrain.corpus.tokenizer import FIRST_WORD, load_tokenizer, train_tokenizer
from skillneurons.pretrain.corpus.tokens import TokenCorpus
from skillneurons.pretrain.recipe import Recipe, read_recipe
from skillneurons.pretrain.word_vectors import word_vectors
from skillneurons.storage import state_dir, write_atomically

METHOD_VERSION = 2


@dataclass(frozen=True)
class PretrainPlan:
    """A checked pretrain command: configuration, recipe, and the corpus' files by name with their hashes."""

    config: PretrainConfig
    recipe: Recipe
    models: tuple[str, ...]
    files: Mapping[str, str]
    unseen: Mapping[str, str]
    bytes: int

    def model_address(self, model: str) -> str:
        """SHA-256 of what decides the weights of one model."""
        return fingerprints.of_value({"stage": "pretrain", "model": self._decided(model)})

    @property
    def address(self) -> str:
        """SHA-256 of what decides the weights of all the models asked for."""
        return fingerprints.of_value(
            {"stage": "pretrain", "models": [self.model_address(name) for name in self.models]}
        )

    @property
    def corpus_address(self) -> str:
        """SHA-256 of what decides the tokenizer and the token ids."""
        recipe = self.recipe
        return fingerprints.of_value(
            {
                "method": METHOD_VERSION,
                "corpus": corpus_fingerprint(self.files, self.unseen),
                "vocabulary": [recipe.vocabulary_size, list(recipe.words)],
            }
        )

    @property
    def title(self) -> str:
        """`pocket-roberta, pocket-t5`."""
        return ", ".join(self.models)

    @property
    def out(self) -> Path:
        """Where the model folders go."""
        return Path(self.config.out).expanduser() if self.config.out else state_dir() / "models"

    def _decided(self, model: str) -> dict[str, Any]:
        return {"method": METHOD_VERSION, "recipe": self.recipe.deciding(model), "corpus": self.corpus_address}


@dataclass(frozen=True)
class Ready:
    """A corpus made ready: token ids, tokenizer, word vectors `[V, E]` to start from, and facts for the card."""

    tokens: TokenCorpus
    tokenizer: Tokenizer
    vectors: NDArray[np.float32]
    facts: Mapping[str, Any]


def plan(given: Mapping[str, str], base: Mapping[str, Any] | None = None) -> PretrainPlan:
    """Check a pretrain command whole.

    Raises:
        InputError: the first thing that is wrong.
    """
    config = parse(PretrainConfig, given, base)
    recipe = _with_overrides(read_recipe(find(config.recipe, "recipe", folders("models"))), config)
    models = tuple(name.strip() for name in config.models.split(",")) if config.models else tuple(recipe.models)
    if lost := [name for name in models if name not in recipe.models]:
        raise InputError("models are models of the recipe", listed(lost), f"There are: {listed(recipe.models)}.")
    train, others = corpus_files(Path(config.corpus).expanduser(), recipe.corpus)
    size = sum(file.stat().st_size for file in train.values())
    return PretrainPlan(config, recipe, models, hashes_of(train), hashes_of(others), size)


def make_ready(plan: PretrainPlan, say: Callable[[str], None]) -> Ready:
    """The corpus of a plan, from the state folder if it was made ready before."""
    folder = state_dir() / "corpora" / plan.corpus_address[:32]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # two models trained side by side: one makes it ready, the other waits
        if not (folder / "facts.json").is_file():
            _tokenise(plan, folder, say)
        tokens, tokenizer = token_corpus.load(folder / "corpus.npz"), load_tokenizer(folder / "tokenizer.json")
        return Ready(
            tokens,
            tokenizer,
            _vectors(plan, tokens, folder, say),
            json.loads((folder / "facts.json").read_text(encoding="utf-8")),
        )


def _tokenise(plan: PretrainPlan, folder: Path, say: Callable[[str], None]) -> None:
    say("reading the corpus and keeping evaluation texts out of it")
    corpus = read_corpus(Path(plan.config.corpus).expanduser(), plan.recipe.corpus)
    if corpus.fingerprint != corpus_fingerprint(plan.files, plan.unseen):
        raise InputError("the corpus stays as it is", "files that changed meanwhile", "Start again.")
    say(f"{len(corpus.rows)} rows; training the tokenizer")
    texts = (text for row in corpus.rows if not row.held_out for text in (row.first, row.second) if text)
    tokenizer = train_tokenizer(texts, plan.recipe.words, plan.recipe.vocabulary_size)
    tokens = token_corpus.tokenise(corpus, tokenizer)
    say(f"{len(tokens.ids):,} tokens")
    write_atomically(folder / "tokenizer.json", tokenizer.to_str(pretty=True).encode())
    token_corpus.save(tokens, folder / "corpus.npz")
    facts = {
        "sources": [asdict(source) for source in corpus.sources],
        "kept_out": dict(corpus.unseen),
        "kept_out_texts": corpus.unseen_texts,
        "tokens": len(tokens.training_stream),
        "held_out_tokens": len(tokens.held_out_stream),
    }
    write_atomically(folder / "facts.json", json.dumps(facts, indent=1).encode())


def _vectors(
    plan: PretrainPlan, tokens: TokenCorpus, folder: Path, say: Callable[[str], None]
) -> NDArray[np.float32]:
    size, recipe = plan.recipe.size, plan.recipe
    file = folder / f"vectors-{size.hidden}-{recipe.seed}.npy"
    if not file.is_file():
        say("word vectors to start from: PPMI and truncated SVD")
        made = word_vectors(tokens.training_stream, recipe.vocabulary_size, FIRST_WORD, size.hidden, recipe.seed)
        temporary = folder / "vectors.tmp.npy"
        np.save(temporary, made)
        temporary.replace(file)
    loaded: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return loaded


def _with_overrides(recipe: Recipe, config: PretrainConfig) -> Recipe:
    train = recipe.train.model_copy(update={"steps": config.steps} if config.steps else {})
    return recipe.model_copy(update={"train": train, **({} if config.seed is None else {"seed": config.seed})})
