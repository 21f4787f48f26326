"""MLflow's page in a real browser: a sweep's runs are found, nest and compare; a chart's points, a picture's pixels.

Screenshots are left below pytest's folder, `browser*/`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from mlflow.entities import Run
from playwright.sync_api import Page, sync_playwright

from tests.serving import free_port, serving
from tests.test_long_sweeps import UNTRAINED
from tests.test_train import SMOKE, Started, start

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(1200)]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> Started:
    """Two finished smoke runs."""
    swept = start(tmp_path_factory.mktemp("browser"), lgg_root, "-m", "model=conv,separable", "study=seen")
    assert swept.result.returncode == 0, swept.result.stderr
    return swept


SIX = UNTRAINED.replace("cfg.seed / 100", "cfg.loss.weights.dice / 2 + cfg.optimizer.learning_rate")


@pytest.fixture(scope="module")
def printed(sweep: Started, lgg_root: Path) -> str:
    """The address that a sweep of six jobs prints, in the same store. Its jobs train nothing and have known scores."""
    (sweep.folder / "mixes.py").write_text(SIX)
    swept = ("loss.weights.dice=0.25,0.5,1", "optimizer.learning_rate=0.001,0.003")
    arguments = ["-m", *(a.format(root=lgg_root) for a in SMOKE), "study=mixes", *swept]
    made = subprocess.run(
        [sys.executable, "mixes.py", *arguments], cwd=sweep.folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return next(line.strip() for line in made.stdout.splitlines() if line.startswith("          http://127.0.0.1:5000/"))


@pytest.fixture(scope="module")
def runs(sweep: Started) -> dict[str, Run]:
    """The parent and the two jobs, by name."""
    (parent,) = (run for run in sweep.runs if run.info.run_name == "sweep model=conv,separable")
    jobs = [run for run in sweep.jobs if run.info.experiment_id == parent.info.experiment_id]
    return {"parent": parent, **{run.data.params["model"]: run for run in jobs}}


@dataclass(frozen=True)
class Browser:
    """A page of the browser, on MLflow at `address`."""

    page: Page
    address: str

    def show(self, place: str) -> Page:
        self.page.goto("about:blank")  # else another place of the same page would load nothing anew
        self.page.goto(f"{self.address}/#/{place}")
        return self.page


@pytest.fixture(scope="module")
def browser(sweep: Started) -> Iterator[Browser]:
    """On the sweep's store, served as users do it."""
    chromium = shutil.which("chromium")
    assert chromium, "needs Debian's chromium"
    port = free_port()
    command = [sys.executable, "-m", "attnunet.store", "ui", str(sweep.folder / "mlruns"), "--port", str(port)]
    with serving(command, port, sweep.folder / "ui.log") as address, sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = started.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE)
        yield Browser(page, address)
        started.close()


def cells(page: Page, row: str) -> list[str]:
    """The name, the score and the swept keys of a row of the table of "mixes"."""
    columns = (
        "attributes.`Run Name`",
        "metrics.`final/monitor`",
        "params.`loss.weights.dice`",
        "params.`optimizer.learning_rate`",
    )
    return [page.locator(f".ag-row[{row}] [col-id='{column}']").first.inner_text() for column in columns]


def test_the_printed_address_shows_which_of_six_runs_is_best_and_by_what(
    browser: Browser, printed: str, sweep: Started
) -> None:
    """Without a click: the runs stand in the order of their score, beside the swept keys."""
    page = browser.show(printed.partition("/#/")[2])
    page.locator(".ag-row[row-index='5'] [col-id='params.`optimizer.learning_rate`']").wait_for()
    page.screenshot(path=sweep.folder / "mixes.png")
    expected = sorted(((d / 2 + r, d, r) for d in (0.25, 0.5, 1) for r in (0.001, 0.003)), reverse=True)
    for index, (score, dice, rate) in enumerate(expected):
        name, *values = cells(page, f"row-index='{index}'")
        assert values == [f"{score:.3f}", f"{dice:g}", f"{rate:g}"]
        assert f"dice={dice:g} learning_rate={rate:g} separable-focal_dice-" in name
    right = page.locator(".ag-header-cell[col-id='params.`loss.weights.dice`']").bounding_box()
    assert right is not None
    assert right["x"] + right["width"] < 1200  # MLflow's assistant takes the rest of the 1600 pixels

    # One click takes the filter away. Then the parent stands among its jobs, with their best score and all values.
    page.get_by_test_id("clear-button").click()
    (parent,) = (run for run in sweep.runs if run.info.run_name.startswith("sweep dice="))
    row = f"row-id='{parent.info.run_id}'"
    page.locator(f".ag-row[{row}]").first.wait_for()
    name, *values = cells(page, row)
    assert "sweep dice=0.25,0.5,1 learning_rate=0.001,0.003" in name
    assert values == ["0.503", "0.25,0.5,1", "0.001,0.003"]
    page.screenshot(path=sweep.folder / "mixes_parent.png")


