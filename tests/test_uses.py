"""How often a test split was scored, as the runs of a store tell it."""

import pytest

from attnunet.tracking import uses
from attnunet.tracking.run import Run
from attnunet.tracking.store import Store

TEST = (("a", 1), ("a", 2), ("b", 1))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("uses") / "mlruns", None, patience=0)


def test_what_training_froze_counts_once_a_run_and_each_other_scoring_once(store: Store) -> None:
    def again(run: Run | None = None) -> Run:
        return Run(store, run.id if run else store.begin(store.study("uses"), "run", {}))

    first = again()
    assert uses.count_use(first, TEST, own=True) == 1
    # Interrupted after that, it is resumed, and scores the same again.
    assert uses.count_use(again(first), TEST[::-1], own=True) == 1
    # Another threshold, say, is another look; so is another run.
    assert uses.count_use(again(first), TEST) == 2
    assert uses.count_use(again(first), TEST) == 3
    second = again()
    assert uses.count_use(second, TEST) == 4
    assert uses.count_use(second, TEST, own=True) == 5
    assert uses.count_use(second, TEST, own=True) == 5
    # Another split has its own count.
    assert uses.count_use(again(), TEST[:2], own=True) == 1
