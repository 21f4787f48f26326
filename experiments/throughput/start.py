"""From the command to the first train step of a default run, second by second, each repeat in a process of its own."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import REPEATS, Row, hand_over, row

PARTS = (
    "imports of the command",
    "composing and checking",
    "data and split, prepared before",
    "imports of the store",
    "opening the store, a new run",
    "imports of TensorFlow and Keras",
    "imports of training",
    "building the network",
    "compiling, optimizer's variables",
    "first step",
    "second step",
    "first prediction",
)


def stages(root: str) -> dict[str, float]:
    """Seconds of each part, in the order in which a run goes through them."""
    taken: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        taken[name] = time.perf_counter() - start
        return result

    def commands() -> Any:
        import attnunet.train  # noqa: F401
        from attnunet import config

        return config

    def compose() -> Any:
        from measure import composed

        cfg = composed(f"tracking.root={root}")
        checks.check(cfg)
        return cfg

    def tracking() -> Any:
        from attnunet.tracking import run, store

        return run, store

    def tensorflow() -> None:
        from attnunet.training import runtime

        runtime.configure(cfg.seed, runtime.available_threads(cfg.trainer.threads), cfg.trainer.precision)

    def training() -> None:
        import attnunet.evaluation.pictures
        import attnunet.training.fit  # noqa: F401

    checks, objects = timed(PARTS[0], commands)
    cfg = timed(PARTS[1], compose)
    prepared, split = timed(PARTS[2], lambda: objects.prepare_data(cfg))
    run, store = timed(PARTS[3], tracking)

    def opened() -> None:
        opened = store.open_store(Path(root), None, 1.0)
        with run.open_run(opened, opened.study("start"), "start", {"seed": 0}, {}):
            pass

    timed(PARTS[4], opened)
    timed(PARTS[5], tensorflow)
    timed(PARTS[6], training)
    network = timed(PARTS[7], lambda: objects.make(cfg.model, "model")(cfg.image_size, len(prepared.channels)))

    def compile() -> None:
        network.compile(objects.make(cfg.optimizer, "optimizer")(1000), objects.make(cfg.loss, "loss")(), jit_compile=False)
        network.optimizer.build(network.trainable_variables)

    timed(PARTS[8], compile)
    from attnunet.data.batches import Draws, batches
    from attnunet.training.fit import as_tf_data

    draws = Draws(
        prepared, split.train, cfg.batch_size, 0, objects.make(cfg.sampler, "sampler"), objects.make(cfg.augment, "augment")()
    )
    data = as_tf_data(batches(draws, 0), draws)
    for name in PARTS[9:11]:
        timed(name, lambda: network.fit(data, steps_per_epoch=1, epochs=1, verbose=0, shuffle=False))
    timed(PARTS[11], lambda: network.predict_on_batch(prepared.images[: cfg.evaluation.batch_size]))
    return taken


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, __file__, "--stages", root]
        subprocess.run(command, check=True, capture_output=True)  # draws and prepares
        runs = []
        for _ in range(REPEATS):
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append(json.loads(output.splitlines()[-1]))
        run = [sys.executable, "-m", "attnunet.train", "epochs=2", f"tracking.root={root}"]
        subprocess.run(run, check=True, capture_output=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [
        *(row("start", part, "s", [taken[part] for taken in runs]) for part in PARTS),
        row("start", "first step less second step", "s", [r["first step"] - r["second step"] for r in runs], "<= 8"),
        row("start", "in all, to the end of the first step", "s", [sum(r[part] for part in PARTS[:10]) for r in runs]),
        row("start", "peak memory of a default run", "MB", [peak]),
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--stages":
        print(json.dumps(stages(sys.argv[2])))
    else:
        hand_over(main())
