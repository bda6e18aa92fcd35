"""One command on several processes: Accelerate's launcher around the same command line."""

import os
import subprocess
import sys
from collections.abc import Mapping

from skillneurons.storage import alone


def is_worker() -> bool:
    """Whether this process was started by a launcher (`accelerate launch`, `torchrun`)."""
    return "LOCAL_RANK" in os.environ


def launch(entry: str, given: Mapping[str, str], processes: int, cpu: bool, address: str) -> int:
    """Run an entry point again as `processes` data-parallel processes; returns the exit code.

    `accelerate launch --cpu` starts one process whatever it is asked for, so the CPU is chosen through
    the environment and `--multi_gpu` stands for several processes of either kind.

    Raises:
        InputError: another command is at work on the address.
    """
    with alone(address):
        pass  # the processes take the lock themselves; their launcher would tell a refusal with a traceback
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", "skillneurons", entry]
    command += [f"--{key}={value}" for key, value in given.items()]
    environment = dict(os.environ)
    if cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    # the launcher sets one thread a process unless told; the cores are shared out instead
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()  # the launcher passes it on, and each process ends its run
        process.wait()
        raise
