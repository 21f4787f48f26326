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
    report.log_scores(run, scores, step)
    run.metrics({SCORE: score, **measure_cost(predictor.network)}, step)
    run.text(write_csv(choice.rows()), "decision.csv")
    if cfg.trainer.keep != "none":
        run.predictor(predictor)
    if cfg.trainer.figures:
        run.figures({"curves": figures.curves(fitted.history, step)} | pictures.draw_progress(prepared, fitted))
        if choice.thresholds:
            run.figures({"decision": figures.decision(choice)})
        for part in [*scores][-1:]:
            run.figures(pictures.draw_scores(predictor, prepared, split.parts[part], scores[part]))
