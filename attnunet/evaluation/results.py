"""What a training leaves in its run: summaries, tables, the predictor and the figures."""

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
    choice: Choice,
    scores: Mapping[str, Scores],
    predictor: Predictor,
    prepared: Prepared,
    split: Split,
) -> float:
    """Log what `trainer.keep` and `trainer.figures` ask for, and all scores; return the best value of `monitor`.

    The figures show the patients of the part that was scored last.
    """
    step = fitted.best_epoch
    for part, found in scores.items():
        run.metrics({f"final/{part}/{key}": value for key, value in found.summary.items()}, step)
    score = fitted.history[step - 1][cfg.monitor]
    run.metrics({SCORE: score}, step)
    for name, table in report.tables(choice, scores).items():
        run.text(table, name)
    if cfg.trainer.keep != "none":
        run.predictor(predictor)
    if cfg.trainer.figures:
        run.figures({"curves": figures.curves(fitted.history, step), "decision": figures.decision(choice)})
        run.figures(pictures.draw_scores(predictor, prepared, split.parts[part], found))
    return score
