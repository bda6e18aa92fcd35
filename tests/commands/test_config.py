from typing import Literal, get_args, get_origin

import pytest
from rich.console import Console

from skillneurons.cli import COMMANDS, arguments, configuration, help_text, main
from skillneurons.commands import lifecycle
from skillneurons.commands.config import parse
from skillneurons.demo import command as demo
from skillneurons.demo.config import MainConfig
from skillneurons.errors import InputError
from skillneurons.tune.config import TuneConfig

GIVEN = {"model": "m", "task": "t"}


def test_values_are_typed_and_open_ones_take_the_default():
    config = parse(TuneConfig, {**GIVEN, "seeds": "0, 1,7", "learning_rate": "1e-2", "dropout": ""})
    assert config.seeds == (0, 1, 7)
    assert config.learning_rate == 0.01
    assert config.dropout is False


def test_given_beats_base_beats_default():
    base = {"learning_rate": 0.5, "batch_size": 8}
    config = parse(TuneConfig, {**GIVEN, "learning_rate": "0.1"}, base)
    assert (config.learning_rate, config.batch_size, config.max_steps) == (0.1, 8, 1000)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learning_rate": "abc"}, ["learning_rate", "number", "'abc'"]),
        ({"learning_rate": "-1"}, ["learning_rate", "greater than 0", "'-1'"]),
        ({"learning_rate": "nan"}, ["learning_rate", "finite"]),
        ({"learnign_rate": "1"}, ["learnign_rate", "Did you mean learning_rate?"]),
        ({"seeds": "1,2,1"}, ["seeds must all differ", "(1, 2, 1)"]),
        ({"seeds": "1,x"}, ["seeds", "integer"]),
        ({"init": "text"}, ["init_text", "init=text"]),
        ({"init_prompt": "runs:/1"}, ["init_prompt", "init=prompt"]),
        ({"precision": "fp8"}, ["precision", "'fp8'"]),
        ({"warmup_steps": "1000"}, ["warmup_steps must be fewer than max_steps"]),
        ({"max_eval_rows": "0"}, ["max_eval_rows", "greater than or equal to 1"]),
    ],
)
def test_a_bad_value_is_one_line_that_says_rule_and_value(given, words):
    with pytest.raises(InputError) as error:
        parse(TuneConfig, {**GIVEN, **given})
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"init_text": "a|b"}, "init=vocabulary, init_text=a|b"),
        ({"init_text": "|||"}, "init=vocabulary, init_text=|||"),
        ({"init_prompt": "prompts/a|b"}, "init=vocabulary, init_prompt=prompts/a|b"),
        ({"init_text": "must; got this. Do that"}, "init=vocabulary, init_text=must; got this. Do that"),
        ({"seeds": "1|2"}, "'1|2'"),
        ({"precision": "a|b"}, "'a|b'"),
    ],
)
def test_no_value_can_break_the_three_parts_of_a_refusal(given, got):
    with pytest.raises(InputError) as error:
        parse(TuneConfig, {**GIVEN, **given})
    assert error.value.got == got
    assert error.value.must
    assert error.value.do.endswith(".")


def test_what_only_says_where_and_how_fast_is_not_in_the_address():
    first = parse(TuneConfig, GIVEN).deciding()
    assert first == parse(TuneConfig, {**GIVEN, "threads": "1", "processes": "2", "rerun": "true"}).deciding()
    assert first != parse(TuneConfig, {**GIVEN, "batch_size": "8"}).deciding()
    assert first != parse(TuneConfig, {**GIVEN, "order_seed": "0"}).deciding()


def test_arguments_are_read_in_both_forms():
    assert arguments(["--a", "1", "--b=x=y", "--c", "-1"]) == {"a": "1", "b": "x=y", "c": "-1"}
    for bad in (["a"], ["--a"], ["--a", "1", "--a", "2"]):
        with pytest.raises(InputError):
            arguments(bad)


@pytest.mark.parametrize("entry", COMMANDS)
def test_help_names_every_parameter_with_its_default(entry, capsys):
    assert main([entry, "--help"]) == 0
    text = capsys.readouterr().out
    for name, field in configuration(entry).model_fields.items():
        assert f"--{name} " in text
        assert field.description in text
    assert help_text(entry) in text


