import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nursery import SCHEMA, Child, Nursery
from spared import spare_what_repeats

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["COLUMNS"] = "160"

torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it does

ROOT = Path(__file__).resolve().parents[1]
OURS = ("MLFLOW_", "_MLFLOW_", "SKILLNEURONS_")
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")

# small enough for seconds, long enough that curves, selection and resuming have something to show
QUICK = {
    "task": "film_notes",
    "max_steps": "24",
    "eval_every": "8",
    "prompt_length": "6",
    "max_length": "32",
    "max_train_rows": "101",
    "max_eval_rows": "37",
    "batch_size": "8",
    "learning_rate": "0.05",
    "device": "cpu",
}


# files that take longest, longest first: what begins last keeps one process at work while the others wait
LONGEST = (
    "test_tune_processes.py",
    "test_search_processes.py",
    "test_service.py",
    "test_search.py",
    "test_search_postgresql.py",
    "test_demo.py",
    "test_recorded_chain.py",
    "test_ui.py",
    "test_tune.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order() -> None:
    """Tests run in any order on any number of processes: what draws without a generator draws the same."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has migrated; every fresh one is a copy."""
    template = tmp_path_factory.mktemp("schema") / "mlflow.db"
    spare_what_repeats(template)
    return template


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import build

    return build("roberta", tmp_path_factory.mktemp("models") / "tiny-roberta")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, as a user has it: no tracking database, no environment of ours."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(OURS) and name != "MLFLOW_DISABLE_TELEMETRY":
            monkeypatch.delenv(name)
    # an absolute address: one process keeps its connection to a relative one across folders
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return folder


def rows_of(labels: Any, names: tuple[str, ...]) -> Any:
    """A split that has nothing but labels."""
    from skillneurons.data.splits import Split

    hashes = tuple(f"{i:016x}" for i in range(len(labels)))
    rows = tuple((name,) for name in hashes)
    return Split("made", "test", rows, labels, hashes, {}, "made", names)


def words(entry: str, **parameters: object) -> list[str]:
    """A command line of the program."""
    return [entry, *(word for key, value in parameters.items() for word in (f"--{key}", str(value)))]


def environment(**extra: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    ours = {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**kept, **ours, "COLUMNS": "160", **extra}


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery(environment())
    yield made
    made.close()


@pytest.fixture
def start(workplace: Path, nursery: Nursery, schema: Path) -> Callable[..., Child]:
    """Start the program as a process of its own."""

    def go(entry: str, env: dict[str, str] | None = None, spares: int = 0, **parameters: object) -> Child:
        told = environment(**{SCHEMA: str(schema), **(env or {})})
        return nursery.start(words(entry, **parameters), workplace, told, spares)

    return go
