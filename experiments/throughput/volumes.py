"""Volumes of 240x240x155 with four sequences: their preparation, and their training beside TIFF slices of the same size."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import nibabel
import numpy as np
from measure import Row, composed, hand_over, interleaved, memory, ratios, row, seconds

from attnunet.config import objects
from attnunet.data.batches import Draws, batches, iterate
from attnunet.data.cache import prepare
from attnunet.data.nifti import nifti
from attnunet.data.phantom import draw_patient

VOLUMES, SHAPE, SIZE = 40, (155, 240, 240), 128
SEQUENCES = ("pre", "flair", "post", "t2")
STEPS = 10
PREPARE = "--prepare"


def write_patients(root: Path) -> None:
    """Write the patients as NIfTI files of noisy int16 values, and as TIFF slices in the layout of LGG.

    Two heads are drawn. Each patient is one of them, brighter or darker and shifted.
    """
    drawn = [draw_patient(np.random.default_rng(seed), *SHAPE[:2]) for seed in range(2)]

    def write(patient: int) -> None:
        rng, name = np.random.default_rng(patient), f"TCGA_CS_{4000 + patient}_20000101"
        shift = int(rng.integers(-12, 12))
        images, masks = (np.roll(part, shift, axis=2) for part in drawn[patient % 2])
        (root / "nifti" / name).mkdir(parents=True)
        (root / "lgg" / name).mkdir(parents=True)
        for place, sequence in enumerate(SEQUENCES):
            values = images[..., place % 3] * np.float32(rng.uniform(2, 9)) + rng.normal(0, 20, SHAPE).astype(np.float32)
            save(root / "nifti" / name / f"{sequence}.nii.gz", values.astype(np.int16))
        save(root / "nifti" / name / "seg.nii.gz", (masks > 0).astype(np.uint8))
        for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
            cv2.imwrite(str(root / "lgg" / name / f"{name}_{number}.tif"), image[..., ::-1])
            cv2.imwrite(str(root / "lgg" / name / f"{name}_{number}_mask.tif"), mask)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(VOLUMES)))


def save(path: Path, volume: np.ndarray) -> None:
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
    path.write_bytes(gzip.compress(image.to_bytes(), 1))


def measure_preparation(root: Path, volumes: int, cores: int, scratch: Path) -> dict[str, float]:
    """Prepare some volumes in a process of its own. Return the seconds, processor seconds, and MB."""
    arguments = [sys.executable, __file__, PREPARE, root, str(volumes), str(cores), scratch]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def prepare_alone(root: str, volumes: str, cores: str, scratch: str) -> None:
    """Prepare some volumes by so many threads, and print what it cost. Mapped files count as memory, but can be dropped."""
    os.cpu_count = lambda: int(cores)
    names = sorted(path.name for path in Path(root).iterdir())
    dataset = nifti(root, exclude=names[int(volumes) :])
    own: list[float] = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            own.append(memory(name="RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, used = time.perf_counter(), time.process_time()
    prepare(dataset, SIZE, Path(scratch))
    taken = {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}
    done.set()
    watcher.join()
    print(json.dumps({**taken, "peak": memory(name="VmHWM"), "own": max(own)}))


def draw_batches(root: Path, layout: str, scratch: Path) -> Draws:
    """Return the training batches of a layout. All patients train, as three sequences."""
    keys = (f"data={layout}", f"data.root={root / layout}", "data.channels=[pre,flair,post]", "split=patient", "augment=mri")
    cfg = composed(f"tracking.root={scratch}", *keys)
    prepared, split = objects.prepare_data(cfg)
    augment = objects.make(cfg.augment, "augment")()
    return Draws(prepared, split.train, cfg.batch_size, cfg.seed, cfg.trainer.lesion_share, augment)


def measure_training(draws: dict[str, Draws]) -> dict[str, list[float]]:
    """Return images a second of batches alone and of training steps, by layout, in turn."""
    cfg = composed()
    from attnunet.training import runtime

    runtime.configure(cfg.seed, runtime.available_threads(None), "float32")
    network = objects.make(cfg.model, "model")(SIZE, 3)
    network.compile(objects.make(cfg.optimizer, "optimizer")(1000), objects.make(cfg.loss, "loss")(), jit_compile=False)

    def rate(stream: Iterator[tuple[np.ndarray, np.ndarray]], train: bool) -> float:
        def work() -> None:
            for images, masks in islice(stream, STEPS if train else 4 * STEPS):
                if train:
                    network.train_on_batch(images, masks)

        list(islice(stream, 4))  # what was drawn ahead
        return (STEPS if train else 4 * STEPS) * cfg.batch_size / seconds(work)

    streams = {layout: iterate(batches(own, 0)) for layout, own in draws.items()}
    for stream in streams.values():
        rate(stream, True)  # the first step traces
    measures = {
        f"{kind}, {layout}": lambda stream=stream, train=kind == "steps": rate(stream, train)
        for kind in ("batches", "steps")
        for layout, stream in streams.items()
    }
    seen = interleaved(measures)
    for stream in streams.values():
        with closing(stream):
            pass
    return seen


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_patients(scratch)
        cores = os.cpu_count() or 1
        few = measure_preparation(scratch / "nifti", VOLUMES // 4, cores, scratch / "few")
        all_of_them = measure_preparation(scratch / "nifti", VOLUMES, cores, scratch / "all")
        on_sixteen = measure_preparation(scratch / "nifti", VOLUMES // 2, 16, scratch / "sixteen")
        draws = {layout: draw_batches(scratch, layout, scratch / "runs") for layout in ("nifti", "lgg")}
        seen = measure_training(draws)
    what = f"{VOLUMES} volumes of 240x240x155 with {len(SEQUENCES)} sequences"
    return [
        row("volumes", f"{what} to arrays of {SIZE}x{SIZE}", "s", [all_of_them["seconds"]]),
        row("volumes", "cores used: processor seconds / seconds", "x", [all_of_them["processor"] / all_of_them["seconds"]]),
        row("volumes", "peak memory, mapped files too", "MB", [all_of_them["peak"]], "<= 1500"),
        row("volumes", f"peak of its own memory, {VOLUMES} volumes", "MB", [all_of_them["own"]]),
        row("volumes", f"peak of its own memory, {VOLUMES // 4} volumes", "MB", [few["own"]]),
        row("volumes", f"peak of its own memory, {VOLUMES // 2} volumes by 16 threads", "MB", [on_sixteen["own"]]),
        *(row("volumes", name, "images/s", values) for name, values in seen.items()),
        row("volumes", "batches, nifti / lgg", "x", ratios(seen["batches, nifti"], seen["batches, lgg"])),
        row("volumes", "training steps, nifti / lgg", "x", ratios(seen["steps, nifti"], seen["steps, lgg"]), ">= 0.97"),
    ]


if __name__ == "__main__":
    if sys.argv[1] == PREPARE:
        prepare_alone(*sys.argv[2:])
    else:
        hand_over(main())
