"""The process of a run: the tags that identify the process, and a check whether it is alive."""

import platform
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

SILENCE = 600.0  # seconds without a heartbeat, after which a process on another machine counts as dead
BOOT = Path("/proc/sys/kernel/random/boot_id")


def process_tags() -> dict[str, str]:
    """Return the tags from which another process can tell whether this process is alive."""
    number = psutil.Process().pid
    return {
        "host": platform.node(),
        "process": f"{number} {birth_of(number)}",
        "heartbeat": f"{time.time():.0f}",
    }


def is_alive(tags: Mapping[str, str]) -> bool:
    """Return whether the process in the tags of a run is alive.

    If the tags name a process on this host, ask the operating system. Otherwise the heartbeat decides: its time must be less
    than SILENCE seconds away from now. A time further in the future comes from a wrong clock. It does not count, because the
    run would then seem alive until that time has come.
    """
    if tags.get("host") == platform.node() and "process" in tags:
        return is_running(tags["process"])
    try:
        return abs(time.time() - float(tags["heartbeat"])) < SILENCE
    except (KeyError, ValueError):
        return False


def is_running(process: str) -> bool:
    """Return whether a process still runs on this host.

    Args:
        process: the value of the tag `process`. It holds the number of the process and its start (see `birth_of`).
    """
    number, _, born = process.partition(" ")
    try:
        found = psutil.Process(int(number))
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        if "/" in born:
            return birth_of(found.pid) == born
        return abs(found.create_time() - float(born)) < 2  # seconds; on a system without /proc, `born` is a time
    except (psutil.NoSuchProcess, OSError, ValueError):
        return False


def birth_of(number: int) -> str:
    """Return a text that identifies a process, even if a later process gets the same number.

    On Linux, the text holds the id of the boot, and the clock ticks between that boot and the start of the process (field 22
    of /proc/PID/stat in `man 5 proc_pid_stat`). Setting the clock changes neither the id nor the ticks. On other systems, the
    text is the creation time that psutil reports; setting the clock changes it.
    """
    if BOOT.exists():
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()  # a name may hold blanks and brackets
        return f"{BOOT.read_text().strip()}/{fields[19].decode()}"
    return f"{psutil.Process(number).create_time():.2f}"
