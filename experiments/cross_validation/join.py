"""Join the folds of a study: the test patients of all its finished runs as one result.

python experiments/cross_validation/join.py STUDY [MLRUNS]     writes patients.csv beside this file
"""

import csv
import sys
from pathlib import Path

import numpy as np
from mlflow import MlflowClient

from attnunet.evaluation.statistics import mean_interval


def tested(study: str, root: Path) -> list[dict[str, str]]:
    """The rows of every test patient; a patient that two runs tested is an error."""
    client = MlflowClient(f"sqlite:///{root.resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise SystemExit(f"no study {study} in {root}")
    rows: dict[str, dict[str, str]] = {}
    for run in client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'"):
        path = Path(run.info.artifact_uri.removeprefix("file://")) / "patients.csv"
        with path.open() as stream:
            for row in csv.DictReader(stream):
                if row["part"] == "test":
                    if row["patient"] in rows:
                        raise SystemExit(f"{row['patient']} was tested by two runs of {study}")
                    rows[row["patient"]] = {"fold": run.data.params["split.fold"], **row}
    return sorted(rows.values(), key=lambda row: (row["fold"], row["patient"]))


if __name__ == "__main__":
    rows = tested(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "mlruns"))
    with (Path(__file__).parent / "patients.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for score in ("dice", "iou", "sensitivity", "precision"):
        values = np.array([float(row[score]) for row in rows])
        low, high = mean_interval(values[~np.isnan(values)], 9999)
        print(f"{score:12} mean {np.nanmean(values):.3f} ({low:.3f} to {high:.3f})  median {np.nanmedian(values):.3f}")
    print(f"over {len(rows)} patients")
