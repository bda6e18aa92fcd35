"""A registered soft prompt as an MLflow pyfunc: text columns in, label and score per label out.

MLflow stores this file itself (models from code, no pickle) beside the prompt folder and the package's
source. The backbone is not in it: it is loaded from where the prompt's card says, or from the folder or
hub id in SKILLNEURONS_BACKBONE, and must have the weights the prompt was tuned on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from skillneurons.data import is_text
from skillneurons.encoding import Encoded
from skillneurons.errors import InputError, listed
from skillneurons.evaluation import score
from skillneurons.prompts import SoftPrompt
from skillneurons.registry import find_backbone
from skillneurons.tasks import restored


class ServedPrompt(PythonModel):  # type: ignore[misc]
    """Predicts with one prompt on its own backbone."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load prompt and backbone; refuse a backbone with other weights."""
        self.prompt = SoftPrompt.load(Path(context.artifacts["prompt"]))
        card = self.prompt.card
        self.task = restored(card["task"])
        info = find_backbone(self.prompt)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.backbone = info.load(device=device)
        self.words = info.label_words(card["label_words"]["entries"])
        self.accelerator = Accelerator(cpu=device == "cpu")

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """`label` and `score_<label>` (raw label-word score) for each row of the task's text columns.

        Raises:
            InputError: A column is missing or there twice, or a row holds no text (null, NaN, a number, blanks).
        """
        task, info = self.task, self.backbone.info
        rows = _texts(model_input, task.fields)
        if not rows:
            return self._answer(torch.zeros(0, len(task.labels)))
        texts = [task.render(info.family, dict(zip(task.fields, row, strict=True))) for row in rows]
        ids = info.encode(texts, self.prompt.card["max_length"])
        encoded = Encoded(ids, torch.zeros(len(ids), dtype=torch.int64))
        return self._answer(score(self.backbone, self.prompt.embeddings, encoded, self.words, self.accelerator))

    def _answer(self, scores: torch.Tensor) -> pd.DataFrame:
        labels = self.task.labels
        frame = pd.DataFrame({f"score_{name}": scores[:, i].numpy() for i, name in enumerate(labels)})
        frame.insert(0, "label", pd.Series([labels[i] for i in scores.argmax(1).tolist()], dtype=str))
        return frame


def _texts(frame: pd.DataFrame, fields: Sequence[str]) -> list[tuple[str, ...]]:
    """The field texts of every row, held to the same rule as the rows of a task."""
    if odd := [name for name in fields if list(frame.columns).count(name) != 1]:
        raise InputError(f"the columns {listed(fields)} are there, each once", f"not so: {listed(odd)}", "Mend them.")
    rows = list(frame[list(fields)].itertuples(index=False, name=None))
    if bad := [name for name, row in zip(frame.index, rows, strict=True) if not is_text(row)]:
        got = f"{len(bad)} without (by index: {listed(bad)})"
        raise InputError(f"every row holds text in {listed(fields)}", got, "Fill or leave out such rows.")
    return rows


set_model(ServedPrompt())
