"""MLflow's page in a real browser: the runs, their columns, a picture's pixels."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import command

pytestmark = [pytest.mark.slow, pytest.mark.ci]

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> Path:
    """Where a sweep of two smoke runs was made."""
    folder = tmp_path_factory.mktemp("browser")
    overrides = ("trainer=smoke", "data=lgg", f"data.root={lgg_root}", "study=seen", "evaluation.batch_size=8")
    result = command("-m", "model=conv,separable", *overrides, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[str]:
    """The address of `mlflow ui` on that store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mlflow = Path(sys.executable).with_name("mlflow")
    store = f"sqlite:///{folder}/mlruns/mlflow.db"
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    arguments = [str(mlflow), "ui", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_the_page_shows_the_runs_of_a_sweep_with_their_columns_and_pictures(ui: str, folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "needs Debian's chromium"
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("seen")
    runs = client.search_runs([experiment.experiment_id])
    runs = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.data.params["model"] for run in runs) == ["conv", "separable"]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"{ui}/#/experiments/{experiment.experiment_id}/runs")
        for run in runs:
            page.get_by_text(run.info.run_name).first.wait_for(timeout=60_000)
        page.screenshot(path=folder / "runs.png")

        page.goto(f"{ui}/#/experiments/{experiment.experiment_id}/runs/{runs[0].info.run_id}")
        page.get_by_text("final/val/dice", exact=True).first.wait_for(timeout=60_000)
        page.get_by_text("loss.weights.dice", exact=True).first.wait_for(timeout=60_000)
        page.screenshot(path=folder / "run.png")

        page.goto(
            f"{ui}/#/experiments/{experiment.experiment_id}/runs/{runs[0].info.run_id}/artifacts/figures/predictions.png"
        )
        shown = page.locator("img[src^='blob:'], img[src*='predictions']").first
        shown.wait_for(timeout=60_000)
        page.wait_for_timeout(1000)
        pixels = np.frombuffer(shown.screenshot(), np.uint8)
        page.screenshot(path=folder / "picture.png")
        browser.close()

    picture = cv2.imdecode(pixels, cv2.IMREAD_COLOR)
    logged = cv2.imread(str(Path(runs[0].info.artifact_uri.removeprefix("file://")) / "figures" / "predictions.png"))
    assert picture.shape[0] > 100
    # What is drawn on the page is what was logged, at the page's size.
    small = cv2.resize(logged, picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(picture.ravel(), small.ravel())[0, 1] > 0.8
