"""Prepared data to augmented batches: against a plain albumentations loop, and with ten times the slices."""

import os
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from measure import Row, composed, hand_over, interleaved, memory, ratios, row, seconds

from attnunet.config import objects
from attnunet.data.batches import Draws, batches, iterate
from attnunet.data.cache import Prepared

BATCHES = 40  # a measurement, and worker
WORKERS = sorted({2, os.cpu_count() or 1})
SLICES = 3929  # of the LGG data set


def copies(prepared: Prepared, slices: int, folder: Path) -> Prepared:
    """A prepared data set of so many slices, made of copies."""
    folder.mkdir()
    source = np.arange(slices) % len(prepared.slices)
    images = np.lib.format.open_memmap(
        folder / prepared.images_file, mode="w+", dtype=np.uint8, shape=(slices, *prepared.images.shape[1:])
    )
    for start in range(0, slices, 512):
        images[start : start + 512] = prepared.images[source[start : start + 512]]
    images.flush()
    side = prepared.mask(0).shape
    masks = np.lib.format.open_memmap(folder / "masks.npy", mode="w+", dtype=np.uint8, shape=(slices * side[0] * side[1],))
    masks.reshape(slices, -1)[:] = np.stack([prepared.mask(i).ravel() for i in range(len(prepared.slices))])[source]
    masks.flush()
    facts = prepared.facts
    rows = {name: [facts[name][i] for i in source] for name in ("slices", "shapes", "lesion_pixels")}
    copied = replace(prepared, folder=folder)
    copied.__dict__["facts"] = {**facts, **rows}
    return copied


def growth(draws: Draws) -> float:
    """MB of its own memory, mapped files apart, that the process takes for three epochs of the real data set's length."""
    before = memory(name="RssAnon")
    with closing(iterate(batches(draws, 0))) as stream:
        for _ in islice(stream, 3 * SLICES // draws.batch_size):
            pass
    return memory(name="RssAnon") - before


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        cfg = composed(f"tracking.root={scratch}", "augment=mri")
        prepared, split = objects.prepare_data(cfg)
        augment = objects.make(cfg.augment, "augment")()
        size = cfg.batch_size
        draws = Draws(prepared, split.train, size, cfg.seed, objects.make(cfg.sampler, "sampler"), augment)

        def loop() -> None:
            for index in range(BATCHES * size):
                place = index % len(prepared.slices)
                augment(prepared.images[place], prepared.mask(place)[..., None], index)

        def rate(workers: int) -> float:
            number = max(workers, 1) * BATCHES
            with closing(iterate(batches(draws, workers))) as stream:
                list(islice(stream, number // 2))  # what is drawn ahead, and the workers' start
                return number * size / seconds(lambda: list(islice(stream, number)))

        def cost() -> float:
            """CPU milliseconds an image, of all threads."""
            with closing(iterate(batches(draws, 0))) as stream:
                list(islice(stream, 12))
                start = time.process_time()
                list(islice(stream, BATCHES))
                return (time.process_time() - start) / (BATCHES * size) * 1000

        measures = {"loop": lambda: BATCHES * size / seconds(loop), "thread": partial(rate, 0), "cost": cost}
        seen = interleaved({**measures, **{f"{workers} workers": partial(rate, workers) for workers in WORKERS}})
        memories = {}
        for times in (1, 10):
            many = copies(prepared, times * SLICES, Path(scratch) / f"copies-{times}")
            own = replace(draws, prepared=many, indices=tuple(range(times * SLICES)))
            list(islice(iterate(batches(own, 0)), 100))
            memories[times] = [growth(own) for _ in range(3)]
    sixteen = [16 * 1000 / ms for ms in seen["cost"]]
    return [
        row("pipeline", "plain albumentations loop, one core", "images/s", seen["loop"]),
        row("pipeline", "a thread", "images/s", seen["thread"]),
        row("pipeline", "a thread / plain loop", "x", ratios(seen["thread"], seen["loop"]), ">= 0.9"),
        *(row("pipeline", f"{workers} workers", "images/s", seen[f"{workers} workers"]) for workers in WORKERS),
        row("pipeline", "2 workers / plain loop", "x", ratios(seen["2 workers"], seen["loop"]), ">= 1.8"),
        row("pipeline", "processor time an image", "ms", seen["cost"]),
        row("pipeline", "16 cores feeding one GPU (extrapolated from the processor time)", "images/s", sixteen),
        row("pipeline", f"memory growth in 3 epochs of {SLICES} images, {SLICES} slices", "MB", memories[1]),
        row("pipeline", f"memory growth in 3 epochs of {SLICES} images, {10 * SLICES} slices", "MB", memories[10]),
    ]


if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)
    hand_over(main())
