"""The train Dice, and the watched slices of a training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from attnunet import figures
from attnunet.figures.training import MOST
from attnunet.training.train_dice import TrainDice
from attnunet.training.watch import Watch, choose_slices, read_masks


def test_the_train_dice_pools_the_pixels_of_all_batches() -> None:
    metric = TrainDice()
    logits = np.array([1.0, 0.0, -1.0, 5.0], np.float32).reshape(1, 2, 2, 1)
    metric.update_state(np.array([1, 0, 1, 0], np.uint8).reshape(1, 2, 2, 1), logits)  # tp 1, fp 2, fn 1
    levels = np.concatenate([logits, -logits], axis=-1)
    metric.update_state(np.ones((1, 2, 2, 1), np.uint8), levels)  # tp 3, fn 1; level 1 does not count
    assert float(metric.result()) == pytest.approx(2 * 4 / (2 * 4 + 2 + 2))
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    metric.update_state(np.zeros((1, 2, 2, 1), np.uint8), logits)
    assert float(metric.result()) == 0


def test_the_train_dice_counts_more_pixels_than_float32_holds() -> None:
    metric = TrainDice()
    metric.total.assign(2**25)
    metric.overlap.assign(2**24)
    metric.update_state(np.ones((1, 1, 1, 1), np.uint8), np.ones((1, 1, 1, 1), np.float32))
    assert (int(metric.total), int(metric.overlap)) == (2**25 + 2, 2**24 + 1)


def test_a_network_that_was_compiled_with_it_loads_safely(tmp_path: Path) -> None:
    image = keras.Input((4, 4, 1))
    network = keras.Model(image, keras.layers.Conv2D(1, 1)(image))
    network.compile("sgd", "mse", metrics=[TrainDice()])
    network.fit(np.ones((2, 4, 4, 1)), np.ones((2, 4, 4, 1)), verbose=0)
    network.save(tmp_path / "last.keras")
    loaded: Any = keras.models.load_model(tmp_path / "last.keras", safe_mode=True)
    assert "dice" in loaded.fit(np.ones((2, 4, 4, 1)), np.ones((2, 4, 4, 1)), verbose=0).history


def scans(pixels: dict[str, list[int]]) -> Any:
    """A prepared data set with these numbers of lesion pixels in the slices of each scan."""
    slices = [SimpleNamespace(volume=name) for name, own in pixels.items() for _ in own]
    return SimpleNamespace(slices=slices, lesion_pixels=np.array([n for own in pixels.values() for n in own]))


def test_the_largest_the_median_and_the_smallest_lesion_are_watched() -> None:
    prepared = scans({"a": [0, 5, 1], "b": [9, 90], "c": [0, 0], "d": [2, 1], "e": [40, 0], "f": [7, 7]})
    assert choose_slices(prepared, range(13)) == [4, 11, 7]  # of b with 99, f with 14, d with 3
    assert choose_slices(prepared, [3, 4]) == [4]
    assert choose_slices(prepared, [0, 5, 6]) == []


def test_a_training_keeps_its_predictions_for_the_figure(tmp_path: Path) -> None:
    masks: dict[int, np.ndarray] = {}
    watch = Watch(masks, tmp_path)
    watch.on_epoch_end(0)
    for epoch in (1, 2):  # scans may differ in size
        masks.update({7: np.full((2, 3), epoch == 2), 3: np.ones((4, 4), bool)})
        watch.on_epoch_end(epoch)
    found = read_masks(tmp_path, 5)
    assert list(found) == [2, 3]
    assert [list(found[epoch]) for epoch in found] == [[7, 3], [7, 3]]
    assert (found[2][7].any(), found[3][7].all(), found[3][3].shape) == (False, True, (4, 4))
    assert list(read_masks(tmp_path, 2)) == [2]


def test_the_figure_shows_few_epochs_and_the_kept_one() -> None:
    slices = [np.eye(8) * 200, np.eye(8) * 100]
    masks = {epoch: [np.eye(8) > 0, np.zeros((8, 8), bool)] for epoch in range(3, 43)}
    figure = figures.progress(["a", "$b"], slices, slices, masks, best_epoch=11)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert (titles[0], titles[-1], len(titles), len(figure.axes)) == ("epoch 3", "epoch 42", MOST, 2 * MOST)
    assert [title for title in titles if "kept" in title] == ["epoch 11, kept"]
    alone = figures.progress(["a"], slices[:1], slices[:1], {1: [slices[0] > 0]}, best_epoch=5)
    assert [axes.get_title() for axes in alone.axes] == ["epoch 1"]
