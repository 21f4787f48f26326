"""Whether the process of a run lives: told by the system, whatever the clock is set to, or by a heartbeat."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from attnunet.tracking import processes
from attnunet.tracking.processes import is_alive, process_tags


@pytest.fixture
def clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """By 90 s since the process began: the kernel tells times of creation by the clock as it is now."""
    created, now = psutil.Process.create_time, time.time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 90)
    monkeypatch.setattr(time, "time", lambda: now() + 90)


def test_a_process_lives_whatever_the_clock_is_set_to(request: pytest.FixtureRequest) -> None:
    tags = process_tags()
    request.getfixturevalue("clock_was_set")
    assert is_alive(tags)


def test_a_process_that_has_ended_does_not_live() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        tags = {**process_tags(), "process": f"{process.pid} {processes.birth_of(process.pid)}"}
        assert is_alive(tags)
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not is_alive(tags)  # dead, though its parent has not asked for it yet
    assert not is_alive(tags)


def test_a_number_that_was_given_anew_is_another_process() -> None:
    boot, ticks = process_tags()["process"].partition(" ")[2].split("/")
    assert is_alive({**process_tags(), "process": f"{os.getpid()} {boot}/{ticks}"})
    assert not is_alive({**process_tags(), "process": f"{os.getpid()} {boot}/{int(ticks) - 1}"})
    assert not is_alive({**process_tags(), "process": f"{os.getpid()} {boot[::-1]}/{ticks}"})  # the machine was started anew


def test_a_process_is_known_by_its_time_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As runs before this rule named theirs."""
    monkeypatch.setattr(processes, "BOOT", Path("/nowhere"))
    number, created = process_tags()["process"].split()
    assert float(created) == pytest.approx(psutil.Process().create_time(), abs=0.01)
    assert is_alive(process_tags())
    assert not is_alive({**process_tags(), "process": f"{number} {float(created) - 3600:.2f}"})


@pytest.mark.parametrize(("seconds", "lives"), [(-30, True), (-3600, False), (30, True), (86_400, False)])
def test_a_heartbeat_tells_of_another_machine_unless_it_comes_from_the_future(seconds: int, lives: bool) -> None:
    assert is_alive({**process_tags(), "host": "elsewhere", "heartbeat": f"{time.time() + seconds:.0f}"}) is lives


@pytest.mark.parametrize("lacking", [("process",), ("host",), ("heartbeat",), ("process", "host", "heartbeat")])
def test_tags_that_are_not_there_do_not_keep_a_run_alive(lacking: tuple[str, ...]) -> None:
    dead = {"host": platform.node(), "process": "1 0.00", "heartbeat": "0"}
    assert not is_alive({name: value for name, value in dead.items() if name not in lacking})


@pytest.mark.parametrize("process", ["", "12", "x y", "-1 0.0", "1 x/y", "99999999999999999999 1.0"])
def test_tags_that_say_nothing_do_not_keep_a_run_alive(process: str) -> None:
    assert not is_alive({**process_tags(), "process": process})
    assert not is_alive({"host": "elsewhere", "process": process, "heartbeat": "yesterday"})
