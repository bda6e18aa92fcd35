"""The service as compose starts it, as processes of this machine: a real PostgreSQL, accounts, HTTP."""

import contextlib
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from conftest import QUICK, environment, words
from services import (
    ADMIN,
    LOOPBACK,
    PUBLIC_URL,
    Server,
    free_port,
    needs_postgresql,
    postgresql,
    run_script,
    status,
    stop,
    tracking,
    tracking_environment,
    wait_for,
)
from skillneurons.cli import main
from skillneurons.search.ledger import Ledger
from skillneurons.search.plan import plan as search_plan
from skillneurons.search.study import SharedStudy
from skillneurons.tracking import run_list_view
from skillneurons.tracking.runs import Tracking
from tiny_models import write_quips

pytestmark = needs_postgresql

SPACE = {
    "search": "tune",
    "version": 1,
    "parameters": {"learning_rate": {"low": 1e-3, "high": 1.0, "log": True}},
    "first": {"learning_rate": 0.05},
    "pruner": None,
}
FIXED = {**{name: value for name, value in QUICK.items() if name != "learning_rate"}, "task": "quips.yaml"}
NAME = "quips.tiny-roberta"
API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with postgresql() as database, tracking(database, folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """A user of the service, in a folder of their own."""
    folder = tmp_path_factory.mktemp("user")
    write_quips(folder)
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SKILLNEURONS_STATE", str(folder / "state"))
        for name, value in server.env.items():
            patch.setenv(name, value)
        mlflow.set_tracking_uri(server.url)
        yield MlflowClient(server.url)


@pytest.fixture(scope="module")
def searched(server: Server, client: MlflowClient, tiny_roberta: Path) -> list[str]:
    """What two workers print that were started at once on databases nobody has used."""
    given = {"model": tiny_roberta, "space": "space.yaml", **FIXED, "trials": 4, "final_seeds": 0, "threads": 1}
    search = " ".join(words("search", **given)[1:])
    logs = [Path(f"worker{number}.log") for number in (1, 2)]
    env = {**server.env, "SEARCH": search, "SKILLNEURONS_STATE": "state"}
    workers = [run_script("worker.sh", env, Path.cwd(), log) for log in logs]
    try:
        for worker, log in zip(workers, logs, strict=True):
            assert worker.wait(300) == 0, log.read_text()
    finally:
        for worker in workers:
            stop(worker)
    return [log.read_text() for log in logs]


@pytest.fixture(scope="module")
def tuned(client: MlflowClient, tiny_roberta: Path) -> str:
    assert main(words("tune", model=tiny_roberta, **FIXED, learning_rate=0.05, seeds="1,2")) == 0
    found = runs(client, "tags.`skillneurons.stage` = 'tune'")
    (run,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
    return run.info.run_id


def runs(client: MlflowClient, where: str = "") -> list:
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()], where))


def table(client: MlflowClient, run_id: str, path: str) -> pd.DataFrame:
    return pd.DataFrame(**json.loads(Path(client.download_artifacts(run_id, path)).read_text()))


@pytest.mark.parametrize(
    "missing", ["PGHOST", "PGUSER", "PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"]
)
def test_the_server_does_not_start_without_a_secret(server, tmp_path, missing):
    env = tracking_environment(server.database, tmp_path)
    env[missing] = ""
    process = run_script("tracking.sh", env, tmp_path, tmp_path / "log")
    assert process.wait(30) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith(f"tracking: {missing} must be set; got nothing.")


def test_a_backup_of_each_database_can_be_restored(server, searched):
    asked = "SELECT count(*) FROM "
    for name, table_name in (("tracking", "runs"), ("accounts", "users"), ("studies", "trials")):
        copy = server.database.copied(name)
        counts = [server.database.run(f"--dbname={db}", "-At", "-c", asked + table_name) for db in (name, copy)]
        assert int(counts[0]) == int(counts[1]) > 0, name


def test_bad_settings_are_refused_in_one_line(server, tmp_path):
    env = {**tracking_environment(server.database, tmp_path), "MLFLOW_AUTH_ADMIN_PASSWORD": "password"}
    assert run_script("tracking.sh", env, tmp_path, tmp_path / "log").wait(30) == 2
    assert "must have 12 characters; got 8." in (tmp_path / "log").read_text()
    env = {**tracking_environment(server.database, tmp_path), "PUBLIC_URL": "runs.example.org"}
    assert run_script("tracking.sh", env, tmp_path, tmp_path / "log").wait(30) == 2
    assert "must begin with http:// or https://; got runs.example.org." in (tmp_path / "log").read_text()
    assert run_script("worker.sh", server.env, tmp_path, tmp_path / "log").wait(30) == 2
    assert "SEARCH must be set; got nothing." in (tmp_path / "log").read_text()


def test_only_who_has_the_password_is_answered(server):
    paths = ("/", f"{API}/experiments/search?max_results=5", f"{API}-artifacts/artifacts")
    for path in (*paths, f"{API}/users/get?username=admin", "/graphql", "/version"):
        assert status(server.url + path) == 401, path
        assert status(server.url + path, (ADMIN, "not the password")) == 401, path
        assert status(server.url + path, ("nobody", server.password)) == 401, path
    for path in paths:
        assert status(server.url + path, (ADMIN, server.password)) == 200, path
    assert status(f"{server.url}/health") == 200


