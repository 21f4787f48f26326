"""Count how often a test split was scored. Each scoring makes the best score of several runs a little more optimistic."""

from collections.abc import Iterable

from filelock import FileLock
from mlflow.entities import ViewType

from attnunet.data.files import digest
from attnunet.tracking.records import Record, list_studies, search_runs
from attnunet.tracking.run import Run
from attnunet.tracking.store import Store


def use_tag(test: Iterable[tuple[str, int]]) -> str:
    """Return the tag of a test split, `test_scored.<digest>`.

    The digest is a hash of the patient and the number of each slice in the test split. The order of the slices does not
    matter. Nothing else is hashed, so that the tag stays the same if other patients are added to the data or left out.
    """
    return f"test_scored.{digest(sorted(test))}"


OWN = "test_scored_own"
"""The tag of a run that was scored on the test split with the frozen decision, in the same way as training scores a run."""


def count_use(run: Run, test: Iterable[tuple[str, int]], own: bool = False) -> int:
    """Add 1 to the count of a run that was scored on its test split; return the sum of the counts of all runs in the store.

    A tag of the run holds the count. Runs that were deleted in MLflow, or cleared from the disk, still count.

    Args:
        test: the patient and the number of each slice in the whole test split of the run.
        own: whether the run was scored in the same way as training scores a run. If a run is interrupted after this scoring,
            it repeats the scoring when it resumes. The two scorings count once.
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
    """Return how often runs of the store were scored on the test split of these runs.

    If these runs have different test splits, return the largest count.
    """
    tags = {use_tag(record.slices("test")) for record in records}
    return max((count_uses(store, tag) for tag in tags), default=0)


def describe_uses(times: int) -> str:
    """Return a sentence that says how often the test split was scored."""
    return f"this test split has now been scored {'once' if times == 1 else f'{times} times'}"
