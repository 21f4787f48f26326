"""Images a second: a plain albumentations loop, the pipeline, the bare training step. `make bench`, on a quiet machine.

Each row is the median of REPEATS, all rows measured in turn in each repeat, so that a slow minute hits all of them.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from attnunet import config
from attnunet.training import runtime

REPEATS = 5
BATCHES, STEPS = 40, 8  # a measurement of the pipeline, of the step


def setting(folder: str, *overrides: str):  # noqa: ANN201
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return compose("train", [f"tracking.root={folder}", "augment=mri", *overrides])


def rate(images: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def drained(stream: Iterator, batches: int) -> None:
    for _ in islice(stream, batches):
        pass


def main(folder: str) -> None:
    cfg = setting(folder)
    prepared, split = config.data_and_split(cfg)
    runtime.configure(cfg.seed, runtime.available(cfg.trainer.threads), cfg.trainer.precision)
    from attnunet.data.batches import Draws, batches, iterate

    augment = config.make(cfg.augment)()
    size = cfg.batch_size
    draws = Draws(prepared, split.train, size, cfg.seed, cfg.trainer.lesion_share, augment)

    def loop() -> None:
        image, mask = draws.prepared.images[0], draws.prepared.mask(0)[..., None]
        for seed in range(BATCHES * size):
            augment(image, mask, seed)

    def pipeline(workers: int) -> float:
        with closing(iterate(batches(draws, workers))) as stream:
            drained(stream, 10)  # what is drawn ahead, and the workers' start
            return rate(BATCHES * size, lambda: drained(stream, BATCHES))

    def step(model: str) -> Callable[[], float]:
        own = setting(folder, f"model={model}")
        network = config.make(own.model)(own.image_size, len(prepared.channels))
        network.compile(config.make(own.optimizer)(1000), config.make(own.loss)(), jit_compile=False)
        with closing(iterate(batches(draws, 0))) as stream:
            images, masks = next(stream)

        def steps() -> None:
            for _ in range(STEPS):
                network.train_on_batch(images, masks)

        steps()  # traced
        return lambda: rate(STEPS * size, steps)

    measured: dict[str, Callable[[], float]] = {
        "plain albumentations loop": lambda: rate(BATCHES * size, loop),
        "pipeline, a thread": lambda: pipeline(0),
        "pipeline, 2 workers": lambda: pipeline(2),
        "step, separable": step("separable"),
        "step, conv": step("conv"),
    }
    seen: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(REPEATS):
        for name, measure in measured.items():
            seen[name].append(measure())
    table = Table("images a second", "median", "least", "most", title=f"{cfg.image_size}x{cfg.image_size}, batch {size}")
    for name, rates in seen.items():
        table.add_row(name, *(f"{value:.1f}" for value in (statistics.median(rates), min(rates), max(rates))))
    Console().print(table)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    with tempfile.TemporaryDirectory() as scratch:
        main(scratch)
