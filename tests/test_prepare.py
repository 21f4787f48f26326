"""Files -> arrays: what is refused, what the arrays hold, and when they are made again."""

import multiprocessing
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest

from attnunet.data import cache as preparation
from attnunet.data import pictures
from attnunet.data.cache import Prepared, prepare
from attnunet.data.frames import resize_mask
from attnunet.data.images import read_image, read_mask
from attnunet.data.intensity import prepare_volume
from attnunet.data.lgg import lgg as read
from attnunet.data.slices import DataError, Dataset, Slice
from tests.conftest import write_patient, write_slice

lgg = partial(read, intensity="raw")  # pixels as in the files, unless a test asks otherwise

PATIENT, OTHER = "TCGA_CS_4941_19960909", "TCGA_DU_5852_19950709"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients of 6 slices, 32 x 32."""
    write_patient(tmp_path / "data", PATIENT, seed=0)
    write_patient(tmp_path / "data", OTHER, seed=1)
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def sequences(volume: np.ndarray) -> list[np.ndarray]:
    """(D, h, w, C) as C arrays (D, h, w)."""
    return [volume[..., channel] for channel in range(volume.shape[-1])]


def tiff(image: np.ndarray) -> bytes:
    """An uncompressed TIFF written without a library: header, directory, then the pixels (h, w, 3) in RGB order."""
    height, width, channels = image.shape
    entries = 10
    bits = 8 + 2 + 12 * entries + 4
    fields = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, channels, bits),
        (259, 3, 1, 1),  # no compression
        (262, 3, 1, 2),  # RGB
        (273, 4, 1, bits + 2 * channels),  # where the pixels start
        (277, 3, 1, channels),
        (278, 3, 1, height),
        (279, 4, 1, image.size),
        (284, 3, 1, 1),  # channels interleaved
    ]
    directory = b"".join(struct.pack("<HHII", *field) for field in fields)
    head = struct.pack("<2sHIH", b"II", 42, 8, entries) + directory + struct.pack("<I", 0)
    return head + struct.pack(f"<{channels}H", *[8] * channels) + image.tobytes()


def one_slice(root: Path, image: np.ndarray, mask: np.ndarray) -> Dataset:
    write_slice(root / PATIENT, 1, image, mask)
    return lgg(str(root))


def arrays(cache: Path) -> dict[str, int]:
    """Everything that preparation made, and when; the index and the lock only remember."""
    paths = (path for path in cache.rglob("*") if path.name not in (".lock", "index") and path.parent.name != "index")
    return {str(path.relative_to(cache)): path.stat().st_mtime_ns for path in paths}


def forbidden(*args: Any, **kwargs: Any) -> NoReturn:
    raise AssertionError("called, and should not have been")


# What is refused


def truncate(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def with_values(*values: int) -> np.ndarray:
    mask = np.zeros((32, 32), np.uint8)
    mask[4:8, 4:] = values[0]
    mask[8:, 4:] = values[-1]
    return mask


def save(path: Path, array: np.ndarray) -> None:
    """Asserts that it was written, since OpenCV only returns false where it was not."""
    assert cv2.imwrite(str(path), array)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "cannot be decoded"),
    "text": (lambda path: path.write_text("not an image"), "cannot be decoded"),
    "header only": (lambda path: path.write_bytes(path.read_bytes()[:8]), "cannot be decoded"),
    "a half": (lambda path: truncate(path, 0.5), "cannot be decoded"),
    "nine tenths": (lambda path: truncate(path, 0.9), "cannot be decoded"),
    # The last 4 bytes of a mask only say that no page follows: without them it is read, and rightly.
    "last 5 bytes gone": (lambda path: path.write_bytes(path.read_bytes()[:-5]), "cannot be decoded"),
    "last 100 bytes gone": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be decoded"),
    "directory first, a half": (lambda path: path.write_bytes(tiff(noise(32, 32, 3))[:1600]), "cannot be decoded"),
    "directory first, no pixels": (lambda path: path.write_bytes(tiff(noise(32, 32, 3))[:140]), "cannot be decoded"),
    "directory first, last byte gone": (lambda path: path.write_bytes(tiff(noise(32, 32, 3))[:-1]), "cannot be decoded"),
}
BROKEN_IMAGE = BROKEN | {
    "16 bit beside 8 bit": (
        lambda path: save(path, noise(32, 32, 3).astype(np.uint16) * 200),
        r"\(32, 32\) pixels of type uint16, but .*_2\.tif of the same patient has \(32, 32\) of type uint8",
    ),
    "not a number": (
        lambda path: save(path, np.full((32, 32, 3), np.nan, np.float32)),
        r"3072 value\(s\) are NaN or infinite",
    ),
    "one channel": (lambda path: save(path, noise(32, 32)), r"1 channel\(s\), expected 3"),
    "four channels": (lambda path: save(path, noise(32, 32, 4)), r"4 channel\(s\), expected 3"),
    "another size than the mask": (lambda path: save(path, noise(32, 31, 3)), ""),
}
BROKEN_MASK = BROKEN | {
    "three channels": (lambda path: save(path, noise(32, 32, 3)), "a mask has 1 channel, found 3"),
    "three values": (lambda path: save(path, with_values(128, 255)), "0 and one other, found 0, 128, 255"),
    "no zero": (lambda path: save(path, with_values(1, 1) + 1), "0 and one other, found 1, 2"),
    "another size": (lambda path: save(path, np.zeros((16, 16), np.uint8)), r"\(16, 16\) pixels, but its image .*\(32, 32\)"),
}
CASES = [(kind, name) for kind, cases in (("", BROKEN_IMAGE), ("_mask", BROKEN_MASK)) for name in cases]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind or '_image'}-{name}" for kind, name in CASES])
def test_a_broken_file_is_named_and_leaves_nothing_behind(root: Path, cache: Path, kind: str, name: str) -> None:
    before = prepare(lgg(str(root), exclude=[PATIENT]), 32, cache)
    made = arrays(cache)
    path = root / PATIENT / f"{PATIENT}_3{kind}.tif"
    damage, message = (BROKEN_MASK if kind else BROKEN_IMAGE)[name]
    damage(path)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{message}"):
        prepare(lgg(str(root)), 32, cache)
    assert arrays(cache) == made
    # What was prepared before still serves.
    assert prepare(lgg(str(root), exclude=[PATIENT], verify=True), 32, cache).fingerprint == before.fingerprint


def test_all_broken_files_are_named_at_once(root: Path, cache: Path) -> None:
    broken = [root / PATIENT / f"{PATIENT}_2.tif", root / PATIENT / f"{PATIENT}_5_mask.tif", root / OTHER / f"{OTHER}_1.tif"]
    save(broken[0], noise(32, 32))
    save(broken[1], noise(32, 32, 3))
    broken[2].write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        prepare(lgg(str(root)), 32, cache)
    assert [line.partition(": ")[0] for line in str(caught.value).splitlines()] == [str(path) for path in broken]
    assert not arrays(cache)


def test_the_hand_made_tiff_is_whole(tmp_path: Path) -> None:
    """Else the truncated ones would prove nothing."""
    (tmp_path / "whole.tif").write_bytes(tiff(noise(32, 32, 3)))
    np.testing.assert_array_equal(read_image(str(tmp_path / "whole.tif"), 3), noise(32, 32, 3))


def test_patients_may_differ_in_size(root: Path, cache: Path) -> None:
    write_patient(root, "TCGA_HT_7473_19970826", size=48)
    prepared = prepare(lgg(str(root)), 32, cache)
    assert [prepared.mask(i).shape for i in (0, 6, 12, 17)] == [(32, 32), (32, 32), (48, 48), (48, 48)]
    for index, item in enumerate(prepared.slices):
        np.testing.assert_array_equal(prepared.mask(index), read_mask(item.mask))


def test_slices_of_one_patient_may_not(root: Path, cache: Path) -> None:
    write_slice(root / PATIENT, 7, noise(32, 48, 3), np.zeros((32, 48), np.uint8))
    with pytest.raises(
        DataError, match=rf"{PATIENT}_7\.tif: \(32, 48\) pixels .*, but .*_6\.tif of the same patient has \(32, 32\)"
    ):
        prepare(lgg(str(root)), 32, cache)
    assert not arrays(cache)


# What the arrays hold


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (with_values(255, 255), with_values(1, 1)),
        (with_values(1, 1), with_values(1, 1)),
        (with_values(7, 7), with_values(1, 1)),
        (np.full((32, 32), 255, np.uint8), np.ones((32, 32))),
        (np.full((32, 32), 1, np.uint8), np.ones((32, 32))),
        (np.zeros((32, 32), np.uint8), np.zeros((32, 32))),
    ],
    ids=["0 and 255", "0 and 1", "0 and 7", "full of 255", "full of 1", "empty"],
)
def test_masks_become_0_and_1_at_native_size(tmp_path: Path, cache: Path, mask: np.ndarray, expected: np.ndarray) -> None:
    prepared = prepare(one_slice(tmp_path / "data", noise(32, 32, 3), mask), 16, cache)
    np.testing.assert_array_equal(prepared.mask(0), expected)
    assert prepared.mask(0).dtype == np.uint8
    assert prepared.lesion_pixels.tolist() == [expected.sum()]


@pytest.mark.parametrize("channels", [["pre", "flair", "post"], ["flair"], ["post", "pre"]])
def test_channels_are_the_file_s_in_rgb_order(tmp_path: Path, cache: Path, channels: list[str]) -> None:
    image = noise(32, 32, 3)
    one_slice(tmp_path / "data", image, np.zeros((32, 32), np.uint8))
    (tmp_path / "data" / PATIENT / f"{PATIENT}_1.tif").write_bytes(tiff(image))
    prepared = prepare(lgg(str(tmp_path / "data"), channels=channels), 32, cache)
    wanted = [("pre", "flair", "post").index(name) for name in channels]
    np.testing.assert_array_equal(prepared.images[0], image[..., wanted])
    assert prepared.image_size == 32


@pytest.mark.parametrize(("size", "interpolation"), [(16, cv2.INTER_AREA), (20, cv2.INTER_AREA), (48, cv2.INTER_LINEAR)])
def test_images_are_resized(tmp_path: Path, cache: Path, size: int, interpolation: int) -> None:
    image = noise(32, 32, 3)
    prepared = prepare(one_slice(tmp_path / "data", image, np.zeros((32, 32), np.uint8)), size, cache)
    np.testing.assert_array_equal(prepared.images[0], cv2.resize(image, (size, size), interpolation=interpolation))
    if size == 16:
        means = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        assert np.abs(prepared.images[0] - means).max() <= 0.5


def test_an_image_that_is_not_square_becomes_one(tmp_path: Path, cache: Path) -> None:
    prepared = prepare(one_slice(tmp_path / "data", noise(24, 40, 3), np.zeros((24, 40), np.uint8)), 16, cache)
    assert prepared.images.shape == (1, 16, 16, 3)
    assert prepared.mask(0).shape == (24, 40)


def test_one_channel_keeps_its_axis() -> None:
    assert prepare_volume(sequences(noise(2, 32, 32, 1)), 16, "raw").shape == (2, 16, 16, 1)


def test_slices_and_patients(root: Path, cache: Path) -> None:
    prepared = prepare(lgg(str(root)), 32, cache)
    assert prepared.slices == lgg(str(root)).slices
    assert prepared.patients == {PATIENT: [*range(6)], OTHER: [*range(6, 12)]}
    assert (prepared.lesion_pixels > 0).tolist() == [False, False, True, True, False, False] * 2


def test_missing_sequences(tmp_path: Path, cache: Path) -> None:
    """A sequence is missing where FLAIR stands in for it on every slice that shows something."""
    empty = np.zeros((32, 32), np.uint8)

    def add(patient: str, number: int, *, pre: bool, post: bool, blank: bool = False) -> None:
        image = noise(32, 32, 3, seed=number) * (not blank)
        for channel, same in ((0, pre), (2, post)):
            if same:
                image[..., channel] = image[..., 1]
        write_slice(tmp_path / "data" / patient, number, image, empty)

    for number in (1, 2):
        add("A", number, pre=True, post=False)
        add("B", number, pre=True, post=True)
        add("C", number, pre=False, post=number == 1)
        add("D", number, pre=False, post=False)
        add("E", number, pre=False, post=True)
        add("F", number, pre=False, post=False, blank=True)
    for patient in "ABCDE":
        add(patient, 3, pre=False, post=False, blank=True)
    missing = {s.patient: s.missing for s in prepare(lgg(str(tmp_path / "data")), 32, cache).slices}
    assert missing == {"A": ("pre",), "B": ("post", "pre"), "C": (), "D": (), "E": ("post",), "F": ()}


def test_percentile_stretches_a_volume_s_channels() -> None:
    """Above 0 the first channel holds 1 to 100, over both slices: percentiles 1.99 and 99.01."""
    first = np.concatenate([np.arange(101), np.zeros(27)]).reshape(2, 8, 8)
    constant, nothing = np.full((2, 8, 8), 40), np.zeros((2, 8, 8))
    volume = np.stack([first, constant, nothing], axis=-1).astype(np.uint8)
    stretched = prepare_volume(sequences(volume), 8, "percentile")
    values = stretched[..., 0].ravel()
    assert values[[0, 1, 2, 50, 99, 100]].tolist() == [0, 0, 0, 126, 255, 255]
    assert values[20] == round((20 - 1.99) * 255 / (99.01 - 1.99))
    assert not stretched[..., 2].any()
    assert len(np.unique(stretched[..., 1])) == 1
    np.testing.assert_array_equal(prepare_volume(sequences(volume), 8, "raw"), volume)


def test_zscore_brings_every_head_to_one_mean_and_spread() -> None:
    """Two slices of 64 pixels: background 10, 32 pixels of head at 100 and 140: mean 120, deviation 20, so 60 to 180."""
    channel = np.full((2, 8, 8), 10)
    channel[0, :4] = [100] * 4 + [140] * 4
    constant, nothing = np.full((2, 8, 8), 40), np.zeros((2, 8, 8))
    volume = np.stack([channel, constant, nothing], axis=-1).astype(np.uint8)
    scaled = prepare_volume(sequences(volume), 8, "zscore")
    assert set(np.unique(scaled[0, :4, :4, 0])) == {round((100 - 60) * 255 / 120)}
    assert set(np.unique(scaled[0, :4, 4:, 0])) == {round((140 - 60) * 255 / 120)}
    assert not scaled[1, ..., 0].any()
    np.testing.assert_array_equal(scaled[..., 1:], volume[..., 1:])  # nothing exceeds the mean of what is constant
    dark = prepare_volume(sequences(volume // 2), 8, "zscore")
    np.testing.assert_allclose(dark[..., 0].astype(int), scaled[..., 0].astype(int), atol=2)


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
@pytest.mark.parametrize("value", [1e-20, 1, 3e38])
def test_a_sequence_of_two_values_is_scaled_without_a_word(intensity: str, value: float) -> None:
    """As a mask, or as a head of one value: its range is 0, and warnings are errors here."""
    volume = np.zeros((2, 8, 8), np.float32)
    volume[:, 2:5] = value
    assert not prepare_volume([volume], 8, intensity).any()
    volume[0, 2, 2] = np.nextafter(np.float32(value), np.float32(np.inf), dtype=np.float32)  # the smallest range that there is
    assert set(np.unique(prepare_volume([volume], 8, intensity))) <= set(range(256))


def test_percentile_is_taken_a_patient(root: Path, cache: Path) -> None:
    dim = root / OTHER
    for path in dim.glob("*[0-9].tif"):
        save(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED) // 2)
    raw = prepare(lgg(str(root)), 32, cache)
    stretched = prepare(lgg(str(root), intensity="percentile"), 32, cache)
    assert raw.folder == stretched.folder
    assert raw.fingerprint != stretched.fingerprint
    for indices in raw.patients.values():
        np.testing.assert_array_equal(
            stretched.images[indices], prepare_volume(sequences(raw.images[indices]), 32, "percentile")
        )
        assert stretched.images[indices].max() == 255


def test_resize_mask_keeps_areas() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[8:24, 10:40] = 1
    small = resize_mask(mask, (32, 32))
    np.testing.assert_array_equal(small, mask[::2, ::2])
    # Ellipses that no grid suits keep theirs within 10 %, and grow rather than shrink, since halves are taken in.
    rows, columns = np.mgrid[:64, :64]
    for seed in range(10):
        y, x, a, b = np.random.default_rng(seed).uniform((25, 25, 10, 10), (40, 40, 20, 20))
        blob = (((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1).astype(np.uint8)
        assert 0.99 < resize_mask(blob, (32, 32)).mean() / blob.mean() < 1.1


def test_resize_mask_takes_halves_in() -> None:
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]], np.uint8)
    np.testing.assert_array_equal(resize_mask(mask, (2, 2)), [[0, 1], [1, 1]])
    grown = resize_mask(mask, (8, 8))
    assert (grown.shape, grown.dtype, set(np.unique(grown))) == ((8, 8), np.uint8, {0, 1})


# The cache


def test_a_second_call_reads_no_file(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, made = prepare(lgg(str(root)), 32, cache), arrays(cache)
    for module, name in (
        (pictures, "read_image"),
        (pictures, "read_mask"),
        (preparation, "write_masks"),
        (preparation, "write_images"),
    ):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert prepare(lgg(str(root)), 32, cache).fingerprint == first.fingerprint
    assert arrays(cache) == made


def test_touched_files_are_read_but_nothing_is_made_again(root: Path, cache: Path) -> None:
    first, made = prepare(lgg(str(root)), 32, cache), arrays(cache)
    for path in root.rglob("*.tif"):
        os.utime(path, (1, 1))
    assert prepare(lgg(str(root)), 32, cache).fingerprint == first.fingerprint
    assert arrays(cache) == made


def test_a_moved_data_set_is_the_same(root: Path, cache: Path, tmp_path: Path) -> None:
    first, made = prepare(lgg(str(root)), 32, cache), arrays(cache)
    shutil.move(root, tmp_path / "elsewhere")
    assert prepare(lgg(str(tmp_path / "elsewhere")), 32, cache).fingerprint == first.fingerprint
    assert arrays(cache) == made


@pytest.mark.parametrize("kind", ["", "_mask"])
def test_changed_content_goes_to_a_folder_of_its_own(root: Path, cache: Path, kind: str) -> None:
    first = prepare(lgg(str(root)), 32, cache)
    path = root / PATIENT / f"{PATIENT}_3{kind}.tif"
    save(path, 255 - cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    second = prepare(lgg(str(root)), 32, cache)
    assert second.folder != first.folder
    changed = (second.mask(2), first.mask(2)) if kind else (second.images[2], first.images[2])
    assert not np.array_equal(*changed)


def test_sizes_share_masks(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = prepare(lgg(str(root)), 32, cache)
    monkeypatch.setattr(preparation, "write_masks", forbidden)
    small = prepare(lgg(str(root)), 16, cache)
    assert (small.folder, large.image_size, small.image_size) == (large.folder, 32, 16)
    assert small.fingerprint != large.fingerprint


@pytest.mark.parametrize("damaged", ["images", "masks"])
def test_verify_notices_a_damaged_array(root: Path, cache: Path, damaged: str) -> None:
    prepared = prepare(lgg(str(root)), 32, cache)
    path = prepared.folder / (prepared.images_file if damaged == "images" else "masks.npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    prepare(lgg(str(root)), 32, cache)
    with pytest.raises(DataError, match=rf"{path}: damaged .*delete {prepared.folder} and start again"):
        prepare(lgg(str(root), verify=True), 32, cache)


def test_verify_notices_a_file_changed_behind_its_size_and_time(root: Path, cache: Path) -> None:
    path = root / PATIENT / f"{PATIENT}_1.tif"
    path.write_bytes(tiff(noise(32, 32, 3)))
    first, stat = prepare(lgg(str(root)), 32, cache), path.stat()
    path.write_bytes(tiff(noise(32, 32, 3, seed=1)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert prepare(lgg(str(root)), 32, cache).fingerprint == first.fingerprint
    verified = prepare(lgg(str(root), verify=True), 32, cache)
    assert verified.fingerprint != first.fingerprint
    np.testing.assert_array_equal(verified.images[0], noise(32, 32, 3, seed=1))


def test_a_change_that_keeps_the_size_is_seen_by_its_time(root: Path, cache: Path) -> None:
    path = root / PATIENT / f"{PATIENT}_1.tif"
    path.write_bytes(tiff(noise(32, 32, 3)))
    first = prepare(lgg(str(root)), 32, cache)
    path.write_bytes(tiff(noise(32, 32, 3, seed=1)))
    os.utime(path, ns=(0, 0))
    assert prepare(lgg(str(root)), 32, cache).fingerprint != first.fingerprint


@pytest.mark.parametrize("step", ["checksum", "prepare_volume"])
def test_an_interrupted_build_leaves_nothing_half_made(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """`checksum` comes when masks.npy is written, `prepare_volume` when the images are about to be."""

    def interrupted(*args: Any) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(lgg(str(root)), 32, cache)
    left = {Path(name).name for name in arrays(cache)}
    if step == "checksum":
        assert not left
    else:
        assert left == {"slices.json", "masks.npy", next(path.name for path in cache.iterdir() if len(path.name) == 16)}
    assert prepare(lgg(str(root), verify=True), 32, cache).images.shape == (12, 32, 32, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda slices: (replace(slices[0], patient="A" + slices[0].patient), *slices[1:]),
        lambda slices: (replace(slices[0], site="XX"), *slices[1:]),
        lambda slices: slices[1:],
        lambda slices: (*slices[:-1], replace(slices[-1], number=99)),
    ],
    ids=["patient", "site", "fewer", "number"],
)
def test_the_same_files_told_otherwise_are_another_data_set(
    root: Path, cache: Path, change: Callable[[tuple[Slice, ...]], tuple[Slice, ...]]
) -> None:
    dataset = lgg(str(root))
    first = prepare(dataset, 32, cache)
    told = replace(dataset, slices=change(dataset.slices))
    second = prepare(told, 32, cache)
    assert second.folder != first.folder
    assert second.slices == told.slices


def prepare_there(root: Path, cache: Path, given: Prepared, barrier: Barrier, queue: SimpleQueue) -> None:
    """In a process of its own: what it prepared, and what it sees of what it was given."""
    barrier.wait()
    prepared = prepare(lgg(str(root)), 16, cache)
    queue.put((prepared, int(given.images.sum()), given.mask(2).tolist(), given.patients))


def test_two_processes_prepare_at_once(root: Path, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    given = prepare(lgg(str(root), exclude=[PATIENT]), 32, cache)
    barrier, queue = context.Barrier(2), context.SimpleQueue()
    processes = [context.Process(target=prepare_there, args=(root, cache, given, barrier, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    reports = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    queue.close()
    assert [process.exitcode for process in processes] == [0, 0]
    assert reports[0][0] == reports[1][0]
    np.testing.assert_array_equal(reports[0][0].images, prepare(lgg(str(root)), 16, cache / "alone").images)
    seen = (int(given.images.sum()), given.mask(2).tolist(), given.patients)
    assert [report[1:] for report in reports] == [seen, seen]


def test_prepared_pickles_as_its_path(root: Path, cache: Path) -> None:
    prepared = prepare(lgg(str(root)), 32, cache)
    assert prepared.images.any()
    assert prepared.slices  # what it has read so far stays behind
    pickled = pickle.dumps(prepared)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(pickle.loads(pickled).images, prepared.images)


@pytest.mark.parametrize("spacing", [None, [3, 1, 0.5]])
def test_the_spacing_is_carried_and_makes_no_other_arrays(root: Path, cache: Path, spacing: list[float] | None) -> None:
    prepared = prepare(lgg(str(root), spacing=spacing), 32, cache)
    assert prepared.fingerprint == prepare(lgg(str(root)), 32, cache).fingerprint
    expected = tuple(spacing) if spacing else None
    assert prepared.spacing == pickle.loads(pickle.dumps(prepared)).spacing == expected


def test_a_relative_cache_outlives_a_change_of_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = prepare(lgg(str(root)), 32, Path("cache"))
    monkeypatch.chdir("/")
    assert prepared.images.shape == (12, 32, 32, 3)
