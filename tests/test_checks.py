"""One scan under two names, masks that fill the image, lesions outside of the head."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from attnunet.config import objects
from attnunet.data.cache import Prepared, find_head, prepare
from attnunet.data.checks import find_doubts
from attnunet.data.lgg import lgg
from attnunet.data.phantom import phantom
from attnunet.data.slices import DataError
from attnunet.data.split import Split
from tests.conftest import command, write_patient, write_slice


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Patients a to d of 4 slices."""
    for seed, patient in enumerate("abcd"):
        write_patient(tmp_path / "data", patient, slices=4, seed=seed)
    return tmp_path / "data"


def prepared(root: Path) -> Prepared:
    return prepare(lgg(str(root)), 16, root.parent / "cache")


def divide(data: Prepared, **parts: list[str]) -> Split:
    """The split of a manifest with these parts, as a run makes it."""
    file = data.folder / "split.yaml"
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(parts)))
    return objects.divide(OmegaConf.create({"_target_": "attnunet.data.split.manifest", "file": str(file)}), data)


def copy(root: Path, one: str, other: str, slices: int, suffix: str = ".tif") -> None:
    """Give a patient the first images of another one, encoded anew; the masks stay."""
    for number in range(1, slices + 1):
        os.remove(root / other / f"{other}_{number}.tif")
        image = cv2.imread(str(root / one / f"{one}_{number}.tif"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(root / other / f"{other}_{number}{suffix}"), image)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_scan_under_two_names_in_two_parts_is_refused_with_both(root: Path, suffix: str) -> None:
    copy(root, "b", "d", 3, suffix)
    data = prepared(root)
    told = (
        f"split leaks: patients b of train and d of test have 3 image\\(s\\) in common, pixel for pixel, as "
        f"{root}/b/b_1.tif and {root}/d/d_1{suffix}; leave one of the two out by data.exclude, or give both one name$"
    )
    with pytest.raises(DataError, match=told):
        divide(data, train=["a", "b"], val=["c"], test=["d"])


def test_copies_in_one_part_or_in_a_leaking_split_are_said(root: Path) -> None:
    copy(root, "b", "d", 3)
    data = prepared(root)
    split = divide(data, train=["b", "d"], val=["c"], test=["a"])
    told = f"3 image(s) are there twice, pixel for pixel: b and d, as {root}/b/b_1.tif and {root}/d/d_1.tif"
    assert find_doubts(data, [i for part in split.parts.values() for i in part]) == [told]
    leaking = objects.divide(OmegaConf.create({"_target_": "attnunet.data.split.slice"}), data)
    assert leaking.leaking
    assert find_doubts(data, range(16)) == [told]
    # Who takes no part counts for nothing.
    assert divide(data, train=["b"], val=["c"], test=["a"])
    assert find_doubts(data, range(12)) == []


def test_blank_slices_are_no_copies(root: Path) -> None:
    for patient in "abcd":
        blank = np.zeros((32, 32, 3), np.uint8) + np.array([0, 7, 9], np.uint8)
        write_slice(root / patient, 5, blank, np.zeros((32, 32), np.uint8))
    data = prepared(root)
    assert divide(data, train=["a", "b"], val=["c"], test=["d"])
    assert find_doubts(data, range(20)) == []


def test_the_same_pixels_in_another_shape_are_no_copy(root: Path) -> None:
    ramp = np.arange(32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)
    write_slice(root / "e", 1, ramp, np.zeros((32, 48), np.uint8))
    write_slice(root / "f", 1, ramp.reshape(48, 32, 3), np.zeros((48, 32), np.uint8))
    assert find_doubts(prepared(root), range(18)) == []


def test_masks_that_fill_most_of_most_slices_are_said(root: Path) -> None:
    def fill(patient: str, numbers: range) -> None:
        for number in numbers:
            mask = np.zeros((32, 32), np.uint8)
            mask[:17] = 255
            cv2.imwrite(str(root / patient / f"{patient}_{number}_mask.tif"), mask)

    fill("b", range(1, 3))  # two of four are not most
    assert find_doubts(prepared(root), range(16)) == []
    fill("d", range(2, 5))
    told = f"lesion fills most of most slices of d, as in {root}/d/d_2_mask.tif; are masks turned inside out?"
    assert find_doubts(prepared(root), range(16)) == [told]
    fill("c", range(1, 5))
    assert [line.partition(", as")[0] for line in find_doubts(prepared(root), range(16))] == [
        "lesion fills most of most slices of c, d"
    ]


def disc(size: int, row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def test_the_head_is_what_is_bright_in_a_channel_and_what_that_encloses() -> None:
    """A background of 10 to 27, a skull of 100 in one channel only; a tenth of 10 to 210 is 30."""
    image = np.random.default_rng(0).integers(10, 28, (64, 64, 3), dtype=np.uint8)
    skull = disc(64, 30, 30, 20) & ~disc(64, 30, 30, 15)
    image[skull, 1] = 100
    image[30, 30], image[0, 0] = 210, 10
    np.testing.assert_array_equal(find_head(image), disc(64, 30, 30, 20))
    assert not find_head(np.full((8, 8, 3), 50, np.uint8)).any()


def test_lesions_outside_of_the_head_are_said(root: Path) -> None:
    """A head at the left, lesions of 100 pixels of which 20, 30 and 100 lie beyond its straight edge."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :20] = 100
    for number, beyond in enumerate((2, 3, 10), start=1):
        mask = np.zeros((32, 32), np.uint8)
        mask[5:15, 10 + beyond : 20 + beyond] = 255
        image[0, 0] = number  # no copy of the one before
        write_slice(root / "e", number, image, mask)
    data = prepared(root)
    assert data.facts["outside"][-3:] == [20, 30, 100]
    told = (
        f"lesion outside of the head in 2 slice(s) of e, as in {root}/e/e_2_mask.tif; "
        "do these images and masks belong together?"
    )
    assert find_doubts(data, range(19)) == [told]


def test_the_phantom_gives_no_doubt(tmp_path: Path) -> None:
    data = prepare(phantom(str(tmp_path / "phantom"), patients=6, slices=10, size=64), 64, tmp_path / "cache")
    assert find_doubts(data, range(60)) == []


@pytest.mark.slow
def test_the_real_sample_gives_no_doubt(sample: Path, tmp_path: Path) -> None:
    data = prepare(lgg(str(sample), exclude=str(sample / "locked.txt")), 64, tmp_path)
    assert find_doubts(data, range(len(data.slices))) == []


@pytest.mark.slow
def test_a_run_says_what_is_doubtful_in_its_first_lines(tmp_path: Path) -> None:
    for index in range(6):
        write_patient(tmp_path / "data", f"[b]{index}", slices=4, seed=index)
    for number in range(1, 5):
        full = np.full((32, 32), 255, np.uint8)
        cv2.imwrite(str(tmp_path / "data" / "[b]3" / f"[b]3_{number}_mask.tif"), full)
    write_patient(tmp_path / "data" / "older", "[b]7", slices=1)
    result = command(
        "trainer=smoke", "trainer.figures=false", "data=lgg", "data.root=data", "batch_size=4", "image_size=32", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    passed_over, full, *_ = result.stdout.splitlines()
    assert passed_over.startswith("passed over: data/older/[b]7: 2 image(s) that are no slices, as [b]7_1.tif; ")
    assert full == "lesion fills most of most slices of [b]3, as in data/[b]3/[b]3_1_mask.tif; are masks turned inside out?"
