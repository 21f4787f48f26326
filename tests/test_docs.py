"""README, docs and studies: their commands can run, their links lead somewhere, and the generated pages are current."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import OmegaConf

from attnunet import config, demo, store
from attnunet.config import checks, schema, targets
from attnunet.tracking.store import Store
from tests.conftest import REPO
from tests.test_config import composed, hydra  # noqa: F401 - a fixture

PAGES = [
    path.relative_to(REPO).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md", "mlruns/README.md")
    for path in sorted(REPO.glob(pattern))
]
BLOCK = re.compile(r"^```(\w*).*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:python -m attnunet|attnunet-|make |pip install)[^`]*)`")
OTHERS = {"cd", "curl", "mlflow", "python", "python3", ".venv/bin/python", "ray", "source"}
"""Programs of others, and scripts."""


def blocks(text: str, *languages: str) -> list[str]:
    """Return the blocks of a page in some languages."""
    return [block for language, block in BLOCK.findall(text) if language in languages]


def lines(page: str) -> Iterator[str]:
    """Yield each command that a page shows, in a block or within a sentence."""
    text = (REPO / page).read_text()
    for block in blocks(text, "", "bash"):
        yield from block.replace("\\\n", " ").splitlines()
    yield from (" ".join(inline.split()) for inline in INLINE.findall(BLOCK.sub("", text)))


def words(line: str) -> list[str]:
    """Return the words of a command without the variables that it sets; `attnunet-x` is `python -m attnunet.x`."""
    found = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
    return ["python", "-m", found[0].replace("attnunet-", "attnunet."), *found[1:]] if line.startswith("attnunet-") else found


SHOWN = sorted({(page, shlex.join(found)) for page in PAGES for line in lines(page) if (found := words(line))})
OURS = [(page, line) for page, line in SHOWN if "-m attnunet." in line]
PARSED = {"attnunet.demo": demo.main, "attnunet.store": store.main}
"""The commands that Hydra does not run."""


def parsed(line: str) -> argparse.Namespace:
    """Return the parts of a command of attnunet that Hydra runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", dest="multirun", action="store_true")
    parser.add_argument("--config-dir")
    parser.add_argument("--cfg")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(shlex.split(line)[3:])


def values(override: Override) -> list[str]:
    """Return what an override sets in the jobs of a sweep; of an interval, its ends."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    sweep = override.value()
    found = [sweep.start, sweep.end] if isinstance(sweep, IntervalSweep) else override.sweep_string_iterator()
    return [f"{override.get_key_element()}={value}" for value in found]


def jobs(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the overrides of the first and the last job of a sweep; a single run is both."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # the loader knows the choices of glob()
    choices = [values(override) for override in parser.parse_overrides(list(overrides))]
    yield from {tuple(choice[index] for choice in choices): None for index in (0, -1)}


@pytest.mark.parametrize(("line", "page"), {line: page for page, line in OURS if line.split()[2] not in PARSED}.items())
def test_a_command_in_the_docs_is_one_that_can_run(
    line: str, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "own", set())
    monkeypatch.syspath_prepend(tmp_path)
    name, given = line.split()[2].removeprefix("attnunet."), parsed(line)
    assert name == "train" or not given.multirun
    overrides = [override for override in given.overrides if not override.startswith("hydra")]
    for job in jobs(overrides) if given.multirun else [tuple(overrides)]:
        if given.config_dir:
            save_files(page, tmp_path)
            cfg = compose("train", [*job, f"hydra.searchpath=[file://{tmp_path / given.config_dir}]"])
        else:
            cfg = composed(*job, command=name)
        if name == "train":
            checks.check(config.settle(cfg, job))
        else:
            checks.check_keys(cfg, getattr(schema, name.title().replace("_", "")))


def save_files(page: str, folder: Path) -> None:
    """Write the files that a page asks for: a path in the sentence before a block of YAML or Python."""
    for path, text in re.findall(r"`([\w/]+\.(?:yaml|py))`:\n\n```\w+\n(.*?)^```$", (REPO / page).read_text(), re.M | re.S):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_a_launcher_or_sweeper_in_the_docs_has_a_file_and_its_keys() -> None:
    for page, line in (entry for entry in OURS if entry[1].split()[2] not in PARSED):
        given = [override.partition("=")[::2] for override in parsed(line).overrides if override.startswith("hydra")]
        folders = {"hydra/launcher": "hydra/launchers"}
        files = [REPO / "conf" / folders.get(group, group) / f"{choice}.yaml" for group, choice in given if "/" in group]
        known = {"hydra": OmegaConf.merge(*map(OmegaConf.load, files))} if files else {}
        for parent, _, name in (key.rpartition(".") for key, _ in given if "/" not in key):
            assert name in OmegaConf.select(OmegaConf.create(known), parent), f"{page}: {parent}.{name}"


@pytest.mark.parametrize("line", sorted({line for _, line in OURS if line.split()[2] in PARSED}))
def test_a_command_with_its_own_parser_takes_the_arguments_in_the_docs(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *arguments = shlex.split(line)[2:]
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    with pytest.raises(SystemExit) as end:
        PARSED[command]()
    assert re.search("no store in|no runs there", str(end.value))  # argparse would refuse an argument with exit code 2


def test_other_commands_in_the_docs_name_what_is_there() -> None:
    targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page, line in set(SHOWN) - set(OURS):
        program, *arguments = shlex.split(line)
        if program == "make":
            assert arguments[0] in targets, page
        elif program == "pip":
            assert {extra for word in arguments for extra in re.findall(r"attnunet\[(\w+)\]", word)} <= set(extras), page
        else:
            assert program in OTHERS, f"{page}: {line}"
            assert all((REPO / word).exists() for word in arguments if word.startswith("experiments/")), page


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_to_a_file_and_a_heading(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", (REPO / page).read_text()))
    for target, _, anchor in (link.partition("#") for link in links if not link.startswith("http")):
        path = (REPO / page).parent / target if target else REPO / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


def test_the_reference_of_the_configuration_is_current() -> None:
    generator = runpy.run_path(str(REPO / ".ci" / "reference.py"))
    assert generator["PAGE"].read_text() == generator["page"](), "make docs writes it anew"


@pytest.mark.slow
# mlflow.types: importing its own chat schemas, MLflow warns of the type hints in them.
@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_a_logged_model_is_loaded_as_the_guide_says(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = blocks((REPO / "docs" / "guides" / "serve.md").read_text(), "python")
    runs = Store(trained / "mlruns", None, patience=0)
    (model,) = runs.client.search_logged_models([runs.study("tried")])
    monkeypatch.chdir(trained)
    given = {"volume": np.zeros((2, 24, 24, 3), np.uint8)}
    exec(snippet.replace("attnunet@best", model.model_id), given)
    assert (given["mask"].shape, given["mask"].dtype) == ((2, 24, 24), np.uint8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    text = (REPO / "docs" / "tutorial.md").read_text()
    (script,) = blocks(text, "python")
    (tmp_path / "draw.py").write_text(script)
    run_id = "RUN_ID"
    for block in blocks(text, "bash"):
        program = f'PATH="{Path(sys.executable).parent}:$PATH"; {block.replace("RUN_ID", run_id)}'
        done = subprocess.run(["bash", "-ec", program], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        print(done.stdout)
        if found := re.search(r"^run (\w+):", done.stdout, re.MULTILINE):
            run_id = found[1]
    assert len(list((tmp_path / "predicted").glob("*.png"))) == 12
    assert (tmp_path / "mlruns" / "compare" / "losses" / "compare.html").is_file()
