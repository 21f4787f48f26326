"""The terminal: names, paths and commands are printed as they are, whatever characters they hold."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def escape_unknown_characters() -> None:
    """Let the standard streams print a character that their encoding lacks as \\xe9, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(width: int | None = None) -> Console:
    """Return the console of a command, `width` columns wide if it is not a terminal; [x] and :x: are plain text on it."""
    from rich.console import Console

    escape_unknown_characters()  # here too, for worker processes
    columns = None if sys.stdout.isatty() else width
    return Console(width=columns, soft_wrap=True, highlight=False, markup=False, emoji=False)
