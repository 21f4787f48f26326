"""The runs of a comparison: selecting them, and reading the scores of their patients."""

import math
from collections.abc import Sequence

import yaml
from omegaconf import DictConfig
from rich.console import Console

from attnunet.comparison.pairs import Question
from attnunet.comparison.patients import find_lack, read_patients
from attnunet.comparison.rows import ScoredRun
from attnunet.metrics import catalog
from attnunet.tracking.records import NotFound, Record, RunError, find_runs, runs_of_study, runs_of_sweep
from attnunet.tracking.store import Store
from attnunet.training import runtime


def select_records(cfg: DictConfig, store: Store) -> list[Record]:
    """Return the runs of a study, of a sweep, or of a list of ids. Each run appears once."""
    if cfg.study is not None:
        return runs_of_study(store, cfg.study)
    if cfg.sweep is not None:
        return runs_of_sweep(store, cfg.sweep)
    return list({record.id: record for record in find_runs(store, cfg.runs)}.values())


def keep_scored(records: Sequence[Record], score: str, test: bool) -> tuple[list[Record], list[str]]:
    """Return the finished runs that have the score for validation patients, and a line for each run that is left out.

    With `test`, a run stays that has no validation patients, because its test patients are compared.

    Raises:
        RunError: every run is left out.
    """
    found, left_out = [], []
    for record in records:
        line = f"run {record.id[:8]} ({record.name})"
        if record.status != "FINISHED":
            left_out.append(f"{line} is {record.state}")
        elif by := record.tags.get("superseded"):
            left_out.append(f"{line} is superseded by run {by[:8]}")
        else:
            try:
                patients = record.patients("val")
            except NotFound:
                patients = []
            if not patients and not record.split["val"]:
                if test:
                    found.append(record)
                else:
                    left_out.append(f"{line} has no validation patients; test=true compares the test patients")
            elif not patients:
                left_out.append(f"{line} has no scores of validation patients")
            elif lack := find_lack(patients, score):
                left_out.append(f"{line} {lack}")
            else:
                found.append(record)
    if not found:
        raise RunError("\n".join(["there is no finished run to compare", *left_out]))
    return found, left_out


def read_scores(record: Record, question: Question, parts: Sequence[str]) -> ScoredRun:
    """Return a run with the score of each patient in the given parts of its split.

    Raises:
        RunError: a patient of the run's split has no row in patients.csv, or the rows lack the score.
    """
    scores, worst = {}, {}
    for part in parts:
        rows = record.patients(part)
        if missing := sorted(set(record.split["slices"][part]) - {row["patient"] for row in rows}):
            raise RunError(f"run {record.id} ({record.name}): patients.csv lacks the {part} patients {', '.join(missing)}")
        if lack := find_lack(rows, question.score):
            raise RunError(f"run {record.id} ({record.name}) {lack}")
        scores[part], worst[part] = read_patients(rows, question.score)
    overrides = record.tags.get("overrides", "")
    facts = (record.name, record.params, overrides, record.minutes, record.leaking, record.content, record.split["slices"])
    parameters, macs = (record.metrics.get(name, math.nan) for name in ("parameters", "macs"))
    known = [key for key in catalog.metric(question.score).settings if key in record.params]
    settings = {key: yaml.safe_load(record.params[key]) for key in known}  # as values: 2 and 2.0 are equal
    return ScoredRun(record.id, *facts, scores, worst, record.tags, record.page, record.folder, parameters, macs, settings)


def score_tests(records: Sequence[Record], store: Store, console: Console) -> dict[str, Record]:
    """Return the runs by id, all with test scores. Runs without test scores are first scored as in their training."""
    if untested := [record for record in records if not record.tested]:
        runtime.load_tensorflow()

        from attnunet.evaluation.scoring import score_test  # it imports TensorFlow, which runs with scores do not need

        for number, record in enumerate(untested, 1):
            console.print(f"scoring the test {number}/{len(untested)}: run {record.id[:8]} ({record.name})")
            score_test(record)
    return {record.id: record for record in find_runs(store, [record.id for record in records])}
