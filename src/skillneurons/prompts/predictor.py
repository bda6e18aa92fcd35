"""A tuned prompt ready to answer: where its backbone is found, and its answers to texts."""

import os
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from accelerate import Accelerator

from skillneurons.backbones import loading
from skillneurons.backbones.base import BackboneInfo
from skillneurons.backbones.batching import Encoded
from skillneurons.data.splits import is_text
from skillneurons.data.tasks import task_from
from skillneurons.errors import InputError, listed
from skillneurons.prompts.scoring import score
from skillneurons.prompts.soft_prompt import SoftPrompt

WEIGHTS = (".safetensors", ".bin", ".gguf")


class Predictor:
    """A prompt on its own backbone.

    Attributes:
        prompt: the prompt, whose card names backbone, task and label words.
        task: the task it was tuned on.
        backbone: loaded, with the weights that it was tuned on.

    Raises:
        InputError: the backbone is not where the card says, or its files are others.
    """

    def __init__(self, prompt: SoftPrompt, device: str | None = None) -> None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.prompt, self.task = prompt, task_from(prompt.card["task"])
        self.backbone = loading.load(find_backbone(prompt), device=device)
        self._words = self.backbone.info.label_words(prompt.card["label_words"]["entries"])
        self._accelerator = Accelerator(cpu=device == "cpu")

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Answers for each row of the task's text columns.

        Returns:
            `label`, `probability_<label>` (softmax over the label words) and `score_<label>` (raw label-word score).

        Raises:
            InputError: a column is missing or there twice, or a row holds no text (null, NaN, a number, blanks).
        """
        task, info = self.task, self.backbone.info
        rows = _texts(frame, task.fields)
        if not rows:
            return self._answer(torch.zeros(0, len(task.labels)))
        texts = [task.render(info.family, dict(zip(task.fields, row, strict=True))) for row in rows]
        ids = info.encode(texts, self.prompt.card["max_length"])
        encoded = Encoded(ids, torch.zeros(len(ids), dtype=torch.int64))
        return self._answer(score(self.backbone, self.prompt.embeddings, encoded, self._words, self._accelerator))

    def _answer(self, scores: torch.Tensor) -> pd.DataFrame:
        labels = self.task.labels
        told = {"probability": scores.softmax(1), "score": scores}
        frame = pd.DataFrame(
            {f"{what}_{name}": part[:, i].numpy() for what, part in told.items() for i, name in enumerate(labels)}
        )
        frame.insert(0, "label", pd.Series([labels[i] for i in scores.argmax(1).tolist()], dtype=str))
        return frame


def find_backbone(prompt: SoftPrompt) -> BackboneInfo:
    """The backbone a prompt was tuned on, checked by the fingerprint of its files.

    Raises:
        InputError: it is not where the card says, or its files are others.
    """
    card = prompt.card["backbone"]
    elsewhere = os.environ.get("SKILLNEURONS_BACKBONE")
    places = [elsewhere] if elsewhere else [card["reference"], card["location"]]
    failures: list[str] = []
    for place in dict.fromkeys(places):
        try:
            info = loading.describe(place, revision=card["revision"], placement=prompt.card["placement"])
        except InputError as error:
            failures.append(error.got)
            continue
        if info.fingerprint == card["fingerprint"]:
            return info
        failures.append(f"{_differences(card.get('files'), info.contents)} at {place} ({info.fingerprint[:12]})")
    raise InputError(
        f"the backbone {card['name']} can be loaded with the files it was tuned with ({card['fingerprint'][:12]})",
        "; ".join(failures),
        "Set SKILLNEURONS_BACKBONE to its folder or hub id.",
    )


def _differences(then: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Which files are others: weights, which make another model, are told from a file that got lost."""
    if then is None:
        return "other weights, configuration or tokenizer files"
    found = {
        "other": [name for name in then if name in now and now[name] != then[name]],
        "no": [name for name in then if name not in now],
        "besides": [name for name in now if name not in then],
    }
    changed = any(name.endswith(WEIGHTS) for name in found["other"])
    told = "; ".join(f"{word} {listed(sorted(names))}" for word, names in found.items() if names)
    return f"other {'weights' if changed else 'files'} ({told})"


def _texts(frame: pd.DataFrame, fields: Sequence[str]) -> list[tuple[str, ...]]:
    """The field texts of every row, held to the same rule as the rows of a task."""
    if odd := [name for name in fields if list(frame.columns).count(name) != 1]:
        raise InputError(f"the columns {listed(fields)} are there, each once", f"not so: {listed(odd)}", "Mend them.")
    rows = list(frame[list(fields)].itertuples(index=False, name=None))
    if bad := [name for name, row in zip(frame.index, rows, strict=True) if not is_text(row)]:
        got = f"{len(bad)} without (by index: {listed(bad)})"
        raise InputError(f"every row holds text in {listed(fields)}", got, "Fill or leave out such rows.")
    return rows
