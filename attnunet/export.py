"""Export a run's network for other runtimes: `python -m attnunet.export run=RUN_ID format=onnx`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from attnunet import config
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.tracking.records import Record


def export(cfg: DictConfig, record: Record, console: Console) -> None:
    """Export the network of a run in float32 as a bundle, and print how closely the file agrees with it."""
    from attnunet.evaluation.scoring import load_predictor
    from attnunet.evaluation.slices import slices_to_check
    from attnunet.inference.export import TOLERANCE, export_predictor

    predictor = load_predictor(record)
    images, kind = slices_to_check(record, predictor.preparation)
    file, check = export_predictor(predictor, cfg.format, Path(cfg.output), images)
    console.print(f"{file}: same logits as the network in float32 (to {TOLERANCE})")
    console.print(f"checked on {kind}")
    console.print(f"the threshold gives another value in {check.changed} of {check.pixels:,} pixels")
    if check.rounding > TOLERANCE:
        precision = record.config.trainer.precision
        console.print(f"as it was trained, in {precision}, its logits differ by up to {check.rounding:.2g}")
    console.print(f"{file.with_name('predict.py')}: makes masks without attnunet, with the packages of requirements.txt")


def check_output(folder: Path) -> None:
    """Raise ConfigError if the folder exists already or cannot be made."""
    if os.path.lexists(folder):
        raise config.ConfigError(f"output={folder}: exists; give a folder that does not")
    config.check_folder("output", str(folder))


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        check_output(Path(cfg.output))
        export(cfg, commands.open_checkpoint(cfg), terminal.console())


def main() -> None:
    """The command `attnunet-export`."""
    commands.run_command(job, "export")


if __name__ == "__main__":
    main()
