"""A soft prompt as a value, and as a folder that anyone can load."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from skillneurons import fingerprints
from skillneurons.errors import InputError
from skillneurons.storage import write_atomically

FORMAT = 1
TENSOR_FILE = "prompt.safetensors"
CARD_FILE = "prompt.json"
REQUIRED = ("format", "task", "label_words", "backbone", "placement", "fingerprint")


@dataclass(frozen=True)
class SoftPrompt:
    """A tuned prompt in input-embedding space, with what is needed to use it again.

    Attributes:
        embeddings: float32 `[P, E]`. Row 0 of a masked LM's prompt is kept like the others and never
            used: the mask stands there.
        card: JSON-able facts: `task` (the whole definition), `label_words` (words, ids, pieces),
            `backbone` (reference, name, revision, fingerprint, family), `placement`, `data`
            (fingerprint a role), `metrics`, `tuning` (the configuration), `seed`; `rows` (where the task's rows
            come from) and `selection` (the half of which dev split it was selected on; null where unknown).
    """

    embeddings: torch.Tensor
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not torch.isfinite(self.embeddings).all():
            raise ValueError(f"a prompt is a finite [P, E] tensor, got {tuple(self.embeddings.shape)}")

    @property
    def length(self) -> int:
        """P, the number of prompt positions."""
        return int(self.embeddings.shape[0])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the embeddings: two prompts with one fingerprint are bit-identical."""
        return fingerprints.of_tensor(self.embeddings)

    def chosen_on_half_a(self, dev: str) -> bool:
        """Whether all that was chosen of it was chosen on half A of the dev split with this fingerprint."""
        told = self.card.get("selection") or {}
        return bool(told.get("half") == "A" and told.get("dev") == dev)

    def save(self, folder: Path) -> None:
        """Write `prompt.safetensors`, then `prompt.json`: a folder without the latter is not a prompt."""
        folder.mkdir(parents=True, exist_ok=True)
        tensor = self.embeddings.detach().to("cpu", torch.float32).contiguous()
        safetensors.torch.save_file({"prompt": tensor}, folder / TENSOR_FILE)
        card = {"format": FORMAT, **self.card, "fingerprint": self.fingerprint}
        write_atomically(folder / CARD_FILE, json.dumps(card, indent=2, ensure_ascii=False).encode())

    @classmethod
    def load(cls, folder: Path) -> "SoftPrompt":
        """Read a prompt folder.

        Raises:
            InputError: a file or a key is missing, or the tensor is not the one the card speaks of.
        """
        missing = [name for name in (CARD_FILE, TENSOR_FILE) if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"a prompt folder holds {TENSOR_FILE} and {CARD_FILE}",
                f"{folder} without {' and '.join(missing)}",
                "Name the folder 'prompt' of a finished tune run.",
            )
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        lacking = [key for key in REQUIRED if key not in card]
        if lacking or card["format"] != FORMAT:
            got = f"one without {lacking}" if lacking else f"format {card['format']}"
            raise InputError(f"{CARD_FILE} is of format {FORMAT}", got, "Tune or import the prompt again.")
        prompt = cls(safetensors.torch.load_file(folder / TENSOR_FILE)["prompt"], card)
        if prompt.fingerprint != card["fingerprint"]:
            raise InputError(
                f"{TENSOR_FILE} matches its card",
                f"another tensor in {folder}",
                "Copy the whole folder again.",
            )
        return prompt
