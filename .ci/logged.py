"""Write docs/reference/logged.md, the list of the metrics, params and tags of a run. A test holds a run against this list."""

from collections.abc import Iterator
from pathlib import Path

from attnunet.metrics import catalog

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "logged.md"
INTRODUCTION = """<!-- `make docs` writes this page from .ci/logged.py. -->
# What a run logs

This page lists the metrics, params and tags of a run in MLflow. `*` stands for a name, for example `val` or `test` in
`final/*/dice`. [Runs and comparisons](files.md) lists the files of a run. The file `summary.csv` has all values of
[the scores](../scores.md), of which only a few are metrics.
"""
METRICS = (
    ("train/loss", "the mean loss of the batches of an epoch", "`figures/curves.png`"),
    (
        "train/dice",
        "the Dice score of all pixels of the epoch's batches together, at the threshold 0.5. A batch is scored as it is "
        "trained on: augmented, with dropout, and by the weights before its step",
        "MLflow's charts, beside `val/dice`",
    ),
    ("train/learning_rate", "the learning rate at the end of an epoch", "MLflow's charts"),
    ("train/images_per_second", "the speed of the training, without the validation", "MLflow's charts"),
    ("train/epoch_seconds", "the time of an epoch, with its validation", "the minutes of `attnunet.compare`"),
    ("val/loss", "the mean loss of the validation slices", "`figures/curves.png`, `monitor=val/loss`"),
    ("val/dice", "the mean Dice of the validation patients, at the best threshold of the epoch", "`monitor=val/dice`"),
    ("val/iou", "the mean IoU of the validation patients, at the same threshold", "`figures/curves.png`"),
    ("val/threshold", "the best threshold of the epoch", "MLflow's charts"),
    ("val/dice_at_0.5", "the mean Dice of the validation patients, at the threshold 0.5", "`figures/curves.png`"),
    ("final/monitor", "the value of `monitor` that the kept weights reach", "the table of a sweep, a search, a reused run"),
    ("parameters", "the parameters of the network", "the leaderboard of `attnunet.compare`"),
    (
        "macs",
        "the multiplications of the network's kernels for one slice; missing if a layer of your own has other weights",
        "the leaderboard of `attnunet.compare`",
    ),
    ("system/*", "processor, memory and GPU, as MLflow measures them", "MLflow's tab of system metrics"),
)
SORTED = "MLflow's columns, `list_runs` of the notebook"
PARAMS = (
    ("*", "a setting under its name on the command line; see [Configuration](configuration.md)", "`attnunet.compare`"),
    ("model", "the choice of a group, and so for every other group", "`attnunet.compare`"),
)
TAGS = (
    ("command", "the command that repeats the run", "the model card"),
    ("overrides", "the overrides of the run", "the labels of `attnunet.compare`, the table of a sweep"),
    ("git.commit", "the commit of attnunet", "the model card"),
    ("git.dirty", "whether the checkout had changes", "the model card"),
    ("machine", "processor, cores and GPUs", "the warning of a run that resumes on another machine"),
    ("python", "the version of Python", "you, to repeat the run"),
    ("version.*", "the version of a package", "the model card; you, to repeat the run"),
    ("fingerprint", "the identity of the run", "`resume=auto`"),
    ("code", "the identity of the code, of Python and of the numerical packages", "the rows of `attnunet.compare`"),
    ("recipe", "the identity without threads and settings", "the reason for a new run"),
    ("threads", "the threads of TensorFlow", "the reason for a new run"),
    ("settings", "the environment variables of the numerical libraries", "the reason for a new run"),
    ("metrics", "the identity of the code of each metric", "`resume=auto`"),
    ("leaking", "whether patients are on both sides of the split", "`attnunet.compare`, `list_runs` of the notebook"),
    ("host", "the machine of the process", "the check whether a run is alive"),
    ("process", "the number and the start of the process", "the check whether a run is alive"),
    ("heartbeat", "when the process was last alive", "the check whether a run is alive"),
    ("*.checksum", "the checksum of a file", "every command that reads the file"),
    ("test_scored.*", "how often the run was scored on its test split", "the count of looks at a test split"),
    ("test_scored_own", "the run was scored as in its training", "the count of looks at a test split"),
    ("superseded", "the later run with the same fingerprint", "`attnunet.compare`, `attnunet.store clean`"),
    ("reused_by.*", "a sweep reused this run", "`attnunet.compare sweep=...`"),
    ("evaluation.*", "an evaluation of `attnunet.evaluate`", "its name, which is taken"),
    ("sweep", "the run is the parent of a sweep", "the same sweep, started again"),
    ("swept", "the keys with several values in the sweep", "the names of its runs"),
    ("pruned", "the epoch after which a search ended the run", "the table of the search, started again"),
    ("cross_validated", "the runs of the folds", "`attnunet.compare`, which leaves the run out"),
    ("ensemble", "the runs of the members", "`attnunet.compare`, which leaves the run out"),
    ("audit", "the run is an audit of a data set", "`attnunet.compare`, which leaves the run out"),
    ("scored_as", "the run whose rules scored the masks of another tool", "you, on MLflow's page"),
    ("error", "why the run failed", "you, on MLflow's page"),
    ("mlflow.*", "MLflow's own tags, such as the parent of a job", "MLflow's page"),
)


def scores() -> Iterator[tuple[str, str, str]]:
    """Yield a row for each score that is a metric."""
    meanings = {name: value.meaning for value in catalog.STATISTICS for name in value.names}
    meanings |= {metric.name: f"{metric.meaning}; the mean over patients" for metric in catalog.METRICS}
    for name in catalog.LOGGED:
        yield f"final/*/{name}", meanings[name], SORTED
        yield f"evaluate/*/{name}", "the same, of an evaluation of `attnunet.evaluate`", SORTED


def names() -> dict[str, list[str]]:
    """Return the names of the metrics, params and tags."""
    tables = {"metrics": (*METRICS, *scores()), "params": PARAMS, "tags": TAGS}
    return {kind: [name for name, _, _ in rows] for kind, rows in tables.items()}


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for title, rows in (("Metrics", (*METRICS, *scores())), ("Params", PARAMS), ("Tags", TAGS)):
        lines = [f"| `{name}` | {meaning} | {read} |" for name, meaning, read in rows]
        parts.append("\n".join([f"## {title}\n", "| name | meaning | read by |", "|---|---|---|", *lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
