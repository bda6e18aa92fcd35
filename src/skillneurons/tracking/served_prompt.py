"""A registered soft prompt as an MLflow pyfunc: text columns in, label and score per label out.

MLflow stores this file itself (models from code, no pickle) beside the prompt folder and the package's
source. The backbone is not in it: it is loaded from where the prompt's card says, or from the folder or
hub id in SKILLNEURONS_BACKBONE, and must have the weights the prompt was tuned on.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from skillneurons.prompts.predictor import Predictor
from skillneurons.prompts.soft_prompt import SoftPrompt


class ServedPrompt(PythonModel):  # type: ignore[misc]
    """Predicts with one prompt on its own backbone."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load prompt and backbone; refuse a backbone with other weights."""
        self.predictor = Predictor(SoftPrompt.load(Path(context.artifacts["prompt"])))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Label, probabilities and scores of each row: see `Predictor.predict`."""
        return self.predictor.predict(model_input)


set_model(ServedPrompt())
