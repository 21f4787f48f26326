"""Output to the terminal. It does not change names, paths and commands, whatever characters they hold."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleRenderable

LOG: ContextVar[tuple[TextIO | None, bool]] = ContextVar("log", default=(None, True))
"""The log of this run, and whether the terminal shows its text too; see `print_to`."""
LOG_WIDTH = 160
PLAIN: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False, "emoji": False}


def escape_unknown_characters() -> None:
    """Make stdout and stderr print a character that their encoding lacks in a form such as \\xe9.

    By default, Python raises an error for such a character.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(width: int | None = None) -> Console:
    """Return the console of a command. It prints [x] and :x: as plain text.

    If the output does not go to a terminal, the console is `width` columns wide. In the `with` block of `print_to`, it prints
    to the log.
    """
    from rich.console import Console

    escape_unknown_characters()  # called here again for worker processes
    shown = Console(width=None if sys.stdout.isatty() else width, **PLAIN)
    stream, terminal_too = LOG.get()
    if stream is None:
        return shown
    log = Console(file=stream, width=LOG_WIDTH, force_terminal=False, color_system=None, **PLAIN)
    shown.push_render_hook(Copy(log))  # type: ignore[arg-type]  # a RenderHook, whose class would be imported too early
    return shown if terminal_too else log


class Copy:
    """A hook of rich that prints to a log what a console prints."""

    def __init__(self, log: Console) -> None:
        self.log = log

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        from rich.table import Table
        from rich.text import Text

        for item in renderables:
            if isinstance(item, Table | Text):  # other items belong to a bar
                self.log.print(item, soft_wrap=isinstance(item, Text))  # a table fits the log, and a text stays a line
        return renderables


class Log(io.FileIO):
    """A file that drops what does not fit on its disk, because a run must not fail for its log."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            super().write(data)
        return len(data)


@contextmanager
def print_to(path: Path, terminal_too: bool = False) -> Iterator[None]:
    """Let each console that is made during a `with` block print to the end of a file, and only there by default."""
    with io.TextIOWrapper(Log(path, "a"), "utf-8", errors="backslashreplace", write_through=True) as stream:
        token = LOG.set((stream, terminal_too))
        try:
            yield
        finally:
            LOG.reset(token)


class LogLines(logging.StreamHandler):
    """Writes log messages to the stdout of the moment. A bar replaces stdout while it is shown, to print lines above it."""

    @property
    def stream(self) -> Any:
        return sys.stdout

    @stream.setter
    def stream(self, given: Any) -> None:
        """Ignore the stream that the configuration of the log gives."""


@contextmanager
def bar(console: Console, name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the time left during a `with` block. The block gets a function that advances the bar by one.

    Without a terminal, nothing is shown.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}, left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total)
        yield lambda: progress.advance(task)
