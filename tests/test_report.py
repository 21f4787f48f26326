"""What `score_patients` says of patients whose masks and probabilities are made up, and what is printed of it."""

import csv
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import ndimage

from attnunet import figures
from attnunet.data.files import read_csv, write_csv
from attnunet.data.frames import Frame, make_frame
from attnunet.data.slices import Slice
from attnunet.evaluation import pictures, report
from attnunet.evaluation.decision import choose_decision
from attnunet.evaluation.patients import Scores, score_patients
from attnunet.figures.style import format_name
from attnunet.inference.predictor import Volume
from attnunet.metrics import catalog
from attnunet.metrics.calibration import calibration, near_lesions
from attnunet.metrics.decision import Decision
from attnunet.metrics.lesions import match_lesions
from attnunet.metrics.statistics import mean_interval
from attnunet.metrics.surfaces import distances
from tests.volumes import CORNER, EDGE, EMPTY, FULL, PIXEL, SEVERAL


@dataclass
class Patients:
    """Stands for a predictor and for the prepared data set that it sees: patients a, b, ... with truth and probabilities."""

    pairs: Sequence[tuple[np.ndarray, np.ndarray]]
    decision: Decision = field(default_factory=Decision)
    spacing: tuple[float, ...] | None = None
    names: Sequence[str] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
    sites: Sequence[str] = "AB"
    scans: Sequence[str] = ("",) * 40

    def __post_init__(self) -> None:
        self.slices = [
            Slice(name, number, "", "", self.sites[place % 2], ("pre",) if place else (), self.scans[place])
            for place, (name, (truth, _)) in enumerate(zip(self.names, self.pairs, strict=False))
            for number in range(len(truth))
        ]
        self.masks = np.concatenate([truth for truth, _ in self.pairs])

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]

    def frame(self, index: int) -> Frame:
        return make_frame(self.masks[index].shape, self.masks.shape[1])

    def spacing_of(self, index: int) -> tuple[float, ...] | None:
        return self.spacing

    def volumes(self, prepared: "Patients", indices: Sequence[int]) -> Iterator[Volume]:
        assert prepared is self
        start = 0
        for truth, probabilities in self.pairs:
            members = list(range(start, start + len(truth)))
            yield Volume(self.slices[start].volume, members, probabilities)
            start += len(truth)

    def scored(self, part: str = "test", tolerance: float = 1) -> Scores:
        us: Any = self
        return score_patients(us, us, range(len(self.slices)), part, resamples=99, tolerance=tolerance)


def soft(volume: np.ndarray, inside: float = 0.9) -> np.ndarray:
    return np.where(volume, inside, 0.05).astype(np.float32)


PAIRS = [(SEVERAL, soft(EDGE)), (PIXEL, soft(PIXEL | CORNER)), (EDGE, soft(EDGE)), (EMPTY, soft(EMPTY))]


def test_a_row_a_patient_holds_what_the_parts_say_of_it() -> None:
    found = Patients(PAIRS).scored()
    assert [(row["patient"], row["part"], row["site"], row["missing"]) for row in found.rows] == [
        ("a", "test", "A", ""),
        ("b", "test", "B", "pre"),
        ("c", "test", "A", "pre"),
        ("d", "test", "B", "pre"),
    ]
    for row, (truth, probabilities) in zip(found.rows, PAIRS, strict=True):
        prediction = (probabilities > 0.5).astype(np.uint8)
        surfaces = distances(truth, prediction, None)
        expected = {"hd95": surfaces.hd95, "assd": surfaces.assd, "surface_dice": surfaces.surface_dice(1)}
        expected |= {"hd95_worst": surfaces.or_worst(surfaces.hd95), "assd_worst": surfaces.or_worst(surfaces.assd)}
        lesions = match_lesions(truth, prediction)
        expected |= {"unmatched_slices": surfaces.unmatched_slices, "lesions": lesions.reference}
        expected |= {"lesions_found": lesions.found, "lesions_false": lesions.false}
        expected |= {"lesion_recall": lesions.recall, "lesion_precision": lesions.precision, "lesion_f1": lesions.f1}
        expected |= {"tp": (truth & prediction).sum(), "slices": 4, "threshold": 0.5, "smallest_lesion": 0, "fill_holes": 0}
        np.testing.assert_equal({name: row[name] for name in expected}, expected)
    assert all(type(value) in (str, int, float) for row in found.rows for value in row.values())


