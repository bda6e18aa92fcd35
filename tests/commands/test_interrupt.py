"""An interrupt ends a command wherever it comes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from conftest import environment
from skillneurons import cli


class Finalised:
    """Interrupts the process while it is finalised: what is raised there Python prints and drops."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100_000):
            pass


def busy(words: list[str], console: object) -> int:
    Finalised()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pass
    return 0


def at_once(words: list[str], console: object) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
    return 0


@pytest.mark.parametrize("work", [busy, at_once])
def test_an_interrupt_is_not_lost(work, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", work)
    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()
    assert cli.main(["tune"]) == 130
    assert time.monotonic() - started < 25
    assert "takes up where this one stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_command_that_ends_before_its_delayed_interrupt_leaves_nothing_behind():
    code = """
import os, signal, time
from skillneurons import cli

class Finalised:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            pass

def short(words, console):
    Finalised()
    return 0

cli._dispatch = short
assert cli.main(["tune"]) == 0
until = time.process_time() + 0.5
while time.process_time() < until:
    pass
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_ignored_interrupts_stay_ignored(monkeypatch):
    monkeypatch.setattr(cli, "_dispatch", lambda words, console: os.kill(os.getpid(), signal.SIGINT) or 0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli.main(["tune"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def told_to_stop(words: list[str], console: object) -> int:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
    return 0


def test_sigterm_ends_a_command_as_an_interrupt_does(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", told_to_stop)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["tune"]) == 143
    assert "terminated by a signal; the same command takes up where this one stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


FOLLOWS = """
import time
from skillneurons import cli
from skillneurons.interrupts import follow_launcher

def work(words, console):
    follow_launcher()
    print("at work", flush=True)
    time.sleep(60)
    return 0

cli._dispatch = work
raise SystemExit(cli.main(["tune"]))
"""
LAUNCHES = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.parametrize("launcher", ["mlflow", "nohup"])
def test_a_command_ends_with_the_mlflow_run_that_started_it(launcher, tmp_path):
    """Killed outright, `mlflow run` passes nothing on; another parent's death means nothing."""
    (tmp_path / launcher).write_text(LAUNCHES)
    started = subprocess.Popen(
        [sys.executable, tmp_path / launcher, FOLLOWS],
        env=environment(MLFLOW_RUN_ID="made-by-mlflow"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "at work\n"
    started.kill()
    started.wait()
    if launcher == "mlflow":
        assert "terminated by a signal" in started.stdout.read(), "until its end of the pipe is closed"
    else:
        time.sleep(3)
        os.kill(child_of(started.pid), signal.SIGKILL)  # it is there


def child_of(group: int) -> int:
    """The process that is left of a session."""
    (left,) = [one.pid for one in psutil.process_iter() if os.getpgid(one.pid) == group and one.pid != group]
    return left
