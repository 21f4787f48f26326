"""Processes that others start: they end with the one that started them, and hand over batches in shared memory."""

import multiprocessing
import os
import shutil
import threading
import time
from functools import cache
from pathlib import Path

from attnunet.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
HELD = 14  # batches a worker: by trying, 13 at once with one worker, 33 with three


@cache
def end_with_parent(*_: int) -> None:
    """Let this process end within two seconds of the one that started it, even if that one is killed.

    multiprocessing and loky end their processes only while the parent lives. In any other process this does nothing.
    Grain calls it in each worker, with the worker's place and the number of workers.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()


def check_shared_memory(workers: int, batch: int) -> None:
    """Raises UserError where `workers` that hand over batches of so many bytes would fill the system's shared memory.

    They would die of a bus error.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    needed, free = workers * HELD * batch, shutil.disk_usage(SHARED_MEMORY).free
    if free < needed:
        raise UserError(
            f"trainer.workers={workers}: their batches need {needed:,} bytes of {SHARED_MEMORY}, which has {free:,} free; "
            "allowed: trainer.workers=0, a smaller batch_size, or more shared memory (docker run --shm-size)"
        )
