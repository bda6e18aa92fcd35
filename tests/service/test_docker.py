"""What can be said of the container files without a container engine."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from conftest import ROOT
from services import DOCKER

COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SECRETS = ("DATABASE_PASSWORD", "ADMIN_PASSWORD", "SECRET_KEY")
SCRIPTS = sorted(DOCKER.glob("*.sh"))
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")


def linted(*command: object) -> str:
    tool = str(command[0])
    assert shutil.which(tool), f"{tool} is in conda.yaml"
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def filled(text: str) -> str:
    """The variables of a compose file replaced, as compose does: a secret by a value, others by their defaults."""
    # the specification allows a number of retries, and this reader of it does not know them
    text = re.sub(r"on-failure:\d+", "on-failure", text)
    return VARIABLE.sub(lambda found: found[2].removeprefix(":-") if found[2].startswith(":-") else "given", text)


def read_compose(text: str) -> PyCompose:
    """By a parser of the specification, to which merged keys are unfolded first."""
    return PyCompose.from_json(json.dumps(yaml.safe_load(text)))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_compose_specification_accepts_the_files(name):
    read = read_compose(filled((DOCKER / name).read_text()))
    read.validate()
    assert {"tracking", "worker", "stage"} <= set(read.service_names())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("interval: 5s", "interval: soon"),
        ("restart: on-failure", "restart: perhaps"),
        (":5000:5000", ":5000:web"),
        ("healthcheck:", "health_check:"),
    ],
)
def test_the_compose_specification_would_refuse_a_mistake(right, wrong):
    text = filled((DOCKER / "compose.yaml").read_text())
    assert right in text
    with pytest.raises(ValueError, match=r"."):
        read_compose(text.replace(right, wrong)).validate()


def test_the_linters_have_nothing_to_say():
    assert not linted("hadolint", DOCKER / "Dockerfile")
    assert SCRIPTS
    assert not linted("shellcheck", *SCRIPTS, ROOT / ".ci" / "run")


def test_the_linters_would_say_something(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp\n")
    (tmp_path / "start.sh").write_text("#!/bin/sh\nrm -rf $1/*\n")
    assert "DL3006" in linted("hadolint", tmp_path / "Dockerfile")
    assert "SC2086" in linted("shellcheck", tmp_path / "start.sh")


def test_every_secret_is_required_and_none_has_a_default():
    text = "\n".join((DOCKER / name).read_text() for name in ("compose.yaml", "compose.gpu.yaml"))
    uses = [(name, rest) for name, rest in VARIABLE.findall(text) if name in SECRETS]
    assert {name for name, _ in uses} == set(SECRETS)
    assert all(rest.startswith(":?") for _, rest in uses)
    for line in text.splitlines():
        if re.search(r"(PASSWORD|SECRET_KEY)\w*:", line):
            assert re.search(r": \$\{\w+:\?", line), line


def test_the_example_environment_names_every_variable_and_gives_no_secret():
    lines = (DOCKER / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    used = {name for name, _ in VARIABLE.findall((DOCKER / "compose.yaml").read_text())}
    assert set(given) == used
    assert [given[name] for name in SECRETS] == ["", "", ""]
    for ignored in (".gitignore", ".dockerignore"):
        assert "docker/.env" in (ROOT / ignored).read_text().splitlines()


def test_the_server_alone_is_reachable_and_from_this_machine_unless_told_otherwise():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"tracking": ["${BIND:-127.0.0.1}:${PORT:-5000}:5000"]}
    assert not any("network_mode" in service for service in SERVICES.values())


def test_each_service_waits_for_what_it_needs_and_is_watched():
    for name, service in SERVICES.items():
        waits = {need: how["condition"] for need, how in service.get("depends_on", {}).items()}
        assert set(waits.values()) <= {"service_healthy"}
        assert all("healthcheck" in SERVICES[need] for need in waits)
        assert "healthcheck" in service or waits, name
    assert "restart" in SERVICES["worker"]
    assert SERVICES["database"]["restart"] == SERVICES["tracking"]["restart"] == "unless-stopped"


def test_what_is_to_last_is_in_named_volumes():
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert {name for name in used if not name.startswith((".", "/"))} == set(COMPOSE["volumes"])
    assert "artifacts:/srv/artifacts" in SERVICES["tracking"]["volumes"]


def test_our_services_run_without_privileges():
    stages = re.findall(r"^(FROM|USER|ENTRYPOINT) ?(.*)$", (DOCKER / "Dockerfile").read_text(), re.M)
    assert [word for word, _ in stages] == ["FROM", "USER", "ENTRYPOINT"]
    assert stages[1][1] not in ("0", "root")
    ours = [service for service in SERVICES.values() if service["image"] == "skillneurons"]
    assert len(ours) == 3
    for service in ours:
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service
        assert "privileged" not in service


def test_what_compose_starts_is_there_and_can_be_executed():
    started = [Path(word) for s in SERVICES.values() for word in s.get("entrypoint", ()) if word.startswith("/opt")]
    assert len(started) == 2
    for path in started:
        assert (ROOT / path.relative_to("/opt/skillneurons")).stat().st_mode & 0o111
    assert (DOCKER / "databases.sql").read_text().count("CREATE DATABASE") == 3
    for copied in re.findall(r"^COPY (.*) \S+$", (DOCKER / "Dockerfile").read_text(), re.M):
        assert all((ROOT / name).exists() for name in copied.split())


def test_the_image_has_the_pins_of_conda_yaml_less_those_of_the_tests():
    command = ["bash", str(DOCKER / "pins.sh")]
    with (ROOT / "conda.yaml").open() as pins:
        printed = subprocess.run(command, stdin=pins, capture_output=True, text=True, check=True).stdout.splitlines()
    declared = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][-1]["pip"]
    assert printed == declared[: len(printed)]
    names = {pin.partition("==")[0] for pin in printed}
    assert {"mlflow", "torch", "optuna", "Flask-WTF", "psycopg[binary]"} <= names
    assert not names & {"pytest", "ruff", "selenium"}


@pytest.mark.parametrize("name", ["database_uri", "admin_username", "admin_password"])
def test_the_accounts_hold_no_password(name):
    accounts = configparser.ConfigParser()
    accounts.read(DOCKER / "accounts.ini")
    assert accounts["mlflow"].get(name) == {"database_uri": "postgresql:///accounts", "admin_username": "admin"}.get(
        name
    )
