"""A data set of full size, from files to prepared arrays: cold, and the second time."""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
from measure import Row, hand_over, interleaved, ratios, row, seconds

from attnunet.data.cache import prepare
from attnunet.data.lgg import lgg
from attnunet.data.phantom import write_phantom

PATIENTS, SLICES, SIZE = 110, 3929, 256  # of the LGG data set


def write_files(root: Path) -> None:
    """The layout of LGG: drawn patients of 36 slices (the last has 5), copied under new names."""
    drawn = root.parent / "drawn"
    write_phantom(drawn, patients=4, slices=36, size=SIZE, seed=0)
    sources = sorted(folder for folder in drawn.rglob("*") if folder.is_dir() and any(folder.glob("*_mask.tif")))
    for patient in range(PATIENTS):
        source = sources[patient % len(sources)]
        folder = root / f"TCGA_CS_{4000 + patient}_20000101"
        folder.mkdir(parents=True)
        for number in range(1, 1 + min(36, SLICES - 36 * patient)):
            for ending in (".tif", "_mask.tif"):
                shutil.copy(source / f"{source.name}_{number}{ending}", folder / f"{folder.name}_{number}{ending}")


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "kaggle_3m"
        write_files(root)
        files = sorted(root.rglob("*.tif"))
        assert len(files) == 2 * SLICES

        def decode() -> None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(partial(cv2.imread, flags=cv2.IMREAD_UNCHANGED), map(str, files)))

        def cold() -> None:
            shutil.rmtree(Path(scratch) / "cache", ignore_errors=True)
            prepare(lgg(str(root)), 128, Path(scratch) / "cache")

        def warm() -> None:
            prepare(lgg(str(root)), 128, Path(scratch) / "cache")

        decode()
        measures = {"decode": decode, "cold": cold, "warm": warm}
        seen = interleaved({name: partial(seconds, work) for name, work in measures.items()})
    return [
        row("preparation", f"{SLICES} pairs of TIFF files only decoded, on all cores", "s", seen["decode"]),
        row("preparation", f"{SLICES} pairs to arrays of 128x128", "s", seen["cold"]),
        row("preparation", "to arrays / only decoded", "x", ratios(seen["cold"], seen["decode"])),
        row("preparation", "the second time", "s", seen["warm"], "<= 0.5"),
    ]


if __name__ == "__main__":
    hand_over(main())
