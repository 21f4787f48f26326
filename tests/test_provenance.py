"""The kind of machine, by which a resumed run says that its last bits may differ."""

import os

from attnunet.tracking.provenance import machine, provenance


def test_a_machine_is_named_with_the_threads_and_the_gpus_that_are_used() -> None:
    processor = machine().removesuffix(f", {os.cpu_count()} cores")
    assert processor != machine()
    assert machine(1) == f"{processor}, 1 thread"
    assert machine(3, ["NVIDIA H100", "NVIDIA H100"]) == f"{processor}, 3 threads, NVIDIA H100, NVIDIA H100"


def test_what_computes_on_no_gpu_names_none() -> None:
    """As the parent of a sweep, which never loads TensorFlow."""
    assert provenance([])["machine"] == machine()
    assert provenance([], machine(2, ["NVIDIA H100"]))["machine"] == machine(2, ["NVIDIA H100"])
