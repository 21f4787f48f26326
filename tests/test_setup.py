"""`make setup`: which Python it takes, and which it refuses before anything is downloaded."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.conftest import REPO


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what `make setup` reads."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path)
    return tmp_path


def write_python(path: Path, version: str) -> Path:
    """Write a stand-in for Python that tells this version of itself; "" for one that does not start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n[ -n '{version}' ] && echo {version}\n")
    path.chmod(0o755)
    return path


def make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run make in a folder in whose `bin` and pyenv it finds stand-ins for Python before any other."""
    environment = {"PATH": f"{cwd / 'bin'}:{os.environ['PATH']}", "HOME": str(cwd)}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("version", "found"), [("3.10", "3.10"), ("3.14", "3.14"), ("", "not found")])
def test_an_unsupported_python_is_refused_before_anything_is_made(version: str, found: str, checkout: Path) -> None:
    python = write_python(checkout / "bin" / "python", version)
    before = sorted(checkout.rglob("*"))
    result = make("setup", f"PYTHON={python}", cwd=checkout)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"attnunet needs one of Python 3.11 3.12 3.13, and {python} is {found}" in result.stderr
    assert sorted(checkout.rglob("*")) == before


def test_the_first_supported_python_that_starts_is_taken(checkout: Path) -> None:
    write_python(checkout / "bin" / "python3.11", "")
    pyenv = write_python(checkout / ".pyenv" / "versions" / "3.12.1" / "bin" / "python", "3.12")
    write_python(checkout / "bin" / "python3.12", "")
    write_python(checkout / "bin" / "python3.13", "3.13")
    assert f"{pyenv} -m venv .venv\n" in make("--dry-run", "setup", cwd=checkout).stdout
    pyenv.unlink()
    assert "python3.13 -m venv .venv\n" in make("--dry-run", "setup", cwd=checkout).stdout
    # An environment that is there keeps its Python.
    write_python(checkout / ".venv" / "bin" / "python", "3.12")
    assert ".venv/bin/python -m venv .venv\n" in make("--dry-run", "setup", cwd=checkout).stdout


def test_the_other_supported_pythons_are_tested_where_they_are_installed(checkout: Path) -> None:
    write_python(checkout / ".venv" / "bin" / "python", "3.12")
    for version, told in (("3.11", "3.11"), ("3.12", "3.12"), ("3.13", "")):
        write_python(checkout / "bin" / f"python{version}", told)
    printed = make("--dry-run", "test-pythons", cwd=checkout).stdout
    assert re.findall(r"(\S+)/bin/pytest", printed) == [".venv-3.11"]


def test_make_and_pip_support_the_same_pythons() -> None:
    (listed,) = re.findall(r"^PYTHONS := (.*)$", (REPO / "Makefile").read_text(), re.MULTILINE)
    asked = SpecifierSet(tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["requires-python"])
    assert listed.split() == [f"3.{minor}" for minor in range(99) if f"3.{minor}" in asked]