def test_strange_host_names_and_pages_of_other_sites_are_refused(server):
    url, admin = f"{server.url}{API}/experiments/search", (ADMIN, server.password)
    question = {"max_results": 5}
    names = ("localhost:5000", PUBLIC_URL.removeprefix("https://"), "elsewhere.example")
    assert [status(url, admin, question, Host=name) for name in names] == [200, 200, 403]
    pages = (server.url, PUBLIC_URL, "https://elsewhere.example")
    assert [status(url, admin, question, Origin=page) for page in pages] == [200, 200, 403]


def test_another_user_reads_everything_and_writes_only_their_own(server, client):
    users, admin, reader = f"{server.url}{API}/users", (ADMIN, server.password), ("reader", "a long password")
    created = dict(zip(("username", "password"), reader, strict=True))
    assert status(f"{users}/create", admin, created) == 200
    theirs = client.create_experiment("of the administrator")
    run = {"experiment_id": theirs}
    assert status(f"{server.url}{API}/experiments/get?experiment_id={theirs}", reader) == 200
    assert status(f"{server.url}{API}/runs/create", reader, run) == 403
    assert status(f"{server.url}{API}/experiments/create", reader, {"name": "of the reader"}) == 200
    changed = {"username": "reader", "current_password": reader[1], "password": "another long password"}
    assert status(f"{users}/update-password", reader, changed, "PATCH") == 200
    assert status(f"{server.url}{API}/experiments/search?max_results=5", reader) == 401
    assert status(f"{server.url}{API}/experiments/search?max_results=5", ("reader", changed["password"])) == 200


def test_nothing_listens_beyond_the_loopback(server):
    listening = [
        connection.laddr.ip
        for process in server.family()
        for connection in process.net_connections(kind="inet")
        if connection.status == "LISTEN"
    ]
    assert len(listening) >= 2, "the tracking server and PostgreSQL"
    assert set(listening) == {LOOPBACK}


def test_no_password_is_on_a_command_line_or_in_the_log(server):
    secrets = {server.password, server.env["PGPASSWORD"]}
    lines = [" ".join(process.cmdline()) for process in server.family()]
    assert any("mlflow" in line for line in lines)
    assert not [line for line in [*lines, server.log.read_text()] if any(secret in line for secret in secrets)]


def test_ten_clients_connect_at_once_to_an_experiment_that_is_not_there(client, monkeypatch):
    for attempt in range(5):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"all at once {attempt}")
        together, found = threading.Barrier(10), []

        def connect(together: threading.Barrier = together, found: list[str] = found) -> None:
            together.wait()
            found.append(Tracking.connect().experiment_id)

        threads = [threading.Thread(target=connect) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 10, "nobody crashed"
        assert len(set(found)) == 1
        assert run_list_view.TAGS.items() <= client.get_experiment(found[0]).tags.items()


def test_two_workers_search_one_study_over_http(searched, client, tiny_roberta):
    (study,) = runs(client, "tags.`skillneurons.stage` = 'search'")
    assert study.info.status == "FINISHED"
    assert ": on test " in study.data.tags["mlflow.note.content"] or "nothing better" in searched[0]
    trials = runs(client, "tags.`skillneurons.stage` = 'search trial'")
    assert {run.info.status for run in trials} == {"FINISHED"}
    assert len(table(client, study.info.run_id, "trials.json")) == len(trials) == 4
    workers = {run.data.tags["skillneurons.worker"] for run in trials}
    assert len(workers) == 2, "both had their share"
    given = {"model": str(tiny_roberta), "space": "space.yaml", **FIXED, "trials": "4", "final_seeds": "0"}
    plan = search_plan(given, None, lambda: pytest.fail("nothing is to be looked up"))
    shared = SharedStudy.join("postgresql:///studies", NAME, plan.definition(), plan.space, 60)
    assert Ledger.of(shared.study.get_trials(), 4, ["learning_rate"]).done
    assert not any("Traceback" in text for text in searched)


def test_tune_and_discover_over_http_and_their_artifacts_through_the_server(server, client, tuned):
    assert main(words("discover", prompts=f"runs:/{tuned}", task="quips.yaml", device="cpu")) == 0
    (found,) = runs(client, "tags.`skillneurons.stage` = 'discover'")
    assert found.info.status == "FINISHED"
    assert found.info.artifact_uri.startswith("mlflow-artifacts:/")
    kept = Path(client.download_artifacts(found.info.run_id, "neurons"))
    assert (kept / "neurons.safetensors").stat().st_size > 1000
    assert "quips" in found.data.tags["mlflow.note.content"]


def test_the_champion_comes_from_the_registry_and_is_served(server, client, tuned):
    champion = client.get_model_version_by_alias(NAME, "champion")
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert float(champion.tags["dev_accuracy"]) == max(float(v.tags["dev_accuracy"]) for v in versions)
    prompt = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    rows = pd.read_json("test.jsonl", lines=True)
    frame = prompt.predict(rows[["text"]])
    right = float((frame["label"] == rows["label"]).mean())
    assert right == pytest.approx(float(champion.tags["test_accuracy"]), abs=1e-6)
    with served(server) as url:
        body = json.dumps({"dataframe_records": rows[["text"]].head(5).to_dict("records")}).encode()
        request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            labels = [row["label"] for row in json.load(answer)["predictions"]]
    assert labels == frame["label"].head(5).tolist()


@contextlib.contextmanager
def served(server: Server) -> Iterator[str]:
    """`mlflow models serve` on the champion."""
    port, log = free_port(), Path("serve.log")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{NAME}@champion"]
    command += ["--env-manager", "local", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment(**server.env), stdout=out, stderr=subprocess.STDOUT)
    url = f"http://{LOOPBACK}:{port}"
    try:
        wait_for(lambda: status(f"{url}/ping") == 200, process, log)
        yield url
    finally:
        stop(process)
