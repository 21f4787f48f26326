"""What is printed is the text that was given: brackets, colons, and characters that the terminal lacks."""

import logging
import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from logging.config import BaseConfigurator
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.table import Table

from attnunet.sweeps import terminal

PACKAGE = Path(terminal.__file__).parent


@pytest.mark.parametrize("text", ["w [x]", "a=b,[c] (1).png", "[/b]", "[bold]p1[/bold]", ":smile:", r"\[x]"])
def test_a_name_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console = terminal.console()
    console.print(text)
    console.print(table)
    assert capsys.readouterr().out.count(text) == 4


def test_only_one_place_makes_what_is_printed_on() -> None:
    makers = [path.name for path in PACKAGE.rglob("*.py") if "Console(" in path.read_text()]
    assert makers == ["terminal.py"]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", rb"M\xfcller \u5f20 \udcff"),
        ("latin-1", b"M\xfcller \\u5f20 \\udcff"),
        ("utf-8", "Müller 张 \\udcff".encode()),
    ],
)
def test_a_character_that_the_terminal_lacks_is_escaped(encoding: str, expected: bytes) -> None:
    script = r"""
import sys
from attnunet.sweeps import terminal
terminal.escape_unknown_characters()
name = "M\xfcller \u5f20 \udcff"
print(name)
terminal.console().print(name)
print(name, file=sys.stderr)
"""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert result.stdout.split(b"\n") == [expected, expected, b""]
    assert result.stderr == expected + b"\n"


def test_a_log_line_is_printed_above_a_bar() -> None:
    """And not into it: a bar replaces stdout, after Hydra has set up the log."""
    settings = yaml.safe_load((PACKAGE.parent.parent / "conf" / "hydra" / "default.yaml").read_text())["job_logging"]
    logger = logging.Logger("x")
    logger.addHandler(BaseConfigurator({}).resolve(settings["handlers"]["console"]["class"])(sys.stdout))
    out = StringIO()
    with redirect_stdout(out), terminal.bar(Console(file=out, force_terminal=True, width=60), "cases", 2):
        logger.warning("the server is away")
    assert "the server is away\n" in out.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_shows_the_time_left_on_a_terminal_only(is_terminal: bool) -> None:
    out = StringIO()
    with terminal.bar(Console(file=out, force_terminal=is_terminal, width=80), "cases", 2) as advance:
        advance()
    assert ("cases, left" in out.getvalue()) == is_terminal
