"""A shared study without any model: claims, deaths, duplicates and the ledger that all workers read alike."""

import sqlite3
import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

from skillneurons.errors import InputError
from skillneurons.search.ledger import MAX_DEATHS, Ledger, config_key
from skillneurons.search.space import Space, key
from skillneurons.search.study import SharedStudy, TakenOverError, check_storage, masked, pruner_of

SPACE = Space(
    search="tune",
    version=1,
    parameters={"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}, "batch_size": {"choices": [4, 8]}},
    first={"learning_rate": 0.001, "batch_size": 4},
    pruner={"first_rung": 1, "factor": 2},
)
SMALL = Space(
    search="tune",
    version=1,
    parameters={"batch_size": {"choices": [2, 4, 8]}, "init": {"choices": ["normal", "vocabulary"]}},
    first={"batch_size": 4, "init": "normal"},
)


@pytest.fixture
def join(workplace):
    def go(space: Space = SPACE, heartbeat: int = 1, **changes: object) -> SharedStudy:
        definition = {"space": space.model_dump(mode="json"), "seeds": [0], **changes}
        return SharedStudy.join(f"sqlite:///{workplace}/study.db", "one", definition, space, heartbeat)

    return go


def names(shared: SharedStudy) -> list[str]:
    return list(shared.space.parameters)


def finish_all(shared: SharedStudy, asked: int) -> None:
    while claim := shared.claim(asked):
        with shared.at_work(claim):
            shared.finish(claim, 0.5 + 0.01 * claim.origin)


def test_the_first_trial_has_the_first_settings_and_then_as_many_come_as_were_asked_for(join):
    shared = join()
    claim = shared.claim(4)
    assert claim is not None
    assert claim.params == SPACE.first
    shared.finish(claim, 0.5)
    finish_all(shared, 4)
    ledger = shared.ledger(4)
    assert ledger.done
    assert [trial.number for trial in ledger.counted] == [0, 1, 2, 3]
    assert ledger.winner.number == 3
    assert shared.claim(4) is None
    assert shared.claim(5) is not None, "asking for more goes on"


def test_no_more_are_handed_out_than_are_asked_for(join):
    workers = [join() for _ in range(3)]
    claims = [worker.claim(2) for worker in workers]
    assert [claim is None for claim in claims] == [False, False, True]
    assert len({claim.origin for claim in claims if claim}) == 2


def test_threads_that_claim_at_once_share_without_a_gap_or_a_double(join):
    join()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            finish_all(join(), 12)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shared = join()
    trials = shared.study.get_trials()
    assert len(trials) == 12
    assert len({config_key(trial, names(shared)) for trial in trials}) == 12


def test_a_dead_workers_trial_is_taken_up_with_what_it_reported(join):
    shared = join()
    dead = shared.claim(2)
    dead.trial.set_user_attr("run", "the dead run")
    assert shared.report(dead, 0.6, 1) is False
    assert join().claim(2).origin == 1, "while its heart may still beat, the others go on"
    time.sleep(5)
    heir = join().claim(2)
    assert heir.origin == dead.origin == 0
    assert heir.params == dead.params
    assert heir.previous_run == "the dead run"
    assert heir.reported == {1}
    assert heir.trial.number != dead.trial.number
    for act in (lambda: shared.report(dead, 0.7, 2), lambda: shared.finish(dead, 0.7)):
        with pytest.raises(TakenOverError):
            act()
    shared.finish(heir, 0.9)
    assert [trial.value for trial in shared.ledger(2).counted] == [0.9]


def test_a_heart_that_beats_is_not_taken_for_dead(join):
    shared = join()
    claim = shared.claim(1)
    with shared.at_work(claim):
        time.sleep(5)
        assert join().claim(1) is None
        shared.finish(claim, 0.5)
    assert shared.ledger(1).done


def test_a_worker_that_died_before_its_first_heartbeat_is_found(join):
    shared = join()
    trial = shared.study.ask()
    assert trial.number == 0
    assert join().claim(1) is None, "it may yet begin"
    time.sleep(4)
    heir = join().claim(1)
    assert heir.origin == 0
    assert heir.params == SPACE.first


@pytest.mark.parametrize("hours", [-10, 10])
def test_the_zone_of_another_machine_makes_no_worker_dead_or_immortal(join, workplace, hours):
    join().study.ask()
    with sqlite3.connect(workplace / "study.db") as database:
        # as written by a machine whose clock shows another hour
        database.execute("update trials set datetime_start = datetime(datetime_start, ?)", [f"{hours} hours"])
    assert join().claim(1) is None, "its worker has just begun"
    time.sleep(4)
    assert join().claim(1).origin == 0, "and never went on"


def test_an_interrupt_gives_the_trial_back_at_once(join):
    shared = join()
    claim = shared.claim(1)
    with pytest.raises(KeyboardInterrupt), shared.at_work(claim):
        raise KeyboardInterrupt
    again = shared.claim(1)
    assert (again.origin, again.params) == (claim.origin, claim.params)


def test_a_configuration_that_kills_every_worker_is_given_up_and_another_takes_its_place(join):
    shared = join()
    for _ in range(MAX_DEATHS):
        claim = shared.claim(1)
        assert claim.origin == 0
        with pytest.raises(RuntimeError), shared.at_work(claim):
            raise RuntimeError("out of memory")
    other = shared.claim(1)
    assert other.origin > 0
    assert other.params != SPACE.first
    shared.finish(other, 0.5)
    assert shared.ledger(1).done


def test_a_finite_space_is_tried_whole_without_repeating(join):
    shared = join(SMALL)
    finish_all(shared, 6)
    ledger = shared.ledger(6)
    assert ledger.done
    assert len({key(trial.params) for trial in ledger.counted}) == 6
    void = [trial for trial in shared.study.get_trials() if "void" in trial.user_attrs]
    assert all(trial.state == TrialState.FAIL for trial in void)


def test_the_ledger_counts_a_configuration_once_even_if_two_machines_drew_it():
    study = optuna.create_study()
    same = {"learning_rate": 0.1, "batch_size": 4}
    for params in (same, same, {**same, "batch_size": 8}):
        study.enqueue_trial(params)
        trial = study.ask()
        SPACE.suggest(trial)
        study.tell(trial, 0.5)
    ledger = Ledger.of(study.get_trials(), 3, list(SPACE.parameters))
    assert len(ledger.counted) == 2
    assert not ledger.done
    assert ledger.has_work


def test_pruned_trials_count_and_do_not_win(join):
    shared = join()
    for value, reason in ((0.9, "too slow"), (0.5, None)):
        claim = shared.claim(2)
        shared.report(claim, value, 1)
        shared.finish(claim, value, reason)
    ledger = shared.ledger(2)
    assert ledger.done
    assert [trial.state for trial in ledger.counted] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert ledger.winner.value == 0.5


def test_successive_halving_lets_the_better_half_go_on(join):
    shared, verdicts = join(), []
    for value in (0.9, 0.2, 0.8, 0.95):
        claim = shared.claim(4)
        verdicts.append(shared.report(claim, value, 1))
        shared.finish(claim, value, "pruned" if verdicts[-1] else None)
    assert verdicts == [False, True, True, False]
    assert isinstance(pruner_of(SPACE.model_copy(update={"pruner": None})), optuna.pruners.NopPruner)


def test_a_changed_definition_is_refused_with_the_difference(join):
    join()
    assert join().name == "one"
    with pytest.raises(InputError, match=r"seeds: \[0\] -> \[0, 1\]"):
        join(seeds=[0, 1])
    with pytest.raises(InputError, match=r"parameters.init.choices: absent -> \['normal', 'vocabulary'\]"):
        join(SMALL)


def test_one_worker_draws_the_same_again(join, workplace):
    shared = join()
    finish_all(shared, 14)
    definition = {"space": SPACE.model_dump(mode="json"), "seeds": [0]}
    other = SharedStudy.join(f"sqlite:///{workplace}/other.db", "one", definition, SPACE, 1)
    finish_all(other, 14)
    drawn = [[trial.params for trial in one.study.get_trials()] for one in (shared, other)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "url", ["not a url", "journal:///x.log", "redis://localhost", "sqlite:////no/such/folder/x.db"]
)
def test_storage_that_cannot_serve_is_refused(url):
    with pytest.raises(InputError):
        check_storage(url)


def test_a_database_that_does_not_answer_is_refused_without_its_password(workplace):
    url = "postgresql://me:secret@127.0.0.1:1/none"
    check_storage(url)
    assert "secret" not in masked(url)
    with pytest.raises(InputError) as refused:
        SharedStudy.join(url, "one", {}, SPACE, 1)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
