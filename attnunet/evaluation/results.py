"""The results that a training logs to its run: summaries, tables, the predictor and the figures."""

from collections.abc import Mapping

from omegaconf import DictConfig

from attnunet import figures
from attnunet.data.cache import Prepared
from attnunet.data.split import Split
from attnunet.evaluation import pictures, report
from attnunet.evaluation.patients import Scores
from attnunet.inference.predictor import Predictor
from attnunet.metrics.decision import Choice
from attnunet.tracking.resume import SCORE
from attnunet.tracking.run import Run
from attnunet.training.fit import Fitted


def log_results(
    cfg: DictConfig,
    run: Run,
    fitted: Fitted,
    score: float,
    choice: Choice,
    scores: Mapping[str, Scores],
    predictor: Predictor,
    prepared: Prepared,
    split: Split,
) -> None:
    """Log the results of a training. `score` is the value of `monitor` that the kept weights reach.

    All scores and tables are logged. The setting `trainer.keep` decides whether the predictor is logged, and
    `trainer.figures` whether the figures are. The figures of scores show the part that was scored last.
    """
    step = fitted.epoch
    for part, found in scores.items():
        run.metrics({f"final/{part}/{key}": value for key, value in found.summary.items()}, step)
    run.metrics({SCORE: score}, step)
    for name, table in report.tables(choice, scores).items():
        run.text(table, name)
    if cfg.trainer.keep != "none":
        run.predictor(predictor)
    if cfg.trainer.figures:
        run.figures({"curves": figures.curves(fitted.history, step)})
        if choice.thresholds:
            run.figures({"decision": figures.decision(choice)})
        if scores:
            part, found = [*scores.items()][-1]
            run.figures(pictures.draw_scores(predictor, prepared, split.parts[part], found))
