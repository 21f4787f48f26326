"""Which runs make a row, and the verdict on a pair of rows."""

import io
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from attnunet.comparison import terminal
from attnunet.comparison.page import page
from attnunet.comparison.pairs import Pair, Question, compare_pairs, describe, list_remarks, signed_ranks
from attnunet.comparison.patients import read_patients
from attnunet.comparison.rows import ScoredRun, Unpaired, all_validated, group_rows, pair_patients
from attnunet.comparison.table import Comparison, compare_rows
from attnunet.errors import UserError
from attnunet.metrics.statistics import mean_interval, patients_to_show

NAN = math.nan


def run(
    number: int, scores: Mapping[str, float] | None = None, leaking: bool = False, content: str = "data", **params: object
) -> ScoredRun:
    """params: loss_weights__dice=1 is loss_weights.dice=1."""
    scores = scores or {"a": 0.5}
    named = {"split": "patient", "seed": 0, **{key.replace("__", "."): value for key, value in params.items()}}
    return ScoredRun(
        id=f"{number:08x}{'0' * 24}",
        name=f"run{number}",
        params={key: str(value) for key, value in named.items()},
        overrides="loss=focal,dice model=conv",
        minutes=float(number),
        leaking=leaking,
        content=content,
        slices={"val": {key: [1, 2] for key in scores}},
        scores={"val": scores},
    )


def table(scores: np.ndarray, **question: object) -> Comparison:
    """A row for each row of `scores`, told apart by the loss."""
    patients = [f"p{number:02}" for number in range(scores.shape[1])]
    made = [run(i, dict(zip(patients, own, strict=True)), loss=f"loss{i}") for i, own in enumerate(scores.tolist())]
    return compare_rows(group_rows(made), "val", Question(resamples=499, **question))  # type: ignore[arg-type]


def text_of(comparison: Comparison, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO(), soft_wrap=True)
    terminal.print_comparison(console, comparison)
    return console.file.getvalue()  # type: ignore[attr-defined]


def say(pair: Pair, question: Question | None = None) -> str:
    """The sentence on a pair of A and B."""
    return describe(pair, "A", "B", list(list_remarks(pair, question or Question())))


# Rows.


def test_runs_that_differ_only_in_their_seed_are_one_row() -> None:
    found = group_rows([run(0, loss="dice", seed=0), run(1, loss="focal", seed=0), run(2, loss="dice", seed=1)])
    assert [[member.id[:8] for member in row.runs] for row in found] == [["00000000", "00000002"], ["00000001"]]
    assert [row.name for row in found] == ["loss=dice", "loss=focal"]


def test_a_patients_score_is_the_mean_over_seeds_and_the_spread_is_that_of_their_means() -> None:
    (row,) = group_rows(
        [run(0, {"a": 0.2, "b": 0.4}), run(1, {"a": 0.4, "b": 0.8}, seed=1), run(2, {"a": NAN, "b": 0.9}, seed=2)]
    )
    assert row.scores("val") == pytest.approx({"a": 0.3, "b": 0.7})
    assert row.mean("val") == pytest.approx(0.5)
    assert row.spread("val") == pytest.approx(np.std([0.3, 0.6, 0.9], ddof=1))
    assert row.minutes == 1
    (single,) = group_rows([run(0)])
    assert math.isnan(single.spread("val"))


def test_a_patient_whom_one_seed_has_no_score_for_is_named() -> None:
    """b has none in any, c in one of the two: its mean is over the other."""
    made = group_rows([run(0, {"a": 0.2, "b": NAN, "c": NAN}), run(1, {"a": 0.4, "b": NAN, "c": 0.6}, seed=1)])
    assert made[0].incomplete("val") == ["c"]
    said = "The score of these patients is the mean over some of a row's runs, not defined in the others: row 1: c."
    assert said in list(compare_rows(made, "val", Question(resamples=99)).notes())
    whole = group_rows([run(0, {"a": 0.2, "b": NAN}), run(1, {"a": 0.4, "b": NAN}, seed=1)])
    assert not [note for note in compare_rows(whole, "val", Question(resamples=99)).notes() if "some of a row's" in note]


