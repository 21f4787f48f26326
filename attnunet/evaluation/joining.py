"""The step that joins the folds of a cross-validation into one run."""

from collections.abc import Sequence
from dataclasses import replace

from omegaconf import DictConfig
from rich.console import Console

from attnunet.evaluation import cross_validation, pictures, report, scoring
from attnunet.tracking import records, uses
from attnunet.tracking.provenance import provenance
from attnunet.tracking.records import Record
from attnunet.tracking.run import open_run
from attnunet.tracking.store import Store


def join_studies(cfg: DictConfig, store: Store, runs: Sequence[Record], console: Console) -> None:
    """Log each cross-validation among the runs of a study as a new run. First, score the folds that have no test scores.

    Raises:
        RunError: the study has no cross-validation, or the folds of one cannot be joined; see `CrossValidation.problems`.
    """
    whole = cross_validation.find_cross_validations(runs)
    if problems := [line for found in whole for line in found.problems()]:
        raise records.RunError("\n".join(problems))

    for fold in [fold for found in whole for fold in found.folds if not fold.tested]:
        console.print(f"run {fold.id}: {fold.name}, fold {fold.params['split.fold']}")
        console.print(uses.describe_uses(scoring.score_test(fold)))

    for found in whole:
        found = replace(found, folds=tuple(records.find_runs(store, [fold.id for fold in found.folds])))  # has the new scores
        joined = found.join_scores()
        tags = {**provenance([]), "cross_validated": " ".join(fold.id for fold in found.folds)}
        with open_run(store, store.study(cfg.study), found.name, found.params, tags) as current:
            report.log_scores(current, {"test": joined})
            current.figures(pictures.draw_charts(joined))
        console.print(f"run {current.id}: {found.name}, {len(found.folds)} folds")
        report.print_scores(console, {"test": joined}, "every patient tested once, by a network that never saw it")
        if best := found.choose_decision():
            keys = f"evaluation.thresholds=[{best.threshold:g}] evaluation.smallest_lesions=[{best.smallest_lesion}]"
            fill = str(best.fill_holes).lower()
            console.print(f"the best decision over the folds' validation patients: {keys} evaluation.fill_holes=[{fill}]")
