"""Training batches are a function of (seed, step), whoever draws them."""

import hashlib
import itertools
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from attnunet import config
from attnunet.config import objects
from attnunet.data.augment import Augment
from attnunet.data.batches import Draws, batches, iterate, shrink
from attnunet.data.cache import Prepared, prepare
from attnunet.data.lgg import lgg
from attnunet.data.sampling import strata
from attnunet.data.slices import DataError
from attnunet.training.build import build_draws
from tests.conftest import REPO

BATCH = 8
STEPS = 12  # more than the 9 of an epoch


@pytest.fixture(scope="module")
def prepared(lgg_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """72 slices, of which 24 hold a lesion, at half their native size."""
    return prepare(lgg(str(lgg_root)), 16, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def draws(prepared: Prepared) -> Draws:
    """All slices, a quarter of each batch with a lesion, augmented as for MRI."""
    with initialize_config_dir(config.CONF, version_base="1.3"):
        augment = objects.make(compose("train", overrides=["augment=mri"]).augment, "augment")()
    return Draws(prepared, tuple(range(72)), BATCH, 0, partial(strata, lesion_share=0.25), augment)


@pytest.fixture(scope="module")
def plain(draws: Draws) -> Draws:
    return replace(draws, augment=Augment())


def take(draws: Draws, steps: int, workers: int = 0, start_step: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    with closing(iterate(batches(draws, workers, start_step))) as iterator:
        return list(itertools.islice(iterator, steps))


def bits(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    return hashlib.sha256(b"".join(image.tobytes() + mask.tobytes() for image, mask in pairs)).hexdigest()


def drawn(draws: Draws, steps: int) -> np.ndarray:
    """(steps, BATCH): the indices of the slices."""
    return np.array([draws.order.slice_at(i) for i in range(steps * BATCH)]).reshape(steps, BATCH)


def test_shapes_and_types(draws: Draws) -> None:
    for image, mask in take(draws, 2):
        assert (image.shape, image.dtype) == ((BATCH, 16, 16, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((BATCH, 16, 16, 1), np.uint8)
        assert set(np.unique(mask)) == {0, 1}


def test_float16_images_are_drawn_as_they_are_and_augmented_from_0_to_255(
    lgg_root: Path, tmp_path: Path, draws: Draws, plain: Draws
) -> None:
    prepared = prepare(lgg(str(lgg_root)), 16, tmp_path, "float16")
    for index, (image, _) in enumerate(take(replace(plain, prepared=prepared), 2)):
        assert image.dtype == prepared.images.dtype == np.float16
        np.testing.assert_array_equal(image, prepared.images[drawn(plain, 2)[index]])
    of_bytes, of_floats = (
        np.stack([image for image, _ in take(given, 4)]) for given in (draws, replace(draws, prepared=prepared))
    )
    assert (of_floats.min() >= 0, of_floats.max() <= 255, of_floats.dtype) == (True, True, np.float16)
    assert np.abs(of_bytes.astype(float) - of_floats).mean() < 2  # the same slices, transformed in the same way


def test_a_draw_that_is_no_mask_is_refused(plain: Draws) -> None:
    """A transform may break a mask so seldom that no look at samples before the run finds it."""

    def breaks(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return image, mask * np.uint8(255)

    broken = replace(plain, augment=breaks)
    lesion = next(i for i in range(BATCH) if plain.prepared.lesion_pixels[plain.order.slice_at(i)])
    with pytest.raises(DataError, match=f"augment: of slice {plain.order.slice_at(lesion)}, .* the mask of 0 and 1 holds 255"):
        _ = broken[lesion]


def test_image_and_mask_are_those_of_the_slice(prepared: Prepared, plain: Draws) -> None:
    (images, masks), *_ = take(plain, 1)
    for image, mask, index in zip(images, masks, drawn(plain, 1)[0], strict=True):
        np.testing.assert_array_equal(image, prepared.images[index])
        quarters = prepared.mask(index).reshape(16, 2, 16, 2).mean(axis=(1, 3))
        np.testing.assert_array_equal(mask[..., 0], quarters >= 0.5)


def test_two_workers_change_nothing_and_end_with_the_iteration(draws: Draws) -> None:
    before = set(multiprocessing.active_children())
    iterator = iterate(batches(draws, workers=2))
    pairs = list(itertools.islice(iterator, STEPS))
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    iterator.close()
    assert bits(pairs) == bits(take(draws, STEPS))
    assert not started & set(multiprocessing.active_children())


SCRIPT = f"""
import itertools, pickle, sys
from tests.test_batches import bits
from attnunet.data.batches import batches, iterate

def main():
    iterator = iterate(batches(pickle.load(sys.stdin.buffer), workers=1))
    print(bits(list(itertools.islice(iterator, {STEPS}))))
    sys.exit(3)

if __name__ == "__main__":
    main()
"""


def test_a_worker_of_another_process_changes_nothing_and_ends_with_it(draws: Draws, tmp_path: Path) -> None:
    """The process ends in the middle of a pass, as a command that fails does, and says nothing about it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "PYTHONHASHSEED": "1"}
    # Returns when nobody holds its output any more, a worker no more than the process itself.
    done = subprocess.run(command, input=pickle.dumps(draws), env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr.decode()
    assert done.stdout.decode().strip() == bits(take(draws, STEPS))
    assert not re.search("Traceback|Warning|ignored|leaked", done.stderr.decode()), done.stderr.decode()


def test_the_seed_decides(draws: Draws) -> None:
    other = replace(draws, seed=1)
    assert bits(take(draws, 2)) == bits(take(replace(draws), 2))
    assert bits(take(draws, 2)) != bits(take(other, 2))
    assert not np.array_equal(drawn(draws, 9), drawn(other, 9))


def test_epochs_augment_the_same_slice_differently(draws: Draws, plain: Draws) -> None:
    draws, plain = (replace(d, sampler=partial(strata, lesion_share=None)) for d in (draws, plain))
    place = [{draws.order.slice_at(72 * epoch + i): 72 * epoch + i for i in range(72)} for epoch in (0, 1)]

    def same(draws: Draws) -> float:
        return float(np.mean([np.array_equal(draws[place[0][i]][0], draws[place[1][i]][0]) for i in range(72)]))

    assert same(plain) == 1
    assert same(draws) < 0.1


@pytest.mark.parametrize("step", [1, 9, 1000])
def test_a_later_start_is_the_same_sequence(draws: Draws, plain: Draws, step: int) -> None:
    later = take(draws, 2, start_step=step)
    expected = [draws[i] for i in range(step * BATCH, (step + 2) * BATCH)]
    np.testing.assert_array_equal(np.concatenate([image for image, _ in later]), [image for image, _ in expected])
    np.testing.assert_array_equal(np.concatenate([mask for _, mask in later]), [mask for _, mask in expected])


def test_skipped_steps_equal_a_later_start(draws: Draws) -> None:
    assert bits(take(draws, STEPS)[10:]) == bits(take(draws, STEPS - 10, start_step=10))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.55, 4), (1.0, 8)])
def test_each_batch_holds_the_share(prepared: Prepared, draws: Draws, share: float, expected: int) -> None:
    draws = replace(draws, sampler=partial(strata, lesion_share=share))
    lesions = prepared.lesion_pixels[drawn(draws, 50)] > 0
    np.testing.assert_array_equal(lesions.sum(axis=1), expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_a_stratum_is_used_up_before_it_starts_again(prepared: Prepared, draws: Draws, share: float) -> None:
    indices = drawn(replace(draws, sampler=partial(strata, lesion_share=share)), 60).ravel()
    lesion = prepared.lesion_pixels[indices] > 0
    for size, stratum in ((24, indices[lesion]), (48, indices[~lesion])):
        cycles = stratum[: len(stratum) // size * size].reshape(-1, size)
        assert all(len(set(cycle)) == size for cycle in cycles)
        assert len({tuple(cycle) for cycle in cycles}) == len(cycles)  # each in an order of its own
    assert len(lesion) - lesion.sum() >= 48 * (share < 1)
    assert lesion.sum() >= 24 * (share > 0)


def test_without_a_share_an_epoch_is_a_permutation(draws: Draws) -> None:
    draws = replace(draws, sampler=partial(strata, lesion_share=None))
    epochs = drawn(draws, 3 * draws.steps_per_epoch).reshape(3, 72)
    assert all(sorted(epoch) == list(range(72)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_only_the_given_slices_are_drawn(prepared: Prepared, draws: Draws) -> None:
    chosen = tuple(range(10, 31))
    draws = replace(draws, indices=chosen, sampler=partial(strata, lesion_share=0.5))
    assert set(drawn(draws, 20).ravel()) == set(chosen)
    assert draws.steps_per_epoch == 2  # 21 slices; the last partial batch is dropped


@pytest.mark.parametrize("lesions", [True, False])
def test_one_stratum_alone_is_drawn_whatever_the_share(prepared: Prepared, draws: Draws, lesions: bool) -> None:
    chosen = np.flatnonzero((prepared.lesion_pixels > 0) == lesions)
    draws = replace(draws, indices=tuple(int(i) for i in chosen), sampler=partial(strata, lesion_share=0.5))
    assert sorted(drawn(draws, len(chosen) // BATCH).ravel()) == sorted(chosen)


def test_a_batch_larger_than_the_data(draws: Draws) -> None:
    with pytest.raises(ValueError, match="batch_size=8: there are only 7 training slices"):
        replace(draws, indices=tuple(range(7)))
    assert replace(draws, indices=tuple(range(8))).steps_per_epoch == 1


def test_augmentation_seeds_are_apart(draws: Draws) -> None:
    """No draw shares its augmentation's seed with another, and another training seed shares none."""
    seeds: list[int] = []

    def record(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        seeds.append(seed)
        return image, mask

    for seed in (0, 1):
        recorder = replace(draws, seed=seed, augment=record)
        for i in range(100):
            recorder[i]
    assert len(set(seeds)) == 200


def test_a_smaller_sample_holds_the_means_and_the_majority() -> None:
    """Of four pixels of a mask, one is no lesion in the smaller mask, and two are."""
    image = np.array([[0, 2, 9, 9], [4, 8, 9, 9], [0, 0, 1, 1], [0, 0, 1, 0]], np.uint8)[..., None]
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)[..., None]
    small, small_mask = shrink(image, mask, 2)
    assert small.dtype == small_mask.dtype == np.uint8
    assert small[..., 0].tolist() == [[4, 9], [0, 1]]  # 3.5 and 0.75 are rounded, half to even
    assert small_mask[..., 0].tolist() == [[0, 1], [0, 1]]
    many = np.random.default_rng(0).integers(0, 256, (8, 8, 5), np.uint8)  # OpenCV itself takes four channels
    apart = [shrink(many[..., [channel]], np.zeros((8, 8, 1), np.uint8), 6)[0] for channel in range(5)]
    np.testing.assert_array_equal(shrink(many, np.zeros((8, 8, 1), np.uint8), 6)[0], np.concatenate(apart, axis=2))
    halves, _ = shrink(image.astype(np.float16), mask, 2)
    assert (halves.dtype, halves[..., 0].tolist()) == (np.float16, [[3.5, 9], [0, 0.75]])
    assert shrink(image, mask, 4)[0] is image


def test_a_budget_that_ends_before_the_images_have_grown_is_refused(plain: Draws) -> None:
    """An epoch has 72 slices. Three sizes take three epochs."""
    split = SimpleNamespace(train=plain.indices)
    with initialize_config_dir(config.CONF, version_base="1.3"):
        keys = ["budget_images=144", "first_sizes=[4,8]", "image_size=16", f"batch_size={BATCH}"]
        cfg = config.settle(compose("train", keys), keys)
    with pytest.raises(
        DataError, match=r"budget_images=144: 2 epoch\(s\) for 3 sizes; allowed: a larger budget, at least 216"
    ):
        build_draws(cfg, plain.prepared, split)  # type: ignore[arg-type]
    cfg.budget_images = 216
    assert build_draws(cfg, plain.prepared, split)[0].sizes == (4, 8, 16)  # type: ignore[arg-type]


def test_the_images_grow_from_epoch_to_epoch(plain: Draws) -> None:
    """Epochs of nine steps at 8, 8 and 16 pixels. The order of the slices stays as without sizes."""
    growing = replace(plain, sizes=(8, 8, 16))
    for step, size in ((0, 8), (9, 8), (17, 8), (18, 16), (26, 16), (27, 16)):
        ((images, masks),) = take(growing, 1, start_step=step)
        ((whole, whole_masks),) = take(plain, 1, start_step=step)
        assert (images.shape, masks.shape) == ((BATCH, size, size, 3), (BATCH, size, size, 1))
        for image, mask, large, large_mask in zip(images, masks, whole, whole_masks, strict=True):
            expected = shrink(large, large_mask, size)
            np.testing.assert_array_equal(image, expected[0])
            np.testing.assert_array_equal(mask, expected[1])
