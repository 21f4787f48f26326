"""Export a split and its data for other tools: `python -m attnunet.export_split data=lgg data.root=DIR split=patient`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from attnunet.data.files import building
from attnunet.errors import exit_on_error
from attnunet.export import check_output
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.data.cache import Prepared
    from attnunet.data.slices import Dataset
    from attnunet.exchange.splits import Fold


def export_split(cfg: DictConfig, console: Console) -> None:
    """Write the split in three formats and the data set as nnU-Net's raw folder. Another tool then uses the same patients."""
    from attnunet.exchange import splits
    from attnunet.exchange.nnunet import RawFolder

    dataset, prepared, folds = find_run(cfg) if cfg.run else divide_data(cfg)
    raw, folder = RawFolder(cfg.dataset, folds, len(dataset.channels)), Path(cfg.output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with building(folder) as temporary:
        raw.write(dataset, prepared, temporary / "nnUNet_raw")
        splits_final = temporary / "nnUNet_preprocessed" / cfg.dataset / "splits_final.json"
        splits_final.parent.mkdir(parents=True)
        splits_final.write_text(splits.write_splits_final(folds))
        for place, fold in enumerate(folds):
            ending = f"_fold{place}" if len(folds) > 1 else ""
            (temporary / f"split{ending}.yaml").write_text(splits.write_manifest(fold))
            datalist = splits.write_datalist(folds, place, raw.files)
            (temporary / "nnUNet_raw" / f"datalist{ending}.json").write_text(datalist)

    if not all(prepared.spacing_of(indices[0]) for indices in prepared.patients.values()):
        console.print("the spacing is not known, so voxels measure 1 mm there: give data.spacing")
    for place, fold in enumerate(folds):
        counts = ", ".join(f"{part} {len(patients)}" for part, patients in fold.items())
        console.print(f"fold {place}: {counts} patients")
    console.print(f"written to {folder}")


def divide_data(cfg: DictConfig) -> tuple[Dataset, Prepared, list[Fold]]:
    """Return the data and the split that the configuration names. If it is a split into folds, return all folds."""
    from attnunet.config import objects

    dataset, prepared = objects.open_data(cfg.data, Path(cfg.tracking.root) / "cache")
    return dataset, prepared, divide(cfg.split, prepared)


def divide(split: DictConfig, prepared: Prepared) -> list[Fold]:
    """Return the parts of a split. If it is a split into folds, return those of all folds."""
    from attnunet.config import objects
    from attnunet.exchange.splits import find_patients

    folds = []
    for place in range(split.folds) if "folds" in split else [None]:
        chosen = split.copy()
        if place is not None:
            chosen.fold = place
        slices = objects.divide(chosen, prepared).parts
        parts = {part: [(prepared.slices[i].patient, prepared.slices[i].number) for i in slices[part]] for part in slices}
        folds.append(find_patients(parts, prepared.slices))
    return folds


def find_run(cfg: DictConfig) -> tuple[Dataset, Prepared, list[Fold]]:
    """Return the data of a run and the split that it recorded. If the run trained on a fold, return all folds of its split.

    Raises:
        RunError: the data have changed since the run, or its split into folds can no longer be repeated.
    """
    from attnunet.config import objects
    from attnunet.exchange.splits import find_patients
    from attnunet.tracking import records

    (record,) = records.find_runs(commands.open_runs(cfg.tracking), [cfg.run])
    dataset, prepared = objects.open_data(record.config.data, Path(cfg.tracking.root) / "cache")
    record.check_content(prepared.folder.name)
    parts = {part: record.slices(part) for part in record.split["slices"]}
    recorded, split = find_patients(parts, prepared.slices), record.config.split
    if "folds" not in split:
        return dataset, prepared, [recorded]
    folds = divide(split, prepared)  # other tools train all folds, so they need all of them
    if folds[split.fold] != recorded:
        raise records.RunError(
            f"run {record.id} ({record.name}): split.fold={split.fold} has other patients now than the run recorded; allowed: "
            "data=... and split=manifest split.file=SPLIT.JSON"
        )
    return dataset, prepared, folds


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        check_output(Path(cfg.output))
        export_split(cfg, terminal.console())


def main() -> None:
    """The command `attnunet-export-split`."""
    commands.run_command(job, "export_split")


if __name__ == "__main__":
    main()
