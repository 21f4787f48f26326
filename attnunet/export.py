"""A run's network for other runtimes: `python -m attnunet.export run=RUN_ID format=onnx`."""

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

TOLERANCE = 1e-4
"""How far what the file answers may be from what the network does: absolute, or relative where a logit is above 1."""


def export(cfg: DictConfig, record: Record, console: Console) -> None:
    """Write the network in float32 and predictor.json, which says how images are prepared and masks decided; check; then
    name it done."""
    import numpy as np

    from attnunet.data.files import building
    from attnunet.evaluation import scoring
    from attnunet.inference.formats import FORMATS, to_float32
    from attnunet.tracking.records import RunError

    folder = Path(cfg.output)
    predictor = scoring.load_predictor(record)
    network = to_float32(predictor.network)
    write, name = FORMATS[cfg.format]

    folder.parent.mkdir(parents=True, exist_ok=True)
    with building(folder) as temporary:
        images = np.random.default_rng(0).integers(0, 256, (2, *network.input_shape[1:]), dtype=np.uint8)
        expected = network.predict_on_batch(images)  # first: Keras exports no network that has never been called
        rounding = np.abs(expected - predictor.network.predict_on_batch(images)).max()
        try:
            answer = write(network, temporary / name)
        except ModuleNotFoundError as error:
            raise RunError(f"format={cfg.format} needs the package {error.name}: pip install {error.name}") from error
        found = answer(images)
        if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            distance = np.abs(found - expected).max()
            raise RunError(f"format={cfg.format}: the file's logits differ by up to {distance:.2g} from the network's")
        (temporary / "predictor.json").write_text(predictor.facts)
    console.print(f"{folder / name}: same logits as the network in float32 (to {TOLERANCE})", soft_wrap=True, highlight=False)
    if rounding > TOLERANCE:
        trained = f"as it was trained, in {record.config.trainer.precision}, its logits differ by up to {rounding:.2g}"
        console.print(trained, soft_wrap=True, highlight=False)
    console.print(f"{folder / 'predictor.json'}: preparation and decision", soft_wrap=True, highlight=False)


def check_output(folder: Path) -> None:
    """Raise ConfigError where the folder is there already, or cannot be made."""
    if os.path.lexists(folder):
        raise config.ConfigError(f"output={folder}: exists; give a folder that does not")
    config.check_folder("output", str(folder))


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        check_output(Path(cfg.output))

        from attnunet.tracking import records

        record = records.find_checkpoint(commands.open_runs(cfg.tracking), cfg.run)
        commands.load_tensorflow()
        export(cfg, record, terminal.console())


def main() -> None:
    """The command `attnunet-export`."""
    commands.run_command(job, "export")


if __name__ == "__main__":
    main()
