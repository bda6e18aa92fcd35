"""Walks a logged table and names the numbers that lack n, an interval or a chance level.

An estimate is a number that is no condition (which rows, neurons, seeds), no count, no p or q, and no end of an
interval. Its interval is X_low and X_high (of `x_accuracy` also x_low, x_high; of a table's first estimate also low
and high), its chance X_chance, X_chance_low and X_chance_high, or chance (with its ends); of an accuracy `majority`.
"""

import json
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient

CONDITIONS = {
    *("n", "majority", "rate", "percent", "layer", "neuron", "neurons", "seed", "seeds", "prompts", "rank"),
    *("originals", "test_rows", "random_sets", "trial", "evaluations", "seconds", "permutations"),
    *("paired_seeds", "random_prompts", "cells", "tasks", "orders", "layers"),
    *("learning_rate", "batch_size", "prompt_length", "best_by_chance", "source_seed", "k", "top"),
}
ENDS = ("_low", "_high", "_chance", "_lowest", "_highest", "_p", "_q", "_floor", "_value")
WHOLE = ("low", "high", "chance", "p", "q")


def lacking(frame: pd.DataFrame) -> list[str]:
    """What a table lacks, in words; nothing if all is there."""
    estimates = [name for name in frame.columns if _is_number(frame[name]) and not _known(name)]
    columns, found = set(frame.columns), []
    for name in estimates:
        stems = {name, name.removesuffix("_accuracy")}
        intervals = [{f"{stem}_low", f"{stem}_high"} for stem in stems]
        intervals += [{"low", "high"}] if name == estimates[0] else []
        if not any(interval <= columns for interval in intervals):
            found.append(f"{name} without an interval")
        chances = [{f"{name}_chance"}, {f"{name}_chance_low", f"{name}_chance_high"}, {"chance"}]
        chances += [{"chance_low", "chance_high"}, *([{"majority"}] if name.endswith("accuracy") else [])]
        if not any(chance <= columns for chance in chances):
            found.append(f"{name} without its chance level")
    return found + ["no column n"] * bool(estimates and "n" not in columns)


def walked(client: MlflowClient, experiment_ids: list[str]) -> dict[str, list[str]]:
    """Every table that was logged to a store -> what it lacks."""
    found: dict[str, list[str]] = {}
    for run in client.search_runs(experiment_ids):
        for told in json.loads(run.data.tags.get("mlflow.loggedArtifacts", "[]")):
            path = Path(client.download_artifacts(run.info.run_id, told["path"]))
            name = f"{run.data.tags['skillneurons.stage']}/{told['path']}"
            found.setdefault(name, []).extend(lacking(pd.DataFrame(**json.loads(path.read_text()))))
    return found


def _known(name: str) -> bool:
    return name in CONDITIONS or name in WHOLE or name.endswith(ENDS) or name.startswith("rows_")


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)