def test_two_clicks_lead_from_mlflows_own_view_to_the_table_and_to_what_the_best_run_was(
    browser: Browser, printed: str, sweep: Started
) -> None:
    page = browser.show(printed.partition("/#/")[2].partition("?")[0])
    page.get_by_text("sweep dice=").first.wait_for()  # the parent alone, without a score
    with page.expect_popup() as opened:
        page.get_by_role("link", name="All trainings, the best first").click()
    table = opened.value
    table.locator(".ag-row[row-index='0'] a").first.click()
    table.get_by_text("Lesions of lgg (train 8 patients, val 2 patients, test 2 patients").wait_for()
    table.screenshot(path=sweep.folder / "best.png")
    table.close()


def test_the_jobs_of_a_sweep_nest_below_it(browser: Browser, runs: dict[str, Run], sweep: Started) -> None:
    page = browser.show(f"experiments/{runs['parent'].info.experiment_id}/runs")
    rows = {name: page.locator(f".ag-row[row-id='{run.info.run_id}']") for name, run in runs.items()}
    rows["parent"].first.wait_for()
    assert rows["conv"].count() == rows["separable"].count() == 0
    rows["parent"].get_by_role("gridcell").filter(has_text="sweep model=conv,separable").get_by_role("button").first.click()
    for model in ("conv", "separable"):
        rows[model].first.wait_for()
        assert f"{model}-focal_dice-patient-32-seed0" in rows[model].first.inner_text()
    page.screenshot(path=sweep.folder / "runs.png")


def test_runs_are_found_by_what_the_command_line_said(browser: Browser, runs: dict[str, Run], sweep: Started) -> None:
    condition = quote("params.model = 'conv' and params.`loss.weights.dice` = '1.0'")
    page = browser.show(f"experiments/{runs['parent'].info.experiment_id}/runs?searchFilter={condition}")
    page.locator(f".ag-row[row-id='{runs['conv'].info.run_id}']").first.wait_for()
    found = {row.get_attribute("row-id") for row in page.locator(".ag-row").all()}
    assert found == {runs["conv"].info.run_id, runs["parent"].info.run_id}  # below its parent
    page.screenshot(path=sweep.folder / "found.png")


def test_comparing_runs_shows_what_differs(browser: Browser, runs: dict[str, Run], sweep: Started) -> None:
    ids = [runs[model].info.run_id for model in ("conv", "separable")]
    page = browser.show(f"compare-runs?runs={json.dumps(ids)}&experiments={json.dumps([runs['conv'].info.experiment_id])}")
    parameters = page.locator("table").filter(has_text="loss.weights.dice").first
    parameters.wait_for()
    page.get_by_text("Show diff only").first.click()
    parameters.wait_for(state="detached")
    page.screenshot(path=sweep.folder / "compare.png", full_page=True)
    differing = [t for t in page.locator("table").all_inner_texts() if t.split()[:1] == ["model"]]
    assert [text.split() for text in differing] == [["model", "conv", "separable"]]


def test_a_metrics_chart_has_its_points(browser: Browser, runs: dict[str, Run], sweep: Started) -> None:
    run = runs["conv"]
    page = browser.show(f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("train/loss")
    chart = page.locator(".js-plotly-plot")
    chart.locator(".point").nth(1).wait_for()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length == 1")  # those of other metrics are gone
    x, y = chart.evaluate("plot => [Array.from(plot.data[0].x), Array.from(plot.data[0].y)]")
    logged = sweep.client.get_metric_history(run.info.run_id, "train/loss")
    assert list(zip(x, y, strict=True)) == [(m.step, pytest.approx(m.value)) for m in logged]
    marks = [mark.bounding_box() for mark in chart.locator(".point").all()]
    assert len(marks) == len(logged) == 2
    # Drawn where they belong: the second epoch to the right, its lower loss below.
    assert marks[0]["x"] < marks[1]["x"]
    assert (marks[0]["y"] < marks[1]["y"]) == (logged[1].value < logged[0].value)
    page.screenshot(path=sweep.folder / "chart.png")


def test_a_picture_has_its_pixels(browser: Browser, runs: dict[str, Run], sweep: Started) -> None:
    run = runs["conv"]
    page = browser.show(f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/figures/predictions.png")
    shown = page.locator("img[src^='blob:']").first
    shown.wait_for()
    page.wait_for_function("[...document.images].some(i => i.src.startsWith('blob:') && i.complete && i.naturalWidth > 100)")
    pixels = np.frombuffer(shown.screenshot(), np.uint8)
    page.screenshot(path=sweep.folder / "picture.png")
    picture = cv2.imdecode(pixels, cv2.IMREAD_COLOR)
    logged = cv2.imread(str(Path(run.info.artifact_uri.removeprefix("file://")) / "figures" / "predictions.png"))
    assert picture.shape[0] > 100
    # What is drawn on the page is what was logged, at the page's size.
    small = cv2.resize(logged, picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(picture.ravel(), small.ravel())[0, 1] > 0.9
