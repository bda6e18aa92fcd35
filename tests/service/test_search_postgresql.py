"""A study that several processes share through PostgreSQL and a tracking server, as the workers of the service do."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from optuna.trial import TrialState

from search_contract import Place, StudyContract
from services import Server, needs_postgresql, postgresql, tracking
from skillneurons.search import study as search_study
from skillneurons.search.space import read_space
from skillneurons.search.study import SharedStudy

pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with postgresql() as database, tracking(database, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def place(server: Server, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return Place(workplace, server.url, server.env["SKILLNEURONS_STORAGE"], server.env)


class TestPostgreSQL(StudyContract):
    pass


def test_ten_machines_join_at_once_on_fresh_storage(place, monkeypatch):
    """Machines share no lock: the database alone decides."""
    monkeypatch.setattr(search_study, "alone", lambda *_, **__: nullcontext())
    space = read_space("rate")
    definition = {"space": space.model_dump(mode="json", exclude_none=True)}
    together, joined = threading.Barrier(10), []

    def join() -> None:
        together.wait()
        joined.append(SharedStudy.join("postgresql:///studies", "all at once", definition, space, 60))

    threads = [threading.Thread(target=join) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(joined) == 10, "nobody crashed"
    assert len({study.study._study_id for study in joined}) == 1
    (first,) = joined[0].study.get_trials()
    assert first.state == TrialState.WAITING
    assert first.system_attrs["fixed_params"] == dict(space.first)
