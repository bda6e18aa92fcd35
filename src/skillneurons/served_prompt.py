"""A registered soft prompt as an MLflow pyfunc: text columns in, label and score per label out.

MLflow stores this file itself (models from code, no pickle) beside the prompt folder and the package's
source. The backbone is not in it: it is loaded from where the prompt's card says, or from the folder or
hub id in SKILLNEURONS_BACKBONE, and must have the weights the prompt was tuned on.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from skillneurons.encoding import Encoded
from skillneurons.errors import InputError
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
        """`label` and `score_<label>` (raw label-word score) for each row of the task's text columns."""
        task, info = self.task, self.backbone.info
        missing = [name for name in task.fields if name not in model_input.columns]
        if missing:
            raise InputError(f"the columns {', '.join(task.fields)} are there", f"none named {missing}", "Add them.")
        rows = model_input[list(task.fields)].astype(str).to_dict("records")
        texts = [task.render(info.family, row) for row in rows]
        ids = info.encode(texts, self.prompt.card["max_length"])
        encoded = Encoded(ids, torch.zeros(len(ids), dtype=torch.int64))
        scores = score(self.backbone, self.prompt.embeddings, encoded, self.words, self.accelerator)
        frame = pd.DataFrame({f"score_{name}": scores[:, i].numpy() for i, name in enumerate(task.labels)})
        frame.insert(0, "label", [task.labels[i] for i in scores.argmax(1).tolist()])
        return frame


set_model(ServedPrompt())
