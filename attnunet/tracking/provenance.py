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


def provenance(overrides: Sequence[str], gpus: Sequence[str] = (), typed: str | None = None) -> dict[str, str]:
    """Return the tags that state the provenance of a run on these GPUs.

    `typed` is the command that repeats the run. If it is None, it is the command line that started this process.
    """
    return {
        "command": typed or command(),
        "overrides": " ".join(overrides),
        "git.commit": git("rev-parse", "HEAD"),
        "git.dirty": str(bool(git("status", "--porcelain"))).lower(),
        "machine": machine(gpus),
        "python": platform.python_version(),
        **{f"version.{name}": metadata.version(name) for name in PACKAGES},
    }


def command() -> str:
    """Return the command line that started this process."""
    return shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])


def machine(gpus: Sequence[str]) -> str:
    """Return a text with the processor, the number of cores and the GPUs in use. They can change the last bits of a result."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    parts = [platform.machine(), names[0] if names else platform.processor(), f"{os.cpu_count()} cores", *gpus]
    return ", ".join(parts)


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
