"""The terminal during a sweep: a line for each job, the bar, and the time left of the whole sweep."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from attnunet.sweeps import display, terminal
from attnunet.sweeps.display import Display, estimate_left, format_time
from tests.conftest import command

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TWO = ("-m", "trainer=smoke", "trainer.figures=false", "trainer.threads=1", "data.patients=12", "epochs=2")
JOBS = [["model=conv", "optimizer.learning_rate=0.001"], ["model=conv", "optimizer.learning_rate=0.003"]]


@pytest.mark.parametrize(
    ("finished", "running", "waiting", "at_once", "expected"),
    [
        ([], [], 6, 0, None),  # nothing has started
        ([], [(5.0, 0.0)], 5, 1, None),  # no epoch has ended
        ([], [(10.0, 0.25)], 2, 1, 30 + 2 * 40),
        ([60.0, 120.0], [(30.0, 0.0)], 1, 1, 60 + 90),  # as long as the mean
        ([60.0], [(30.0, 0.25)], 1, 1, 90 + 60),  # longer than the mean, by its epochs
        ([100.0], [(50.0, 0.5), (25.0, 0.5)], 2, 2, (50 + 25 + 200) / 2),
        ([100.0], [(50.0, 0.25)], 0, 2, 150),  # a single job is not shared among processes
        ([10.0], [(30.0, 0.0)], 0, 1, 0),  # later than expected
        ([100.0], [(80.0, 1.0)], 0, 1, 20),  # trained, and not yet scored
        ([10.0], [], 2, 2, 10),
    ],
)
def test_the_time_left_of_a_sweep(
    finished: list[float], running: list[tuple[float, float]], waiting: int, at_once: int, expected: float | None
) -> None:
    assert estimate_left(finished, running, waiting, at_once) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (44.2, "45 s"), (61, "2 min"), (3540, "59 min"), (3601, "1 h 01 min"), (7200, "2 h 00 min")],
)
def test_a_time_is_rounded_up(seconds: float, expected: str) -> None:
    assert format_time(seconds) == expected


class Scene:
    """A sweep of jobs that are written by hand."""

    def __init__(self, folder: Path, width: int = 100, jobs: list[list[str]] = JOBS, is_terminal: bool = False) -> None:
        self.folder, self.jobs, self.out = folder, jobs, StringIO()
        plain = {"soft_wrap": True, "highlight": False, "markup": False}
        console = Console(file=self.out, width=width, force_terminal=is_terminal, **plain)
        keys = {override.lstrip("+").partition("=")[0] for job in jobs for override in job}
        self.display = Display(console, folder, "train.log", "val/dice", keys)
        self.display.expect(jobs)

    def write(self, number: int, how: str, log: str = "", seconds: float = 60, score: float = 0.5, reason: str = "") -> None:
        place = self.folder / str(number)
        place.mkdir(exist_ok=True)
        with (place / "train.log").open("a") as stream:
            stream.write(log)
        facts = {"how": how, "run_id": "abcdef0123456789", "score": score, "reason": reason, "job": number}
        facts |= {"overrides": self.jobs[number], "seconds": seconds}
        (place / "outcome.json").write_text(json.dumps(facts))

    def look(self) -> list[str]:
        """Look, and return the lines that were printed."""
        before = len(self.out.getvalue())
        self.display.look()
        return self.out.getvalue()[before:].splitlines()

    def drawn(self) -> list[str]:
        with self.display.console.capture() as captured:
            self.display.console.print(self.display.draw())
        return CONTROL.sub("", captured.get()).splitlines()


def test_each_job_leaves_one_line_when_it_ends(tmp_path: Path) -> None:
    scene = Scene(tmp_path, width=120)
    assert scene.look() == []
    scene.write(0, "running", "new run: none with this fingerprint\n")
    assert scene.look() == []
    scene.write(0, "finished", "epoch 1/1  loss 0.5  val/dice 0.5\n", seconds=90)
    (line,) = scene.look()
    assert line == "job 1/2  model=conv learning_rate=0.001  finished  val/dice 0.5000  1.5 min  run abcdef01  2 min left"
    assert scene.look() == []
    scene.write(1, "failed", seconds=6, score=float("nan"), reason="ValueError: no such thing")
    (line,) = scene.look()
    assert line == "job 2/2  model=conv learning_rate=0.003  failed    0.1 min  run abcdef01  ValueError: no such thing"


def test_jobs_that_were_reused_say_nothing_about_the_time_left(tmp_path: Path) -> None:
    jobs = [[f"seed={seed}"] for seed in range(4)]
    scene = Scene(tmp_path, jobs=jobs)
    scene.write(0, "reused", seconds=0.1)
    assert "left" not in scene.look()[0]
    scene.write(1, "finished", seconds=600)
    assert scene.look()[0].endswith("20 min left")  # two jobs of ten minutes


def test_a_resumed_job_is_judged_by_the_epochs_since_its_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.write(0, "running", "resumed run\nepoch  6/10  loss 0.5  val/dice 0.5    9 s left\n")
    scene.look()
    (job,) = scene.display.running.values()
    assert job.share == pytest.approx(1 / 5)


def test_a_warning_of_a_job_is_labelled_and_its_failure_is_told_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, width=120)
    warning = "[2026-11-29 05:00:00,123][attnunet.tracking.store][WARNING] - the server does not answer\n"
    failure = "[2026-11-29 05:00:00,123][attnunet.tracking.sweep][ERROR] - job model=conv failed\nTraceback\nValueError: no\n"
    scene.write(0, "running", warning + "epoch 1/2  loss 0.5")  # this line is not complete
    assert scene.look() == ["job 1/2  warning: the server does not answer"]
    scene.write(0, "failed", "\n" + failure, reason="ValueError: no")
    (line,) = scene.look()
    assert "failed" in line


@pytest.mark.parametrize("width", [60, 100, 160])
def test_no_line_is_wider_than_the_terminal_and_values_keep_their_ends(width: int, tmp_path: Path) -> None:
    jobs = [[f"data.exclude=/a/folder/{'x' * 150}/{name}.txt", f"seed={n}"] for n, name in enumerate(("one", "two"))]
    scene = Scene(tmp_path, width=width, jobs=jobs, is_terminal=True)
    for number in (0, 1):
        scene.write(number, "running", "epoch 3/10  loss 0.4123  val/dice 0.711  val/other 0.2345   12 s left\n")
    scene.look()
    bar, *rows = scene.drawn()
    assert "0 of 2 jobs" in bar
    assert len(rows) == 2
    for number in (0, 1):
        scene.write(number, "finished", reason="a long reason " * 20)
    lines = scene.look()
    assert max(map(len, (bar, *rows, *lines))) <= width
    if width >= 100:
        assert [("one.txt" in line, "two.txt" in line) for line in rows] == [(True, False), (False, True)]


def test_a_key_is_shortened_where_this_leaves_no_doubt(tmp_path: Path) -> None:
    shown = Scene(tmp_path, jobs=[["loss.weights.dice=0.123456789", "+model.seed=1", "split.seed=2"]]).display
    changes = shown.changes(["loss.weights.dice=0.123456789", "+model.seed=1", "split.seed=2", "epochs=3"])
    assert changes == "dice=0.1235 model.seed=1 split.seed=2"


def test_a_search_counts_its_jobs_when_it_knows_them(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.display.total = None
    scene.write(0, "running")
    scene.look()
    assert scene.drawn()[0].endswith(" 0 jobs")
    assert scene.drawn()[1].startswith("job 1  model=conv")
    scene.display.total = 20
    assert scene.drawn()[0].endswith(" 0 of 20 jobs")
    assert scene.drawn()[1].startswith("job  1/20  model=conv")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_is_shown_in_a_terminal_only(is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "PERIOD", 0.01)
    scene = Scene(tmp_path, is_terminal=is_terminal)
    with scene.display.shown():
        scene.write(0, "running")
        time.sleep(0.1)
        scene.write(0, "finished")
    shown = scene.out.getvalue()
    assert ("0 of 2 jobs" in shown) == is_terminal
    assert bool(CONTROL.search(shown)) == is_terminal
    assert shown.count("finished") == 1


def test_a_job_prints_to_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    log = tmp_path / "train.log"
    for number in range(2):
        with terminal.print_to(log):
            terminal.console().print(f"[bold]{number}[/bold] {'x' * 200}", style="red")
    terminal.console().print("after")
    assert log.read_text() == f"[bold]0[/bold] {'x' * 200}\n[bold]1[/bold] {'x' * 200}\n"
    assert "after" in capsys.readouterr().out


def test_a_single_run_prints_to_the_terminal_and_to_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "train.log"
    table = Table()
    table.add_column("score")
    with terminal.print_to(log, terminal_too=True):
        console = terminal.console()
        console.print("x" * 200)
        console.print(table, soft_wrap=False)
        with terminal.bar(console, "cases", 2) as advance:
            advance()
            console.print("during")
    told = capsys.readouterr().out
    assert log.read_text() == told
    assert told.startswith("x" * 200 + "\n")
    assert "score" in told
    assert told.endswith("during\n")


def test_a_bar_stays_out_of_the_log(tmp_path: Path) -> None:
    shown = Console(file=StringIO(), force_terminal=True, width=80)
    log = Console(file=StringIO(), width=80)
    shown.push_render_hook(terminal.Copy(log))
    with terminal.bar(shown, "cases", 2) as advance:
        advance()
        shown.print("during")
    assert log.file.getvalue() == "during\n"


def test_a_full_disk_does_not_end_a_run_because_of_its_log(disk: Path) -> None:
    with terminal.print_to(disk / "train.log"):
        console = terminal.console()
        console.print("before")
        os.posix_fallocate(os.open(disk / "ballast", os.O_CREAT | os.O_WRONLY), 0, shutil.disk_usage(disk).free)
        console.print("x" * 10_000)
    assert (disk / "train.log").read_text().startswith("before")


def screen(folder: Path, *arguments: str, width: int = 100, interrupt: str | None = None) -> tuple[int, str]:
    """Run a sweep in a terminal; return its exit code and all that it wrote. Type Ctrl-C once a log holds `interrupt`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "attnunet.train", *arguments],
        cwd=folder,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: (signal.signal(signal.SIGINT, signal.SIG_DFL), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(slave)
    told = b""
    with suppress(OSError):  # the other end is closed when the process ends
        while part := os.read(master, 65536):
            told += part
            if interrupt and any(interrupt in log.read_text() for log in folder.glob("mlruns/hydra/sweeps/*/*/train.log")):
                os.write(master, b"\x03")
                interrupt = None
    os.close(master)
    return process.wait(60), told.decode()


def printed(told: str) -> Iterator[str]:
    """Yield what was written to each line of the terminal, without control characters."""
    for line in re.split(r"[\r\n]+", told):
        yield CONTROL.sub("", line).rstrip()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(300)
def test_a_sweep_in_a_terminal(tmp_path: Path) -> None:
    code, told = screen(tmp_path, *TWO, "model=conv,separable")
    lines = list(printed(told))
    assert code == 0, told
    copied = ("compare   ", "          http", "log of each job")  # commands, addresses and paths are not broken
    assert max(len(line) for line in lines if not line.startswith(copied)) <= 100
    assert [line[:40].split("  ")[:3] for line in lines if "  finished  " in line] == [
        ["job 1/2", "model=conv", ""],
        ["job 2/2", "model=separable", "finished"],
    ]
    assert any(re.search(r"0 of 2 jobs, \d+ (s|min) left$", line) for line in lines)
    epochs = r"job 1/2 .*  epoch [12]/2  loss"  # an epoch that is shorter than the time between two looks may stay unseen
    assert any(re.match(epochs, line) for line in lines)
    after = told.rpartition("of 2 jobs")[2]
    assert "2 jobs: 2 finished" in after
    assert "INFO" not in told
    assert "HYDRA" not in told
    (log,) = tmp_path.glob("mlruns/hydra/sweeps/*/1/train.log")
    for held in ("new run: none", "epoch 2/2", "Dice, mean over patients"):
        assert held in log.read_text()
    assert "\x1b" not in log.read_text()

    code, told = screen(tmp_path, *TWO, "model=conv,separable")
    assert code == 0
    assert "2 jobs: 2 reused" in told


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_of_two_jobs_at_once_in_a_log(tmp_path: Path) -> None:
    result = command(*TWO, "hydra/launcher=joblib", "seed=range(0,3)", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", result.stdout)
    lines = [line for line in result.stdout.splitlines() if line.startswith("job ")]
    assert sorted(line[:7] for line in lines) == ["job 1/3", "job 2/3", "job 3/3"]
    assert re.search(r"  \d+ (s|min) left$", lines[0])
    assert "3 jobs: 3 finished" in result.stdout
    assert "HYDRA" not in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_ctrl_c_in_a_sweep_names_the_way_on(launcher: str, tmp_path: Path) -> None:
    arguments = (*TWO[:-1], "epochs=100000", f"hydra/launcher={launcher}", "seed=0,1,2")
    code, told = screen(tmp_path, *arguments, interrupt="epoch")
    lines = list(filter(None, printed(told)))
    assert code == 130, told
    assert "Traceback" not in told
    running = 2 if launcher == "joblib" else 1
    assert f"3 jobs: {running} interrupted, {3 - running} missing" in told
    assert lines[-1] == "attnunet: the sweep was stopped; the same command goes on with it"
