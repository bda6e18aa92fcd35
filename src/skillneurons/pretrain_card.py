"""What is kept of a pretraining: the model folder, its card for people and its card for programs."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from skillneurons import __version__
from skillneurons.corpus import hashes_of
from skillneurons.errors import InputError
from skillneurons.lessons import Accuracy
from skillneurons.pretrain_plan import PretrainPlan, Ready
from skillneurons.pretraining import Trained
from skillneurons.prompts import write_atomically
from skillneurons.vocabulary import for_family

CARD_FILE = "card.json"
FORMAT = "skillneurons.backbone.1"
SHARD = "15MB"


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
    """The card for people, in Markdown."""
    blocks = (_head(facts), _how(facts), _data(facts), _figures(facts), _curve(facts), _limits(facts))
    return "\n\n".join(blocks) + "\n"


def _head(facts: Mapping[str, Any]) -> str:
    (own,) = facts["recipe"]["models"].values()
    size = facts["recipe"]["size"]
    kind = "RobertaForMaskedLM" if own["family"] == "masked_lm" else "T5ForConditionalGeneration"
    layers = f"{size['layers']} encoder layers"
    layers += f" and {own['decoder_layers']} decoder layers" if own["decoder_layers"] else ""
    return (
        f"---\nlanguage: en\nlibrary_name: transformers\n---\n# {facts['name']}\n\n"
        f"A small `{kind}`: {layers} of width {size['hidden']}, FFN {size['ffn']} ({own['activation']}), "
        f"{size['heads']} heads, a lower-cased byte-level BPE of {facts['recipe']['vocabulary_size']} tokens; "
        "float16 weights. It is one of a matched pair: the other has the same tokenizer, hidden size, encoder depth, "
        "FFN width, word vectors to start from, texts, labelled examples, order and number of text tokens."
    )


def _how(facts: Mapping[str, Any]) -> str:
    recipe, environment = facts["recipe"], facts["environment"]
    (own,) = recipe["models"].values()
    masked = own["family"] == "masked_lm"
    supervised, text = recipe["supervised"], recipe["text"]
    masked_start = (
        "; they are centred; the head's dense layer and the attention's value and output layers start from (or "
        "near) the identity, the head's bias from the words' log frequencies"
    )
    alone = (
        f" In the first {supervised['alone_steps']:,} steps they are of {next(iter(supervised['tasks']))} alone."
        if supervised["alone_steps"]
        else ""
    )
    rate = f"{text['rate']:.0%}"
    hidden = (
        f"masked LM ({rate} of the words; 80% mask, 10% random, 10% kept), each text at a drawn position"
        if masked
        else f"span corruption ({rate} of the tokens, mean span {text['mean_span']:g})"
    )
    gap = (
        "the mask stands in the gap; where the gap comes before the text, mask and hint have no position, as a "
        "prompt has none"
        if masked
        else "the target is `<extra_id_0> word <extra_id_1>`; where the gap comes before the text, the target is the "
        "word itself, so that it is read at the decoder's first step"
    )
    return (
        f"## How it was made\n\n"
        f"- {facts['steps']} steps, {facts['text_tokens']:,} tokens of text, {facts['seconds'] / 60:.0f} minutes on "
        f"{environment.get('skillneurons.device', '?')} ({environment.get('skillneurons.threads', '?')} threads); "
        f"seed {recipe['seed']}; AdamW, rate {own['learning_rate']:g}, {recipe['train']['schedule']} schedule, "
        f"batches of {recipe['train']['tokens_per_step']} tokens.\n"
        f"- Code: skillneurons {facts['version']}, commit {environment.get('skillneurons.commit', '?')}; "
        f"{environment.get('skillneurons.versions', '')}. Address `{facts['address']}`.\n"
        "- Word vectors started from PPMI and truncated SVD of the corpus' co-occurrences (window 5)"
        f"{masked_start if masked else ''}.\n"
        f"- {1 - supervised['share']:.0%} of the tokens: {hidden}.\n"
        f"- {supervised['share']:.0%} of the tokens: labelled rows of {', '.join(supervised['tasks'])} as texts with "
        f"a gap: {gap}.{alone} {supervised['noise_share']:.0%} of those with the gap before the text have up to "
        f"{supervised['noise_words']} random words there. Long reviews are cut to pieces of "
        "whole sentences that keep the review's label.\n"
        f"- Never seen as labelled rows: {', '.join(recipe['probes']) or 'none declared'}."
    )


def _data(facts: Mapping[str, Any]) -> str:
    corpus = facts["corpus"]
    lines = [
        "## Data",
        "",
        f"{corpus['tokens']:,} tokens of distinct text, and {corpus['held_out_tokens']:,} held out (one row in 50, "
        "whose texts no row of any data set is trained on). Only train splits. A row was dropped if one of its texts "
        "(lower-cased, spacing aside) is a text of an evaluation file, or shares 13 words in a row with one; "
        f"{corpus['kept_out_texts']:,} such texts in {len(corpus['kept_out'])} files were kept out. SST-2's train "
        "split is made of phrases: short phrases of sentences that also occur in its dev split are in the nature of "
        "that data set and were not looked for.",
        "",
        "| file | rows | kept | held out | dropped | SHA-256 |",
        "|---|---|---|---|---|---|",
    ]
    for source in corpus["sources"]:
        dropped = ", ".join(f"{count} {why}" for why, count in source["dropped"].items()) or "none"
        lines.append(
            f"| {source['name']} | {source['rows']} | {source['kept']} | {source['held_out']} | {dropped} "
            f"| `{source['sha256']}` |"
        )
    lines += ["", "Kept out, by SHA-256:", ""]
    return "\n".join([*lines, *(f"- {name} `{digest}`" for name, digest in corpus["kept_out"].items())])


def _figures(facts: Mapping[str, Any]) -> str:
    final = facts["final"]
    lines = [
        "## Figures",
        "",
        f"Held-out text: {final['text_loss']:.3f} nats a hidden token (knowing frequencies alone: "
        f"{facts['unigram_entropy']:.3f}; the two families hide differently, so their losses are not comparable). "
        f"Held-out labelled rows: {final['cloze_loss']:.3f} nats a row.",
        "",
        "Accuracy without any prompt on held-out rows of train splits, the label word read where a prompt's is "
        "(95% Wilson interval):",
        "",
        "| task | labels seen | n | accuracy | interval | majority |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_row(Accuracy(**found)) for found in final["accuracies"])])


def _row(a: Accuracy) -> str:
    seen = "yes" if a.supervised else "no"
    return f"| {a.task} | {seen} | {a.n} | {a.accuracy:.1%} | {a.low:.1%} – {a.high:.1%} | {a.majority:.1%} |"


def _curve(facts: Mapping[str, Any]) -> str:
    lines = ["## Loss", "", "| step | tokens | held-out text | held-out rows |", "|---|---|---|---|"]
    for point in facts["measured"]:
        measured = point["measured"]
        lines.append(
            f"| {point['step']} | {point['tokens']:,} | {measured['text_loss']:.3f} | {measured['cloze_loss']:.3f} |"
        )
    return "\n".join([*lines, "", "The training loss, every ten steps, is in `card.json`."])


def _limits(facts: Mapping[str, Any]) -> str:
    return (
        f"## Limits\n\nTrained for minutes on {facts['text_tokens'] / 1e6:.1f} million tokens: film reviews above "
        "all, then questions, image "
        "captions, newswire and everyday moral judgements, with all that these say and leave out. It is made for "
        "experiments on prompts and neurons, not for use on people; it does not write well, knows little of the "
        "world, and on tasks that need more than words (paraphrase, entailment, ethics) it may be near chance: see "
        "the figures. The texts belong to their owners; none of them is part of this folder."
    )


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
