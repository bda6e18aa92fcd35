"""What is kept of a pretraining: the model folder, its card for people and its card for programs."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from transformers.utils import logging

from skillneurons.about import __version__
from skillneurons.errors import InputError
from skillneurons.pretrain.corpus.texts import hashes_of
from skillneurons.pretrain.corpus.tokenizer import for_family
from skillneurons.pretrain.loop import Trained
from skillneurons.pretrain.plan import PretrainPlan, Ready
from skillneurons.storage import write_atomically

CARD_FILE = "card.json"
FORMAT = "skillneurons.backbone.1"
SHARD = "15MB"
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


@dataclass(frozen=True)
class Made:
    """How a backbone was trained, beside plan and figures."""

    name: str
    address: str
    run_id: str
    environment: Mapping[str, str]
    unigram_entropy: float


def card(plan: PretrainPlan, ready: Ready, trained: Trained, made: Made) -> dict[str, Any]:
    """The card for programs."""
    return {
        "format": FORMAT,
        "name": made.name,
        "address": made.address,
        "run": made.run_id,
        "version": __version__,
        "environment": dict(made.environment),
        "recipe": plan.recipe.deciding(made.name),
        "corpus": dict(ready.facts),
        "steps": plan.recipe.train.steps,
        "text_tokens": trained.tokens,
        "seconds": round(trained.seconds, 1),
        "unigram_entropy": made.unigram_entropy,
        "final": asdict(trained.final),
        "losses": [[p.step, round(p.text, 4), round(p.cloze, 4)] for p in trained.curves.losses],
        "measured": [asdict(point) for point in trained.curves.measured],
    }


def write_model(folder: Path, model: Any, family: Any, ready: Ready, facts: dict[str, Any]) -> None:
    """Write a model folder in the Hugging Face layout, weights as float16; `card.json` last, with all hashes.

    Raises:
        InputError: a weight does not fit into float16.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    half = model.to("cpu", torch.float16)
    if not all(bool(torch.isfinite(value).all()) for value in half.parameters()):
        raise InputError("every weight fits into float16", "one that does not", "Lower the learning rate.")
    with _without_bars():
        half.save_pretrained(temporary, max_shard_size=SHARD)
    for_family(ready.tokenizer, family).save_pretrained(temporary)
    write_atomically(temporary / "README.md", readme(facts).encode())
    files = {file.name: file for file in sorted(temporary.iterdir())}
    write_atomically(temporary / CARD_FILE, json.dumps({**facts, "files": hashes_of(files)}, indent=1).encode())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def check_model(folder: Path) -> dict[str, Any] | None:
    """The card of a model folder whose files are all as it says, else None."""
    if not (folder / CARD_FILE).is_file():
        return None
    facts: dict[str, Any] = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    files = {name: folder / name for name in facts["files"]}
    whole = all(file.is_file() for file in files.values()) and hashes_of(files) == facts["files"]
    return facts if whole else None


def readme(facts: Mapping[str, Any]) -> str:
    """The card for people, in Markdown with the front matter of a Hugging Face model card."""
    return str(_rendered(facts, whole=True)).rstrip() + "\n"


def opening(facts: Mapping[str, Any]) -> str:
    """What the card says before its tables, in Markdown: what the model is and how it was made."""
    return str(_rendered(facts, whole=False).text).strip()


def _rendered(facts: Mapping[str, Any], whole: bool) -> ModelCard:
    data = ModelCardData(language="en", library_name="transformers")
    return ModelCard.from_template(data, template_path=str(TEMPLATE), whole=whole, **facts)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Transformers draws a bar for every file it writes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
