"""The settings of the machine, which are made before TensorFlow starts and hold for every run of a process."""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from attnunet.errors import UserError, first_line

THREADS = "OMP_NUM_THREADS"
NUMBERS = re.compile(r"[1-9]\d{0,2}(\s*,\s*[1-9]\d{0,2})*", re.ASCII)
TENSORFLOW = ("XLA", "ENABLE", "DISABLE", "USE", "DETERMINISTIC", "AUTOTUNE", "CUDNN", "CUBLAS", "MLIR", "FP16", "CONV")
LIBRARIES = (*(f"TF_{kind}_" for kind in TENSORFLOW), "XLA_", "ONEDNN_", "DNNL_", "CUDNN_", "CUBLAS_", "NVIDIA_TF32_")
LIBRARIES += ("NPY_", "OPENCV_")
"""The first letters of the environment variables that set TensorFlow and the libraries below it.

TF_ alone would be too wide: Terraform has such variables too, some of them secret.
"""
SILENT = ("ONEDNN_VERBOSE", "DNNL_VERBOSE", "OPENCV_LOG_LEVEL")
"""The first letters of the variables that change no bit of a result."""
DEFAULTS = {"TF_ENABLE_ONEDNN_OPTS": "1"}
"""oneDNN gives 1.5 times the images a second on processors where TensorFlow leaves it off."""


def available_threads(threads: int | None) -> int:
    """Return the number of TensorFlow's intra-op threads: `threads`, else OMP_NUM_THREADS, else the number of cores.

    Launchers share out the cores by OMP_NUM_THREADS. If it is a list, which OpenMP reads as threads for each level, the
    first number counts. If it is empty, it counts as not set.

    Raises:
        UserError: OMP_NUM_THREADS is neither a number nor a list.
    """
    given = os.environ.get(THREADS, "").strip()
    if given and not NUMBERS.fullmatch(given):
        raise UserError(f"{THREADS}={given}: allowed: a number from 1 to 999, or a list of them; empty for all cores")
    shared = int(given.partition(",")[0] or 0)
    # Not every system can tell which of its cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or shared or cores


def library_settings() -> str:
    """Return the environment's settings of the numerical libraries, on which the last bits of a result depend.

    They are written as NAME=VALUE and include our defaults. An empty value counts as not set.
    """
    given = {name: value for name, value in os.environ.items() if value and name.startswith(LIBRARIES)}
    return " ".join(f"{name}={value}" for name, value in sorted((DEFAULTS | given).items()) if not name.startswith(SILENT))


def configure(seed: int, threads: int, precision: str) -> None:
    """Import TensorFlow with its settings, forget the state of the last run, and seed all random numbers.

    There is one inter-op thread, since repeats of a run differ in their last bits with two. The settings of keras.json and
    of Keras's own environment variables are overwritten.

    Raises:
        RuntimeError: an earlier run of this process had another number of threads, which TensorFlow sets only once.
        UserError: Keras refuses keras.json.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    for limit in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
        os.environ.pop(limit, None)
    for name, value in {**DEFAULTS, "TF_CPP_MIN_LOG_LEVEL": "2"}.items():
        os.environ[name] = os.environ.get(name) or value
    logging.getLogger("absl").setLevel(logging.ERROR)  # Grain reports that a profiler of JAX is missing
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns when jobs of a sweep trace new networks
    with silence_tensorflow():
        try:  # Keras first: TensorFlow imports an old copy, which only asserts what this one explains
            import keras
            import tensorflow as tf
        except (AssertionError, AttributeError, ValueError) as error:
            home = os.environ.get("KERAS_HOME", "~/.keras")
            raise UserError(f"{home}/keras.json: {first_line(error)}; delete the file") from error

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # else the first job takes all memory of a GPU that jobs share

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.backend.clear_session()
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(seed)


def gpus(strategy: Literal["mirrored"] | None) -> list[str]:
    """Return the models of the GPUs that train a network: of all that TensorFlow sees with a strategy, else of the first."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    used = found if strategy else found[:1]
    return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in used]


@contextmanager
def silence_tensorflow() -> Iterator[None]:
    """Hold back what TensorFlow's C++ code writes to stderr before its log level is set; show it on an error."""
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
