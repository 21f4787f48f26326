"""New images segmented by a run's network: `python -m attnunet.predict run=RUN_ID input=PATH output=DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from attnunet import commands, config
from attnunet.errors import exit_on_error

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.tracking.store import Store
    from attnunet.volumes import Source


def predict(cfg: DictConfig, store: Store, console: Console) -> None:
    """Volume by volume: read, segment with all that the run froze, write."""
    from attnunet import scoring, volumes
    from attnunet.data.slices import DataError
    from attnunet.tracking import records

    sources, passed = volumes.find(Path(cfg.input))
    for file in passed:
        console.print(f"passed over: {file}", soft_wrap=True, highlight=False)
    endings = ["", "_probability"] if cfg.probabilities else [""]
    output = Path(cfg.output)
    if output.resolve().is_relative_to(Path(cfg.input).resolve()):
        raise DataError(f"output={output}: lies in the input, where masks would be taken for images; give another folder")
    check_targets(sources, endings, output, cfg.overwrite)

    (record,) = records.by_id(store, [cfg.run])
    predictor = scoring.frozen(record)
    for source in sources:
        probabilities = predictor.probabilities_of(source.read(len(predictor.preparation.file_channels)))
        mask = predictor.decision(probabilities)
        (output / source.place).mkdir(parents=True, exist_ok=True)
        for ending, values in zip(endings, (mask, probabilities), strict=False):
            source.write(values, output, ending)
        name = source.files[0].parent if len(source.files) > 1 else source.files[0]
        console.print(f"{name}: {len(mask)} slices, {mask.sum()} lesion voxels", soft_wrap=True, highlight=False)
    console.print(f"masks  {output}", soft_wrap=True, highlight=False)


def check_targets(sources: list[Source], endings: list[str], output: Path, overwrite: bool) -> None:
    """Raises DataError where a file would be lost: one that is there, an input, or one of two of the same name."""
    from attnunet.data.slices import DataError

    inputs = {file.resolve() for source in sources for file in source.files}
    targets: set[Path] = set()
    for target in (output / path for source in sources for ending in endings for path in source.targets(ending)):
        if target.resolve() in inputs:
            raise DataError(f"output={output}: {target} is an image of the input; give another folder")
        if target in targets:
            raise DataError(f"output={output}: two images of the input would be written to {target}; rename one")
        if target.exists() and not overwrite:
            raise DataError(f"output={output}: {target} exists; overwrite=true replaces it")
        targets.add(target)


@hydra.main(version_base="1.3", config_path=config.CONF, config_name="predict")
def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        predict(cfg, *commands.ready_to_predict(cfg.tracking))


def main() -> None:
    """The command `attnunet-predict`."""
    commands.explained(job, "predict")


if __name__ == "__main__":
    main()
