"""Settings from outside: what the environment may decide, what it may not, and what a run records of it."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from attnunet.errors import UserError
from attnunet.training import runtime
from tests.conftest import REPO, command


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that sets nothing of the libraries."""
    for name in list(os.environ):
        if name.startswith(runtime.LIBRARIES) or name == "OMP_NUM_THREADS":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(("given", "expected"), [("3", 3), (" 3 ", 3), ("4,3", 4), ("4 , 3,2", 4), ("999", 999)])
def test_a_launchers_number_of_threads_counts(given: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert runtime.available_threads(None) == expected
    assert runtime.available_threads(7) == 7


@pytest.mark.parametrize("given", [None, "", "  "])
def test_without_a_number_all_cores_count(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert runtime.available_threads(None) == 3


@pytest.mark.parametrize("given", ["abc", "1.0", "-1", "0", "4,", "4,-1", "4,x", "1_0", "+4", "1000", "\u0664", "4;3"])
@pytest.mark.parametrize("threads", [None, 2])
def test_a_number_of_threads_that_is_none_is_refused(given: str, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever trainer.threads is: other libraries read it too."""
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    with pytest.raises(UserError, match=r"^OMP_NUM_THREADS=.*: allowed: a number from 1 to 999, or a list of them"):
        runtime.available_threads(threads)


@pytest.mark.parametrize("arguments", [("trainer=smoke",), ("-m", "seed=0,1")])
def test_a_command_ends_by_one_sentence_before_it_writes(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = command(*arguments, cwd=tmp_path, environment={"OMP_NUM_THREADS": "abc"})
    assert done.returncode == 1
    assert "attnunet: OMP_NUM_THREADS=abc: allowed:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_our_defaults_are_those_of_an_environment_that_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.library_settings() == "TF_ENABLE_ONEDNN_OPTS=1"
    for given in ("1", ""):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
        assert runtime.library_settings() == "TF_ENABLE_ONEDNN_OPTS=1"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", "0", "TF_ENABLE_ONEDNN_OPTS=0"),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2", "TF_ENABLE_ONEDNN_OPTS=1 TF_XLA_FLAGS=--tf_xla_auto_jit=2"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41", "ONEDNN_MAX_CPU_ISA=SSE41 TF_ENABLE_ONEDNN_OPTS=1"),
        ("NVIDIA_TF32_OVERRIDE", "0", "NVIDIA_TF32_OVERRIDE=0 TF_ENABLE_ONEDNN_OPTS=1"),
        ("NPY_DISABLE_CPU_FEATURES", "AVX2", "NPY_DISABLE_CPU_FEATURES=AVX2 TF_ENABLE_ONEDNN_OPTS=1"),
        ("TF_CPP_MIN_LOG_LEVEL", "0", "TF_ENABLE_ONEDNN_OPTS=1"),
        ("ONEDNN_VERBOSE", "1", "TF_ENABLE_ONEDNN_OPTS=1"),
        ("NVIDIA_VISIBLE_DEVICES", "all", "TF_ENABLE_ONEDNN_OPTS=1"),
        ("TF_VAR_password", "secret", "TF_ENABLE_ONEDNN_OPTS=1"),
    ],
)
def test_what_changes_bits_is_among_the_settings(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert runtime.library_settings() == expected


CONFIGURED = """
import os
from attnunet.training import runtime

before = runtime.library_settings()
runtime.configure(0, 1, "mixed_float16")
import keras

print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
print(keras.config.max_epochs(), keras.config.max_steps_per_epoch(), keras.config.dtype_policy().name)
print(before == runtime.library_settings(), os.environ["TF_ENABLE_ONEDNN_OPTS"])
"""


def configured(home: Path, settings: str) -> subprocess.CompletedProcess[str]:
    (home / "keras.json").write_text(settings)
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "some", "KERAS_BACKEND": "torch"}
    environment = {**os.environ, "PYTHONPATH": str(REPO), "KERAS_HOME": str(home), "TF_ENABLE_ONEDNN_OPTS": "", **limits}
    command = [sys.executable, "-c", CONFIGURED]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_keras_settings_from_outside_change_nothing(tmp_path: Path) -> None:
    """And TensorFlow's import leaves the settings as they were, so that all jobs of a process record the same."""
    settings = {"floatx": "float64", "epsilon": 0.01, "backend": "jax", "image_data_format": "channels_first"}
    done = configured(tmp_path, json.dumps(settings))
    assert done.stdout.splitlines() == [
        "tensorflow float32 1e-07 channels_last",
        "None None mixed_float16",
        "True 1",
    ], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("settings", ['{"floatx": "int8"}', "[]"])
def test_a_file_that_keras_refuses_is_named(settings: str, tmp_path: Path) -> None:
    done = configured(tmp_path, settings)
    assert f"UserError: {tmp_path}/keras.json: " in done.stderr


def test_the_gpus_are_those_that_tensorflow_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    seen = [tf.config.PhysicalDevice(f"/physical_device:GPU:{place}", "GPU") for place in (0, 1)]
    details = {seen[0].name: {"device_name": "NVIDIA H100"}, seen[1].name: {}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details[device.name])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: {"GPU": seen}[kind])
    assert runtime.gpus("mirrored") == ["NVIDIA H100", "/physical_device:GPU:1"]
    assert runtime.gpus(None) == ["NVIDIA H100"]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: {"GPU": []}[kind])
    assert runtime.gpus("mirrored") == runtime.gpus(None) == []


def smi(folder: Path, script: str) -> None:
    """Write a stand-in for the program of NVIDIA's driver."""
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs and their driver, but without the libraries that TensorFlow needs."""
    smi(tmp_path, '[ "$1" = --query-gpu=name ] && echo "NVIDIA H100" && echo "NVIDIA L4"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_gpu_that_tensorflow_cannot_use_is_said_with_what_to_install(gpu: None) -> None:
    words = "TensorFlow cannot use NVIDIA H100, NVIDIA L4 without its CUDA libraries: pip install 'attnunet[gpu]'"
    assert runtime.explain_no_gpu() == words


def test_the_extra_that_the_words_name_brings_the_libraries() -> None:
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [requirement.partition("~")[0] for requirement in extras["gpu"]] == ["tensorflow[and-cuda]", "nvidia-ml-py"]
    locked = (REPO / "requirements-gpu.lock").read_text()
    assert "nvidia-cudnn-cu12==" in locked
    assert "nvidia-ml-py==" in locked


def test_a_gpu_that_fails_with_its_libraries_is_said_with_how_to_find_the_reason(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.metadata, "version", {"nvidia-cudnn-cu12": "9.3"}.__getitem__)
    words = runtime.explain_no_gpu()
    assert words.startswith("TensorFlow has its CUDA libraries and cannot use NVIDIA H100, NVIDIA L4; the reason: python -c")
    assert "pip install" not in words


@pytest.mark.parametrize(("value", "hidden"), [("", True), ("-1", True), ("0", False)])
def test_a_gpu_that_the_user_hid_is_said(value: str, hidden: bool, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert (runtime.explain_no_gpu() == f"CUDA_VISIBLE_DEVICES={value} hides NVIDIA H100, NVIDIA L4") is hidden


@pytest.mark.parametrize("script", [None, "exit 9"])
def test_without_an_answer_of_the_driver_its_device_counts(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script:
        smi(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runtime, "DEVICE", tmp_path / "nvidia0")
    assert runtime.explain_no_gpu() == "no NVIDIA GPU found"
    (tmp_path / "nvidia0").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert runtime.explain_no_gpu().startswith("TensorFlow cannot use an NVIDIA GPU without its CUDA libraries: pip install")
