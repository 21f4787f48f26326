"""Scoring a finished run again: loading its predictor, selecting the slices, logging the evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from attnunet.config import targets
from attnunet.config.objects import divide, make
from attnunet.data.cache import Prepared, prepare
from attnunet.data.checks import find_doubts
from attnunet.data.files import write_csv
from attnunet.data.names import fold_name
from attnunet.data.slices import DataError
from attnunet.evaluation.patients import Scores, score_patients
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.tracking import records, uses
from attnunet.tracking.records import Record
from attnunet.tracking.run import Run

EVALUATION = "evaluation."
"""The prefix of the tag that claims the name of an evaluation."""
LEAKING = "LEAKING: patients that the run trained on, scores flatter"
"""The title of the scores of patients that the run trained on."""


@dataclass(frozen=True)
class Selection:
    """The slices to score.

    Attributes:
        prepared: the data, prepared for the run's network.
        indices: the slices.
        trained: their patients that the run trained on, in alphabetical order.
        notes: warnings for the reader of the scores.
    """

    prepared: Prepared
    indices: tuple[int, ...]
    trained: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def slices(self) -> set[tuple[str, int]]:
        """The patient and the number of each slice."""
        return {(self.prepared.slices[i].patient, self.prepared.slices[i].number) for i in self.indices}


def load_predictor(record: Record) -> Predictor:
    """Return the predictor of the best checkpoint, with its preparation and decision.

    Raises:
        NotFound: the run keeps no checkpoint.
        TargetError: the network needs a module that the command line did not allow, or that cannot be imported.
    """
    record.check_checkpoint()
    targets.import_modules(record.modules, f"run {record.id} ({record.name})")
    with record.file("checkpoints") as folder:
        return Predictor.load(folder)


def scoring_rules(record: Record) -> dict[str, Any]:
    """Return the run's settings of scoring, as keyword arguments of `score_patients`."""
    return {name: record.config.evaluation[name] for name in ("resamples", "tolerance")}


def prepare_as_trained(data: DictConfig, preparation: Preparation, cache: Path) -> Prepared:
    """Return the data of a configuration group, prepared as for the run's training.

    The channels and the intensity are those of the training, whatever the group sets.

    Raises:
        DataError: the files lack a channel.
    """
    dataset = make(data, "data")()
    if lacking := [name for name in preparation.channels if name not in dataset.file_channels]:
        found = ", ".join(dataset.file_channels)
        raise DataError(f"data: the run's network takes the channels {', '.join(lacking)}; the files have {found}")
    if dataset.plane != preparation.plane:
        own = preparation.plane
        raise DataError(f"data: the slices are {dataset.plane}, those of the run {own}; allowed: data.axis={own}")
    dataset = replace(
        dataset, channels=preparation.channels, intensity=preparation.intensity, pixel_size=preparation.pixel_size
    )
    return prepare(dataset, preparation.image_size, cache)


def select_slices(
    record: Record, preparation: Preparation, data: DictConfig | None, split: DictConfig | None, part: str
) -> Selection:
    """Select the slices of a part of a split: "train", "val", "test", or "all" for all three.

    `data` and `split` are configurations; None stands for the run's own.

    Raises:
        DataError: the data lack patients of the run's split.
        Tampered: the file of the split was changed; see `Record.file`.
    """
    cache = record.store.root / "cache"
    prepared = prepare_as_trained(record.config.data if data is None else data, preparation, cache)
    if split is None:
        indices = range(len(prepared.slices)) if part == "all" else slices_of_part(record, prepared, part)
    else:
        parts = divide(split, prepared).parts
        indices = sorted(i for name in parts if part in (name, "all") for i in parts[name])

    notes = []
    if prepared.fingerprint != record.split["fingerprint"]:
        notes.append(
            f"not the data that the run was made with: now {prepared.fingerprint}, then {record.split['fingerprint']}"
        )
    if chose := known_patients(record, "val", prepared, indices):
        notes.append(f"flatters: validation patients, who chose checkpoint and decision, are scored: {', '.join(chose)}")
    if trained := known_patients(record, "train", prepared, indices):
        notes.append(f"LEAKING: patients that the run trained on are scored: {', '.join(trained)}")
    return Selection(prepared, tuple(indices), trained, (*notes, *prepared.notes, *find_doubts(prepared, indices)))


