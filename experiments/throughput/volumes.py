"""Volumes of 240x240x155 with four sequences: their preparation, and their training beside TIFF slices of the same size."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import cv2
import nibabel
import numpy as np
from measure import Row, composed, hand_over, interleaved, memory, ratios, row

from attnunet.config import objects
from attnunet.data.batches import Draws, batches, iterate
from attnunet.data.cache import prepare
from attnunet.data.nifti import nifti
from attnunet.data.phantom import draw_patient

VOLUMES, SHAPE, SIZE = 40, (155, 240, 240), 128
DRAWN = 10  # patients that differ; the others are copies. The training of these is compared
SEQUENCES = ("pre", "flair", "post", "t2")
STEPS = {"batches": 40, "steps": 10}
PREPARE = "--prepare"


def write_patients(root: Path) -> None:
    """Write the patients as NIfTI files of noisy int16 values, and as TIFF slices in the layout of LGG.

    Two heads are drawn. Each patient is one of them, brighter or darker, shifted and with noise of its own. DRAWN patients are
    made, and copied under new names.
    """
    drawn = [draw_patient(np.random.default_rng(seed), *SHAPE[:2]) for seed in range(2)]

    def write(patient: int) -> None:
        rng, name = np.random.default_rng(patient), f"TCGA_CS_{4000 + patient}_20000101"
        images, masks = (np.roll(part, 5 * (patient // 2) - 10, axis=2) for part in drawn[patient % 2])
        (root / "nifti" / name).mkdir(parents=True)
        for place, sequence in enumerate(SEQUENCES):
            values = images[..., place % 3] * np.float32(rng.uniform(2, 9)) + rng.normal(0, 20, SHAPE).astype(np.float32)
            save(root / "nifti" / name / f"{sequence}.nii.gz", values.astype(np.int16))
        save(root / "nifti" / name / "seg.nii.gz", (masks > 0).astype(np.uint8))
        (root / "lgg" / name).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
            cv2.imwrite(str(root / "lgg" / name / f"{name}_{number}.tif"), image[..., ::-1])
            cv2.imwrite(str(root / "lgg" / name / f"{name}_{number}_mask.tif"), mask)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(DRAWN)))
    made = sorted((root / "nifti").iterdir())
    for patient in range(DRAWN, VOLUMES):
        shutil.copytree(made[patient % DRAWN], root / "nifti" / f"TCGA_CS_{4000 + patient}_20000101")


def save(path: Path, volume: np.ndarray) -> None:
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]))
    path.write_bytes(gzip.compress(image.to_bytes(), 1))


def measure_cores() -> float:
    """Return the cores that this machine has free: the processor seconds a second of one hashing thread for each core."""
    block, start, used = bytes(1 << 24), time.perf_counter(), time.process_time()

    def hash_blocks(_: int) -> None:
        while time.perf_counter() < start + 10:
            blake2b(block)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(hash_blocks, range(os.cpu_count() or 1)))
    return (time.process_time() - used) / (time.perf_counter() - start)


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
    """Return the training batches of DRAWN patients of a layout, with three sequences."""
    names = sorted(path.name for path in (root / layout).iterdir())
    keys = (f"data={layout}", f"data.root={root / layout}", "data.channels=[pre,flair,post]", "split=patient", "augment=mri")
    cfg = composed(f"tracking.root={scratch}", f"image_size={SIZE}", f"data.exclude=[{','.join(names[DRAWN:])}]", *keys)
    prepared, split = objects.prepare_data(cfg)
    augment = objects.make(cfg.augment, "augment")()
    return Draws(prepared, split.train, cfg.batch_size, cfg.seed, cfg.trainer.lesion_share, augment)


def measure_training(draws: dict[str, Draws]) -> dict[str, list[float]]:
    """Return images a second, and a processor second, of batches alone and of training steps, by layout, in turn."""
    cfg = composed()
    from attnunet.training import runtime

    runtime.configure(cfg.seed, runtime.available_threads(None), "float32")
    network = objects.make(cfg.model, "model")(SIZE, 3)
    network.compile(objects.make(cfg.optimizer, "optimizer")(1000), objects.make(cfg.loss, "loss")(), jit_compile=False)
    streams = {layout: iterate(batches(own, 0)) for layout, own in draws.items()}
    seen: dict[str, list[float]] = {}

    def rate(kind: str, layout: str) -> float:
        steps, stream = STEPS[kind], streams[layout]
        list(islice(stream, 4))  # what was drawn ahead
        start, used = time.perf_counter(), time.process_time()
        for images, masks in islice(stream, steps):
            if kind == "steps":
                network.train_on_batch(images, masks)
        used = time.process_time() - used
        seen.setdefault(f"{kind} by processor time, {layout}", []).append(steps * cfg.batch_size / used)
        return steps * cfg.batch_size / (time.perf_counter() - start)

    for layout in streams:
        rate("steps", layout)  # the first step traces
    seen.clear()
    rates = interleaved({f"{kind}, {layout}": partial(rate, kind, layout) for kind in STEPS for layout in streams})
    for stream in streams.values():
        stream.close()
    return {**rates, **seen}


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_patients(scratch)
        cores = os.cpu_count() or 1
        few = measure_preparation(scratch / "nifti", VOLUMES // 4, cores, scratch / "few")
        free = [measure_cores()]
        all_of_them = measure_preparation(scratch / "nifti", VOLUMES, cores, scratch / "all")
        free.append(measure_cores())
        by_sixteen = measure_preparation(scratch / "nifti", 16, 16, scratch / "sixteen")
        draws = {layout: draw_batches(scratch, layout, scratch / "runs") for layout in ("nifti", "lgg")}
        seen = measure_training(draws)
    what = f"{VOLUMES} volumes of 240x240x155 with {len(SEQUENCES)} sequences"
    return [
        row("volumes", f"{what} to arrays of {SIZE}x{SIZE}", "s", [all_of_them["seconds"]]),
        row("volumes", "cores used: processor seconds / seconds", "x", [all_of_them["processor"] / all_of_them["seconds"]]),
        row("volumes", "cores that were free before and after", "x", free),
        row("volumes", "peak memory, mapped files too", "MB", [all_of_them["peak"]], "<= 1500"),
        row("volumes", f"peak of its own memory, {VOLUMES} volumes", "MB", [all_of_them["own"]]),
        row("volumes", f"peak of its own memory, {VOLUMES // 4} volumes", "MB", [few["own"]]),
        row("volumes", "peak of its own memory, 16 volumes by 16 threads", "MB", [by_sixteen["own"]]),
        *(row("volumes", name, "images/s", values) for name, values in seen.items()),
        *(
            row("volumes", f"{kind}, nifti / lgg", "x", ratios(seen[f"{kind}, nifti"], seen[f"{kind}, lgg"]), wanted)
            for kind, wanted in (
                ("batches", ""),
                ("batches by processor time", ""),
                ("steps", ""),
                ("steps by processor time", ">= 0.97"),
            )
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1] == PREPARE:
        prepare_alone(*sys.argv[2:])
    else:
        hand_over(main())
