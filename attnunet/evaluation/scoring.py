"""The steps that score a finished run again: load its predictor, select the slices and log the evaluation."""

from __future__ import annotations

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
from attnunet.data.slices import DataError
from attnunet.evaluation import report
from attnunet.evaluation.known import find_ancestors, known_patients
from attnunet.evaluation.patients import Scores, score_patients, summary_rows
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.tracking import records, uses
from attnunet.tracking.records import Record
from attnunet.tracking.resume import SCORE
from attnunet.tracking.run import Run

EVALUATION = "evaluation."
"""The prefix of a tag that reserves the name of an evaluation in a run."""
LEAKING = "LEAKING: patients that the run trained on, so the scores are too high"
"""The title of the printed scores if the run trained on patients that are scored."""


@dataclass(frozen=True)
class Selection:
    """The slices to score.

    Attributes:
        prepared: the data, prepared for the run's network.
        indices: the indices of the slices in `prepared`.
        trained: the patients of these slices that the run trained on, in alphabetical order.
        notes: warnings to print and log with the scores.
    """

    prepared: Prepared
    indices: tuple[int, ...]
    trained: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def slices(self) -> set[tuple[str, int]]:
        """The name of the patient and the slice number, for each slice."""
        return {(self.prepared.slices[i].patient, self.prepared.slices[i].number) for i in self.indices}


def load_predictor(record: Record) -> Predictor:
    """Return the predictor from the best checkpoint of a run, with its preparation and decision.

    Raises:
        NotFound: the run keeps no checkpoint.
        TargetError: the command line did not allow a module that the network needs, or the module cannot be imported.
    """
    record.check_checkpoint()
    targets.import_modules(record.modules, f"run {record.id} ({record.name})")
    with record.file("checkpoints") as folder:
        return Predictor.load(folder)


def scoring_rules(record: Record) -> dict[str, Any]:
    """Return the settings by which a run is scored, as keyword arguments of `score_patients`."""
    return {name: record.config.evaluation[name] for name in ("resamples", "tolerance")}


def prepare_as_trained(data: DictConfig, preparation: Preparation, cache: Path) -> Prepared:
    """Return the data of the configuration group `data`, prepared in the same way as for the training of a run.

    The channels, the intensity and the pixel size come from `preparation`. They replace the settings in `data`.

    Raises:
        DataError: the files lack a channel that the network takes, or the data are sliced in another plane.
    """
    dataset = make(data, "data")()
    if lacking := [name for name in preparation.channels if name not in dataset.file_channels]:
        found = ", ".join(dataset.file_channels)
        raise DataError(f"data: the run's network takes the channels {', '.join(lacking)}; the files have {found}")
    if "channels" in data and dataset.file_channels != preparation.channels:
        # A reader of volumes then reads only the network's channels, in their order, so that seen images are known again.
        narrowed = data.copy()
        narrowed.channels = list(preparation.channels)
        dataset = make(narrowed, "data")()
    if dataset.plane != preparation.plane:
        own = preparation.plane
        raise DataError(f"data: the slices are {dataset.plane}, those of the run {own}; allowed: data.axis={own}")
    dataset = replace(
        dataset, channels=preparation.channels, intensity=preparation.intensity, pixel_size=preparation.pixel_size
    )
    prepared = prepare(dataset, preparation.image_size, cache, preparation.image_type)
    return replace(prepared, neighbors=preparation.neighbors)


def select_slices(
    record: Record, preparation: Preparation, data: DictConfig | None, split: DictConfig | None, part: str
) -> Selection:
    """Select the slices of a part of a split. The part is "train", "val" or "test", or "all" for every slice of the three.

    `data` and `split` are configuration groups. If one is None, the run's own is used.

    Raises:
        DataError: the data lack slices of the run's split, or the data cannot be prepared; see `prepare_as_trained`.
        Tampered: the file with the run's split was changed; see `Record.file`.
    """
    cache = record.store.root / "cache"
    prepared = prepare_as_trained(record.config.data if data is None else data, preparation, cache)
    if split is None:
        indices = range(len(prepared.slices)) if part == "all" else slices_of_part(record, prepared, part)
    else:
        indices = divide_part(split, prepared, part)

    notes = []
    if prepared.fingerprint != record.split["fingerprint"]:
        notes.append(
            f"not the data that the run was made with: now {prepared.fingerprint}, then {record.split['fingerprint']}"
        )
    _, gone = find_ancestors(record)
    if gone:
        notes.append(gone)
    if chose := known_patients(record, "val", prepared, indices):
        notes.append(f"too high: these patients chose the checkpoint and the decision: {', '.join(chose)}")
    if trained := known_patients(record, "train", prepared, indices):
        notes.append(f"LEAKING: patients that the run trained on are scored: {', '.join(trained)}")
    return Selection(prepared, tuple(indices), trained, (*notes, *prepared.notes, *find_doubts(prepared, indices)))


def divide_part(split: DictConfig, prepared: Prepared, part: str) -> list[int]:
    """Return the indices of the slices that a configured split puts into a part; "all" is every part."""
    parts = divide(split, prepared).parts
    return sorted(i for name in parts if part in (name, "all") for i in parts[name])


def slices_of_part(record: Record, prepared: Prepared, part: str) -> list[int]:
    """Return the indices of the slices that the run's own split.json lists for a part.

    Raises:
        DataError: the data lack a slice of the part.
    """
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
    """Reserve a name for a new evaluation of a run, and yield the name to a `with` block.

    If the block fails, the name becomes free again. `wanted` is the name that the user gave. If it is None, the name is
    `default`, followed by a number if `default` is taken. If `leaking` is true, the run trained on patients of the evaluation
    and the name begins with LEAKING-.

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
    """Return a name that no evaluation of the run has. The name begins with `mark`.

    Raises:
        RunError: the wanted name is taken.
    """
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
    """Score the test patients of a run that has no test scores. Return how often the test split has been scored.

    The function uses the decision that the training chose. It logs the scores to final/test/... and to the CSV files.
    `record` does not contain the new metrics; fetch the run again to read them.

    Raises:
        NotFound: the run keeps no checkpoint.
        DataError: the data have changed since the run.
        Tampered: a file of the run was changed; see `Record.file`.
        RunError: the run already has test scores.
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
    known: dict[str, Sequence[Mapping[str, Any]]] = {name: record.rows(name) for name in ("patients.csv", "strata.csv")}
    known["summary.csv"] = summary_rows("val", record.summary("val"))  # a run of an earlier version has no such file
    for name, rows in found.tables("test").items():
        run.text(write_csv([*(row for row in known[name] if row["part"] != "test"), *rows]), name)
    # These metrics mark the run as tested, so they come last. If the process dies earlier, the run can be scored again.
    run.metrics(found.metrics("final/test"), step=run.last_step(SCORE))
    run.send()
    return times


def log_evaluation(run: Run, name: str, part: str, found: Scores, notes: Sequence[str], settings: str) -> None:
    """Log the metrics of an evaluation under evaluate/<name>/, and its files under evaluations/<name>/."""
    run.tags({EVALUATION + name: "; ".join(notes) or f"{len({row['patient'] for row in found.rows})} patients"})
    run.metrics(found.metrics(f"evaluate/{name}"), step=0)
    for file, text in report.tables({part: found}).items():
        run.text(text, f"evaluations/{name}/{file}")
    run.text(settings, f"evaluations/{name}/config.yaml")
    run.send()
