"""The page of `attnunet-demo` in a real browser: uploads, the pictures, the threshold, the download, and a bad upload.

Screenshots are left below pytest's folder, `demo*/`.
"""

import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from attnunet.figures.style import PREDICTION
from tests.conftest import command, write_patient
from tests.serving import free_port, serving
from tests.test_browser import FLAGS, PATIENCE
from tests.test_page import make_predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(600),
    # Keras 3.15 saves its variables through an __array__ of TensorFlow's that NumPy 2 warns of.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the slices and masks of a patient whom the network does not know."""
    return write_patient(tmp_path_factory.mktemp("demo"), "TCGA_CS_5000_20000101", seed=50)


@pytest.fixture(scope="module")
def network(scan: Path) -> Path:
    """A folder with a network that marks about half of the scan."""
    predictor = make_predictor({file.name: file.read_bytes() for file in scan.iterdir()})
    assert 0.2 < predictor.decision.threshold < 0.8
    predictor.save(scan.parent / "network")
    return scan.parent / "network"


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page may write temporary files."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def page(network: Path, uploads: Path) -> Iterator[Page]:
    """The page of the network. It asks for nothing from elsewhere, and no traceback is in its log."""
    chromium = shutil.which("chromium")
    assert chromium, "needs Debian's chromium"
    port = free_port()
    own = [sys.executable, "-m", "attnunet.demo", str(network), "--port", str(port), "--upload", "1"]
    log = network.parent / "demo.log"
    foreign: list[str] = []
    with (
        serving(own, port, log, {"TMPDIR": str(uploads)}, "_stcore/health") as address,
        sync_playwright() as playwright,
    ):
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        opened = started.new_page(viewport={"width": 1500, "height": 950})
        opened.set_default_timeout(PATIENCE)
        opened.on("request", lambda request: foreign.append(request.url) if not request.url.startswith(address) else None)
        opened.goto(address)
        yield opened
        started.close()
    assert [url for url in foreign if not url.startswith(("data:", "blob:"))] == []
    assert "Traceback" not in log.read_text()


def upload(page: Page, kind: str, *paths: Path) -> None:
    page.get_by_test_id("stRadio").filter(has_text="Images").get_by_text(kind, exact=True).click()
    accepting = "[webkitdirectory]" if kind == "Folder" else ":not([webkitdirectory])"
    page.get_by_test_id("stFileUploader").locator(f"input{accepting}").set_input_files(paths)


def settled(page: Page) -> None:
    """Wait until the page has drawn its answer."""
    page.locator("[data-testid='stApp'][data-test-script-state='notRunning']").wait_for()


def picture(page: Page, name: str) -> np.ndarray:
    """Return the pixels of a picture, red, green, blue, as the browser shows them."""
    settled(page)
    shown = page.get_by_test_id("stImage").filter(has_text=name).locator("img")
    shown.wait_for()
    return cv2.imdecode(np.frombuffer(shown.screenshot(), np.uint8), cv2.IMREAD_COLOR_RGB)


def outlined(pixels: np.ndarray) -> int:
    """Return the number of pixels in the colour of the outline."""
    color = [int(PREDICTION[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(pixels.astype(int) - color).max(axis=-1) < 12).sum())


def slider(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stSlider").filter(has_text=name).get_by_role("slider")


def downloaded(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the mask").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def predicted(network: Path, scan: Path, output: Path) -> dict[str, bytes]:
    """Return the files that `attnunet.predict` writes, by their path."""
    result = command(f"run={network}", f"input={scan}", f"output={output}", cwd=network.parent, name="predict")
    assert result.returncode == 0, result.stderr
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*.tif")}


def test_a_phantom_is_there_from_the_start(page: Page, scan: Path) -> None:
    assert picture(page, "prediction").shape[0] > 200
    page.screenshot(path=scan.parent / "phantom.png")


def test_uploaded_slices_are_segmented_and_the_download_is_what_predict_writes(
    page: Page, network: Path, scan: Path, uploads: Path, tmp_path: Path
) -> None:
    upload(page, "Files", *sorted(scan.iterdir()))
    page.get_by_text("left out: 6 file(s) that match ignore").wait_for()
    image, prediction = picture(page, "image"), picture(page, "prediction")
    assert image.shape == prediction.shape
    assert outlined(image) == 0
    page.screenshot(path=scan.parent / "upload.png")
    assert not list(uploads.glob("attnunet-*"))
    with zipfile.ZipFile(downloaded(page, tmp_path)) as stream:
        found = {name: stream.read(name) for name in stream.namelist()}
    assert found == predicted(network, scan, tmp_path / "masks")

    # The outline moves with the threshold: at 0 it runs around the slice, at 1 there is none.
    slider(page, "Threshold").press("Home")
    page.get_by_text("6,144 voxels in 1 part(s), on 6 of 6 slices").wait_for()
    everything = picture(page, "prediction")
    assert outlined(everything) > sum(everything.shape[:2])
    assert outlined(everything) != outlined(prediction) > 0
    slider(page, "Threshold").press("End")
    page.get_by_text("0 voxels in 0 part(s), on 0 of 6 slices").wait_for()
    assert outlined(picture(page, "prediction")) == 0


def test_an_uploaded_folder_is_segmented(page: Page, scan: Path) -> None:
    upload(page, "Folder", scan)
    page.get_by_text("left out: 6 file(s) that match ignore").wait_for()
    shown = page.get_by_test_id("stImage").filter(has_text="image").locator("img")
    first = shown.get_attribute("src") or ""
    slider(page, "Slice").press("End")
    expect(shown).not_to_have_attribute("src", first)
    page.get_by_text("Attention gates").first.click()
    page.get_by_test_id("stImage").filter(has_text="gate_0").wait_for()
    page.screenshot(path=scan.parent / "folder.png")


def test_a_bad_upload_gets_a_sentence(page: Page, scan: Path, tmp_path: Path) -> None:
    page.reload()
    (tmp_path / "[x](y) $z$.tif").write_text("text")
    upload(page, "Files", tmp_path / "[x](y) $z$.tif")
    page.get_by_text("[x](y) $z$.tif: cannot be decoded; it is no TIFF, PNG or JPEG file").wait_for()
    page.screenshot(path=scan.parent / "bad.png")
    page.reload()
    (tmp_path / "large.npy").write_bytes(bytes(1_100_000))
    upload(page, "Files", tmp_path / "large.npy")
    page.get_by_text("must be 1.0MB or smaller").wait_for()
