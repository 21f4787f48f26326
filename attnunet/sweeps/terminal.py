"""Output to the terminal. It does not change names, paths and commands, whatever characters they hold."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

LOG: ContextVar[TextIO | None] = ContextVar("log", default=None)
"""The log that takes the place of the terminal; see `print_to`."""
LOG_WIDTH = 160


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

    plain: dict[str, Any] = {"soft_wrap": True, "highlight": False, "markup": False, "emoji": False}
    if log := LOG.get():
        return Console(file=log, width=LOG_WIDTH, force_terminal=False, color_system=None, **plain)
    escape_unknown_characters()  # called here again for worker processes
    return Console(width=None if sys.stdout.isatty() else width, **plain)


@contextmanager
def print_to(path: Path) -> Iterator[None]:
    """Let each console that is made during a `with` block print to the end of a file instead of the terminal."""
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as stream:
        token = LOG.set(stream)
        try:
            yield
        finally:
            LOG.reset(token)


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
