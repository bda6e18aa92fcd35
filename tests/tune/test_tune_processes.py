"""Promises that need processes of their own: dying, racing, sharing a batch, the exit codes of a shell."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file
from torch import distributed

from conftest import QUICK, ROOT, environment, words
from nursery import SCHEMA, Child
from skillneurons import storage
from skillneurons.data.splits import half_a, load_splits
from skillneurons.data.tasks import load_task
from skillneurons.errors import InputError
from skillneurons.prompts.soft_prompt import SoftPrompt

LONG = {**QUICK, "max_steps": "240", "eval_every": "20"}


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def all_runs(folder: Path) -> list:
    store = client(folder)
    return list(store.search_runs([e.experiment_id for e in store.search_experiments()]))


def seed_prompts(folder: Path) -> dict[str, SoftPrompt]:
    found = {}
    for run in all_runs(folder):
        if run.info.status == "FINISHED" and "skillneurons.seed" in run.data.tags:
            path = Path(run.info.artifact_uri.removeprefix("file://")) / "prompt"
            found[run.data.tags["skillneurons.seed"]] = SoftPrompt.load(path)
    return found


def kill_after_checkpoint(process: Child, folder: Path, rng: random.Random) -> None:
    deadline = time.monotonic() + 120
    while not list((folder / ".skillneurons").glob("checkpoints/*.pt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(rng.uniform(0.0, 0.6))
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_and_taken_up_again_the_prompts_are_the_same_bits(start, nursery, workplace, tmp_path, tiny_roberta):
    untouched = tmp_path / "untouched"
    untouched.mkdir()
    command = words("tune", model=tiny_roberta, seeds="0,1", threads=1, **LONG)
    whole = nursery.start(command, untouched, environment())
    out = whole.communicate()[0]
    assert whole.returncode == 0, out
    rng = random.Random(os.getpid())
    process = start("tune", model=tiny_roberta, seeds="0,1", threads=1, **LONG)
    kill_after_checkpoint(process, workplace, rng)
    assert process.returncode == -signal.SIGKILL
    died = {run.info.run_id for run in all_runs(workplace) if run.info.status == "RUNNING"}
    assert died

    again = start("tune", model=tiny_roberta, seeds="0,1", threads=1, **LONG)
    out = again.communicate()[0]
    assert again.returncode == 0, out
    expected, got = seed_prompts(untouched), seed_prompts(workplace)
    assert set(expected) == set(got) == {"0", "1"}
    for seed, prompt in expected.items():
        assert torch.equal(prompt.embeddings, got[seed].embeddings)
    by_id = {run.info.run_id: run for run in all_runs(workplace)}
    assert all(by_id[run_id].info.status == "KILLED" for run_id in died)
    assert all("skillneurons.superseded_by" in by_id[run_id].data.tags for run_id in died)
    assert "without a word" in out
    seed = next(
        run
        for run in by_id.values()
        if run.data.tags.get("skillneurons.seed") == "0" and run.info.status == "FINISHED"
    )
    steps = [m.step for m in client(workplace).get_metric_history(seed.info.run_id, "dev/curve/accuracy")]
    assert steps == list(range(0, 241, 20)), "a resumed run shows its whole curve, each point once"

    started = time.monotonic()
    third = start("tune", model=tiny_roberta, seeds="0,1", threads=1, **LONG)
    out = third.communicate()[0]
    assert third.returncode == 0, out
    parent = next(run for run in by_id.values() if "skillneurons.children" in run.data.tags)
    assert f"finished as run {parent.info.run_id}" in out
    assert time.monotonic() - started < 60
    assert len(all_runs(workplace)) == len(by_id)


def test_four_commands_at_once_on_a_fresh_database(start, workplace, tiny_roberta):
    fresh = {SCHEMA: ""}
    processes = [start("tune", env=fresh, model=tiny_roberta, seeds=seed, **QUICK) for seed in range(4)]
    outs = [process.communicate()[0] for process in processes]
    for process, out in zip(processes, outs, strict=True):
        assert process.returncode == 0, out
    assert set(seed_prompts(workplace)) == {"0", "1", "2", "3"}
    store = client(workplace)
    versions = store.search_model_versions("name = 'film_notes.tiny-roberta'")
    assert len(versions) == 4
    champion = store.get_model_version_by_alias("film_notes.tiny-roberta", "champion")
    assert float(champion.tags["dev_accuracy"]) == max(float(v.tags["dev_accuracy"]) for v in versions)


def test_two_of_the_same_command_do_not_work_twice(start, workplace, tiny_roberta):
    processes = [start("tune", model=tiny_roberta, **LONG) for _ in range(2)]
    outs = [process.communicate()[0] for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 0], [0, 2]), outs
    if codes == [0, 2]:
        assert any("one process at a time works on one configuration" in out for out in outs)
    assert len([run for run in all_runs(workplace) if run.data.tags.get("skillneurons.seed")]) == 1


def test_commands_that_share_a_seed_tune_it_once(start, workplace, tiny_roberta):
    processes = [start("tune", model=tiny_roberta, seeds=seeds, **LONG) for seeds in ("0,1", "1,0,2")]
    outs = [process.communicate()[0] for process in processes]
    for process, out in zip(processes, outs, strict=True):
        assert process.returncode == 0, out
    runs = all_runs(workplace)
    assert sorted(run.data.tags["skillneurons.seed"] for run in runs if "skillneurons.seed" in run.data.tags) == [
        *"012"
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not any("skillneurons.error" in run.data.tags for run in runs)


def test_two_processes_agree_with_one_and_count_every_row_once(start, workplace, tmp_path, tiny_roberta):
    # 101 train rows in batches of 8 leave a last batch of 5; 37 rows of test and those of half A are odd too
    chosen_on = half_a(load_splits(load_task("film_notes"), max_eval_rows=37)["dev"])
    assert len(chosen_on) % 2
    one = start("tune", model=tiny_roberta, processes=1, threads=1, **QUICK)
    out = one.communicate()[0]
    assert one.returncode == 0, out
    (workplace / "mlflow.db").rename(tmp_path / "one.db")
    two = start("tune", spares=2, model=tiny_roberta, processes=2, threads=1, **QUICK)
    out = two.communicate()[0]
    assert two.returncode == 0, out

    stores = MlflowClient(f"sqlite:///{tmp_path}/one.db"), client(workplace)
    curves, frames = [], []
    for store in stores:
        runs = list(store.search_runs([e.experiment_id for e in store.search_experiments()]))
        seeds = [run for run in runs if "skillneurons.seed" in run.data.tags]
        assert len(seeds) == 1, "one run in MLflow, whatever the number of processes"
        assert len(runs) == 2
        run = seeds[0]
        curves.append([m.value for m in store.get_metric_history(run.info.run_id, "train/loss")])
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        frames.append(pd.read_parquet(folder / "predictions" / "test.parquet"))
        assert (run.data.metrics["test/n"], run.data.metrics["dev/n"]) == (37, len(chosen_on))
    assert run.data.tags["skillneurons.processes"] == "2"
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert len(curves[0]) == 5
    assert frames[0]["row_hash"].tolist() == frames[1]["row_hash"].tolist()
    scores = ["score_negative", "score_positive"]
    assert (frames[0][scores] - frames[1][scores]).abs().to_numpy().max() < 1e-2


def test_an_interrupt_is_a_killed_run_that_the_same_command_takes_up(start, workplace, tiny_roberta):
    process = start("tune", model=tiny_roberta, **LONG)
    while not list((workplace / ".skillneurons").glob("checkpoints/*.pt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out = process.communicate()[0]
    assert process.returncode == 130, out
    assert "takes up where this one stopped" in out
    assert "Traceback" not in out
    assert {run.info.status for run in all_runs(workplace)} == {"KILLED"}
    again = start("tune", model=tiny_roberta, **LONG)
    assert again.wait() == 0, again.communicate()[0]
    assert set(seed_prompts(workplace)) == {"0"}


def test_bfloat16_tunes_and_is_evaluated_in_full_precision(start, workplace, tiny_roberta):
    process = start("tune", model=tiny_roberta, precision="bf16", **QUICK)
    out = process.communicate()[0]
    assert process.returncode == 0, out
    run = next(run for run in all_runs(workplace) if "skillneurons.seed" in run.data.tags)
    assert run.data.params["precision"] == "bf16"
    frame = pd.read_parquet(Path(run.info.artifact_uri.removeprefix("file://")) / "predictions" / "test.parquet")
    scores = torch.tensor(frame["score_negative"].to_numpy())
    assert not torch.equal(scores, scores.bfloat16().to(scores.dtype)), "scores have more than bf16's digits"


def test_bad_input_is_exit_code_two_one_line_and_nothing_written(start, workplace, tiny_roberta):
    process = start("tune", model=tiny_roberta, **{**QUICK, "learning_rate": "abc"})
    out = process.communicate()[0]
    assert process.returncode == 2
    assert out.strip().count("\n") == 0
    assert "learning_rate must be" in out
    assert "'abc'" in out
    assert "Traceback" not in out
    assert not list(workplace.iterdir())


def test_through_mlflow_run_a_mistake_is_a_failed_run_with_the_reason(workplace, schema, tiny_roberta):
    shutil.copy(schema, workplace / "mlflow.db")
    process = mlflow_run(workplace, model=tiny_roberta, task="film_notes", lerning_rate="1")
    assert process.returncode != 0
    assert "Did you mean learning_rate?" in process.stdout + process.stderr
    (run,) = all_runs(workplace)
    assert run.info.status == "FAILED"
    assert "Did you mean learning_rate?" in run.data.tags["skillneurons.error"]


def test_through_mlflow_run_the_given_parameters_are_the_runs(workplace, schema, tiny_roberta):
    shutil.copy(schema, workplace / "mlflow.db")
    process = mlflow_run(workplace, model=tiny_roberta, **QUICK)
    assert process.returncode == 0, process.stdout + process.stderr
    parent = next(run for run in all_runs(workplace) if "mlflow.parentRunId" not in run.data.tags)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.project.entryPoint"] == "tune"
    assert parent.data.params["learning_rate"] == "0.05"
    assert "schedule" not in parent.data.params, "what was not given is in config.yaml alone"
    assert "skillneurons.children" in parent.data.tags
    again = mlflow_run(workplace, model=tiny_roberta, **QUICK)
    assert again.returncode == 0
    pointer = next(run for run in all_runs(workplace) if "skillneurons.same_as" in run.data.tags)
    assert pointer.data.tags["skillneurons.same_as"] == parent.info.run_id


def mlflow_run(folder: Path, **parameters: object) -> subprocess.CompletedProcess:
    given = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "tune", "--env-manager", "local", *given],
        cwd=folder,
        env=environment(
            PATH=path,
            MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
            SKILLNEURONS_STATE=str(folder / ".skillneurons"),
        ),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_finished_database_is_not_left_locked(start, workplace, tiny_roberta):
    process = start("tune", model=tiny_roberta, **QUICK)
    assert process.communicate()
    assert process.returncode == 0
    with sqlite3.connect(workplace / "mlflow.db", timeout=1) as database:
        assert database.execute("select count(*) from runs").fetchone()[0] == 2


def test_two_processes_discover_all_that_one_does(start, workplace, tiny_roberta):
    def run(stage: str, **more: object) -> list:
        process = start(stage, spares=2 * ("processes" in more), threads=1, **more)
        out = process.communicate()[0]
        assert process.returncode == 0, out
        return [run for run in all_runs(workplace) if run.data.tags["skillneurons.stage"] == stage]

    tuned = run("tune", model=tiny_roberta, seeds="0,1", **QUICK)
    parent = next(r for r in tuned if "skillneurons.seed" not in r.data.tags)
    rows = {"max_train_rows": 101, "max_dev_rows": 75, "permutations": 100, "device": "cpu", "cards": 4}
    asked = {"prompts": f"runs:/{parent.info.run_id}", **rows, "eval_batch_size": 8}
    assert len(run("discover", processes=2, **asked)) == 1, "one run in MLflow, whatever the number of processes"
    found = run("discover", processes=1, rerun="true", **asked)
    one, two = sorted(found, key=lambda r: int(r.data.tags["skillneurons.processes"]))
    assert [r.data.tags["skillneurons.processes"] for r in (one, two)] == ["1", "2"]
    assert one.data.tags["mlflow.note.content"] == two.data.tags["mlflow.note.content"]
    assert same(dict(one.data.metrics), dict(two.data.metrics), leave_out={"peak_memory_mb"}) > 10
    one, two = (Path(r.info.artifact_uri.removeprefix("file://")) for r in (one, two))
    files = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
    assert files == {str(path.relative_to(two)) for path in two.rglob("*") if path.is_file()}
    arrays = [load_file(folder / "neurons" / "neurons.safetensors") for folder in (one, two)]
    assert same(*({name: array.tolist() for name, array in each.items()} for each in arrays)) > 5_000
    tables = {"neurons/neurons.json", "neuron_cards.json", "layers.json", "stability.json"}
    assert tables <= files
    for name in tables:
        read = [json.loads((folder / name).read_text()) for folder in (one, two)]
        # rounding reaches the bits of the baseline, which the fingerprint is of
        assert same(*read, leave_out={"fingerprint"}) > 10, name
    pages = [(folder / "neurons" / "cards.html").read_text() for folder in (one, two)]
    assert pages[0] == pages[1]
    cards = json.loads((two / "neuron_cards.json").read_text())
    assert {row[cards["columns"].index("auc")] for row in cards["data"]} != {0.5}


def same(one: object, two: object, leave_out: frozenset[str] | set[str] = frozenset()) -> int:
    """Assert that two JSON values agree, floats to rounding; how many values were compared."""
    if isinstance(one, dict):
        assert isinstance(two, dict)
        assert one.keys() == two.keys()
        return sum(same(one[key], two[key]) for key in one.keys() - leave_out)
    if isinstance(one, list):
        assert isinstance(two, list)
        assert len(one) == len(two)
        return sum(map(same, one, two))
    assert one == (pytest.approx(two, rel=1e-5, abs=1e-6) if isinstance(one, float) else two)
    return 1


def one_of_two_processes(process: int, folder: Path) -> None:
    """What one of two processes does: it waits for a lock, and reads a state, with the other."""
    os.environ["SKILLNEURONS_STATE"] = str(folder / ("first" if process == 0 else "second"))
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=process, world_size=2, timeout=timedelta(seconds=4)
    )
    storage.ROUND_SECONDS = 1.0
    with storage.alone("shared", wait=True):
        distributed.barrier()
    refused = ""
    try:
        with storage.alone(f"mine {process}"):
            pass
    except InputError as error:
        refused = error.got
    state = storage.FileCheckpoint("state").load()
    distributed.barrier()
    (folder / f"said-{process}.json").write_text(json.dumps([refused, state]))
    distributed.destroy_process_group()


def test_two_processes_wait_for_a_lock_longer_than_a_collective_lasts_and_read_one_state(
    nursery, tmp_path, monkeypatch
):
    monkeypatch.setenv("SKILLNEURONS_STATE", str(tmp_path / "first"))
    storage.FileCheckpoint("state").save({"step": 7})
    with storage.alone("shared"):
        argvs = [[str(process), str(tmp_path)] for process in range(2)]
        both = [nursery.start(argv, tmp_path, environment(), module="test_tune_processes") for argv in argvs]
        time.sleep(9)
    for process in both:
        out, _ = process.communicate()
        assert process.returncode == 0, out
    said = [json.loads((tmp_path / f"said-{process}.json").read_text()) for process in range(2)]
    assert [state for _, state in said] == [{"step": 7}, {"step": 7}], "the second has no file of its own"
    assert [refused for refused, _ in said] == ["", "mine 1 beside mine 0"]


if __name__ == "__main__":
    one_of_two_processes(int(sys.argv[1]), Path(sys.argv[2]))
