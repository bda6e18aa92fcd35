"""What a notebook calls: the functions behind the commands, with the same parameters, tracked in the same store.

Importing it takes no time worth naming: torch, transformers and mlflow come with the first call. A command's own name
is that of its folder, so its function is named by what it is done to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from skillneurons.backbones.base import Backbone
    from skillneurons.data.tasks import Task
    from skillneurons.neurons.scores import Neurons
    from skillneurons.prompts.soft_prompt import SoftPrompt

__all__ = [
    "Result",
    "discover_neurons",
    "load_backbone",
    "load_neurons",
    "load_prompts",
    "load_task",
    "measure_robustness",
    "measure_transfer",
    "predict",
    "suppress_neurons",
    "tune_prompts",
]


@dataclass(frozen=True)
class Result:
    """What a command left in the tracking store.

    Attributes:
        run_id: the run, whose page the UI shows.
        reused: whether a finished run had done it before.
        finding: in words, with interval and chance level.
    """

    run_id: str
    reused: bool
    finding: str

    @property
    def reference(self) -> str:
        """`runs:/<id>`, as other commands take it."""
        return f"runs:/{self.run_id}"

    def table(self, name: str) -> "pd.DataFrame":
        """One of the run's tables, e.g. `suppression.json`."""
        from skillneurons.tracking.runs import Tracking

        return Tracking.connect().table(self.run_id, name)


def load_backbone(
    model: str, *, device: str = "cpu", placement: Literal["auto", "prefix"] = "auto", revision: str | None = None
) -> "Backbone":
    """A frozen language model with its weights in float32.

    Args:
        model: a name in `experiments/models`, a folder, a `.gguf` file, or a hub id.
        device: where to put it, `cpu` or `cuda`.
        placement: where a prompt goes; `auto`: as the family has it.
        revision: of the hub.

    Raises:
        InputError: there is none, or it cannot be used with a prompt.
    """
    from skillneurons.backbones import loading

    asked = None if placement == "auto" else placement
    return loading.load(loading.describe(model, revision=revision, placement=asked), device=device)


def load_task(name_or_path: str) -> "Task":
    """A task by its name in `experiments/tasks`, or from a path to such a YAML.

    Raises:
        InputError: there is none, or it breaks a rule.
    """
    from skillneurons.data import tasks

    return tasks.load_task(name_or_path)


def load_prompts(references: str) -> "list[SoftPrompt]":
    """Soft prompts, each with its embeddings `[P, E]` (float32) and its card.

    Args:
        references: `runs:/<id>` of a tune run (all its seeds), `models:/<name>@<alias>`, `models:/<name>/<version>`
            or a prompt folder; several with commas.

    Raises:
        InputError: one leads nowhere, or to a run that is not finished.
    """
    from skillneurons.tracking.registry import fetch
    from skillneurons.tracking.runs import Tracking

    return fetch(Tracking.connect(), references)


def load_neurons(reference: str) -> "Neurons":
    """The scores of every neuron: arrays of S prompts, L layers, P positions and F neurons.

    Args:
        reference: `runs:/<id>` of a discover run, or its folder `neurons`.

    Raises:
        InputError: it leads nowhere, or to a run that is not finished.
    """
    from skillneurons.tracking.registry import fetch_neurons
    from skillneurons.tracking.runs import Tracking

    return fetch_neurons(Tracking.connect(), reference)


def predict(
    prompt: "SoftPrompt", texts: "Sequence[str] | pd.DataFrame", *, device: str | None = None
) -> "pd.DataFrame":
    """`label`, `probability_<label>` and `score_<label>` for each text under a prompt, on its own backbone.

    Args:
        prompt: as `load_prompts` gives it.
        texts: the task's only field; or a frame with a column for each field.
        device: where to compute; else a GPU if there is one.

    Raises:
        InputError: the backbone is not found or has other weights, or a row holds no text.
    """
    import pandas as pd

    from skillneurons.prompts.predictor import Predictor

    predictor = Predictor(prompt, device)
    if not isinstance(texts, pd.DataFrame):
        texts = pd.DataFrame({predictor.task.fields[0]: list(texts)})
    return predictor.predict(texts)


def tune_prompts(model: str, task: str, **parameters: object) -> Result:
    """Tune one soft prompt a seed, as `skillneurons tune`; its `--help` lists the parameters.

    Raises:
        InputError: the first parameter that is wrong.
    """
    return _done("tune", {"model": model, "task": task, **parameters})


def discover_neurons(prompts: str, **parameters: object) -> Result:
    """Find the skill neurons of prompts (references as of `load_prompts`), as `skillneurons discover`.

    Raises:
        InputError: the first parameter that is wrong.
    """
    return _done("discover", {"prompts": prompts, **parameters})


def suppress_neurons(prompts: str, neurons: str, **parameters: object) -> Result:
    """Accuracy with skill neurons suppressed, beside random ones, as `skillneurons suppress`.

    Raises:
        InputError: the first parameter that is wrong.
    """
    return _done("suppress", {"prompts": prompts, "neurons": neurons, **parameters})


def measure_robustness(prompts: str, neurons: str, **parameters: object) -> Result:
    """Adversarial accuracy, and what becomes of the skill neurons, as `skillneurons robustness`.

    Raises:
        InputError: the first parameter that is wrong.
    """
    return _done("robustness", {"prompts": prompts, "neurons": neurons, **parameters})


def measure_transfer(prompts: str, **parameters: object) -> Result:
    """Accuracy of every task under every task's prompts, as `skillneurons transfer`.

    Raises:
        InputError: the first parameter that is wrong.
    """
    return _done("transfer", {"prompts": prompts, **parameters})


def _done(name: str, parameters: Mapping[str, object]) -> Result:
    """Do the work of a command in this process, or find it done."""
    from functools import cache

    from rich.console import Console

    from skillneurons.tracking.runs import Tracking

    command: Any = import_module(f"skillneurons.{name}.command").COMMAND
    connect = cache(Tracking.connect)
    plan = command.prepare({key: value for key, value in parameters.items() if value is not None}, connect)
    outcome = command.execute(plan, connect(), Console())
    return Result(outcome.run_id, outcome.reused, outcome.report.finding().text)
