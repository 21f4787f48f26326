"""Worker processes. They end together with the process that started them, and pass batches on in shared memory."""

import multiprocessing
import os
import shutil
import signal
import threading
import time
from functools import cache
from pathlib import Path

from attnunet.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
HELD = 14  # batches in shared memory per worker; measured: 13 at once with one worker, 33 with three workers


@cache
def end_with_parent() -> None:
    """Let this process end within two seconds after its parent ends, even if the parent is killed.

    The function is needed because multiprocessing and loky cannot end their processes after the parent was killed. In a
    process that multiprocessing did not start, the function does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch parent").start()


def start_worker(*_: int) -> None:
    """Prepare a worker process of Grain, which gives the worker's place and the number of workers.

    Ctrl-C in a terminal reaches all processes. A worker ignores it, because the parent ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def check_shared_memory(workers: int, batch: int) -> None:
    """Raise UserError if `workers` processes with batches of `batch` bytes would fill the system's shared memory.

    A bus error would kill the workers as soon as the shared memory is full.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    needed, free = workers * HELD * batch, shutil.disk_usage(SHARED_MEMORY).free
    if free < needed:
        raise UserError(
            f"trainer.workers={workers}: their batches need {needed:,} bytes of {SHARED_MEMORY}, which has {free:,} free; "
            "allowed: trainer.workers=0, a smaller batch_size, or more shared memory (docker run --shm-size)"
        )
