"""The settings of the machine. They are made before TensorFlow starts, and apply to every run of a process."""

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Literal

from attnunet.errors import UserError, first_line

THREADS = "OMP_NUM_THREADS"
NUMBERS = re.compile(r"[1-9]\d{0,2}(\s*,\s*[1-9]\d{0,2})*", re.ASCII)
TENSORFLOW = ("XLA", "ENABLE", "DISABLE", "USE", "DETERMINISTIC", "AUTOTUNE", "CUDNN", "CUBLAS", "MLIR", "FP16", "CONV")
LIBRARIES = (*(f"TF_{kind}_" for kind in TENSORFLOW), "XLA_", "ONEDNN_", "DNNL_", "CUDNN_", "CUBLAS_", "NVIDIA_TF32_")
LIBRARIES += ("NPY_", "OPENCV_")
"""Prefixes of the environment variables that configure TensorFlow and the libraries that it uses.

The prefix TF_ alone would match too much, because Terraform's variables start with TF_ too, and some of those are secret.
"""
SILENT = ("ONEDNN_VERBOSE", "DNNL_VERBOSE", "OPENCV_LOG_LEVEL")
"""Prefixes of variables that match LIBRARIES but change no bit of a result."""
DEFAULTS = {"TF_ENABLE_ONEDNN_OPTS": "1"}
"""On some processors TensorFlow leaves oneDNN off. There, oneDNN processes 1.5 times as many images per second."""

DEVICE = Path("/dev/nvidia0")
"""The first GPU of the NVIDIA driver, on Linux."""


def available_threads(threads: int | None) -> int:
    """Return the number of TensorFlow's intra-op threads: `threads`, else OMP_NUM_THREADS, else the number of cores.

    Launchers set OMP_NUM_THREADS to divide the cores among processes. It can be a list, with a number of
    threads for each level of OpenMP. Then the first number counts. An empty value counts as not set.

    Raises:
        UserError: OMP_NUM_THREADS is neither a number from 1 to 999 nor a list of such numbers.
    """
    given = os.environ.get(THREADS, "").strip()
    if given and not NUMBERS.fullmatch(given):
        raise UserError(f"{THREADS}={given}: allowed: a number from 1 to 999, or a list of them; empty for all cores")
    shared = int(given.partition(",")[0] or 0)
    # Some systems cannot say which cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads or shared or cores


def library_settings() -> str:
    """Return the environment variables that configure the numerical libraries. The last bits of a result depend on them.

    The text has the form NAME=VALUE NAME=VALUE ... and includes the values of DEFAULTS. An empty value counts as not set.
    """
    given = {name: value for name, value in os.environ.items() if value and name.startswith(LIBRARIES)}
    return " ".join(f"{name}={value}" for name, value in sorted((DEFAULTS | given).items()) if not name.startswith(SILENT))


def configure(seed: int, threads: int, precision: str) -> None:
    """Import TensorFlow and configure it, clear the state of the last run, and seed all random numbers.

    TensorFlow gets a single inter-op thread, because with two threads a repeated run differs in its last bits. The function
    overwrites the settings of keras.json and of Keras's own environment variables.

    Raises:
        RuntimeError: an earlier run of this process had another number of threads. TensorFlow sets the number only once.
        UserError: Keras does not accept the file keras.json.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    for limit in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
        os.environ.pop(limit, None)
    for name, value in {**DEFAULTS, "TF_CPP_MIN_LOG_LEVEL": "2"}.items():
        os.environ[name] = os.environ.get(name) or value
    logging.getLogger("absl").setLevel(logging.ERROR)  # Grain reports that a profiler of JAX is missing
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns when jobs of a sweep trace new networks
    with silence_tensorflow():
        try:  # Keras first: TensorFlow imports an old copy of Keras, whose assertions do not explain a fault in keras.json
            import keras
            import tensorflow as tf
        except (AssertionError, AttributeError, ValueError) as error:
            home = os.environ.get("KERAS_HOME", "~/.keras")
            raise UserError(f"{home}/keras.json: {first_line(error)}; delete the file") from error

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # else the first job takes all memory of a shared GPU

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.backend.clear_session()
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(seed)


def load_tensorflow() -> None:
    """Load TensorFlow for predictions, with the settings of trainings."""
    configure(0, available_threads(None), "float32")


def gpus(strategy: Literal["mirrored"] | None) -> list[str]:
    """Return the models of the GPUs that train a network. With a strategy, all GPUs train it, otherwise only the first."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    used = found if strategy else found[:1]
    return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in used]


def explain_no_gpu() -> str:
    """Return why TensorFlow, which sees no GPU, uses none, and how it can use a GPU that is there."""
    found = ", ".join(find_gpus())
    if not found:
        return "no NVIDIA GPU found"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible} hides {found}"
    try:
        metadata.version("nvidia-cudnn-cu12")
    except metadata.PackageNotFoundError:
        return f"TensorFlow cannot use {found} without its CUDA libraries: pip install 'attnunet[gpu]'"
    ask = "import tensorflow; tensorflow.config.list_physical_devices('GPU')"
    return f'TensorFlow has its CUDA libraries and cannot use {found}; the reason: python -c "{ask}"'


def find_gpus() -> list[str]:
    """Return the models of the NVIDIA GPUs of this machine, whether or not TensorFlow can use them."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
    return ["an NVIDIA GPU"] if DEVICE.exists() else []  # a container may lack nvidia-smi


@contextmanager
def silence_tensorflow() -> Iterator[None]:
    """Hold back the text that TensorFlow's C++ code writes to stderr during a `with` block. Show it only after an error.

    TensorFlow writes this text before its log level is set.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
