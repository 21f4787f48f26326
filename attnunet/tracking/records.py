"""Stored runs in the form of plain data, for the commands that read runs."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnunet.config import targets
from attnunet.data.files import checksum, read_csv
from attnunet.errors import UserError, explain_unknown, first_line
from attnunet.tracking.store import Store, local_path

REGISTRY = "models:/"
"""The beginning of the address of a model in MLflow's registry."""
PRUNED = "pruned"
"""The tag of a run that a search ended early. It holds the last epoch."""
PAGE = 1000  # the largest number of runs in one answer of a store


class RunError(UserError):
    """The runs lack data that a command needs; the message names the data."""


class NotFound(RunError):
    """The store does not have a run, sweep, study or artifact; the message names what is missing."""


class Tampered(RunError):
    """A file was changed after its run wrote it; the message names the file and the run."""


def checksum_tag(path: str) -> str:
    """Return the name of the tag that holds the checksum of an artifact: "split.checksum" for split.json."""
    return str(PurePosixPath(path).with_suffix(".checksum"))


@dataclass(frozen=True)
class Record:
    """One run of a store."""

    store: Store
    run: Run

    @property
    def id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def name(self) -> str:
        return str(self.run.info.run_name)

    @property
    def status(self) -> str:
        """FINISHED, FAILED, KILLED or RUNNING."""
        return str(self.run.info.status)

    @property
    def state(self) -> str:
        """The status; of a run that a search ended early, the epoch after which it was pruned."""
        pruned = self.tags.get(PRUNED)
        return self.status if pruned is None else f"pruned after epoch {pruned}"

    @property
    def params(self) -> Mapping[str, str]:
        return self.run.data.params

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.run.data.metrics

    @property
    def tags(self) -> Mapping[str, str]:
        return self.run.data.tags

    @property
    def page(self) -> str:
        """The address of MLflow's page of the run; see `Store.run_page`."""
        return self.store.run_page(str(self.run.info.experiment_id), self.id)

    @property
    def folder(self) -> str:
        """The address of the folder with the artifacts of the run; "" if it is not on this machine."""
        folder = Path(local_path(self.run.info.artifact_uri))
        return folder.as_uri() if folder.is_absolute() and folder.exists() else ""

    @property
    def leaking(self) -> bool:
        return self.tags.get("leaking") == "true"

    @property
    def minutes(self) -> float:
        """The total time of all epochs in minutes, with validation. The pause after an interruption does not count."""
        history = partial(self.store.client.get_metric_history, self.id, "train/epoch_seconds")
        return sum(epoch.value for epoch in self.store.attempt(history)) / 60

    @property
    def is_current(self) -> bool:
        """Whether the run has finished, and no later run supersedes it."""
        return self.status == "FINISHED" and "superseded" not in self.tags

    @property
    def tested(self) -> bool:
        """Whether the run was scored on the test patients."""
        return "final/test/dice" in self.metrics

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """Yield the local path of an artifact or of a folder of artifacts. The path is valid until the `with` block ends.

        Raises:
            NotFound: the run has no such artifact.
            Tampered: the artifact was changed after the run wrote it.
            Away: the server does not answer.
        """
        here = Path(local_path(self.run.info.artifact_uri), path)
        if here.exists():
            self.check(here, path)
            yield here
            return
        if not self.has(path):
            raise NotFound(f"run {self.id} ({self.name}) has no artifact {path}")
        with tempfile.TemporaryDirectory() as folder:
            here = Path(self.store.attempt(lambda: self.store.client.download_artifacts(self.id, path, folder)))
            self.check(here, path)
            yield here

    def check(self, here: Path, path: str) -> None:
        """Raise Tampered if an artifact was changed after the run wrote it. For a folder of artifacts, check each file.

        A file without a checksum passes, because figures have no checksum, and old runs stored no checksums.

        Args:
            here: the local path of the artifact or folder.
            path: its path among the artifacts of the run.
        """
        for file in [here] if here.is_file() else [each for each in here.rglob("*") if each.is_file()]:
            artifact = (PurePosixPath(path) / file.relative_to(here)).as_posix()
            tag, found = checksum_tag(artifact), checksum(file)
            if found in self.tags.get(tag, found).split():
                continue
            # The tags are read again, because the run may have been scored in the meantime.
            now = self.store.attempt(lambda: self.store.client.get_run(self.id)).data.tags
            if found not in now.get(tag, found).split():
                place = f"{local_path(self.run.info.artifact_uri)}/{artifact}"
                raise Tampered(f"{place} is not the file that run {self.id} ({self.name}) wrote: it was changed since")

    def has(self, path: str) -> bool:
        """Return whether the run has an artifact, or a folder of artifacts, with this path."""
        folder = path.rpartition("/")[0] or None
        return path in [found.path for found in self.store.attempt(lambda: self.store.client.list_artifacts(self.id, folder))]

    def check_checkpoint(self) -> None:
        """Check that the run has finished, keeps its best checkpoint, and needs only modules that the command line allows.

        Raises:
            NotFound: the run has not finished, or keeps no best checkpoint.
            TargetError: see `targets.check_modules`.
        """
        if self.status != "FINISHED":
            raise NotFound(f"run {self.id} ({self.name}) is {self.state}; only a finished run has a best checkpoint")
        if not (self.has("checkpoints/best.keras") and self.has("checkpoints/predictor.json")):
            keep = self.params.get("trainer.keep")
            lacking = "lacks checkpoints/best.keras or predictor.json"
            raise NotFound(f"run {self.id} ({self.name}) {lacking}; its trainer.keep was {keep}")
        targets.check_modules(self.modules, f"run {self.id} ({self.name})")

    @cached_property
    def modules(self) -> list[Any]:
        """The user's own modules that the network needs; the command line must allow them."""
        return list(json.loads(self.text("checkpoints/predictor.json")).get("modules", ()))

    def text(self, path: str) -> str:
        with self.file(path) as file:
            return file.read_bytes().decode()  # read_text would change the line breaks

    @cached_property
    def config(self) -> DictConfig:
        """The configuration of the run. An interpolation is refused, because it could read an environment variable.

        Raises:
            Tampered: config.yaml is not a configuration, or holds an interpolation.
        """
        text = self.text("config.yaml")
        try:
            config = OmegaConf.create(text)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError):
            config = None
        if "${" in text or not isinstance(config, DictConfig):
            raise Tampered(f"config.yaml of run {self.id} ({self.name}) is not what a run writes: it was changed since")
        return config

    @cached_property
    def split(self) -> dict[str, Any]:
        """The manifest: `train`, `val`, `test`, `leaking`, the `slices` of each part, and the `fingerprint` of the data."""
        return json.loads(self.text("split.json"))

    @property
    def content(self) -> str:
        """The hash of the images and masks that the run used. It does not depend on channels, intensity or image_size."""
        return str(self.split["fingerprint"]).partition("/")[0]

    def check_content(self, now: str) -> None:
        """Raise RunError if `now`, the hash of images and masks, is not that of the run's own data."""
        if now != self.content:
            raise RunError(
                f"run {self.id} ({self.name}): its data have changed: now {now}, then {self.content}; allowed: the same files"
            )

    def slices(self, part: str) -> list[tuple[str, int]]:
        """Return a pair for each slice in a part of the split: the patient and the number of the slice."""
        return [(patient, number) for patient, numbers in self.split["slices"][part].items() for number in numbers]

    def rows(self, path: str) -> list[dict[str, str]]:
        """Return the rows of a CSV artifact."""
        return read_csv(self.text(path))

    def summary(self, part: str) -> dict[str, float]:
        """Return the summary of the scores of a part; an empty one if the part was not scored."""
        if self.has("summary.csv"):
            return {row["score"]: float(row["value"]) for row in self.rows("summary.csv") if row["part"] == part}
        prefix = f"final/{part}/"  # an earlier version logged all values as metrics
        return {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}

    def patients(self, part: str) -> list[dict[str, str]]:
        """Return the rows of patients.csv for a part; an empty list if the part was not scored."""
        return [row for row in self.rows("patients.csv") if row["part"] == part]


