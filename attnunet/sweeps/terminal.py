"""Output to the terminal. It does not change names, paths and commands, whatever characters they hold."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def escape_unknown_characters() -> None:
    """Make stdout and stderr print a character that their encoding lacks in a form such as \\xe9.

    By default, Python raises an error for such a character.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(width: int | None = None) -> Console:
    """Return the console of a command. It prints [x] and :x: as plain text.

    If the output does not go to a terminal, the console is `width` columns wide.
    """
    from rich.console import Console

    escape_unknown_characters()  # called here again for worker processes
    columns = None if sys.stdout.isatty() else width
    return Console(width=columns, soft_wrap=True, highlight=False, markup=False, emoji=False)


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
