import optuna
import pytest
import yaml

from conftest import ROOT
from skillneurons.errors import InputError
from skillneurons.search.space import Axis, difference, key, read_space

GOOD = {
    "search": "tune",
    "version": 1,
    "parameters": {
        "learning_rate": {"low": 1e-4, "high": 1, "log": True},
        "init": {"choices": ["normal", "vocabulary"]},
        "prompt_length": {"low": 5, "high": 7},
    },
    "first": {"learning_rate": 0.001, "init": "normal", "prompt_length": 6},
}


@pytest.fixture
def read(tmp_path):
    def go(**changes: object):
        file = tmp_path / "space.yaml"
        file.write_text(yaml.safe_dump({**GOOD, **changes}))
        return read_space(str(file))

    return go


def test_the_default_space_starts_with_the_papers_settings_and_searches_its_rate_over_four_decades():
    space = read_space("default")
    rate = space.parameters["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (1e-4, 1.0, True)
    assert set(space.parameters) == {"learning_rate", "init", "prompt_length", "batch_size", "schedule"}
    paper = yaml.safe_load((ROOT / "experiments" / "models" / "roberta-base.yaml").read_text())["tune"]
    assert {name: space.first[name] for name in paper if name in space.first} == {
        name: paper[name] for name in paper if name in space.parameters
    }
    assert space.first["schedule"] == "constant"


def test_every_space_of_the_project_can_be_read():
    files = sorted((ROOT / "experiments" / "search").glob("*.yaml"))
    assert files
    for file in files:
        assert read_space(str(file)).parameters
        assert read_space(file.stem) == read_space(str(file))


def test_suggestions_lie_in_the_space_and_have_its_types(read):
    space, study = read(), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask()) for _ in range(60)]
    assert {one["prompt_length"] for one in drawn} == {5, 6, 7}
    assert {one["init"] for one in drawn} == {"normal", "vocabulary"}
    rates = [one["learning_rate"] for one in drawn]
    assert min(rates) >= 1e-4
    assert max(rates) <= 1
    assert 15 < sum(rate < 1e-2 for rate in rates) < 45, "half of a log scale from 1e-4 to 1"
    study.enqueue_trial(dict(space.first))
    assert space.suggest(study.ask()) == GOOD["first"]


def test_a_parameter_that_is_given_leaves_the_space(read):
    left = read().without({"learning_rate", "model"})
    assert set(left.parameters) == {"init", "prompt_length"} == set(left.first)
    assert left.size == 6
    with pytest.raises(InputError, match="at least one parameter"):
        read().without(GOOD["parameters"])


def test_a_finite_space_finds_what_was_not_tried(read):
    space = read().without({"learning_rate"})
    seen: set[str] = set()
    for seed in range(6):
        seen.add(key(space.unseen(seen, seed)))
    assert len(seen) == 6


def test_a_configuration_is_the_same_whatever_the_order_and_the_kind_of_number():
    assert key({"learning_rate": 1, "init": "normal"}) == key({"init": "normal", "learning_rate": 1.0})
    assert key({"learning_rate": 1}) != key({"learning_rate": 1.5})


def test_difference_names_what_changed():
    old = {"space": {"parameters": {"learning_rate": {"low": 0.1}}}, "seeds": [0]}
    new = {"space": {"parameters": {"learning_rate": {"low": 0.2}, "init": {"choices": ["a"]}}}, "seeds": [0]}
    assert difference(old, new) == [
        "space.parameters.init.choices: absent -> ['a']",
        "space.parameters.learning_rate.low: 0.1 -> 0.2",
    ]
    assert difference(old, old) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parameters": {}}, "parameters"),
        ({"search": "discover"}, "search"),
        ({"more": 1}, "more"),
        ({"first": {"learning_rate": 0.1}}, "init"),
        ({"first": {**GOOD["first"], "learning_rate": 3}}, "lies in the space"),
        ({"first": {**GOOD["first"], "init": "text"}}, "lies in the space"),
        ({"pruner": {"first_rung": 0, "factor": 2}}, "pruner.first_rung"),
        ({"pruner": {"first_rung": 1, "factor": 1}}, "pruner.factor"),
    ],
)
def test_a_space_that_breaks_a_rule_is_refused_in_one_line(read, changes, says):
    with pytest.raises(InputError) as refused:
        read(**changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "axis", "first", "says"),
    [
        ("rate", {"low": 0.1, "high": 0.2}, 0.1, "cannot"),
        ("learning_rate", {"low": 1, "high": 0.1}, 0.5, "low is below high"),
        ("learning_rate", {"low": 0, "high": 0.1, "log": True}, 0.05, "above 0"),
        ("learning_rate", {"low": 0.1}, 0.1, "choices, or low and high"),
        ("learning_rate", {"choices": [0.1], "low": 0.1, "high": 1}, 0.1, "choices, or low and high"),
        ("learning_rate", {"choices": [0.1, 0.1]}, 0.1, "all different"),
        ("learning_rate", {"choices": ["fast"]}, "fast", "numbers"),
        ("prompt_length", {"choices": [1.5]}, 1.5, "whole numbers"),
        ("prompt_length", {"choices": [float("inf"), 5]}, 5, "finite"),
        ("learning_rate", {"choices": [float("nan"), 0.1]}, 0.1, "finite"),
        ("init", {"choices": [1]}, 1, "words"),
        ("init", {"choices": ["normal", "prompt"]}, "normal", "need more"),
    ],
)
def test_an_axis_that_breaks_a_rule_is_refused(read, name, axis, first, says):
    with pytest.raises(InputError, match=says):
        read(parameters={name: axis}, first={name: first})


def test_a_file_that_is_none_and_a_name_that_is_none(tmp_path):
    with pytest.raises(InputError, match="default, rate"):
        read_space("no-such-space")
    with pytest.raises(InputError, match="must be a YAML file"):
        read_space(str(tmp_path / "none.yaml"))
    (tmp_path / "broken.yaml").write_text("parameters: [")
    with pytest.raises(InputError, match="ParserError"):
        read_space(str(tmp_path / "broken.yaml"))
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(InputError, match="must map names"):
        read_space(str(tmp_path / "list.yaml"))


def test_an_axis_holds_its_ends():
    axis = Axis(low=1, high=2)
    assert axis.holds(1, "learning_rate")
    assert axis.holds(2.0, "learning_rate")
    assert not axis.holds(2.1, "learning_rate")
    assert not axis.holds("1", "learning_rate")
    assert axis.grid("prompt_length") == (1, 2)
    assert axis.grid("learning_rate") is None