def test_the_summary_takes_each_mean_over_the_patients_that_have_one() -> None:
    found = Patients(PAIRS).scored()
    names = ("dice", "iou", "sensitivity", "specificity", "precision", "volume_error", "hd95", "assd", "surface_dice")
    names += ("unmatched_slices", "lesions", "lesions_found", "lesions_false")
    names += ("hd95_worst", "assd_worst", "lesion_recall", "lesion_precision", "lesion_f1")
    for name in names:
        values = [float(row[name]) for row in found.rows if not math.isnan(float(row[name]))]
        assert found.summary[name] == pytest.approx(np.mean(values)), name
        assert found.summary[f"{name}_patients"] == len(values), name
    assert found.summary["dice_patients"] == found.summary["hd95_patients"] == 3
    assert found.summary["specificity_patients"] == found.summary["lesions_patients"] == 4


def test_the_decision_is_applied_and_one_half_is_reported_beside_it() -> None:
    pairs = [(SEVERAL, soft(SEVERAL | PIXEL, 0.4)), (EDGE, soft(EDGE, 0.6))]
    found = Patients(pairs, Decision(0.3, 2, True)).scored().summary
    assert (found["threshold"], found["smallest_lesion"], found["fill_holes"]) == (0.3, 2, 1)
    assert found["dice"] == 1  # the pixel was removed
    assert found["dice_at_0.5"] == 0.5  # of the first patient nothing is left, and nothing is removed


def test_distances_are_in_mm_where_the_spacing_is_known() -> None:
    pairs = [(PIXEL, soft(np.roll(PIXEL, 2, axis=2)))]
    assert Patients(pairs).scored().summary["hd95"] == 2
    assert Patients(pairs, spacing=(3, 1, 0.5)).scored().summary["hd95"] == 1
    assert Patients(pairs, spacing=(3, 1, 0.5)).scored(tolerance=1).summary["surface_dice"] == 1
    assert Patients(pairs).scored(tolerance=1).summary["surface_dice"] == 0


@pytest.mark.parametrize(("spacing", "diagonal"), [(None, math.hypot(9, 11)), ((3, 1, 0.5), math.hypot(12, 9, 5.5))])
def test_missing_a_patient_does_not_pay(spacing: tuple[float, ...] | None, diagonal: float) -> None:
    """The mean of defined distances falls when the worst patient is missed altogether; with the worst case it rises."""
    near, far, nothing = soft(np.roll(PIXEL, 1, axis=2)), soft(np.roll(PIXEL, 4, axis=1)), soft(EMPTY)
    step = spacing[2] if spacing else 1
    both = Patients([(PIXEL, near), (PIXEL, far), (EMPTY, nothing)], spacing=spacing).scored().summary
    missed = Patients([(PIXEL, near), (PIXEL, nothing), (EMPTY, nothing)], spacing=spacing).scored().summary
    for name in ("hd95", "assd"):
        assert (both[name], both[f"{name}_patients"]) == ((step + 4) / 2, 2)
        assert (missed[name], missed[f"{name}_patients"]) == (step, 1)
        assert both[f"{name}_worst"] == pytest.approx((step + 4 + 0) / 3)
        assert missed[f"{name}_worst"] == pytest.approx((step + diagonal + 0) / 3)
        assert both[f"{name}_worst_patients"] == missed[f"{name}_worst_patients"] == 3