def find_runs(store: Store, ids: Sequence[str]) -> list[Record]:
    """Return the runs with these ids. The first digits of an id are enough if only one id in the store begins with them."""
    return [Record(store, find_run(store, run_id)) for run_id in ids]


def find_checkpoint(store: Store, run_id: str) -> Record:
    """Return the run with this id or these first digits of an id. Raise an error if `Record.check_checkpoint` does."""
    record = Record(store, find_run(store, run_id))
    record.check_checkpoint()
    return record


def find_run(store: Store, run_id: str) -> Run:
    """Return the run with this id or these first digits of an id, or the run of a model in MLflow's registry.

    Raises:
        NotFound: the store has no such run, or several.
    """
    if run_id.startswith(REGISTRY):
        return find_registered(store, run_id)
    try:
        return store.client.get_run(run_id)
    except MlflowException:
        found = [run for run in search_runs(store, list_studies(store)) if run.info.run_id.startswith(run_id)]
    if len(found) != 1:
        many = f"{len(found)} runs with an id that begins so" if found else "no run with such an id"
        raise NotFound(
            f"run={run_id}: {many} in {store.shown_address}; allowed: the id of one run, or its first digits; "
            "python -m attnunet.store ls lists the runs"
        )
    return found[0]


def find_registered(store: Store, uri: str) -> Run:
    """Return the run of a model in MLflow's registry. The address is models:/NAME@ALIAS or models:/NAME/VERSION.

    Raises:
        NotFound: the registry has no such model, or the model does not come from a run of the store.
    """
    (model, at, alias), (name, _, number) = (uri.removeprefix(REGISTRY).partition(mark) for mark in "@/")
    client = store.client
    ask = partial(client.get_model_version_by_alias, model, alias) if at else partial(client.get_model_version, name, number)
    try:
        version = store.attempt(ask)
        return store.attempt(lambda: store.client.get_run(version.run_id))
    except MlflowException as error:
        raise NotFound(
            f"run={uri}: no run of a registered model in {store.shown_address} ({first_line(error)}); allowed: "
            "models:/NAME@ALIAS or models:/NAME/VERSION"
        ) from error


