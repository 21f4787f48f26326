"""The kind of machine, by which a resumed run says that its last bits may differ."""

from attnunet.tracking.provenance import machine, provenance


def test_a_machine_is_named_with_the_gpus_that_are_used() -> None:
    processor = machine([])
    assert processor.endswith(" cores")
    assert machine(["NVIDIA H100", "NVIDIA H100"]) == f"{processor}, NVIDIA H100, NVIDIA H100"


def test_what_computes_on_no_gpu_names_none() -> None:
    """As the parent of a sweep, which never loads TensorFlow."""
    assert provenance([])["machine"] == machine([])
    assert provenance([], ["NVIDIA H100"])["machine"] == machine(["NVIDIA H100"])