def test_a_distance_that_one_seed_lacks_counts_as_the_worst_in_the_row() -> None:
    """a: 100 and 2; the mean over those that are defined in every run is b's."""
    seeds = [run(0, {"a": 100.0, "b": 3.0}), run(1, {"a": 2.0, "b": 5.0}, seed=1)]
    (row,) = group_rows([replace(seeds[0], worst={"val": frozenset("a")}), seeds[1]])
    assert row.worst("val") == {"a"}
    (standing,) = compare_rows([row], "val", Question("hd95", resamples=99)).standings
    assert (standing.mean, standing.worst, standing.mean_defined) == ((51 + 4) / 2, 1, 4)


def test_folds_of_one_recipe_are_one_row_whose_patients_are_joined() -> None:
    """b was validated in both folds: 0.4 and 0.6."""
    fold = {"split": "kfold", "split__folds": 2}
    (row,) = group_rows(
        [run(0, {"a": 0.1, "b": 0.4}, split__fold=0, **fold), run(1, {"b": 0.6, "c": 0.9}, split__fold=1, **fold)]
    )
    assert row.scores("val") == pytest.approx({"a": 0.1, "b": 0.5, "c": 0.9})
    assert math.isnan(row.spread("val"))  # one seed
    # Of a hold-out, split.fold is no fold.
    assert len(group_rows([run(0, split__fold=0), run(1, split__fold=1)])) == 2


def test_copies_of_a_run_are_rows_of_their_own_named_by_their_ids() -> None:
    found = group_rows([run(10), run(11), run(12, seed=1)])
    assert [[member.id[:8] for member in row.runs] for row in found] == [["0000000a", "0000000c"], ["0000000b"]]
    assert [row.name for row in found] == ["run=0000000a", "run=0000000b"]


def test_runs_of_different_code_never_share_a_row_and_a_note_says_so() -> None:
    """Seed 0 before a change of the code, then three seeds after it: 0.5 is no seed of the row with 0.8."""
    made = [
        replace(run(number, {"a": score, "b": score}, seed=seed), tags={"code": code})
        for number, score, seed, code in ((10, 0.5, 0, "A"), (11, 0.8, 0, "B"), (12, 0.8, 1, "B"), (13, 0.8, 2, "B"))
    ]
    comparison = compare_rows(group_rows(made), "val", Question(resamples=499))
    assert [(standing.mean, len(standing.row.seeds)) for standing in comparison.standings] == [
        (0.5, 1),
        (pytest.approx(0.8), 3),
    ]
    assert comparison.names == ["run=0000000a", "run=0000000b"]
    assert any(
        "rows 1, 2 have the same settings, and were trained by different versions" in note for note in comparison.notes()
    )
    added = compare_rows(group_rows([made[0], *made[2:]]), "val", Question(resamples=499))  # seeds that came later
    assert [len(standing.row.seeds) for standing in added.standings] == [1, 2]
    same = compare_rows(group_rows(made[1:]), "val", Question(resamples=499))
    assert not any(note.startswith("Code:") for note in same.notes())


def test_a_row_is_named_by_what_differs_as_the_command_line_has_it() -> None:
    """First what was typed, in its order; what follows from a group's choice is not said again."""
    found = group_rows(
        [
            run(0, model="conv", loss="dice", loss__smooth=1, image_size=64, batch_size=8),
            run(1, model="conv", loss="focal", loss__gamma=2, image_size=64, batch_size=8),
            run(2, model="separable", loss="focal", loss__gamma=2, image_size=128, batch_size=8),
        ]
    )
    assert [row.name for row in found] == [
        "loss=dice model=conv image_size=64",
        "loss=focal model=conv image_size=64",
        "loss=focal model=separable image_size=128",
    ]


def test_a_groups_setting_that_differs_within_a_choice_is_part_of_the_name() -> None:
    found = group_rows([run(0, loss="dice", loss__smooth=1), run(1, loss="dice", loss__smooth=2), run(2, loss="focal")])
    assert [row.name for row in found] == ["loss=dice loss.smooth=1", "loss=dice loss.smooth=2", "loss=focal"]