def test_calibration_is_of_the_pixels_near_lesions_of_all_patients_together() -> None:
    found = Patients(PAIRS).scored()
    truths, maps = np.concatenate([t for t, _ in PAIRS]), np.concatenate([p for _, p in PAIRS])
    region = near_lesions(truths, (maps > 0.5).astype(np.uint8))
    assert 0 < region.sum() < region.size
    assert found.summary["ece"] == found.calibration.ece == pytest.approx(calibration(maps[region], truths[region]).ece)
    assert found.summary["ece_all_pixels"] == pytest.approx(calibration(maps, truths).ece)


@pytest.mark.parametrize("spacing", [None, (3.0, 1.0, 1.0)], ids=["in slices", "in volumes"])
@pytest.mark.parametrize("truth", [EMPTY, FULL, PIXEL, CORNER], ids=["empty", "full", "pixel", "corner"])
@pytest.mark.parametrize("prediction", [EMPTY, FULL, PIXEL, CORNER], ids=["empty", "full", "pixel", "corner"])
def test_no_edge_case_warns_and_nan_stands_only_where_nothing_is_defined(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...] | None
) -> None:
    (row,) = Patients([(truth, soft(prediction))], spacing=spacing).scored().rows
    undefined = {name for name, value in row.items() if isinstance(value, float) and math.isnan(value)}
    meet = spacing is not None or (truth.any(axis=(1, 2)) & prediction.any(axis=(1, 2))).any()
    when = {
        "": False,
        "empty reference": not truth.any(),
        "empty prediction": not prediction.any(),
        "both empty": not truth.any() and not prediction.any(),
        "full reference": truth.all(),
        "no distance": not (truth.any() and prediction.any() and meet),
    }
    assert undefined == {metric.name for metric in catalog.METRICS if when[metric.undefined]}


def test_the_table_says_when_each_score_is_undefined() -> None:
    by_hand = {
        "empty reference": {"sensitivity", "volume_error", "lesion_recall"},
        "empty prediction": {"precision", "lesion_precision"},
        "both empty": {"dice", "iou", "surface_dice", "lesion_f1"},
        "full reference": {"specificity"},
        "no distance": {"hd95", "assd"},
        "": {"tp", "fp", "fn", "tn", "hd95_worst", "assd_worst", "unmatched_slices", "lesions"}
        | {"lesions_found", "lesions_false"},
    }
    for rule, names in by_hand.items():
        assert {catalog.metric(name).undefined for name in names} == {rule}


def printed(found: dict[str, Scores], title: str | None = None) -> str:
    console = Console(file=io.StringIO(), width=100)
    report.print_scores(console, found, title)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_prediction_of_nothing_scores_the_share_of_empty_slices_and_is_called_so() -> None:
    """Of 16 slices 1 + 4 + 4 hold a lesion."""
    pairs = [(truth, soft(EMPTY)) for truth in (PIXEL, SEVERAL, EDGE, EMPTY)]
    found = Patients(pairs).scored()
    assert found.nothing
    assert found.summary["dice"] == found.summary["surface_dice"] == found.summary["lesion_f1"] == 0
    assert found.summary["dice_slice_empty_one"] == found.summary["dice_all_background"] == 7 / 16
    assert math.isnan(found.summary["hd95"])
    assert found.summary["hd95_patients"] == 0
    text = printed({"val": Patients(PAIRS).scored(), "test": found})
    assert "test: no lesion is predicted anywhere, a prediction of nothing" in text
    assert "val: no lesion is predicted" not in text
    assert "nan" in next(line for line in text.splitlines() if "HD95, where defined" in line)
    worst = next(line for line in text.splitlines() if "undefined as the worst" in line)
    assert f"{math.hypot(9, 11) * 3 / 4:.3f}" in worst  # three were missed, of the fourth there was nothing to find


def test_the_table_shows_each_part_and_its_title() -> None:
    found = Patients(PAIRS).scored()
    text = printed({"val": found, "test": found}, "LEAKING split")
    assert "LEAKING" in text
    assert "val (3 patients)" in text
    line = next(line for line in text.splitlines() if "Dice, mean over patients" in line)
    assert line.count(f"{found.summary['dice']:.3f}") == 2
    assert "no lesion is predicted" not in text


