"""The page of a comparison in a real browser: what is drawn, in light and dark, wide and narrow, without a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from attnunet.comparison.page import page
from attnunet.comparison.pairs import Question
from attnunet.comparison.rows import ScoredRun, group_rows
from attnunet.comparison.table import compare_rows
from tests.test_browser import FLAGS

pytestmark = [pytest.mark.slow, pytest.mark.ci]

RUNS, PATIENTS = 6, 12


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models by three losses on twelve patients."""
    rng = np.random.default_rng(0)
    base = rng.beta(5, 2, PATIENTS) * 0.7
    runs = []
    for number in range(RUNS):
        params = {"model": ("conv", "separable")[number % 2], "loss": ("focal", "dice", "focal_dice")[number // 2]}
        scores = base + 0.3 - number * 0.05 + rng.normal(0, 0.02, PATIENTS)
        named = {f"p{place:02}": float(score) for place, score in enumerate(scores)}
        slices = {"val": {key: [1] for key in named}}
        name = "-".join(params.values())
        runs.append(ScoredRun(f"{number:032x}", name, params, "", number + 1.0, False, "data", slices, {"val": named}))
    file = tmp_path_factory.mktemp("page") / "compare.html"
    file.write_text(page(compare_rows(group_rows(runs), "val", Question(resamples=999)), "Dice of six runs", [], [], {}))
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "needs Debian's chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


def marks(shown: object, picture: str, color: str) -> int:
    """How many markers of a colour have a place and a size on the page."""
    return shown.evaluate(  # type: ignore[attr-defined]
        """([picture, color]) => [...document.querySelectorAll(`svg[aria-labelledby="${picture}-caption"] use`)].filter(use =>
            getComputedStyle(use).fill == color && use.getBoundingClientRect().width > 2).length""",
        [picture, color],
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_row_pair_and_patient_is_seen(html: Path, browser: object, scheme: str, tmp_path: Path) -> None:
    shown = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme)  # type: ignore[attr-defined]
    complaints: list[str] = []
    requests: list[str] = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("request", lambda request: requests.append(request.url))
    shown.goto(html.as_uri())
    assert requests == [html.as_uri()]
    assert complaints == []
    orange, blue, green = "rgb(230, 159, 0)", "rgb(86, 180, 233)", "rgb(0, 158, 115)"
    assert marks(shown, "intervals", orange) == RUNS
    assert marks(shown, "time", orange) == RUNS
    assert marks(shown, "patients", blue) == RUNS * PATIENTS
    assert marks(shown, "parameters", blue) == 2 * RUNS
    assert sum(marks(shown, "pairs", color) for color in (green, orange, blue, "rgb(136, 136, 136)")) >= 15 + 1
    assert marks(shown, "pairs", green) > 5  # steps of 0.05 with noise of 0.02
    assert shown.locator(".verdict.better").count() == marks(shown, "pairs", green) - 1  # the legend's

    # The best row's interval lies to the right of the worst one's.
    places = shown.evaluate(
        """color => [...document.querySelectorAll('svg[aria-labelledby="intervals-caption"] use')].filter(use =>
            getComputedStyle(use).fill == color).map(use => [use.getBoundingClientRect().x, use.getBoundingClientRect().y])""",
        orange,
    )
    assert [x for x, _ in places] == sorted((x for x, _ in places), reverse=True)
    assert [y for _, y in places] == sorted(y for _, y in places)

    # Ink stands out from the page, also in the pictures.
    picture = shown.locator("svg[aria-labelledby='intervals-caption']")
    pixels = cv2.imdecode(np.frombuffer(picture.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    background = np.median(pixels)
    assert (background > 200) == (scheme == "light")
    assert (pixels < 100).mean() > 0.001 if scheme == "light" else (pixels > 180).mean() > 0.001
    shown.close()


def test_a_narrow_page_scrolls_in_its_pictures_and_tables_not_as_a_whole(html: Path, browser: object) -> None:
    shown = browser.new_page(viewport={"width": 390, "height": 800})  # type: ignore[attr-defined]
    shown.goto(html.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    wide = shown.evaluate("[...document.querySelectorAll('.wide')].map(box => box.scrollWidth > box.clientWidth)")
    assert len(wide) == 7
    assert any(wide)
    # Text in a picture is as large as it must be to be read.
    heights = shown.evaluate("[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)")
    assert min(heights) > 8
    shown.close()