def test_what_a_run_lacks_does_not_name_it_unless_nothing_else_does() -> None:
    found = group_rows([run(0, model="conv", loss="dice", loss__smooth=1, batch_size=8), run(1, model="nnunet")])
    assert [row.name for row in found] == ["model=conv", "model=nnunet"]
    found = group_rows([run(10, model="conv", loss="dice"), run(11, model="conv")])
    assert [row.name for row in found] == ["run=0000000a", "run=0000000b"]


def test_what_cannot_change_a_result_makes_no_row() -> None:
    found = group_rows(
        [run(0, study="x", tracking__root="a"), run(1, study="y", tracking__root="b", seed=1)], ["study", "tracking"]
    )
    assert len(found) == 1
    assert found[0].name == "run0"  # nothing differs
    assert len(group_rows([run(0, studying="x"), run(1, studying="y", seed=1)], ["study"])) == 2


def test_a_leaking_run_marks_its_row() -> None:
    leaking, other = group_rows([run(0, loss="dice", leaking=True), run(1, loss="focal")])
    assert (leaking.name, other.name) == ("LEAKING loss=dice", "loss=focal")


def test_rows_on_different_patients_are_refused_with_both_lists() -> None:
    made = group_rows([run(1, {"a": 0.1, "b": 0.2}, loss="dice"), run(2, {"c": 0.2, "b": 0.1}, loss="focal")])
    with pytest.raises(Unpaired) as refused:
        pair_patients(made, "val")
    text = str(refused.value)
    assert "their val patients differ" in text
    assert "loss=dice (seed 0: run 00000001), 2 patients: a, b\n" in text
    assert "loss=focal (seed 0: run 00000002), 2 patients: b, c\n" in text
    assert "only in the first: a\nonly in the second: c\n" in text


def test_seeds_on_different_patients_are_refused() -> None:
    with pytest.raises(Unpaired, match=r"only in the first: none\nonly in the second: b"):
        pair_patients(group_rows([run(1, {"a": 0.1}), run(2, {"a": 0.2, "b": 0.1}, seed=1)]), "val")


@pytest.mark.parametrize("row", [{"loss": "dice"}, {"seed": 1}, {"split": "kfold", "split__fold": 1}])
def test_patients_of_the_same_names_in_other_data_are_refused(row: dict[str, object]) -> None:
    """In two rows, two seeds of one, or two folds of one seed."""
    made = group_rows([run(1, **{**row, "loss": "focal", "seed": 0, "split__fold": 0}), run(2, content="other", **row)])
    with pytest.raises(Unpaired, match=r"data differ.\nrun 00000001 was made with data, run 00000002 with other"):
        pair_patients(made, "val")


def test_other_slices_of_the_same_patients_are_refused() -> None:
    one, other = run(1, {"a": 0.1, "b": 0.2}, loss="dice"), run(2, {"a": 0.3, "b": 0.2}, loss="focal")
    with pytest.raises(Unpaired, match=r"val slices of b differ.\nloss=dice .* has \[1, 2\] of b\nloss=focal .* has \[2\]"):
        pair_patients(group_rows([one, replace(other, slices={"val": {"a": [1, 2], "b": [2]}})]), "val")


SPACING, NONE = {"data.spacing": [3, 1, 1]}, {"data.spacing": "None"}


@pytest.mark.parametrize(
    ("settings", "key", "found"),
    [
        ((NONE, SPACING), "data.spacing", "None, run 00000001 has data.spacing=[3, 1, 1]"),
        (({}, SPACING, NONE), "data.spacing", "[3, 1, 1], run 00000002 has data.spacing=None"),
        (({"evaluation.tolerance": 2}, {"evaluation.tolerance": 3}), "evaluation.tolerance", "2, run 00000001 has"),
    ],
)
def test_scores_in_two_units_are_refused(settings: tuple[dict[str, object], ...], key: str, found: str) -> None:
    made = [replace(run(number, loss=f"loss{number}"), settings=own) for number, own in enumerate(settings)]
    with pytest.raises(Unpaired) as refused:
        pair_patients(group_rows(made), "val")
    text = str(refused.value)
    assert f"their scores depend on {key}, which differs.\n" in text
    assert f" has {key}={found}" in text
    assert text.endswith("; allowed: one value, or a score that does not depend on it, such as score=dice")


