"""The table of metrics: a metric that is added to it comes out everywhere, and every entry is whole."""

import io
import runpy
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console

from attnunet import config
from attnunet.comparison.pairs import Question
from attnunet.comparison.patients import find_lack, read_patients
from attnunet.config import checks, schema
from attnunet.data.files import read_csv, write_csv
from attnunet.evaluation import report
from attnunet.figures.comparison import draw_all
from attnunet.metrics import catalog
from attnunet.metrics.catalog import Metric
from attnunet.tracking.store import Store, local_path
from tests.test_comparison import table
from tests.test_cross_validation import fold, join, joined
from tests.test_report import Patients, soft
from tests.volumes import CORNER, EMPTY, PIXEL, SEVERAL

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / ".ci" / "scores.py"))
RENDER, PAGE = SCRIPT["render"], SCRIPT["PAGE"]
DEPTH = Metric(
    name="depth_error",
    label="depth error",
    compute=lambda masks: int(masks.prediction.any(axis=(1, 2)).sum()) - int(masks.reference.any(axis=(1, 2)).sum()),
    meaning="the predicted slices with lesion less those of the reference",
    unit="slices",
    better=-1,
    undefined="",
    source="",
    printed="depth error, slices",
)
PAIRS = [(SEVERAL, soft(PIXEL)), (PIXEL, soft(PIXEL | CORNER)), (EMPTY, soft(EMPTY))]
ERRORS = [-3, 1, 0]  # 1 slice instead of 4, 2 instead of 1, none instead of none


@pytest.fixture
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put one more metric into the table."""
    monkeypatch.setattr(catalog, "METRICS", (*catalog.METRICS, DEPTH))


@pytest.mark.usefixtures("_added")
def test_an_added_metric_is_scored_summarized_and_printed() -> None:
    found = Patients(PAIRS).scored()
    patients = read_csv(report.tables({"test": found})["patients.csv"])
    assert [int(row["depth_error"]) for row in patients] == ERRORS
    assert found.summary["depth_error"] == pytest.approx(-2 / 3)
    assert found.summary["depth_error_patients"] == 3
    console = Console(file=io.StringIO(), width=100)
    report.print_scores(console, {"test": found})
    (line,) = [line for line in console.file.getvalue().splitlines() if "depth error, slices" in line]  # type: ignore[attr-defined]
    assert "-0.667" in line


@pytest.mark.usefixtures("_added")
def test_an_added_metric_is_compared() -> None:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        checks.check_keys(compose("compare", ["study=any", "score=depth_error"]), schema.Compare)
    rows = [{"patient": name, "depth_error": str(error)} for name, error in zip("abc", ERRORS, strict=True)]
    assert find_lack(rows, "depth_error") == ""
    assert read_patients(rows, "depth_error") == ({"a": 3, "b": 1, "c": 0}, frozenset())
    assert Question("depth_error").sign == -1
    picture = draw_all(table(np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), score="depth_error"))["intervals"]
    assert "depth error (slices): mean over patients" in picture


@pytest.mark.usefixtures("_added")
def test_an_added_metric_is_joined_over_folds(tmp_path: Path) -> None:
    store = Store(tmp_path / "mlruns", None, 0)
    for number, tested in enumerate(("ac", "bd")):
        run = store.client.get_run(fold(store, number, tested))
        table = Path(local_path(run.info.artifact_uri)) / "patients.csv"
        table.write_text(write_csv({**row, "depth_error": 5 * number - 1} for row in read_csv(table.read_text())))
    join(store)
    (result,) = joined(store)
    assert result.summary("test")["depth_error"] == 1.5  # -1 for two patients, 4 for two
    assert result.summary("test")["depth_error_patients"] == 4
    assert [row["depth_error"] for row in result.patients("test")] == ["-1", "4", "-1", "4"]


@pytest.mark.usefixtures("_added")
def test_an_added_metric_makes_the_documentation_stale() -> None:
    page = RENDER(PAGE.read_text())
    assert "| `depth_error` | the predicted slices with lesion less those of the reference | slices | nearer to 0 |" in page
    assert page != PAGE.read_text()


def test_the_documentation_shows_the_table_as_it_is() -> None:
    assert RENDER(PAGE.read_text()) == PAGE.read_text(), "run: python .ci/scores.py"


@pytest.mark.parametrize("field", ["name", "label", "compute", "meaning", "unit", "better", "undefined", "source"])
def test_an_entry_that_lacks_a_field_is_refused(field: str) -> None:
    entry = {name: value for name, value in vars(DEPTH).items() if name != field}
    with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{field}'"):
        Metric(**entry)


def test_entries_refer_to_each_other() -> None:
    names = [metric.name for metric in catalog.METRICS]
    assert len(set(names)) == len(names)
    worst = {metric.name: catalog.metric(metric.worst) for metric in catalog.METRICS if metric.undefined == "no distance"}
    assert {"hd95": "hd95_worst", "assd": "assd_worst"}.items() <= {name: other.name for name, other in worst.items()}.items()
    assert {other.undefined for other in worst.values()} == {""}
    assert {metric.name for metric in catalog.METRICS if metric.worst} == set(worst)
    assert {statistic.metric for statistic in catalog.STATISTICS} - {""} <= set(names)
