"""What the figures draw, read back from matplotlib's objects, and the files they are saved in."""

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from attnunet import figures
from attnunet.figures import Example
from attnunet.figures.style import DPI, PREDICTION, THIRD, TRUTH, contour, format_name
from attnunet.figures.style import labels as tick_labels
from attnunet.metrics.calibration import Calibration, calibration
from attnunet.metrics.decision import Choice, Decision, Trial

SIZE = 24
EMPTY, FULL = np.zeros((SIZE, SIZE), np.uint8), np.ones((SIZE, SIZE), np.uint8)
DISC = cv2.circle(EMPTY.copy(), (10, 8), 5, 1, -1)
SHIFTED = np.roll(DISC, 3, axis=0)
PIXEL = cv2.circle(EMPTY.copy(), (0, 0), 0, 1, -1)  # in a corner
LONG = "W" * 200
UUID = "123e4567-e89b-12d3-a456-426614174000"
AWKWARD = [
    "$a$",
    "$5 and $6",
    "_x^{",
    "<script>",
    "a\nb",
    "\x1b[31m",
    "a\\b",
    "张伟",
    "李娜",
    "محمد",
    "Ωμέγα",
    "caf\udce9",
    "é",
    UUID,
]
AWKWARD += [LONG + "1", LONG + "2", "1" + LONG]
HISTORY = [
    {"train/loss": 1 / e, "val/loss": 2 / e, "val/dice": 0.2 * e, "val/dice_at_0.5": 0.15 * e, "val/iou": 0.1 * e, "more": 7.0}
    for e in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("TCGA_CS_4941_19960909", "TCGA_CS_4941_19960909"),
        ("Ωμέγα é محمد", "Ωμέγα é محمد"),
        ("$a$", r"\$a\$"),  # which matplotlib shows as $a$
        ("张伟", r"\u5f20\u4f1f"),
        ("p\U0001f9e0", r"p\U0001f9e0"),
        ("a\nb\tc\x1b", r"a\nb\tc\x1b"),
        ("caf\udce9", r"caf\udce9"),  # a byte that is no UTF-8
        (r"\u5f20", r"\\u5f20"),  # not the same as 张
        ("", ""),
    ],
)
def test_a_name_is_printed_in_characters_that_a_figure_can_draw(name: str, shown: str) -> None:
    assert format_name(name, width=7) == shown


@pytest.mark.parametrize("name", [LONG, "i" * 200, "张" * 50, "$" * 200, UUID * 3])
def test_of_a_long_name_the_middle_is_left_out(name: str) -> None:
    whole, shown = format_name(name, width=1000), format_name(name, width=1.5, size=10)
    start, _, end = shown.partition("…")
    assert whole.startswith(start)
    assert whole.endswith(end)
    assert abs(len(start) - len(end)) <= 2
    assert 1 < TextPath((0, 0), shown, size=10).get_extents().x1 / 72 <= 1.5


def test_names_that_look_alike_when_they_are_cut_get_their_places() -> None:
    first, second, third = tick_labels([f"{LONG}1{LONG}", "p1", f"{LONG}2{LONG}"], width=1.5)
    assert first == third.replace("(3)", "(1)")
    assert first.endswith("W (1)")
    assert second == "p1"


def example(truth: np.ndarray = DISC, prediction: np.ndarray = SHIFTED, gates: int = 0, title: str = "worst: p1") -> Example:
    image = np.random.default_rng(0).integers(0, 200, truth.shape, dtype=np.uint8)
    weights = {f"gate_{level}_map": np.where(truth, 0.9, 0.1 * level).astype(np.float32) for level in range(gates)}
    return Example(title, image, truth, prediction, weights)


def contours(axes: Axes) -> list[ContourSet]:
    return [child for child in axes.collections if isinstance(child, ContourSet)]


