"""The kind of machine, by which a resumed run says that its last bits may differ."""

from pathlib import Path

import pytest

from attnunet.tracking import provenance


@pytest.mark.parametrize(
    ("shown", "expected"),
    [(None, ["NVIDIA H100", "NVIDIA H100"]), ("0", ["NVIDIA H100", "NVIDIA H100"]), ("", [])],
)
def test_a_machine_is_named_with_its_gpus(
    shown: str | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the driver lists them; jobs to which a launcher shows none run on the processor."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(provenance, "DRIVER", tmp_path)
    without = provenance.machine()
    assert without.endswith(" cores")
    for place in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "information").write_text("Model: \t\t NVIDIA H100\nIRQ:   \t\t 1\nGPU UUID: \t GPU-1\n")
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert provenance.gpus() == expected
    assert provenance.machine() == ", ".join([without, *expected])
