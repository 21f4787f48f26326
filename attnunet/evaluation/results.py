"""The results that a training logs to its run: summaries, tables, the predictor and the figures."""

from collections.abc import Mapping

from omegaconf import DictConfig

from attnunet import figures
from attnunet.data.cache import Prepared
from attnunet.data.files import write_csv
from attnunet.data.split import Split
from attnunet.evaluation import pictures, report
from attnunet.evaluation.patients import Scores
from attnunet.inference.predictor import Predictor
from attnunet.metrics.decision import Choice
from attnunet.models.cost import measure_cost
from attnunet.tracking.resume import SCORE
from attnunet.tracking.run import Run
from attnunet.training.fit import Fitted


def log_results(
    cfg: DictConfig,
    run: Run,
    fitted: Fitted,
    choice: Choice,
    scores: Mapping[str, Scores],
    predictor: Predictor,
    prepared: Prepared,
    split: Split,
) -> float:
    """Log the results of a training, and return the value of `monitor` in the best epoch.

    All scores and tables are logged. The setting `trainer.keep` decides whether the predictor is logged, and
    `trainer.figures` whether the figures are. The figures of scores show the part that was scored last.
    """
    step = fitted.best_epoch
    report.log_scores(run, scores, step)
    score = fitted.history[step - 1][cfg.monitor]
    run.metrics({SCORE: score, **measure_cost(predictor.network)}, step)
    run.text(write_csv(choice.rows()), "decision.csv")
    if cfg.trainer.keep != "none":
        run.predictor(predictor)
    if cfg.trainer.figures:
        drawn = {"curves": figures.curves(fitted.history, step), "decision": figures.decision(choice)}
        run.figures(drawn | pictures.draw_progress(prepared, fitted))
        part = list(scores)[-1]
        run.figures(pictures.draw_scores(predictor, prepared, split.parts[part], scores[part]))
    return score
