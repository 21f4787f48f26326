"""Scores for the masks of another tool, on the patients of a run and by the rules of that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from attnunet.config import objects
from attnunet.data.cache import Prepared
from attnunet.data.cohort import list_scans
from attnunet.data.files import write_csv
from attnunet.data.slices import DataError, Dataset, refuse
from attnunet.data.split import PARTS, Split
from attnunet.evaluation import pictures, report
from attnunet.evaluation.patients import Scores, score_patients
from attnunet.evaluation.scoring import scoring_rules, slices_of_part
from attnunet.inference.masks import find_masks, find_shared
from attnunet.metrics.calibration import BINS, Calibration
from attnunet.tracking import uses
from attnunet.tracking.provenance import provenance
from attnunet.tracking.records import Record
from attnunet.tracking.run import Run, open_run

OF_PROBABILITIES = ("threshold", "smallest_lesion", "fill_holes", "dice_at_0.5", "ece", "ece_all_pixels")
"""The scores and settings that need probabilities. Masks alone do not have them."""


def evaluate_masks(cfg: DictConfig, record: Record, console: Console) -> None:
    """Score the masks of another tool for the validation and test patients of a run, and log the scores as a new run.

    The scoring follows the rules of the run. The new run is in the same study.
    """
    console.print(f"run {record.id}: {record.name}")
    dataset, prepared = objects.open_data(record.config.data, record.store.root / "cache")
    record.check_content(prepared.folder.name)
    split = restore_split(record, prepared)
    scores, notes = score_masks(record, dataset, prepared, split, Path(cfg.masks))
    study, params = record.run.info.experiment_id, share_params(record, cfg.name)
    tags = {**provenance([]), "leaking": str(record.leaking).lower(), "scored_as": record.id}
    with open_run(record.store, study, cfg.name, params, tags) as current:
        if "test" in scores:
            notes.append(uses.describe_uses(uses.count_use(current, record.slices("test"), own=True)))
        settings = {name: record.config[name] for name in ("data", "split", "evaluation")}
        current.text(OmegaConf.to_yaml(OmegaConf.create({"name": cfg.name, "masks": cfg.masks, **settings})), "config.yaml")
        current.text(write_csv(list_scans(prepared, split)), "cohort.csv")
        log_scores(current, record, scores)
    report.print_scores(console, scores)
    for line in (*notes, f"run {current.id}: {cfg.name}"):
        console.print(line)


def restore_split(record: Record, prepared: Prepared) -> Split:
    """Return the split that a run's split.json describes. `prepared` holds the data of the run."""
    train, val, test = (tuple(slices_of_part(record, prepared, part)) for part in PARTS)
    owners = {index: item.patient for index, item in enumerate(prepared.slices)}
    return Split(train, val, test, owners, leaking=record.split["leaking"])


def score_masks(
    record: Record, dataset: Dataset, prepared: Prepared, split: Split, folder: Path
) -> tuple[dict[str, Scores], list[str]]:
    """Return the scores of the validation and of the test patients, and a line for each part that has no masks.

    Raises:
        DataError: some patients of a part have masks and others have none, no patient has a mask, or a mask fits two
            patients. `attnunet.inference.masks` explains how masks are found.
    """
    parts = {"val": split.val, "test": split.test}
    given = {part: find_masks(folder, dataset, prepared, indices) for part, indices in parts.items()}
    refuse(
        find_shared({f"{name} ({part})": files for part, (masks, _) in given.items() for name, files in masks.files.items()})
    )
    scores, notes = {}, []
    for part, (masks, lacking) in given.items():
        if not masks.files:
            notes.append(f"masks={folder}: none of the {part} patients, so they are not scored")
            continue
        if lacking:
            raise DataError(f"masks={folder}: no mask of the {part} patients {', '.join(lacking)}; named PATIENT.nii.gz")
        found = score_patients(masks, prepared, parts[part], part, **scoring_rules(record))
        scores[part] = replace(
            found,
            summary={name: value for name, value in found.summary.items() if name not in OF_PROBABILITIES},
            rows=[{name: value for name, value in row.items() if name not in OF_PROBABILITIES} for row in found.rows],
            calibration=Calibration(*np.zeros((3, BINS))),
        )
    if not scores:
        raise DataError(f"masks={folder}: no mask of a validation or test patient of run {record.id}; named PATIENT.nii.gz")
    return scores, notes


def share_params(record: Record, name: str) -> dict[str, str]:
    """Return the parameters of the tool's run: data, split and evaluation as in the scored run, and the tool as the model."""
    shared = {key: value for key, value in record.params.items() if key.split(".")[0] in ("data", "split", "evaluation")}
    return {**shared, "model": name}


def log_scores(run: Run, record: Record, scores: Mapping[str, Scores]) -> None:
    """Log scores under the names that a training uses, so that comparisons can read both kinds of run."""
    run.text(record.text("split.json"), "split.json")
    report.log_scores(run, scores)
    run.figures({name: drawn for found in scores.values() for name, drawn in pictures.draw_charts(found).items()})