def colors(axes: Axes) -> list[tuple[float, float, float]]:
    return [to_rgb(drawn.get_edgecolor()[0]) for drawn in contours(axes)]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("truth", "prediction", "drawn"),
    [
        (DISC, SHIFTED, [TRUTH, PREDICTION]),
        (DISC, EMPTY, [TRUTH]),
        (EMPTY, SHIFTED, [PREDICTION]),
        (EMPTY, EMPTY, []),
        (FULL, FULL, [TRUTH, PREDICTION]),
        (PIXEL, DISC, [TRUTH, PREDICTION]),
    ],
)
def test_predictions_outline_truth_and_prediction(truth: np.ndarray, prediction: np.ndarray, drawn: list[str]) -> None:
    shown = example(truth, prediction)
    figure = figures.predictions([shown])
    plain, both = figure.axes
    assert plain.get_title() == "worst: p1"
    assert contours(plain) == []
    assert colors(both) == [to_rgb(color) for color in drawn]
    for axes in (plain, both):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), shown.image)
        assert image.get_clim() == (0, 255)  # not stretched to what the slice happens to hold
        assert axes.get_xlim() == (-0.5, SIZE - 0.5)  # the whole slice, nothing around it
        assert axes.get_ylim() == (SIZE - 0.5, -0.5)  # the first row on top
        assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0
    assert labels(figure) == ["truth", "prediction"]  # also of what is not there, so that its absence can be seen


def test_truth_and_prediction_differ_in_more_than_colour() -> None:
    truth, prediction = contours(figures.predictions([example()]).axes[1])
    assert truth.get_linestyle() != prediction.get_linestyle()


def test_predictions_has_a_row_an_example() -> None:
    titles = ("worst: p1", "median: p2", "best: p3")
    figure = figures.predictions([example(title=title) for title in titles])
    assert [axes.get_title() for axes in figure.axes] == ["worst: p1", "", "median: p2", "", "best: p3", ""]


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (DISC, (4.5, 2.5, 15.5, 13.5)),
        (FULL, (-0.5, -0.5, SIZE - 0.5, SIZE - 0.5)),
        (PIXEL, (-0.5, -0.5, 0.5, 0.5)),
    ],
    ids=["disc", "full", "pixel"],
)
def test_a_contour_runs_between_the_pixels(mask: np.ndarray, box: tuple[float, ...]) -> None:
    """Around the lesion's outermost pixel centres, half a pixel further out, also on the image's edge."""
    axes = Figure().subplots()
    contour(axes, mask, TRUTH, "solid")
    (path,) = contours(axes)[0].get_paths()
    assert (*path.vertices.min(axis=0), *path.vertices.max(axis=0)) == box


def test_gate_maps_overlay_each_gate_and_say_where_its_mass_lies() -> None:
    truth = EMPTY.copy()
    truth[:6, :6] = 1  # 36 of 576 pixels
    figure = figures.gate_maps([example(truth, gates=2), example(EMPTY, gates=2, title="best: p2")])
    *grid, bar = figure.axes
    assert len(grid) == 4
    assert grid[0].get_title() == "gate_0: 100.0% in lesion"
    assert grid[1].get_title() == f"gate_1: {36 * 0.9 / (36 * 0.9 + 540 * 0.1):.1%} in lesion"
    assert grid[0].get_ylabel() == "worst: p1\nlesion: 6.2% of the slice"
    assert grid[1].get_ylabel() == ""
    assert grid[3].get_title() == "gate_1: 0.0% in lesion"
    assert grid[2].get_ylabel() == "best: p2\nlesion: 0.0% of the slice"
    assert [colors(axes) for axes in grid] == [[to_rgb(TRUTH)]] * 2 + [[]] * 2
    for level, axes in enumerate(grid[:2]):
        image, weights = axes.images
        np.testing.assert_array_equal(image.get_array(), example(truth).image)
        np.testing.assert_allclose(weights.get_array(), np.where(truth, 0.9, 0.1 * level), rtol=1e-6)
        assert weights.get_clim() == (0, 1)  # one scale, so that gates can be compared
        assert 0 < weights.get_alpha() < 1
    assert bar.get_ylabel() == "gate weight"
    assert labels(figure) == ["truth"]


def test_a_gate_that_is_zero_everywhere_has_no_mass_in_the_lesion() -> None:
    shown = Example("p", DISC, DISC, DISC, {"gate_0_map": np.zeros((SIZE, SIZE), np.float32)})
    assert figures.gate_maps([shown]).axes[0].get_title() == "gate_0: 0.0% in lesion"


def test_a_heading_has_the_name_as_it_was_written_and_the_note_below() -> None:
    shown = replace(example(gates=1, title="best: $a$\nb"), note="slice 3")
    assert figures.predictions([shown]).axes[0].get_title() == "best: \\$a\\$\\nb\nslice 3"
    assert figures.gate_maps([shown]).axes[0].get_ylabel().startswith("best: \\$a\\$\\nb\nslice 3\nlesion: ")


