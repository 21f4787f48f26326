"""Slices before and after a slice as further channels, in training, evaluation and prediction."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from attnunet.data.augment import Augment
from attnunet.data.batches import Draws
from attnunet.data.cache import Prepared, prepare
from attnunet.data.lgg import lgg
from attnunet.data.neighbors import find_neighbors, join_neighbors
from attnunet.data.sampling import strata
from attnunet.inference.predictor import Preparation


def test_a_slice_at_an_end_of_its_volume_is_its_own_neighbor() -> None:
    before, after = find_neighbors(["a", "a", "a", "b", "c", "c"])
    assert before.tolist() == [0, 0, 1, 3, 4, 4]
    assert after.tolist() == [1, 2, 2, 3, 5, 5]


def test_channels_of_neighbors_come_after_the_slices_own() -> None:
    """Channel c of slice i holds 10 i + c; the last channel is taken from the neighbours."""
    images = (10 * np.arange(3)[:, None, None, None] + np.arange(2)).astype(np.uint8)
    joined = join_neighbors(images, images[[0, 0, 1]], images[[1, 2, 2]], [1])
    assert joined[:, 0, 0].tolist() == [[0, 1, 1, 11], [10, 11, 1, 21], [20, 21, 11, 21]]


@pytest.fixture(scope="module")
def prepared(lgg_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return replace(prepare(lgg(str(lgg_root)), 16, tmp_path_factory.mktemp("cache")), neighbors=("flair", "post"))


def test_training_sees_the_neighbors_of_the_same_volume(prepared: Prepared) -> None:
    """The first slice of the second patient has no slice before it, although another patient's lies there."""
    index = prepared.patients[sorted(prepared.patients)[1]][0]
    draws = Draws(prepared, (index, index + 1), 2, 0, partial(strata, lesion_share=None), Augment())
    images = {draws.order.slice_at(draw): draws[draw][0] for draw in range(2)}
    own = prepared.images[index : index + 3]
    for place, before, after in ((0, 0, 1), (1, 0, 2)):
        expected = np.concatenate([own[place], own[before][..., 1:], own[after][..., 1:]], axis=-1)
        np.testing.assert_array_equal(images[index + place], expected)


def test_a_volume_is_prepared_as_the_data_set_is(prepared: Prepared, lgg_root: Path) -> None:
    dataset = lgg(str(lgg_root))
    members = prepared.patients[sorted(prepared.patients)[1]]
    pixels = dataset.source.pixels([dataset.slices[i] for i in members])
    volume = np.stack([pixels.sequence(channel) for channel in range(3)], axis=-1)
    names = prepared.channels
    preparation = Preparation(16, names, names, prepared.intensity, neighbors=prepared.neighbors)
    np.testing.assert_array_equal(preparation(volume), prepared.inputs(members))
    assert preparation(volume).shape[-1] == prepared.input_channels == 7


def test_a_single_slice_is_its_own_neighbor() -> None:
    slice_ = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1), dtype=np.uint8)
    found = Preparation(16, ("flair",), ("flair",), "raw", neighbors=("flair",))(slice_)
    np.testing.assert_array_equal(found, np.repeat(slice_, 3, axis=-1))
