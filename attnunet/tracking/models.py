"""The models that the key `run` of a command names: runs of a store, or the folder of a predictor.

They are found and checked without TensorFlow.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from omegaconf import DictConfig

from attnunet.config import is_folder, targets
from attnunet.data.slices import refuse
from attnunet.inference.stream import check_members
from attnunet.tracking.records import REGISTRY, NotFound, Record, find_run, runs_of_study
from attnunet.tracking.store import Store

FORMS = (
    "the id of a run or its first digits, models:/NAME@ALIAS, a folder with best.keras and predictor.json, [RUN,RUN,...] or "
    "study:NAME"
)
STUDY = "study:"
FACTS = {"preparation", "decision", "flip", "batch_size"}
"""The keys of a predictor.json that every version has written."""


@dataclass(frozen=True)
class Model:
    """One predictor, or the members of an ensemble.

    Attributes:
        name: the value of the key `run`, as it is written on the command line.
        records: the run of the predictor, or the runs of the members; empty if `folder` is given.
        folder: the folder with the predictor's best.keras and predictor.json.
    """

    name: str
    records: tuple[Record, ...] = ()
    folder: Path | None = None

    @property
    def sources(self) -> list[str]:
        """A text for messages for each member: the run, or the folder."""
        return [str(self.folder)] if self.folder else [f"run {record.id} ({record.name})" for record in self.records]

    @property
    def single(self) -> Record:
        """The only run. Raise NotFound if the model is a folder or an ensemble."""
        if len(self.records) != 1:
            raise NotFound(
                f"run={self.name}: allowed here: one run of a store, by its id, its first digits or models:/NAME@ALIAS"
            )
        return self.records[0]

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """The content of the predictor.json of each member.

        Raises:
            NotFound: one of them is not the predictor.json of a model for lesions.
        """
        if self.folder:
            texts = [(self.folder / "predictor.json").read_bytes().decode(errors="replace")]
        else:
            texts = [record.text("checkpoints/predictor.json") for record in self.records]
        return [read_facts(text, source) for text, source in zip(texts, self.sources, strict=True)]

    def check(self) -> None:
        """Check all that can be checked without the networks.

        Raises:
            NotFound: a run has not finished or keeps no best checkpoint, or a predictor.json is not of a model for lesions.
            TargetError: see `targets.check_modules`.
            UserError: the members take different volumes; see `check_members`.
        """
        for record in self.records:
            record.check_checkpoint()
        for facts, source in zip(self.facts, self.sources, strict=True):
            targets.check_modules(facts.get("modules", ()), source)
        check_members({source: facts["preparation"] for facts, source in zip(self.facts, self.sources, strict=True)})


def read_facts(text: str, source: str) -> dict[str, Any]:
    """Return the content of a predictor.json. Raise NotFound if it does not describe a predictor; `source` names its place."""
    try:
        facts = json.loads(text)
    except json.JSONDecodeError:
        facts = None
    if not isinstance(facts, dict) or FACTS - facts.keys():
        raise NotFound(
            f"{source}: its predictor.json does not describe a model of attnunet, which has {', '.join(sorted(FACTS))}"
        )
    return facts


def find_model(store: Store | None, run: str | Sequence[str]) -> Model:
    """Return the checked model that the key `run` names, in one of the FORMS.

    Args:
        store: the store of the runs; None for a folder, which needs none.
        run: the value of the key.

    Raises:
        NotFound: there is no such model.
        UserError: see `Model.check`.
    """
    if is_folder(run):
        folder = Path(str(run))
        if lacking := [name for name in ("best.keras", "predictor.json") if not (folder / name).is_file()]:
            raise NotFound(f"run={run}: the folder lacks {' and '.join(lacking)}; allowed: {FORMS}")
        if not is_zipfile(folder / "best.keras"):
            raise NotFound(f"{folder / 'best.keras'}: is not a file of Keras; allowed: the best.keras of a run")
        model = Model(str(run), folder=folder)
    else:
        assert store is not None
        names = [run] if isinstance(run, str) else list(run)
        found = [record for name in names for record in find_records(store, name)]
        name = run if isinstance(run, str) else f"[{','.join(run)}]"
        if twice := sorted({record.id for record in found if [each.id for each in found].count(record.id) > 1}):
            raise NotFound(f"run={name}: names the run {', '.join(twice)} twice; allowed: each run once")
        model = Model(name, tuple(found))
    model.check()
    return model


def find_records(store: Store, name: str) -> list[Record]:
    """Return the run that a text names, or the runs of a study that have finished and keep a checkpoint."""
    if name.startswith(STUDY):
        runs = runs_of_study(store, name.removeprefix(STUDY))
        found = [record for record in runs if record.is_current and record.has("checkpoints/best.keras")]
        if not found:
            raise NotFound(f"run={name}: none of its {len(runs)} runs has finished and keeps a best checkpoint")
        return found
    if is_folder(name):
        raise NotFound(f"run=[..,{name},..]: a folder does not tell its patients; allowed in a list: runs of a store")
    if os.sep in name and not name.startswith(REGISTRY):
        raise NotFound(f"run={name}: {'is a file' if Path(name).exists() else 'no such folder'}; allowed: {FORMS}")
    return [Record(store, find_run(store, name))]


def check_scorable(model: Model, cfg: DictConfig) -> None:
    """Check by the names of patients that an ensemble can be scored as `attnunet.evaluate` asks for.

    Raises:
        DataError: the members share no test patient, and neither `data` nor `split` names others.
        NotFound: `allow_training_patients` is set.
    """
    if cfg.allow_training_patients:
        raise NotFound("allow_training_patients=true: an ensemble is scored only on patients that no member knows")
    own = cfg.get("data") is None and cfg.get("split") is None and cfg.part == "test"
    if own and not set.intersection(*(set(record.split["test"]) for record in model.records)):
        known = {part: [(record, set(record.split[part])) for record in model.records] for part in ("train", "val")}
        refuse_known(known, {patient for record in model.records for patient in record.split["test"]})


def refuse_known(known: Mapping[str, Sequence[tuple[Record, set[str]]]], wanted: set[str]) -> None:
    """Raise DataError with a line for each patient in `wanted` that a member trained or validated on.

    `known` holds, for the parts train and val, each member with the patients that it knows.
    """
    lines = []
    for patient in sorted(wanted):
        told = [
            f"{words} {', '.join(record.id for record in members)}"
            for part, words in (("train", "trained on by"), ("val", "validated on by"))
            if (members := [record for record, patients in known[part] if patient in patients])
        ]
        if told:
            lines.append(f"{patient}: {', '.join(told)}; an ensemble is scored only on patients that no member knows")
    refuse(lines)