def runs_of_study(store: Store, name: str) -> list[Record]:
    """Return the runs of a study, oldest first. Leave out audits, ensembles, joined folds and the parent runs of sweeps."""
    return trained_runs(store, [str(find_study(store, name).experiment_id)])


def find_study(store: Store, name: str) -> Experiment:
    """Return the MLflow experiment of a study. Raise NotFound if the store does not have it, or if it was deleted."""
    study = store.attempt(lambda: store.client.get_experiment_by_name(name))
    if study is not None and study.lifecycle_stage == "deleted":
        raise NotFound(f"study={name} was deleted in MLflow: take another name, or {store.restore_command(study)}")
    if study is None:
        known = sorted(e.name for e in store.attempt(store.client.search_experiments))
        raise NotFound(explain_unknown(f"study={name}: not in {store.shown_address}", name, known))
    return study


def runs_of_store(store: Store) -> list[Record]:
    """Return the runs of all studies, oldest first. Leave out the same runs as `runs_of_study`."""
    return trained_runs(store, list_studies(store))


def trained_runs(store: Store, studies: Sequence[str]) -> list[Record]:
    found = search_runs(store, studies)
    return [Record(store, run) for run in found if not {"sweep", "cross_validated", "audit", "ensemble"} & set(run.data.tags)]


def runs_of_sweep(store: Store, parent: str) -> list[Record]:
    """Return the runs of a sweep, oldest first: the runs of its jobs, and the finished runs that it reused."""
    run = find_run(store, parent)
    if "sweep" not in run.data.tags:
        raise NotFound(f"sweep={parent}: {run.info.run_name} is a run, not the parent of a sweep")
    conditions = (f"tags.mlflow.parentRunId = '{run.info.run_id}'", f"tags.`{reuse_tag(run.info.run_id)}` = 'true'")
    jobs = {
        job.info.run_id: job for condition in conditions for job in search_runs(store, [run.info.experiment_id], condition)
    }
    return [Record(store, job) for job in sorted(jobs.values(), key=lambda job: job.info.start_time)]


def reuse_tag(parent: str) -> str:
    """Return the name of the tag that marks a run as reused by the sweep `parent`.

    The tag is needed because the parent of the run is still the sweep that trained the run.
    """
    return f"reused_by.{parent}"


def list_studies(store: Store, view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    return [str(study.experiment_id) for study in store.attempt(lambda: store.client.search_experiments(view))]


def search_runs(
    store: Store, experiments: Sequence[str], condition: str = "", view: int = ViewType.ACTIVE_ONLY
) -> Iterator[Run]:
    """Yield all runs that meet a condition in MLflow's filter language, oldest first. Load one page of runs at a time."""
    token: str | None = None
    while True:
        order = ["attributes.start_time ASC"]
        page = store.attempt(partial(store.client.search_runs, list(experiments), condition, view, PAGE, order, token))
        yield from page
        token = page.token
        if not token:
            return
