"""What MLflow's page shows for a run: its name, which tells it from others, and its description in three lines."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from attnunet.tracking import labels

CHOICES = {"model": "conv", "loss": "focal_dice", "split": "kfold", "data": "lgg"}
CFG = OmegaConf.create({"image_size": 64, "seed": 0})


def named(overrides: list[str], swept: list[str] | None = None, leaking: bool = False) -> str:
    return labels.name_run(CFG, CHOICES, labels.told_overrides(overrides, swept), leaking)


def test_jobs_that_differ_in_weights_folds_or_rates_have_names_of_their_own() -> None:
    swept = ["loss.weights.dice", "split.fold", "optimizer.learning_rate"]
    job = ["data=lgg", "loss.weights.dice=0.5", "split.fold=3", "optimizer.learning_rate=0.01"]
    assert named(job, swept) == "dice=0.5 fold=3 learning_rate=0.01 conv-focal_dice-kfold-64-seed0"


def test_keys_whose_values_each_name_holds_are_not_named_twice() -> None:
    assert named(["model=conv", "seed=0"], ["model", "seed"]) == "conv-focal_dice-kfold-64-seed0"


def test_a_run_alone_is_named_by_what_was_typed_but_for_places_and_what_changes_no_result() -> None:
    typed = ["data=lgg", "data.root=/far/away", "study=mine", "tracking.uri=http://x", "+loss.gamma=2", "split.folds=5"]
    assert named(typed) == "gamma=2 folds=5 conv-focal_dice-kfold-64-seed0"


def test_an_end_that_two_keys_share_does_not_stand_for_either() -> None:
    assert named([], []) == "conv-focal_dice-kfold-64-seed0"
    told = {"loss.weights.dice": "1", "loss.other.dice": "2", "split.seed": "3", "evaluation.batch_size": "8", "a.b": "4"}
    shown = labels.format_overrides(told)
    assert shown == "loss.weights.dice=1 loss.other.dice=2 split.seed=3 evaluation.batch_size=8 b=4"


def test_a_leaking_run_says_so_first() -> None:
    assert named(["loss.gamma=2"], leaking=True) == "LEAKING gamma=2 conv-focal_dice-kfold-64-seed0"


def test_long_names_are_cut_and_still_differ() -> None:
    first, second = (named([f"model.filters=[{','.join(['16'] * 90)},{last}]"]) for last in (1, 2))
    assert len(first) == len(second) == labels.LONGEST
    assert first != second
    assert first[:190] == second[:190]
    assert labels.name_sweep({"loss.weights.dice": "0.25,1", "seed": "0,1"}) == "sweep dice=0.25,1 seed=0,1"


def test_a_secret_that_a_cut_would_halve_is_hidden_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "abcdefghij")
    assert "abc" not in labels.bound_name("x" * (labels.LONGEST - 12) + "abcdefghij" + "y" * 50)


def test_a_description_says_what_a_run_was_what_it_reached_and_how_to_go_on() -> None:
    what = labels.describe_run(
        CFG, CHOICES, {"split.fold": "3", "model": "conv"}, {"train": "9 patients", "val": "3 patients"}
    )
    summary = {"dice": 0.8125, "dice_ci_low": 0.75, "dice_ci_high": 0.9, "dice_patients": 3.0}
    scores = {"val": SimpleNamespace(summary=summary)}
    (text,) = labels.note("my study", what, labels.describe_scores(scores), "0123456789").values()
    assert text.split("\n\n") == [
        "Lesions of lgg (train 9 patients, val 3 patients; split kfold): network conv, loss focal_dice, 64x64 pixels, seed 0, "
        "fold=3.",
        "val Dice 0.812 (95 % interval 0.750 to 0.900, 3 patients)",
        "`python -m attnunet.compare 'study=my study'` compares all runs of the study; "
        "`python -m attnunet.evaluate run=01234567` scores this run in another way.",
    ]
    (text,) = labels.note("2024", what, "", "1234567890").values()
    assert "attnunet.compare 'study=\"2024\"'` compares" in text
    assert "attnunet.evaluate 'run=\"12345678\"'` scores" in text  # a number would be no id
