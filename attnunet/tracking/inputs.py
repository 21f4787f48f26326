"""The data of a run as MLflow's data set inputs, which its page shows in the column Dataset."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types import Schema, TensorSpec

from attnunet.data.cache import Prepared
from attnunet.data.files import digest
from attnunet.data.split import Split
from attnunet.tracking.redaction import redact
from attnunet.tracking.run import Run

CONTEXT = "mlflow.data.context"
"""The tag that says what a run uses a data set for."""


def log_data(run: Run, name: str, data: Mapping[str, Any], prepared: Prepared, split: Split) -> None:
    """Log an input for each part of the split, whose context is train, val or test.

    The digest of an input stands for the fingerprint of the data and the slices of the part. So two runs whose digests are
    equal have the same images, in the same preparation.

    Args:
        name: the name of the data set.
        data: the configuration group, whose `root` or `file` is the source.
    """
    source = str(data.get("root") or data.get("file") or "")
    image = TensorSpec(prepared.images.dtype, (-1, *prepared.images.shape[1:]), "images")
    spec = {"features": Schema([image]), "targets": Schema([TensorSpec(np.dtype("uint8"), (-1, -1, -1), "masks")])}
    schema = json.dumps({"mlflow_tensorspec": {part: each.to_json() for part, each in spec.items()}})
    inputs = []
    for part, indices in split.parts.items():
        slices = [(prepared.slices[index].patient, prepared.slices[index].number) for index in indices]
        profile = {
            "num_rows": len(slices),
            "patients": len(split.patients[part]),
            "slices with lesion": int((prepared.lesion_pixels[list(indices)] > 0).sum()),
            "fingerprint": prepared.fingerprint,
        }
        identity = digest([prepared.fingerprint, sorted(slices)])
        place = json.dumps({"uri": redact(source)})
        found = Dataset(name, identity, "local", place, schema, json.dumps(profile))
        inputs.append(DatasetInput(found, [InputTag(CONTEXT, part)]))
    with run.store.lock():  # two jobs that log a new data set at once would both add it
        run.store.attempt(lambda: run.store.client.log_inputs(run.id, inputs))