@pytest.mark.parametrize("settings", [({}, {}), (SPACING, SPACING), ({}, SPACING), ({}, NONE, NONE)])
def test_rows_without_a_setting_are_paired_with_those_that_have_it(settings: tuple[dict[str, object], ...]) -> None:
    """The files of volumes tell the spacing, so their runs have no data.spacing."""
    made = [replace(run(number, loss=f"loss{number}"), settings=own) for number, own in enumerate(settings)]
    assert pair_patients(group_rows(made), "val")[1].shape == (len(settings), 1)


def test_patients_are_paired_by_name_in_whatever_order_they_come() -> None:
    made = group_rows([run(1, {"a": 0.1, "b": 0.2}, loss="dice"), run(2, {"b": 0.4, "a": 0.3}, loss="focal")])
    patients, scores = pair_patients(made, "val")
    assert patients == ("a", "b")
    assert scores.tolist() == [[0.1, 0.2], [0.3, 0.4]]


# Pairs.


def test_two_copies_of_one_run_are_equivalent() -> None:
    scores = np.random.default_rng(0).beta(5, 2, 20)
    (pair,) = compare_pairs(np.stack([scores, scores]), Question(resamples=499))
    assert (pair.verdict, pair.difference, pair.low, pair.high, pair.p, pair.adjusted) == ("equivalent", 0, 0, 0, 1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_real_improvement_of_5_points_on_20_patients_with_paired_noise_of_5_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.beta(5, 2, 20) * 0.8
    noise = rng.normal(0, 0.05, 20)
    better = scores + 0.05 + noise - noise.mean()
    (pair,) = compare_pairs(np.stack([better, scores]), Question(resamples=999))
    assert pair.verdict == "better"
    assert pair.difference == pytest.approx(0.05)
    assert pair.p == pytest.approx(stats.wilcoxon((better - scores).round(12)).pvalue)
    assert (pair.low, pair.high) == mean_interval((better - scores).round(12), 999)
    (turned,) = compare_pairs(np.stack([scores, better]), Question(resamples=999))
    assert (turned.verdict, turned.difference) == ("worse", -pair.difference)


def test_of_an_error_the_smaller_is_better() -> None:
    distances = np.random.default_rng(0).gamma(2, 5, 20)
    (pair,) = compare_pairs(np.stack([distances * 0.5, distances]), Question("hd95", resamples=499))
    assert pair.difference < 0
    assert pair.verdict == "better"


@pytest.mark.parametrize("score", ["lesions_false", "unmatched_slices", "fp", "fn", "assd", "volume_error"])
def test_fewer_errors_are_better(score: str) -> None:
    wrong = np.random.default_rng(0).integers(10, 20, 20).astype(float)
    (pair,) = compare_pairs(np.stack([wrong / 2, wrong]), Question(score, resamples=499))
    assert pair.verdict == "better"


@pytest.mark.parametrize(("alpha", "level"), [(0.05, "95%"), (0.004, "99.6%")])
def test_an_interval_is_called_by_its_level(alpha: float, level: str) -> None:
    comparison = table(np.random.default_rng(0).beta(5, 2, (2, 40)), alpha=alpha)
    assert f"{level} interval" in comparison.legend
    assert f"{level} interval" in text_of(comparison)
    assert f"{level} interval" in page(comparison, "", [], [], {})
    assert Question(alpha=0.0001).level == "99.99%"


def test_differences_of_zero_have_no_rank() -> None:
    """Ranks 1 and 2 are positive, rank 3 is negative. With ranks for the zeros, the sum would be 4 + 5 - 6."""
    assert signed_ranks(np.array([0, 0, 0, 1.0, 2.0, -3.0])) == 0


def test_too_few_resamples_for_the_level_are_refused() -> None:
    """Student's t at 0.9995 with 11 degrees of freedom is 4.437, and the normal tails beyond it hold 9.1e-6 of a bootstrap."""
    scores = np.random.default_rng(0).beta(5, 2, (2, 12))
    told = (
        "alpha=0.001: a 99.9% interval over 12 patients takes 109,... resamples, and resamples=9999; allowed: a larger alpha"
    )
    with pytest.raises(UserError, match=told):
        compare_pairs(scores, Question(alpha=0.001))
    with pytest.raises(UserError, match=told):
        compare_pairs(scores[:1], Question(alpha=0.001))
    assert len(compare_pairs(scores, Question(alpha=0.001, resamples=110_000))) == 1


def test_few_patients_that_cannot_show_a_difference_are_not_refused() -> None:
    (pair,) = compare_pairs(np.random.default_rng(0).beta(5, 2, (2, 3)), Question())
    assert pair.verdict == "undecided"


def test_noise_alone_is_undecided_and_the_words_say_what_could_have_been_shown() -> None:
    rng = np.random.default_rng(2)
    scores = np.stack([rng.beta(5, 2, 20), rng.beta(5, 2, 20)])
    (pair,) = compare_pairs(scores, Question(resamples=499))
    assert pair.verdict == "undecided"
    spread = np.std(scores[0] - scores[1], ddof=1)
    assert pair.detectable == pytest.approx(spread * (2.0930 + 0.8610) / math.sqrt(20), rel=1e-4)
    words = say(pair)
    assert words.startswith(f"A or B: undecided: {pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f}), p ")
    assert pair.shown_by == patients_to_show(pair.difference, spread, 0.05) > 20
    assert words.endswith(f"; detectable {pair.detectable:.3f}; shown by about {float(f'{pair.shown_by:.2g}'):,.0f} patients.")


def test_a_small_sure_difference_inside_the_margin_is_equivalent_and_said_to_be_there() -> None:
    scores = np.random.default_rng(0).beta(5, 2, 20)
    better = scores + np.linspace(0.004, 0.006, 20)
    (pair,) = compare_pairs(np.stack([better, scores]), Question(resamples=499))
    assert (pair.verdict, pair.adjusted < 0.001) == ("equivalent", True)
    words = say(pair)
    assert "A and B are equivalent: +0.005" in words
    assert words.endswith("; there is a difference, but one that does not matter.")
    (strict,) = compare_pairs(np.stack([better, scores]), Question(resamples=499, margin=0.001))
    assert strict.verdict == "better"


@pytest.mark.parametrize(("patients", "verdict"), [(2, "undecided"), (9, "undecided"), (10, "equivalent")])
def test_few_patients_are_called_equivalent_only_where_there_is_no_difference_at_all(patients: int, verdict: str) -> None:
    scores = np.random.default_rng(0).beta(5, 2, patients)
    near = scores + np.linspace(0.001, 0.002, patients)
    found = compare_pairs(np.stack([near, scores, scores]), Question(resamples=499))
    assert [pair.verdict for pair in found] == [verdict, verdict, "equivalent"]
    words = say(found[0])
    too_few = f"inside the margin, but {patients} patients are too few to say equivalent: it takes 10."
    assert (too_few in words) == (verdict == "undecided")


def test_seven_patients_and_15_pairs_can_show_nothing_and_the_words_say_so() -> None:
    """Even if every patient of one row is far better."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 0.4, (6, 7))
    scores[0] += 0.5
    found = compare_pairs(scores, Question(resamples=499))
    assert len(found) == 15
    assert {pair.verdict for pair in found} <= {"undecided", "equivalent"}
    assert found[0].low > 0.3
    assert math.isinf(found[0].detectable)
    assert found[0].shown_by == 10  # as many as can show anything among 15 pairs
    assert say(found[0]).endswith("; detectable none; shown by about 10 patients.")
    # Two of these rows alone are another matter.
    (alone,) = compare_pairs(scores[:2], Question(resamples=499))
    assert alone.verdict == "better"


def test_patients_without_a_score_in_one_row_are_left_out_of_its_pairs_and_counted() -> None:
    scores = np.array([[0.9, 0.8, NAN, 0.7, NAN], [0.5, 0.3, 0.1, NAN, NAN], [0.5, 0.3, 0.1, 0.2, 0.4]])
    first, _, last = compare_pairs(scores, Question(resamples=99))
    assert (first.patients, first.dropped, first.difference) == (2, 3, pytest.approx(0.45))
    assert (last.patients, last.dropped, last.difference) == (3, 2, 0)
    assert "over 2 patients, 3 left out without a defined score in one of the two" in say(first)
    assert "over 3 patients, 2 left out without a defined score in one of the two" in say(last)


@pytest.mark.parametrize("scores", [[[0.5], [0.4]], [[NAN, NAN], [0.1, 0.2]], [[], []]])
def test_fewer_than_two_patients_are_undecided(scores: list[list[float]]) -> None:
    (pair,) = compare_pairs(np.array(scores), Question(resamples=99))
    assert (pair.verdict, pair.adjusted, math.isnan(pair.low)) == ("undecided", 1, True)
    assert say(pair) == "A or B: undecided: fewer than two patients have a score in both."


def test_the_interval_and_the_test_must_point_in_the_same_direction() -> None:
    """Eight patients gain much and 92 lose a little: the ranks say worse, the mean says better."""
    difference = np.array([*[-0.01] * 92, *[30.0] * 8])
    (pair,) = compare_pairs(np.stack([difference, np.zeros(100)]), Question(resamples=999))
    assert pair.low > 0
    assert pair.adjusted < 0.05
    assert pair.verdict == "undecided"


def test_p_values_are_adjusted_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(5, 2, 20) + np.array([[0.2], [0.1], [0.0]]) + rng.normal(0, 0.03, (3, 20))
    found = compare_pairs(scores, Question(resamples=99))
    p = sorted(pair.p for pair in found)
    assert sorted(pair.adjusted for pair in found) == pytest.approx(
        [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    )


def test_a_patient_of_several_scans_counts_once_by_their_mean() -> None:
    rows = [
        {"patient": "a", "scan": "1", "hd95": "3", "hd95_worst": "3", "volume_error": "-0.5", "dice": "0.2"},
        {"patient": "a", "scan": "2", "hd95": "nan", "hd95_worst": "9", "volume_error": "0.1", "dice": "0.6"},
        {"patient": "b", "scan": "1", "hd95": "5", "hd95_worst": "5", "volume_error": "nan", "dice": "nan"},
        {"patient": "b", "scan": "2", "hd95": "nan", "hd95_worst": "0", "volume_error": "0.3", "dice": "0.8"},
    ]
    assert read_patients(rows, "dice") == ({"a": pytest.approx(0.4), "b": 0.8}, frozenset())
    assert read_patients(rows, "volume_error") == ({"a": pytest.approx(0.3), "b": 0.3}, frozenset())
    assert read_patients(rows, "hd95") == ({"a": 6, "b": 2.5}, frozenset("a"))


def test_rows_that_nobody_validated_keep_the_order_of_their_runs() -> None:
    """Their ranks would be ranks on the test."""
    made = [
        replace(run(i, loss=f"loss{i}"), slices={"val": {}, "test": {"a": [1]}}, scores={"val": {}, "test": {"a": score}})
        for i, score in enumerate((0.2, 0.8))
    ]
    found = group_rows(made)
    assert not all_validated(found, None)
    with pytest.raises(Unpaired, match=f"top=1: run {made[0].id} has no validation patients, so no rows are the best"):
        all_validated(found, 1)
    assert all_validated(group_rows([run(0), run(1, loss="focal")]), 1)
    told = text_of(compare_rows(found, "test", Question(resamples=499)))
    assert (
        "Nobody validated rows 1, 2, so no rank is a merit: the rows stand in the order in which their runs started." in told
    )
