"""Soft prompts in the model registry, and the references that lead to them."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow.artifacts
import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from skillneurons.about import PACKAGE
from skillneurons.data.tasks import Task, task_from
from skillneurons.errors import InputError
from skillneurons.neurons.scores import Neurons
from skillneurons.prompts.soft_prompt import SoftPrompt
from skillneurons.tracking.runs import SAME_AS, Run, Tracking, every

PLAIN = str.maketrans("/:.%\"'", "------")  # what the name of a logged model may not hold
NEURONS = "neurons"  # the artifact folder of a discover run
CHAMPION = "champion"
DEV_ACCURACY = "dev_accuracy"
COMPARABLE = {DEV_ACCURACY, "dev_n", "dev", "backbone"}  # tags of a version
REQUIREMENTS: tuple[str, ...] = (
    *("mlflow", "torch", "transformers", "accelerate", "safetensors", "pandas", "numpy"),
    *("pydantic", "PyYAML", "scipy", "gguf"),
)


def registered_name(task: str, model: str) -> str:
    """`<task>.<model-slug>`, the name a prompt is registered under."""
    return f"{task}.{model}"


def register(
    tracking: Tracking,
    run: Run,
    prompt_folder: Path,
    name: str,
    tags: dict[str, str],
    note: str,
    metrics: Mapping[str, float],
) -> str:
    """Log a prompt folder as a servable model of a run and make it a version; returns the version.

    The model is a pyfunc from code: the prompt folder as its artifact, this package's source beside it,
    a signature, no pickle. Its metrics are those of the run as well.
    """
    client = tracking.client
    _ensure_name(tracking, name)
    model = client.create_logged_model(
        tracking.experiment_id,
        name=name.translate(PLAIN),
        source_run_id=run.id,
        tags=tags,
        model_type="soft-prompt",
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        _save_pyfunc(folder, prompt_folder, Path(scratch), Model(run_id=run.id, model_id=model.model_id))
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    version = client.create_model_version(
        name, f"models:/{model.model_id}", run.id, tags=tags, description=note, model_id=model.model_id
    )
    # as MLflow's own log_model links a model to its run and to its versions
    client.log_outputs(run.id, [LoggedModelOutput(model.model_id, 0)])
    versions = json.dumps([{"name": name, "version": str(version.version)}])
    client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: versions})
    run.metrics(metrics, model_id=model.model_id)
    return str(version.version)


def set_champion(tracking: Tracking, name: str) -> str | None:
    """Point the alias `champion` at the FINISHED version with the best accuracy on the rows it was selected on.

    Accuracies on other rows or of another backbone do not compare: of several such groups the one with the most
    rows has the champion, the newest where they have as many. On a tie the older version keeps the title.
    Returns the version, or None when no run has finished.
    """
    client = tracking.client
    versions = [v for v in every(client.search_model_versions, f"name = '{name}'") if v.tags.keys() >= COMPARABLE]
    newest: dict[tuple[str, ...], int] = {}
    for v in versions:
        newest[_group(v)] = max(newest.get(_group(v), 0), int(v.version))

    def rank(v: ModelVersion) -> tuple[float, ...]:
        return int(v.tags["dev_n"]), newest[_group(v)], float(v.tags[DEV_ACCURACY]), -int(v.version)

    # the best first: asking for the run of every version would take a request each
    ordered = sorted(versions, key=rank, reverse=True)
    best = next((v for v in ordered if _status(tracking, v.run_id) == "FINISHED"), None)
    if best is None:
        return None
    client.set_registered_model_alias(name, CHAMPION, best.version)
    return str(best.version)


def _group(version: ModelVersion) -> tuple[str, ...]:
    return version.tags["dev"], version.tags["backbone"]


def fetch(tracking: Tracking, references: str) -> list[SoftPrompt]:
    """Prompts by reference: `runs:/<id>`, `models:/<name>@<alias>` or `/<version>`, or a folder.

    Several are parted by commas; a tune parent stands for the prompts of all its seeds.

    Raises:
        InputError: a reference leads nowhere, or to a run that is not finished.
    """
    found = [prompt for one in references.split(",") for prompt in _fetch(tracking, one.strip())]
    if not found:
        raise InputError("at least one prompt is named", repr(references), "Pass runs:/<id> of a tune run.")
    return found


def fetch_neurons(tracking: Tracking, reference: str) -> Neurons:
    """Neurons by reference: `runs:/<id>` of a discover run, or a folder.

    Raises:
        InputError: the reference leads nowhere, or to a run that is not finished.
    """
    if not reference.startswith("runs:/"):
        return Neurons.load(Path(reference))
    run_id = _finished(tracking, reference, "neurons")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            tracking.download(run_id, NEURONS, Path(scratch) / NEURONS)
        except InputError as error:
            must = "a run whose neurons are used is one of discover"
            raise InputError(must, f"{reference} ({error.got})", "Name a discover run.") from error
        return Neurons.load(Path(scratch) / NEURONS)


def _fetch(tracking: Tracking, reference: str) -> list[SoftPrompt]:
    if reference.startswith("runs:/"):
        return [_download(f"runs:/{run_id}/prompt", reference) for run_id in _seed_runs(tracking, reference)]
    if reference.startswith("models:/"):
        return [_download(f"{reference}/artifacts/prompt", reference)]
    return [SoftPrompt.load(Path(reference))]


def _seed_runs(tracking: Tracking, reference: str) -> Sequence[str]:
    run_id = _finished(tracking, reference, "prompts")
    return tracking.children(run_id) or [run_id]


def _finished(tracking: Tracking, reference: str, what: str) -> str:
    """The id of the run that did the work, which must be FINISHED."""
    run_id = reference.removeprefix("runs:/").strip("/")
    run_id = tracking.tag(run_id, SAME_AS) or run_id
    if (status := _status(tracking, run_id)) != "FINISHED":
        must = f"a run whose {what} are used is FINISHED"
        raise InputError(must, f"{reference}, {status}", "Run that command again.")
    return run_id


def _download(uri: str, reference: str) -> SoftPrompt:
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
        except (MlflowException, OSError) as error:
            raise InputError(
                "the reference leads to a prompt",
                f"{reference} ({error})",
                "See the prompt's page in the UI.",
            ) from error
        return SoftPrompt.load(Path(local))


def _status(tracking: Tracking, run_id: str) -> str:
    try:
        return str(tracking.client.get_run(run_id).info.status)
    except MlflowException:
        return "DELETED"


def _ensure_name(tracking: Tracking, name: str) -> None:
    try:
        tracking.client.create_registered_model(name, description=f"Soft prompts: task and backbone {name}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _save_pyfunc(folder: Path, prompt_folder: Path, scratch: Path, model: Model) -> None:
    task = task_from(SoftPrompt.load(prompt_folder).card["task"])
    package = PACKAGE
    source = scratch / "source" / package.name
    # the sources alone: a package folder may hold weights, which are found by the prompt's card instead
    for file in package.rglob("*.py"):
        (copy := source / file.relative_to(package)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(package / "tracking/served_prompt.py"),
        artifacts={"prompt": str(prompt_folder)},
        code_paths=[str(source)],
        signature=_signature(task),
        input_example=pd.DataFrame([dict.fromkeys(task.fields, "an example text")]),
        pip_requirements=_requirements(),
        mlflow_model=model,
    )


def _signature(task: Task) -> ModelSignature:
    columns = Schema([ColSpec("string", name) for name in task.fields])
    numbers = [ColSpec("float", f"{what}_{label}") for what in ("probability", "score") for label in task.labels]
    return ModelSignature(columns, Schema([ColSpec("string", "label"), *numbers]))


def _requirements() -> list[str]:
    from importlib.metadata import version

    # local labels such as +cpu name a build that another machine's index does not have
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]
