"""How often a test split was looked at: each look makes the best of several runs flatter a little more."""

import hashlib
import json
from collections.abc import Iterable, Sequence

from filelock import FileLock
from mlflow.entities import ViewType

from attnunet.data.prepare import Prepared
from attnunet.tracking.records import Record, search, studies
from attnunet.tracking.run import Run
from attnunet.tracking.store import Store

TAG = "test_scored."


def count(run: Run, prepared: Prepared, indices: Sequence[int]) -> int:
    """Note that the run was scored on these test slices; -> how often they were by the runs of its store, this time included.

    What is counted is a tag of the run, `test_scored.<digest>`, with a hash of the data's content and of the slices in
    its name. Runs that were deleted in MLflow, or cleared from the disk, still count.
    """
    slices = sorted((prepared.slices[i].patient, prepared.slices[i].number) for i in indices)
    identity = json.dumps([prepared.folder.name, slices])
    tag = TAG + hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    store = run.store
    with FileLock(store.root / "uses.lock"):
        before = int(store.client.get_run(run.id).data.tags.get(tag, "0"))
        run.tags({tag: str(before + 1)})
        return total(store, tag)


def total(store: Store, tag: str) -> int:
    runs = search(store, studies(store, ViewType.ALL), f"tags.`{tag}` LIKE '%'", ViewType.ALL)
    return sum(int(found.data.tags[tag]) for found in runs)


def so_far(store: Store, records: Iterable[Record]) -> int:
    """How often a test split of these runs was scored, by all runs of the store; of several splits, the most."""
    tags = {tag for record in records for tag in record.tags if tag.startswith(TAG)}
    return max((total(store, tag) for tag in tags), default=0)


def sentence(times: int) -> str:
    """What a reader of the score should know of `count`."""
    return f"this test split has now been scored {'once' if times == 1 else f'{times} times'}"