def test_the_help_of_main_shows_what_main_takes_where_nothing_is_given(monkeypatch):
    asked: list[dict[str, str]] = []

    def plan(given, base, connect):
        asked.append(dict(given))
        raise InputError("the test", "has seen", "enough.")

    monkeypatch.setattr(demo.TUNE, "plan", plan)
    monkeypatch.setattr(lifecycle, "older_config", lambda *_: {"task": "film_notes", "model": "older"})
    monkeypatch.setattr(lifecycle.Tracking, "connect", lambda: None)
    for given in ({}, {"task": "", "seeds": "7"}, {"config": "runs:/older", "seeds": "7"}):
        with pytest.raises(InputError, match="enough"):
            demo.COMMAND.run(given, Console())
    lines = described("main")
    assert len(asked[0]) > 5
    for name, value in {**asked[0], "model": MainConfig.DEFAULTS["model"]}.items():
        assert lines[name].endswith(f"(default {value})")
    assert not any("(required)" in line for line in lines.values())
    assert asked[0]["model"] == MainConfig.DEFAULTS["model"].split(",")[0]
    assert parse(TuneConfig, asked[0]).task == "film_notes"
    assert asked[1] == {**asked[0], "seeds": "7"}
    assert asked[2] == {"config": "runs:/older", "seeds": "7", "model": "older"}, (
        "an older configuration is a whole one"
    )


@pytest.mark.parametrize("entry", COMMANDS)
def test_help_names_every_choice_and_what_is_required(entry):
    kind, lines = configuration(entry), described(entry)
    assert set(lines) == set(kind.model_fields)
    for name, field in kind.model_fields.items():
        for choice in get_args(field.annotation) if get_origin(field.annotation) is Literal else ():
            assert choice in lines[name]
    try:
        parse(kind, {})
        missing = []
    except InputError as error:
        missing = error.must.removesuffix(" must be given").split(" and ")
    if entry != "main":
        assert [name for name, line in lines.items() if line.endswith("(required)")] == missing
    from_file = {name for name, line in lines.items() if "or from the model's file" in line}
    assert from_file == (
        {"learning_rate", "init", "init_std", "batch_size", "prompt_length", "max_length"} & from_file
    )
    assert bool(from_file) == (entry in ("tune", "search", "main"))


@pytest.mark.parametrize("entry", COMMANDS)
@pytest.mark.parametrize("width", [50, 80, 120])
def test_help_stays_in_its_width_and_breaks_no_word(entry, width):
    lines = help_text(entry, width).splitlines()
    too_long = [line for line in lines if len(line) > width and len(line.split()) > 2 and "skillneurons " not in line]
    assert too_long == []
    assert f"  skillneurons {entry}" in [line[: 15 + len(entry)] for line in lines]
    groups = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert groups[-1] == "every command"
    assert ("required" in groups) == (entry != "main"), groups


def described(entry: str) -> dict[str, str]:
    """Parameter -> its line of the help."""
    lines = [line for line in help_text(entry, 10_000).splitlines() if line.startswith("  --")]
    return {line.split()[0][2:]: line for line in lines}


def test_a_flag_needs_no_value_and_a_name_no_underscores():
    flags = ["dry_run", "rerun"]
    assert arguments(["--dry-run", "--max-steps", "3"], flags) == {"dry_run": "true", "max_steps": "3"}
    assert arguments(["--rerun", "false", "--dry_run"], flags) == {"rerun": "false", "dry_run": "true"}
    with pytest.raises(InputError, match="--dry_run twice"):
        arguments(["--dry-run", "--dry_run"], flags)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("tuen", "tune"),
        ("tune --lr 1", "learning_rate"),
        ("tune --modle x", "model"),
        ("tune --model pocket-robert --task film_notes", "pocket-roberta"),
        ("tune --model pocket-roberta --task film_note", "film_notes"),
    ],
)
def test_what_was_meant_is_asked(asked, meant, capsys, workplace):
    assert main(asked.split()) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_an_unknown_entry_point_is_bad_input(capsys):
    assert main(["tuen"]) == 2
    assert "There are: main, tune" in capsys.readouterr().err
