"""With what a run is made: versions, device, processes, memory; and the configuration of an older run."""

import contextlib
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from skillneurons import declarations
from skillneurons.about import PACKAGE, __version__
from skillneurons.commands.config import ParallelConfig, StageConfig
from skillneurons.commands.launching import is_worker
from skillneurons.errors import InputError
from skillneurons.tracking.runs import SAME_AS, Tracking

PROCESS = Path("/proc/self")


def older_config(tracking: Tracking, reference: str, kind: type[StageConfig]) -> dict[str, Any]:
    """The effective configuration of `runs:/<id>`, from its `config.yaml`."""
    run_id = reference.removeprefix("runs:/").strip("/")
    run_id = tracking.tag(run_id, SAME_AS) or run_id
    text = tracking.text(run_id, "config.yaml")
    return {k: v for k, v in declarations.parse(text).items() if k in kind.model_fields}


def process_count(config: ParallelConfig) -> int:
    """The processes asked for; by default one a GPU, or one.

    Raises:
        InputError: more than there are GPUs to compute on.
    """
    gpus = torch.cuda.device_count() if config.device_type == "cuda" else 0
    if 0 < gpus < config.processes and not is_worker():
        must, do = f"processes is at most {gpus}, the GPUs of this machine", "Ask for fewer, or add device=cpu."
        raise InputError(must, str(config.processes), do)
    return config.processes or max(1, gpus)


def environment(accelerator: Accelerator, config: StageConfig) -> dict[str, str]:
    """Tags that say with what a run was made."""
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else platform.processor() or "cpu"
    versions = " ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate", "mlflow"))
    return {
        "skillneurons.commit": _commit(),
        "skillneurons.versions": f"python {platform.python_version()} {versions}",
        "skillneurons.device": f"{accelerator.device.type}: {device}",
        "skillneurons.threads": str(torch.get_num_threads()),
        "skillneurons.processes": str(accelerator.num_processes),
        "skillneurons.command": " ".join(sys.argv[1:])[:4000],
    }


def _commit() -> str:
    folder = PACKAGE.parents[1]
    if not (folder / "MLproject").is_file():  # installed: the repository around it, if any, is another project's
        return f"release {__version__}"
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip()


def reset_peak_memory(device: torch.device) -> None:
    """Have `peak_memory_mb` count from here on: the runs before this one in the process are not its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="utf-8")  # VmHWM alone, see proc_pid_clear_refs(5)


def peak_memory_mb(device: torch.device) -> float:
    """Most memory this process has held since the reset, in MiB: on a GPU what torch allocated, else resident.

    NaN where the system keeps no peak that can be reset: only Linux does.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not os.access(PROCESS / "clear_refs", os.W_OK):
        return float("nan")
    peak = re.search(r"VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(encoding="utf-8"))
    return int(peak[1]) / 2**10 if peak else float("nan")
