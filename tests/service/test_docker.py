"""What can be said of the container files without a container engine."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from conftest import ROOT
from services import DOCKER
from skillneurons.cli import arguments, configuration
from skillneurons.commands.config import parse
from skillneurons.search.config import SearchConfig

COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
SECRETS = ("DATABASE_PASSWORD", "ADMIN_PASSWORD", "SECRET_KEY")
SCRIPTS = sorted(DOCKER.glob("*.sh"))
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
# buildah warns that its own format has none of these, and goes on without
DOCKER_FORMAT_ONLY = {"SHELL", "HEALTHCHECK", "ONBUILD"}
Install = Callable[..., subprocess.CompletedProcess[str]]


def linted(*command: object) -> str:
    tool = str(command[0])
    assert shutil.which(tool), f"{tool} is in conda.yaml"
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and the rest of it, its lines joined as a builder does: comments and line ends fall away."""
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", "")
    return [(line.split()[0].upper(), line.partition(" ")[2]) for line in joined.splitlines() if line.strip()]


def builder_dependent(text: str) -> list[str]:
    """What of a Dockerfile does not mean the same in every format and shell."""
    found = [word for word, _ in instructions(text) if word in DOCKER_FORMAT_ONLY]
    for word, rest in instructions(text):
        if word != "RUN":
            continue
        tokens = list(shlex.shlex(rest, posix=True, punctuation_chars=True))
        found += [] if rest.startswith("set -eu;") else [f"no set -eu: {rest}"]
        found += [f"{token}: {rest}" for token in tokens if token in ("|", "|&", "&&", "||")]
    return found


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


def test_the_image_depends_on_no_format_and_no_shell():
    assert not builder_dependent(DOCKERFILE)
    assert [word for word, _ in instructions(DOCKERFILE)].count("RUN") == 2


@pytest.mark.parametrize(
    "mistake",
    [
        'SHELL ["/bin/bash", "-euo", "pipefail", "-c"]',
        "HEALTHCHECK CMD true",
        "ONBUILD RUN true",
        "RUN echo one",
        "RUN set -eu; cat pins.txt \\\n  | sort",
        "RUN set -eu; false && true; true",
        "RUN set -eu; \\\n  # a comment\n  false || true",
    ],
)
def test_a_dependence_on_the_builder_would_be_found(mistake: str):
    assert builder_dependent("FROM scratch\nRUN set -eu; echo 'a | b'\n") == []
    assert builder_dependent(f"FROM scratch\n{mistake}\n")


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """The Dockerfile's installation, by this machine's sh, with a pip that tells what it is asked."""
    (command,) = [rest for word, rest in instructions(DOCKERFILE) if word == "RUN" and "pip install" in rest]
    for name in ("conda.yaml", "docker/pins.sh"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text('#!/bin/sh\necho "$*"\ncase "$*" in *"$BROKEN") exit 1 ;; esac\n')
    (tmp_path / "python").chmod(0o755)

    def run(device: str = "cpu", index: str = "", broken: str = "nothing") -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path}:{os.environ['PATH']}"
        env = {"PATH": path, "DEVICE": device, "CPU_INDEX": index, "BROKEN": broken}
        shell = ["sh", "-c", command]
        return subprocess.run(shell, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def test_torch_comes_first_and_from_its_own_index_for_cpus_alone(install: Install, tmp_path: Path):
    pip = "-m pip install --no-cache-dir "
    both = [f"{pip}-r torch.txt", f"{pip}-r pins.txt"]
    assert install().stdout.splitlines() == both
    assert install(index="cpus").stdout.splitlines() == [f"{pip}--index-url cpus -r torch.txt", both[1]]
    assert install("cuda", index="cpus").stdout.splitlines() == both[1:]
    assert {path.name for path in tmp_path.iterdir()} == {"conda.yaml", "pins.sh", "python"}


def test_an_installation_that_fails_ends_the_build_where_it_fails(install: Install, tmp_path: Path):
    first = install(broken="-r torch.txt")
    assert first.returncode
    assert "pins.txt" not in first.stdout
    assert install(broken="-r pins.txt").returncode
    unknown = install("tpu")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "DEVICE must be cpu or cuda; got tpu. Pass one as --build-arg.\n"


@pytest.mark.parametrize("lost", ["      - torch==", "conda.yaml", "pins.sh"])
def test_a_build_without_its_pins_installs_nothing(install: Install, tmp_path: Path, lost: str):
    if (tmp_path / lost).exists():
        (tmp_path / lost).unlink()
    else:
        kept = (tmp_path / "conda.yaml").read_text().replace(lost, "      - tensors==")
        (tmp_path / "conda.yaml").write_text(kept)
    done = install()
    assert done.returncode
    assert not done.stdout


BUILDAH = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
*" docker/Dockerfile "*) cat "$(dirname "$4")/pip.conf" >> "$LOG"; [ -z "$BROKEN" ] ;;
*" from "*) echo box ;;
*" inspect "*) printf 'python\\n-m\\nskillneurons\\n' ;;
*.sh) exit 2 ;;
esac
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], str]]:
    """The build without an engine with tools that only write down how they are called; and what they wrote."""
    tools = {"buildah": BUILDAH, "id": "#!/bin/sh\necho ${USER_ID:-0}\n"}
    tools["debootstrap"] = '#!/bin/sh\necho "debootstrap $*" >> "$LOG"\nfor last; do :; done\nmkdir "$last"\n'
    tools["unshare"] = '#!/bin/sh\necho "unshare $*" >> "$LOG"\nshift\nexec "$@"\n'
    (tmp_path / "tools").mkdir()
    (tmp_path / "work").mkdir()
    for name, text in tools.items():
        (tmp_path / "tools" / name).write_text(text)
        (tmp_path / "tools" / name).chmod(0o755)

    def run(folder: Path = tmp_path / "work", **env: object) -> tuple[subprocess.CompletedProcess[str], str]:
        log, path = tmp_path / "log", f"{tmp_path / 'tools'}:{os.environ['PATH']}"
        given = {"PATH": path, "LOG": str(log), **{name: str(value) for name, value in env.items()}}
        command = [str(DOCKER / "build-without-engine.sh"), str(folder)]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        return done, log.read_text() if log.exists() else ""

    return run