def test_groups_of_patients_are_shown_where_there_is_more_than_one() -> None:
    found = Patients(PAIRS).scored()
    text = printed({"test": found})
    by_site = {row["stratum"]: row["dice"] for row in found.strata if row["by"] == "site"}
    assert set(by_site) == {"A", "B"}
    for site, number in (("A", 2), ("B", 1)):
        line = next(line for line in text.splitlines() if f"Dice, site: {site}" in line)
        assert f"{by_site[site]:.3f} ({number})" in line
    assert "site" not in printed({"test": Patients(PAIRS[:1]).scored()})


def test_the_tables_of_a_run() -> None:
    us: Any = Patients([(SEVERAL, soft(SEVERAL)), (PIXEL, soft(PIXEL))])
    predictor, choice, volumes = choose_decision(
        us, us, range(8), thresholds=[0.3, 0.5], smallest_lesions=[0, 5], fill_holes=[False]
    )
    assert predictor.decision == Decision(0.5, 0, False)
    assert [v.name for v in volumes] == ["a", "b"]
    assert [row["chosen"] for row in read_csv(write_csv(choice.rows()))] == ["0", "0", "1", "0"]
    tables = report.tables({"val": us.scored("val"), "test": us.scored()})
    rows = {name: list(csv.DictReader(io.StringIO(text))) for name, text in tables.items()}
    assert [row["patient"] for row in rows["patients.csv"]] == ["a", "b"] * 2
    assert {row["part"] for row in rows["strata.csv"]} == {"val", "test"}
    values = {(row["part"], row["score"]): row["value"] for row in rows["summary.csv"]}
    assert float(values["val", "dice"]) == float(values["test", "dice"]) == 1
    assert values["test", "dice_patients"] == "2.0"
    assert {name for part, name in values if part == "test"} == set(us.scored().summary)


def test_few_values_of_a_summary_are_metrics_and_each_is_known() -> None:
    found = Patients([(SEVERAL, soft(SEVERAL))]).scored()
    metrics = found.metrics("final/test")
    assert set(metrics) == {f"final/test/{name}" for name in catalog.LOGGED}
    assert len(metrics) == 16
    assert metrics["final/test/dice_pooled"] == 1


AWKWARD = ["=1+1", "-2", "+x", "@y", "'q", "'=q", "a,b", 'a"b', "a\nb", "a\r\nb", "\t=z", "", "  ", "'-0.5", "0x1F", "张伟"]


def test_patients_come_back_as_they_were_named_and_their_scores_as_numbers() -> None:
    us: Any = Patients([(PIXEL, soft(EMPTY))] * len(AWKWARD), names=AWKWARD, sites=("=cmd()", "[b]"))
    tables = report.tables({"test": us.scored()})
    rows = read_csv(tables["patients.csv"])
    assert [row["patient"] for row in rows] == sorted(AWKWARD)
    assert [float(row["volume_error"]) for row in rows] == [-1.0] * len(AWKWARD)
    assert {row["stratum"] for row in read_csv(tables["strata.csv"]) if row["by"] == "site"} == {"=cmd()", "[b]"}
    # To a spreadsheet, the numbers are numbers and no text is a formula.
    cells = [cell for row in csv.reader(io.StringIO(tables["patients.csv"], newline="")) for cell in row]
    assert {"-1.0", "-2"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "\t"))]


def test_groups_are_shown_under_the_names_that_the_data_give_them() -> None:
    text = printed({"test": Patients(PAIRS, sites=("a[/b]", ":brain: [x]")).scored()})
    assert "Dice, site: a[/b]" in text
    assert "Dice, site: :brain: [x]" in text


