"""The machine's settings, made before TensorFlow starts and the same for every run of a process."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, Literal


def available(threads: int | None) -> int:
    """TensorFlow's intra-op threads: `threads`; else OMP_NUM_THREADS, by which a launcher shares out cores; else all cores."""
    # Not every system can say which of its cores are ours.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or cores


def configure(seed: int, threads: int, precision: str) -> None:
    """Import TensorFlow with its settings, forget the last run's state, seed everything.

    One inter-op thread: with two, repeats of a run differ in their last bits. oneDNN: 1.5 times the images a second
    on processors where TensorFlow leaves it off.

    Raises:
        RuntimeError: another number of threads than an earlier run of this process; TensorFlow sets it once.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)  # Grain tells of a profiler of JAX's that is not there
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # that some jobs of a sweep trace a network of their own
    with quiet():
        import keras
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # else the first job takes all of a GPU that jobs share

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(seed)


def settings() -> dict[str, str]:
    """What `configure` chose beside the number of threads, for the record of a run."""
    return {"onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"], "inter_op_threads": "1"}


def strategy(name: Literal["mirrored"] | None) -> AbstractContextManager:
    """The scope in which a network is made and compiled: "mirrored" trains a copy of it on each GPU, or without any on each
    logical CPU, every copy on its share of a batch."""
    return nullcontext() if name is None else mirrored().scope()


@cache
def mirrored() -> Any:
    """One for all jobs of a process: two would number their reductions alike, and TensorFlow confuse them."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes to stderr before its log level holds; shown after all on an error."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
