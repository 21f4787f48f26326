"""The count of how often a test split was scored: each time, the best of several runs overstates its score a little more."""

from collections.abc import Iterable

from filelock import FileLock
from mlflow.entities import ViewType

from attnunet.data.files import digest
from attnunet.tracking.records import Record, list_studies, search_runs
from attnunet.tracking.run import Run
from attnunet.tracking.store import Store


def use_tag(test: Iterable[tuple[str, int]]) -> str:
    """Return `test_scored.<digest>`, a hash of the patient and the number of each slice of the test split, in any order.

    Nothing else is hashed, so that the split stays the same when other patients are added to the data or left out.
    """
    return f"test_scored.{digest(sorted(test))}"


OWN = "test_scored_own"
"""The tag of a run that was scored on the test split as its training does, with the frozen decision."""


def count_use(run: Run, test: Iterable[tuple[str, int]], own: bool = False) -> int:
    """Count a scoring of the run on its test split; return the count over all runs of its store, this time included.

    The count is a tag of the run. Runs that were deleted in MLflow, or cleared from the disk, still count.

    Args:
        test: the whole test split that the run was made with, patient and number of each slice.
        own: whether the run was scored as its training does. A run that is interrupted after that scores the same again,
            which counts once.
    """
    tag, store = use_tag(test), run.store
    with FileLock(store.root / "uses.lock"):
        tags = store.attempt(lambda: store.client.get_run(run.id)).data.tags
        if not (own and OWN in tags):
            run.tags({tag: str(int(tags.get(tag, "0")) + 1), **({OWN: "true"} if own else {})})
        return count_uses(store, tag)


def count_uses(store: Store, tag: str) -> int:
    runs = search_runs(store, list_studies(store, ViewType.ALL), f"tags.`{tag}` LIKE '%'", ViewType.ALL)
    return sum(int(found.data.tags[tag]) for found in runs)


def uses_so_far(store: Store, records: Iterable[Record]) -> int:
    """Return how often the runs of the store scored the test split of these runs; for several splits, the largest count."""
    tags = {use_tag(record.slices("test")) for record in records}
    return max((count_uses(store, tag) for tag in tags), default=0)


def describe_uses(times: int) -> str:
    """Return a sentence that says how often the test split was scored."""
    return f"this test split has now been scored {'once' if times == 1 else f'{times} times'}"