def test_curves_draw_losses_and_scores_over_epochs_from_one() -> None:
    losses, scores = figures.curves(HISTORY, best_epoch=2).axes
    assert (losses.get_xlabel(), losses.get_ylabel()) == ("epoch", "loss")
    assert (scores.get_xlabel(), scores.get_ylabel()) == ("epoch", "mean over validation patients")
    assert scores.get_ylim() == (0, 1)
    expected = {losses: ["train/loss", "val/loss"], scores: ["val/dice", "val/dice_at_0.5", "val/iou"]}
    for axes, names in expected.items():
        *lines, marked = axes.get_lines()
        assert [line.get_label() for line in lines] == names
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [*names, "kept: epoch 2"]
        assert list(marked.get_xdata()) == [2, 2]
        for line, name in zip(lines, names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), [epoch[name] for epoch in HISTORY])
        for one, other in itertools.combinations(lines, 2):
            assert not same_color(one.get_color(), other.get_color())
            assert one.get_linestyle() != other.get_linestyle()


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_tick_whole_epochs(epochs: int) -> None:
    axes = figures.curves((HISTORY * 10)[:epochs], best_epoch=1).axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_curves_leave_a_gap_where_a_score_is_not_defined(tmp_path: Path) -> None:
    history = [HISTORY[0] | dict.fromkeys(("val/dice", "val/iou"), float("nan")), *HISTORY[1:]]
    figure = figures.curves(history, best_epoch=3)
    assert np.isnan(figure.axes[1].get_lines()[0].get_ydata()).tolist() == [True, False, False]
    figures.save_figures({"curves": figure}, tmp_path)


