"""The process of a run: the tags that name it, and whether it is alive."""

import platform
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

SILENCE = 600.0  # seconds without a heartbeat, after which a process on another machine counts as dead
BOOT = Path("/proc/sys/kernel/random/boot_id")


def process_tags() -> dict[str, str]:
    """Return the tags by which another process can tell whether this one is alive."""
    number = psutil.Process().pid
    return {
        "host": platform.node(),
        "process": f"{number} {birth_of(number)}",
        "heartbeat": f"{time.time():.0f}",
    }


def is_alive(tags: Mapping[str, str]) -> bool:
    """Return whether the process that a run's tags name is alive.

    On this host, the system knows. On another host, or if the tags name no process, the heartbeat decides. A heartbeat from
    the future does not count: a clock was wrong, and the run would seem alive until that time has come.
    """
    if tags.get("host") == platform.node() and "process" in tags:
        return is_running(tags["process"])
    try:
        return abs(time.time() - float(tags["heartbeat"])) < SILENCE
    except (KeyError, ValueError):
        return False


def is_running(process: str) -> bool:
    """Return whether the process with the number and the birth in the tag `process` is running on this host."""
    number, _, born = process.partition(" ")
    try:
        found = psutil.Process(int(number))
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        if "/" in born:
            return birth_of(found.pid) == born
        return abs(found.create_time() - float(born)) < 2  # seconds; without /proc, `born` is a time
    except (psutil.NoSuchProcess, OSError, ValueError):
        return False


def birth_of(number: int) -> str:
    """Return a text that identifies a process even after its number is used again.

    On Linux, it holds the id of the boot and the start of the process in clock ticks since that boot (`man 5 proc_pid_stat`,
    field 22); setting the clock changes neither. Elsewhere, it is psutil's time of creation, which moves with the clock.
    """
    if BOOT.exists():
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()  # the name may hold blanks and brackets
        return f"{BOOT.read_text().strip()}/{fields[19].decode()}"
    return f"{psutil.Process(number).create_time():.2f}"
