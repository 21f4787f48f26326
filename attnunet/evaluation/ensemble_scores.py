"""The scores of an ensemble, on patients that none of its members knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from attnunet.data.cache import Prepared
from attnunet.data.checks import find_doubts
from attnunet.data.slices import DataError
from attnunet.evaluation import pictures, report
from attnunet.evaluation.ensembles import load_model
from attnunet.evaluation.known import find_ancestors, known_patients
from attnunet.evaluation.patients import score_patients
from attnunet.evaluation.scoring import divide_part, prepare_as_trained, scoring_rules, slices_of_part
from attnunet.inference.ensemble import Ensemble
from attnunet.inference.predictor import Volume
from attnunet.metrics.decision import Decision
from attnunet.tracking import uses
from attnunet.tracking.models import Model, refuse_known
from attnunet.tracking.provenance import provenance
from attnunet.tracking.records import Record
from attnunet.tracking.run import open_run


@dataclass(frozen=True)
class OnData:
    """An ensemble and a data set, prepared for each member. It is scored like a predictor."""

    ensemble: Ensemble
    prepared: tuple[Prepared, ...]

    @property
    def decision(self) -> Decision:
        return self.ensemble.decision

    def volumes(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[Volume]:
        return self.ensemble.volumes(self.prepared, indices)


def evaluate_ensemble(cfg: DictConfig, model: Model, settings: dict[str, Any], console: Console) -> None:
    """Score an ensemble on patients that no member knows, and log the scores as a new run in the study of the first member.

    Raises:
        DataError: a member trained or validated on a patient that would be scored. The message names the patients.
    """
    ids = [record.id for record in model.records]
    console.print(f"ensemble of {', '.join(f'{record.id} ({record.name})' for record in model.records)}")
    first = model.records[0]
    ensemble = load_model(model, **settings)
    assert isinstance(ensemble, Ensemble)

    # The slices, of patients that no member trained or validated on.
    data = prepare_for_members(cfg.get("data"), model.records, ensemble)
    prepared, indices = data[0], select_unknown(cfg, model.records, data)
    notes = [
        *(gone for record in model.records if (gone := find_ancestors(record)[1])),
        *prepared.notes,
        *find_doubts(prepared, indices),
    ]

    # The scores, logged and shown.
    found = score_patients(OnData(ensemble, data), prepared, indices, cfg.part, **scoring_rules(first))
    name = cfg.name or f"ensemble-of-{len(ids)}"
    tags = {**provenance([]), "ensemble": " ".join(ids), "leaking": "false"}
    with open_run(first.store, first.run.info.experiment_id, name, share_params(model.records), tags) as current:
        if cfg.part == "test" and cfg.get("data") is None and cfg.get("split") is None:
            scored = [(prepared.slices[i].patient, prepared.slices[i].number) for i in indices]
            notes.append(uses.describe_uses(uses.count_use(current, scored)))
        facts = {"notes": notes, "settings": OmegaConf.to_container(cfg, resolve=True)}
        current.text(OmegaConf.to_yaml(OmegaConf.create(facts)), "config.yaml")
        report.log_scores(current, {cfg.part: found})
        current.figures(pictures.draw_charts(found))
    report.print_scores(console, {cfg.part: found}, "an ensemble, on patients that no member trained or validated on")
    for line in (*notes, f"run {current.id}: {name}"):
        console.print(line)


def prepare_for_members(data: DictConfig | None, records: Sequence[Record], ensemble: Ensemble) -> tuple[Prepared, ...]:
    """Return a data set, prepared for each member. `data` is a configuration group; None stands for the data of the members.

    Raises:
        DataError: `data` is None, and the members have different data.
    """
    contents = {record.content: record.id for record in records}
    if data is None and len(contents) > 1:
        told = ", ".join(f"{run} with {content}" for content, run in contents.items())
        raise DataError(f"the members were made with different data: {told}; allowed: data=NAME that no member knows")
    config, cache = (records[0].config.data if data is None else data), records[0].store.root / "cache"
    preparations = dict.fromkeys(member.preparation for member in ensemble.members)
    made = {preparation: prepare_as_trained(config, preparation, cache) for preparation in preparations}
    return tuple(made[member.preparation] for member in ensemble.members)


def select_unknown(cfg: DictConfig, records: Sequence[Record], data: Sequence[Prepared]) -> list[int]:
    """Return the indices of the slices to score. Without `data` and `split`, they are the test slices that all members share.

    `data` has the data for each member, with the channels that it takes. By these channels it knows its images again.

    Raises:
        DataError: a member trained or validated on a patient of these slices, also if it knows the patient by another name.
    """
    prepared = data[0]
    if cfg.get("split") is not None:
        indices = divide_part(cfg.split, prepared, cfg.part)
    elif cfg.part == "all":
        indices = list(range(len(prepared.slices)))
    else:
        own = [set(slices_of_part(record, prepared, cfg.part)) for record in records]
        indices = sorted(set.intersection(*own) if cfg.part == "test" else set.union(*own))
    of_members = list(zip(records, data, strict=True))
    known = {part: [(r, set(known_patients(r, part, own, indices))) for r, own in of_members] for part in ("train", "val")}
    refuse_known(known, {prepared.slices[i].patient for i in indices})
    return indices


def share_params(records: Sequence[Record]) -> dict[str, Any]:
    """Return the parameters that have the same value in all members, with the ensemble as the model."""
    first, *others = records
    shared = {name: value for name, value in first.params.items() if all(r.params.get(name) == value for r in others)}
    return {**shared, "model": f"ensemble of {len(records)}"}