def test_colours_stay_apart_for_the_colour_blind() -> None:
    """As a protanope and a deuteranope see them: Viénot, Brettel and Mollon 1999, in linear RGB."""
    linear = np.array([[((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)] for color in (TRUTH, PREDICTION, THIRD)])
    protanope = np.array([[0.1124, 0.8876, 0], [0.1124, 0.8876, 0], [0.0040, -0.0040, 1]])
    deuteranope = np.array([[0.2928, 0.7072, 0], [0.2928, 0.7072, 0], [-0.0223, 0.0223, 1]])
    for seen in (linear @ protanope.T, linear @ deuteranope.T):
        for one, other in itertools.combinations(seen, 2):
            assert np.abs(one - other).max() > 0.15


def phantom_like(gates: int) -> list[Example]:
    """Three examples with titles as long as real ones, of different sizes."""
    shown = []
    for name, size in (("worst", 96), ("median", 64), ("best", 128)):
        grid = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j])
        image = (180 * (grid < 0.8)).astype(np.uint8)
        truth = (grid < 0.3).astype(np.uint8)
        title, note = f"{name}: TCGA_CS_4941_19960909", "slice 11, Dice of the patient 0.812"
        maps = {f"gate_{level}_map": np.exp(-grid * (level + 1)).astype(np.float32) for level in range(gates)}
        shown.append(Example(title, image, truth, np.roll(truth, size // 16, 1), maps, note))
    return shown


THRESHOLDS = {0.2: 0.3, 0.5: 0.6, 0.8: 0.5}


def choice(chosen: Decision, **processed: float) -> Choice:
    """At the chosen decision's threshold; `processed` maps <smallest lesion><f where holes are filled> to its Dice."""
    plain = tuple(Trial(Decision(threshold), dice, 4) for threshold, dice in THRESHOLDS.items())
    tried = {Decision(chosen.threshold, int(key.strip("_f")), "f" in key): dice for key, dice in processed.items()}
    return Choice(chosen, plain, tuple(Trial(decision, dice, 4) for decision, dice in tried.items()))


CHOICE = choice(Decision(0.5, 10, True), _0=0.6, _0f=0.61, _10=0.65, _10f=0.7, _100=0.4, _100f=0.41)


def test_decision_draws_what_was_tried_and_rings_what_was_chosen() -> None:
    curve, processing = figures.decision(CHOICE).axes
    line, ring = curve.get_lines()
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == THRESHOLDS
    assert (list(ring.get_xdata()), list(ring.get_ydata()), ring.get_label()) == ([0.5], [0.6], "chosen: 0.5")
    left, filled, ring = processing.get_lines()
    assert [text.get_text() for text in processing.get_xticklabels()] == ["0", "10", "100"]
    assert (left.get_label(), list(left.get_ydata())) == ("holes left", [0.6, 0.65, 0.4])
    assert (filled.get_label(), list(filled.get_ydata())) == ("holes filled", [0.61, 0.7, 0.41])
    assert list(left.get_xdata()) == list(filled.get_xdata()) == [0, 1, 2]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([1], [0.7])
    assert ring.get_label() == "chosen: 10 voxels, holes filled"
    assert left.get_linestyle() != filled.get_linestyle()
    assert not same_color(left.get_color(), filled.get_color())


def test_decision_draws_a_grid_of_one() -> None:
    _, processing = figures.decision(choice(Decision(0.8, 5), _5=0.5)).axes
    left, ring = processing.get_lines()
    assert list(left.get_ydata()) == list(ring.get_ydata()) == [0.5]


def test_patients_are_sorted_with_the_best_on_top_and_the_means_interval_behind() -> None:
    figure = figures.patients(["a", "b", "c"], [0.5, 0.9, 0.1], 0.5, (0.2, 0.8), "Dice, test patients")
    (axes,) = figure.axes
    mean, dots = axes.get_lines()
    assert list(mean.get_xdata()) == [0.5, 0.5]
    assert list(dots.get_xdata()) == [0.1, 0.5, 0.9]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["c", "a", "b"]
    (band,) = axes.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((0.2, 0.6))
    assert labels(figure) == ["95 % interval 0.200 to 0.800", "mean 0.500"]
    assert axes.get_xlabel() == "Dice, test patients"


def test_patients_without_a_score_or_an_interval_are_left_out() -> None:
    figure = figures.patients(["a", "b"], [0.5, float("nan")], 0.5, (float("nan"), float("nan")), "Dice")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a"]
    assert labels(figure) == ["mean 0.500"]


def test_more_patients_than_a_column_has_room_for_are_not_named() -> None:
    names = [f"TCGA_CS_{number}" for number in range(110)]
    figure = figures.patients(names, list(np.linspace(0, 1, 110)), 0.5, (0.4, 0.6), "Dice")
    assert len(figure.axes[0].get_yticklabels()) == 0
    assert figure.axes[0].get_ylabel() == "110 patients"
    assert figure.get_size_inches()[1] <= 7


def calibrated() -> Calibration:
    probabilities = np.repeat(np.array([0.05, 0.35, 0.95], np.float32), [10, 4, 2])
    return calibration(probabilities, np.array([1] + [0] * 9 + [1, 1, 0, 0] + [1, 1], np.uint8))


def test_reliability_draws_the_bins_that_hold_pixels() -> None:
    above, below = figures.reliability(calibrated()).axes
    diagonal, dots = above.get_lines()
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    np.testing.assert_allclose(dots.get_xdata(), [0.05, 0.35, 0.95], rtol=1e-6)
    np.testing.assert_allclose(dots.get_ydata(), [0.1, 0.5, 1])
    assert dots.get_label() == f"expected calibration error {calibrated().ece:.3f}"
    np.testing.assert_allclose([(bar.get_x(), bar.get_height()) for bar in below.patches], [(0, 10), (0.3, 4), (0.9, 2)])
    assert below.get_yscale() == "log"


@pytest.mark.parametrize("pixels", [[5], [3, 4, 4, 2], [10**6, 1, 1], [2000, 1999, 1998]])
def test_pixels_are_counted_from_one_in_powers_of_ten(pixels: list[int]) -> None:
    counts = np.array(pixels + [0] * (10 - len(pixels)))
    figure = figures.reliability(Calibration(counts, counts // 2, counts * 0.5))
    below = figure.axes[1]
    figure.draw_without_rendering()
    low, high = below.get_ylim()
    assert low == 0.5
    assert high >= 2 * max(pixels)
    shown = [tick for tick in below.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert len(shown) >= 2
    assert not [tick for tick in below.yaxis.get_minor_ticks() if tick.label1.get_text()]


def drawn_from(examples: list[Example]) -> dict[str, Figure]:
    """Each kind of figure, filled as in a run of eight patients with names as long as real ones."""
    names = [f"TCGA_CS_{number}_19960909" for number in range(4941, 4949)]
    return {
        "curves": figures.curves(HISTORY, best_epoch=3),
        "decision": figures.decision(CHOICE),
        "patients": figures.patients(names, list(np.linspace(0, 1, 8)), 0.5, (0.4, 0.6), "Dice, test patients"),
        "reliability": figures.reliability(calibrated()),
        "predictions": figures.predictions(examples),
        "gates": figures.gate_maps(examples),
        "progress": progress_of(examples),
    }


def progress_of(examples: list[Example]) -> Figure:
    images, truths = [example.image for example in examples], [example.truth for example in examples]
    masks = {epoch: [example.prediction for example in examples] for epoch in range(93, 101)}
    return figures.progress([example.title for example in examples], images, truths, masks, best_epoch=100)


def awkwardly_drawn() -> dict[str, Figure]:
    """Each kind of figure that shows names, filled with the awkward ones."""
    cases = [replace(like, title=f"median: {name}") for like, name in zip(phantom_like(4), (LONG, UUID, "$a$"), strict=True)]
    scores = list(np.linspace(0, 1, len(AWKWARD)))
    many = dict(zip(range(0, 60, 3), np.linspace(0.1, 0.9, 20), strict=True))
    swept = {LONG: AWKWARD, "loss": [str(place % 2) for place in range(len(AWKWARD))], "$x$": [f"{s:.9f}" for s in scores]}
    drawn = {
        "patients": figures.patients(AWKWARD, scores, 0.5, (0.4, 0.6), "Dice, test patients"),
        "short": figures.patients(["a", "b"], [0.1, 0.9], 0.5, (0.4, 0.6), "Dice, test patients"),
        "sweep": figures.sweep_scores(swept, scores),
        "decision": figures.decision(choice(Decision(0.5, 30), **{f"_{number}": dice for number, dice in many.items()})),
    }
    drawn |= {f"predictions{number}": figures.predictions(cases[:number]) for number in (1, 2, 3)}
    drawn |= {"gates": figures.gate_maps(cases), "progress": progress_of(cases)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def ticks(axes: Axes) -> list[Text]:
    """The labels of the ticks that are drawn."""
    found = []
    for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
        drawn = [tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= tick.get_loc() <= high]
        found += [tick.label1 for tick in drawn if tick.label1.get_visible() and tick.label1.get_text()]
    return found


def test_no_letter_of_any_name_is_cut_or_covered_by_another_name(tmp_path: Path) -> None:
    """In the files: nothing reaches their edge."""
    for name, figure in awkwardly_drawn().items():
        figures.save_figures({name: figure}, tmp_path)  # a glyph that is missing would warn
        pixels = cv2.imread(str(tmp_path / f"{name}.png"))
        edges = (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:])
        assert all((edge > 250).all() for edge in edges), name
        figure.draw_without_rendering()
        for axes in figure.axes:
            boxes = [label.get_window_extent() for label in ticks(axes)]
            assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])], name


def test_two_awkward_names_are_never_shown_alike() -> None:
    (axes,) = figures.patients(AWKWARD, list(np.linspace(0, 1, len(AWKWARD))), 0.5, (0.4, 0.6), "Dice").axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(shown)) == len(AWKWARD)


@pytest.mark.parametrize("gates", [1, 4])
def test_no_text_overlaps_another_or_is_cut(gates: int) -> None:
    for figure in drawn_from(phantom_like(gates)).values():
        figure.draw_without_rendering()
        texts = [axes.title for axes in figure.axes] + [t for a in figure.axes for t in (a.xaxis.label, a.yaxis.label)]
        texts += [t for legend in figure.legends for t in legend.get_texts()]
        texts += [t for a in figure.axes if a.get_legend() for t in a.get_legend().get_texts()]
        texts += [label for axes in figure.axes if axes.get_ylabel() != "gate weight" for label in ticks(axes)]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert boxes
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.width
            assert box.y1 <= figure.bbox.height
        assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_save_writes_png_and_pdf(tmp_path: Path) -> None:
    drawn = drawn_from(phantom_like(2))
    folder = tmp_path / "new" / "figures"
    figures.save_figures(drawn, folder)
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    for name, figure in drawn.items():
        pixels = cv2.imread(str(folder / f"{name}.png"))
        width, height = figure.get_size_inches()
        # matplotlib rounds down to whole pixels
        assert pixels.shape[:2] == (int(height * DPI), int(width * DPI))
        assert np.mean(pixels < 128) > 0.005  # ink
        assert np.mean(pixels > 250) > 0.05  # on paper
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_saved_predictions_show_both_colours(tmp_path: Path) -> None:
    figures.save_figures({"p": figures.predictions(phantom_like(0))}, tmp_path)
    pixels = cv2.imread(str(tmp_path / "p.png"))[..., ::-1]
    for color in (TRUTH, PREDICTION):
        distance = np.abs(pixels - 255 * np.array(to_rgb(color))).max(axis=-1)
        assert (distance < 12).sum() > 200