@pytest.mark.parametrize("name", ["$a$", "_x^{张伟\ncaf\udce9", "W" * 255])
def test_a_patient_of_any_name_is_drawn(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pictures, "gate_maps", lambda network: None)
    us: Any = Patients([(PIXEL, soft(PIXEL))], names=[name])
    us.network, us.inputs, us.channels = None, np.zeros((4, 9, 11, 1), np.uint8).__getitem__, ["flair"]
    us.lesion_pixels = us.masks.sum(axis=(1, 2))
    drawn = pictures.draw_scores(us, us, range(4), us.scored())
    assert set(drawn) == {"patients", "reliability", "predictions"}
    figures.save_figures(drawn, tmp_path)
    title = drawn["predictions"].axes[0].get_title()
    assert title == f"{format_name(f'worst: {name}', 1.96)}\nslice 1, Dice of the patient 1.000"


def test_pictures_are_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor of nothing on patients without lesions has no Dice and no pixel near one."""
    monkeypatch.setattr(pictures, "gate_maps", lambda network: None)
    us: Any = Patients([(EMPTY, soft(EMPTY))] * 2)
    us.network = None
    assert pictures.draw_scores(us, us, range(8), us.scored()) == {}


def blobs(rng: np.random.Generator, shape: tuple[int, int, int], share: float) -> np.ndarray:
    """A smooth random field (D, h, w) that is above 0 in a share of the voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (1, 12, 12))
    return (field - np.quantile(field, 1 - share)) / field.std()


def ragged(patients: int, slices: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Lesions on a third of the slices, and probabilities that know them through noise."""
    rng = np.random.default_rng(0)
    for patient in range(patients):
        depth = slices // patients + (patient < slices % patients)
        truth = blobs(rng, (depth, 256, 256), 0.02)
        truth[: depth // 3] = truth[depth - depth // 3 :] = -1
        noise = ndimage.gaussian_filter(rng.standard_normal(truth.shape, dtype=np.float32), (0, 2, 2)) * 2
        yield (truth > 0).astype(np.uint8), (1 / (1 + np.exp(-3 * truth - noise))).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spacing", [None, pytest.param((3.0, 1.0, 1.0), marks=pytest.mark.ci)], ids=["in slices", "in volumes"]
)
def test_all_scores_of_thirty_patients_take_less_than_a_minute(spacing: tuple[float, ...] | None) -> None:
    """1,100 slices at 256x256, on 2 cores, beyond the network's own time; 8 and 13 seconds were measured."""
    patients = Patients(list(ragged(30, 1100)), Decision(0.5, 30, True), spacing)
    assert len(patients.slices) == 1100
    started = time.perf_counter()
    found = patients.scored(tolerance=2)
    seconds = time.perf_counter() - started
    assert found.summary["hd95_patients"] == 30
    assert found.summary["lesions"] > 10
    assert seconds < 60


def test_each_scan_has_a_row_and_the_interval_is_over_patients() -> None:
    scanned = Patients(PAIRS[:3], names="aab", scans=("1", "2", ""), sites="AA").scored()
    apart = Patients(PAIRS[:3], names="abc", sites="AA").scored()
    assert [(row["patient"], row["scan"]) for row in scanned.rows] == [("a", "1"), ("a", "2"), ("b", "")]
    assert [row["dice"] for row in scanned.rows] == [row["dice"] for row in apart.rows]
    assert scanned.summary["dice"] == apart.summary["dice"]
    assert (scanned.summary["dice_patients"], apart.summary["dice_patients"]) == (2, 3)
    assert [(row["patients"], row["dice_patients"]) for row in scanned.strata if row["by"] == "site"] == [(2, 2)]
    told = "test: a patient has several scans; each mean is over scans"
    for found in (scanned, apart):
        console = Console(file=io.StringIO(), width=120)
        report.print_scores(console, {"test": found})
        printed = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
        assert ("test (2 patients)" in printed, told in printed) == (found is scanned, found is scanned)
    values = np.array([row["dice"] for row in apart.rows], float)
    expected = mean_interval(values, 99, clusters=np.array(["a", "a", "b"]))
    assert (scanned.summary["dice_ci_low"], scanned.summary["dice_ci_high"]) == expected
    assert expected != mean_interval(values, 99)
