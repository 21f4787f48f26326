"""The list of what a run logs, against a run."""

import re
import runpy
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import REPO

SCRIPT = runpy.run_path(str(REPO / ".ci" / "logged.py"))
NAMES = SCRIPT["names"]()
OF_OTHERS = {
    *("test_scored.*", "test_scored_own", "superseded", "reused_by.*", "evaluation.*", "sweep", "cross_validated"),
    *("ensemble", "audit", "scored_as", "error", "system/*", "swept", "pruned"),
}
"""What a single run without trouble does not log, or what MLflow logs after 10 seconds only."""


@pytest.fixture(scope="module")
def logged(trained: Path) -> dict[str, set[str]]:
    """The names of the metrics, params and tags of a finished run."""
    client = MlflowClient(f"sqlite:///{trained / 'mlruns' / 'mlflow.db'}")
    (run,) = [run for study in client.search_experiments() for run in client.search_runs([study.experiment_id])]
    return {"metrics": set(run.data.metrics), "params": set(run.data.params), "tags": set(run.data.tags)}


def test_the_page_shows_the_list_as_it_is() -> None:
    assert SCRIPT["PAGE"].read_text() == SCRIPT["page"](), "run: python .ci/logged.py"


@pytest.mark.parametrize("kind", ["metrics", "tags"])
def test_a_run_logs_what_the_list_has_and_nothing_else(kind: str, logged: dict[str, set[str]]) -> None:
    assert [name for name in logged[kind] if not any(fnmatchcase(name, known) for known in NAMES[kind])] == []
    missing = {known for known in NAMES[kind] if not any(fnmatchcase(name, known) for name in logged[kind])}
    assert {name for name in missing if not name.startswith("evaluate/")} <= OF_OTHERS


def test_each_param_is_a_setting_of_the_configuration_page(logged: dict[str, set[str]]) -> None:
    page = (REPO / "docs" / "reference" / "configuration.md").read_text()
    known = {*re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE), *re.findall(r"^## (\w+)$", page, re.MULTILINE)}
    assert {re.sub(r"\.\d+$", "", name) for name in logged["params"]} - known == set()
    assert not {"study", "resume", "tracking.root"} & logged["params"]
