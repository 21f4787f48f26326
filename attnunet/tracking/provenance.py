"""The provenance of a result: the command, the code, the machine and the packages."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python", "albumentations", "grain", "focal-loss", "mlflow")


def provenance(overrides: Sequence[str], used: str | None = None, typed: str | None = None) -> dict[str, str]:
    """Return the tags that state the provenance of a run.

    Args:
        used: what TensorFlow computes on, from `machine`; None for a run that does not load TensorFlow.
        typed: the command that repeats the run; None for the command line that started this process.
    """
    return {
        "command": typed or command(),
        "overrides": " ".join(overrides),
        "git.commit": git("rev-parse", "HEAD"),
        "git.dirty": str(bool(git("status", "--porcelain"))).lower(),
        "machine": used or machine(),
        "python": platform.python_version(),
        **{f"version.{name}": metadata.version(name) for name in PACKAGES},
    }


def command() -> str:
    """Return the command line that started this process."""
    return shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])


def machine(threads: int | None = None, gpus: Sequence[str] = ()) -> str:
    """Return a text with what TensorFlow computes on: the processor, its threads, and the GPUs.

    They can change the last bits of a result. Without `threads`, the text has the number of cores.
    """
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    number = f"{threads} thread{'s' * (threads > 1)}" if threads else f"{os.cpu_count()} cores"
    return ", ".join([platform.machine(), names[0] if names else platform.processor(), number, *gpus])


def git(*arguments: str) -> str:
    """Return what a git command prints about the checkout of this code; "" if there is no checkout or git fails."""
    checkout = PACKAGE.parent
    if not (checkout / ".git").exists():  # else git would describe a repository around the installed package
        return ""
    command = ["git", "-C", str(checkout), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
