"""Segment new images with a run's network: `python -m attnunet.predict run=RUN_ID input=PATH output=DIR`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from attnunet import config
from attnunet.data.slices import DataError
from attnunet.errors import exit_on_error, explain
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.inference.volumes import Source
    from attnunet.tracking.records import Record


def find_inputs(cfg: DictConfig, console: Console) -> list[Source]:
    """Check the input and the output, and return the volumes to segment; no file is read yet."""
    from attnunet.inference import volumes

    given, output = Path(cfg.input), Path(cfg.output)
    if not given.exists():
        raise DataError(f"input={given}: no such file or folder")
    sources, passed = volumes.find_volumes(given)
    for file in passed:
        console.print(f"passed over: {file}")
    if output.resolve().is_relative_to(given.resolve()):
        raise DataError(f"output={output}: lies in the input, where masks would be taken for images; give another folder")
    check_outputs(sources, file_endings(cfg), output, cfg.overwrite)
    for place in {source.place for source in sources}:
        config.check_folder("output", str(output / place))
    return sources


def file_endings(cfg: DictConfig) -> list[str]:
    """Return the endings of output names, before the suffix: "" for masks and "_probability" for probabilities."""
    return ["", "_probability"] if cfg.probabilities else [""]


def predict(cfg: DictConfig, sources: list[Source], record: Record, console: Console) -> None:
    """Segment the volumes one by one, and write the results. If a volume cannot be read, go on with the next one.

    Raises:
        DataError: some volumes could not be read. The error is raised after the last volume.
    """
    from attnunet.data.intensity import ValuesError
    from attnunet.data.slices import DataError
    from attnunet.evaluation import scoring
    from attnunet.inference import volumes

    output, unread = Path(cfg.output), 0
    predictor = scoring.load_predictor(record)
    channels, plane = predictor.preparation.file_channels, predictor.preparation.plane
    sources = volumes.join(sources, channels)
    check_outputs(sources, file_endings(cfg), output, cfg.overwrite)
    for source in sources:
        try:
            probabilities = predictor.probabilities_of(source.read(len(channels), plane), source.spacing(plane))
        except (DataError, OSError) as error:
            where = f"{source.files[0]}: " if isinstance(error, ValuesError) else ""
            print(f"attnunet: {where}{explain(error) or error}", file=sys.stderr)
            unread += 1
            continue
        mask = predictor.decision(probabilities)
        for ending, values in zip(file_endings(cfg), (mask, probabilities), strict=False):
            source.write(values, output, ending, plane)
        name = source.files[0].parent if len(source.files) > 1 else source.files[0]
        console.print(f"{name}: {len(mask)} slices, {mask.sum()} lesion voxels")
    if unread:
        raise DataError(f"input={cfg.input}: {unread} of {len(sources)} volumes cannot be read, as said above")
    console.print(f"masks  {output}")


def check_outputs(sources: list[Source], endings: list[str], output: Path, overwrite: bool) -> None:
    """Raise DataError if an output would replace an existing file, an input or another output.

    With `overwrite`, an output may replace an existing file that is not an input.
    """
    inputs = {file.resolve() for source in sources for file in source.files}
    targets: set[Path] = set()
    for target in (output / path for source in sources for ending in endings for path in source.targets(ending)):
        if target.resolve() in inputs:
            raise DataError(f"output={output}: {target} is an image of the input; give another folder")
        if target in targets:
            raise DataError(f"output={output}: two images of the input would be written to {target}; rename one")
        if target.is_dir():
            raise DataError(f"output={output}: {target} is a folder; give another output")
        if target.exists() and not overwrite:
            raise DataError(f"output={output}: {target} exists; overwrite=true replaces it")
        targets.add(target)


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        console = terminal.console()
        sources = find_inputs(cfg, console)
        predict(cfg, sources, commands.open_checkpoint(cfg), console)


def main() -> None:
    """The command `attnunet-predict`."""
    commands.run_command(job, "predict")


if __name__ == "__main__":
    main()