def test_the_build_without_an_engine_takes_pips_settings_from_the_environment(build, tmp_path: Path):
    wheels, bundle = tmp_path / "wheels", tmp_path / "bundle.pem"
    wheels.mkdir()
    bundle.write_text("")
    here = {"PIP_FIND_LINKS": f"{wheels} https://wheels.example", "PIP_CERT": bundle, "PIP_CLIENT_CERT": bundle}
    done, log = build(**here, PIP_INDEX_URL="https://index.example", CPU_INDEX="https://cpus.example", DEVICE="cuda")
    assert done.returncode == 0, done.stderr
    image = next(line for line in log.splitlines() if "docker/Dockerfile" in line)
    assert set(re.findall(r"--volume (\S+)", image)[1:]) == {f"{path}:{path}:ro" for path in (bundle, wheels)}
    assert image.count("--volume") == 3, "a file that two variables name is mounted once"
    assert "--build-arg DEVICE=cuda --build-arg CPU_INDEX=https://cpus.example" in image
    for line in (f"FIND_LINKS = {wheels} https://wheels.example", "INDEX_URL = https://index.example"):
        assert line in log.splitlines()


def test_the_build_without_an_engine_names_no_index_of_its_own(build, tmp_path: Path):
    done, log = build()
    assert done.returncode == 0, done.stderr
    image = next(line for line in log.splitlines() if "docker/Dockerfile" in line)
    assert len(re.findall("--volume", image)) == 1
    assert "[global]\nbreak-system-packages = true\n" in log
    assert not re.search("://|_URL|FIND_LINKS|CERT", log)
    assert "python -m skillneurons main --dry_run true" in log
    assert "unshare --mount debootstrap " in log, "the build takes its mounts along"
    calls = [line for line in log.splitlines() if line.startswith("--")]
    assert len(calls) > 5
    assert all(line.startswith(f"--storage-driver vfs --root {tmp_path / 'work'}/") for line in calls)


@pytest.mark.parametrize("broken", ["", "yes"])
def test_the_build_without_an_engine_leaves_nothing(build, tmp_path: Path, broken: str):
    done, log = build(BROKEN=broken)
    assert bool(done.returncode) == bool(broken)
    assert ("--dry_run" in log) == (not broken)
    assert not list((tmp_path / "work").iterdir())


def test_the_build_without_an_engine_refuses_in_one_line(build, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    for given, text in (
        ({"USER_ID": "1000"}, "it must be run as root, who alone makes a base system; got 1000. Use sudo."),
        ({"folder": elsewhere}, f"FOLDER must be a folder that is there; got {elsewhere}. Make it first."),
    ):
        done, log = build(**given)
        assert (done.returncode, done.stdout, log) == (2, "", "")
        assert done.stderr == f"build-without-engine: {text}\n"


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
    stages = re.findall(r"^(FROM|USER|ENTRYPOINT) ?(.*)$", DOCKERFILE, re.M)
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
    for copied in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.M):
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


def documented() -> list[tuple[str, str]]:
    """Entry point and parameters of every command that docs of the service and the example environment give."""
    files = [ROOT / "docs" / "service.md", ROOT / "docs" / "scaling.md", DOCKER / ".env.example"]
    text = "\n".join(file.read_text() for file in files).replace("\\\n", "")
    called = re.findall(r"(?:-m skillneurons|\bstage) (\w+)((?: +--\w+ [^\s`]+)+)", text)
    return called + [("search", words) for words in re.findall(r'SEARCH="(--.*)"', text)]


def test_documented_commands_have_parameters_that_the_program_takes():
    commands = documented()
    assert {entry for entry, _ in commands} == {"tune", "search", "discover"}
    assert len(commands) >= 8
    for entry, words in commands:
        parse(configuration(entry), arguments(words.split()))


def test_documented_defaults_are_those_of_the_code():
    text = (ROOT / "docs" / "scaling.md").read_text()
    given = dict(re.findall(r"`(\w+)=(\d+)`[^.:(]*?by\s+default", text))
    assert given == {"heartbeat": str(SearchConfig.model_fields["heartbeat"].default)}
    assert "`SERVER_PROCESSES` of `docker/tracking.sh` (two by default)" in text
    assert '"${SERVER_PROCESSES:-2}"' in (DOCKER / "tracking.sh").read_text()