def known_patients(record: Record, part: str, prepared: Prepared, indices: Sequence[int]) -> tuple[str, ...]:
    """Return the patients of these slices that are also in a part of the run's split, even under another name.

    Two patients are the same if their names agree apart from case, blanks and the form of accents, or if an image of both is
    equal pixel for pixel. Images can be compared only if the run's own data are in the cache with the hashes of the images,
    which earlier versions did not keep.
    """
    names = {fold_name(name) for name in record.split[part]}
    own, pixels = prepared.folder.with_name(record.content) / "slices.json", set()
    if own.is_file():
        facts, held = json.loads(own.read_text()), set(record.slices(part))
        rows = zip(facts["slices"], facts.get("pixels", ()), strict=False)
        pixels = {image for row, image in rows if image and (row["patient"], row["number"]) in held}
    scored = [(prepared.slices[i].patient, prepared.facts["pixels"][i]) for i in indices]
    return tuple(sorted({patient for patient, image in scored if fold_name(patient) in names or image in pixels}))


def slices_of_part(record: Record, prepared: Prepared, part: str) -> list[int]:
    """Return the indices of the slices in a part of the run's own split.json."""
    places = {(s.patient, s.number): index for index, s in enumerate(prepared.slices)}
    wanted = record.slices(part)
    if absent := sorted({patient for patient, number in wanted if (patient, number) not in places}):
        raise DataError(
            f"part={part}: the data lack slices of patients that the run's split has there: {', '.join(absent)}; "
            "for other data give a split too, or part=all"
        )
    return sorted(places[key] for key in wanted)


@contextmanager
def claim_name(record: Record, wanted: str | None, default: str, leaking: bool) -> Iterator[str]:
    """Claim a name for a new evaluation of the run and yield it. If the block fails, the name is free again.

    If the default name is taken, it gets a number. If the run trained on some of the patients, the name begins with LEAKING-.

    Raises:
        RunError: the wanted name is taken.
    """
    store, mark = record.store, "LEAKING-" if leaking else ""
    with store.lock():
        (now,) = records.find_runs(store, [record.id])
        name = free_name(now, mark, wanted, default)
        store.tag(record.id, {EVALUATION + name: "being scored"})
    try:
        yield name
    except BaseException:
        store.attempt(lambda: store.client.delete_tag(record.id, EVALUATION + name))
        raise


def free_name(record: Record, mark: str, wanted: str | None, default: str) -> str:
    """Return a name that no evaluation of the run has, with the mark before it."""
    taken = {tag.removeprefix(EVALUATION) for tag in record.tags if tag.startswith(EVALUATION)}
    if wanted is None:
        names = [mark + default, *(f"{mark}{default}-{number}" for number in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)
    if mark + wanted in taken:
        raise records.RunError(
            f"name={wanted}: run {record.id} has that evaluation, and it stays; taken: {', '.join(sorted(taken))}"
        )
    return mark + wanted


def score_test(record: Record) -> int:
    """Score the test patients of a run whose training did not, and return how often the test split has been scored.

    The decision is the one that training chose. The scores go to final/test/..., patients.csv and strata.csv. The record
    does not show the new metrics; fetch it again.

    Raises:
        NotFound: the run keeps no checkpoint.
        DataError: the data have changed since the run.
        Tampered: a file of the run was changed; see `Record.file`.
        RunError: the run has test scores.
    """
    if record.tested:
        raise records.RunError(f"run {record.id} ({record.name}) has test scores")
    predictor = load_predictor(record)
    chosen = select_slices(record, predictor.preparation, None, None, "test")
    if chosen.prepared.fingerprint != record.split["fingerprint"]:
        raise DataError(f"run {record.id} ({record.name}): {chosen.notes[0]}; `attnunet.evaluate` scores it on changed data")
    found = score_patients(predictor, chosen.prepared, chosen.indices, "test", **scoring_rules(record))

    run = Run(record.store, record.id)
    times = uses.count_use(run, record.slices("test"), own=True)
    for file, rows in (("patients.csv", found.rows), ("strata.csv", found.strata)):
        earlier: list[Mapping[str, Any]] = [row for row in record.rows(file) if row["part"] != "test"]
        run.text(write_csv([*earlier, *rows]), file)
    # Last, since they mark the run as tested. If the process dies before, the run is scored again.
    run.metrics({f"final/test/{key}": value for key, value in found.summary.items()}, step=run.last_step("final/val/dice"))
    run.send()
    return times


def log_evaluation(run: Run, name: str, found: Scores, notes: Sequence[str], settings: str) -> None:
    """Log the metrics of an evaluation below evaluate/<name>/ and its files below evaluations/<name>/."""
    run.tags({EVALUATION + name: "; ".join(notes) or f"{len(found.rows)} patients"})
    run.metrics({f"evaluate/{name}/{key}": value for key, value in found.summary.items()}, step=0)
    run.text(write_csv(found.rows), f"evaluations/{name}/patients.csv")
    run.text(write_csv(found.strata), f"evaluations/{name}/strata.csv")
    run.text(settings, f"evaluations/{name}/config.yaml")
    run.send()
