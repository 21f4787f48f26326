"""The orders in which a training draws its slices."""

import pickle
from functools import partial

import numpy as np
import pytest

from attnunet.data.sampling import patient_first, strata

INDICES = np.array([10, 11, 12, 20, 21, 30])
PATIENTS = ["a", "a", "a", "b", "b", "c"]
PIXELS = np.array([0, 25, 100, 0, 0, 4])


def drawn(draws: int, seed: int = 0, **keys: float) -> np.ndarray:
    order = patient_first(INDICES, PATIENTS, PIXELS, 4, seed, **keys)
    return np.array([order.slice_at(draw) for draw in range(draws)])


def test_each_patient_is_drawn_once_before_any_of_them_again() -> None:
    patients = drawn(300) // 10
    assert all(sorted(three) == [1, 2, 3] for three in patients.reshape(-1, 3))
    assert len({tuple(three) for three in patients.reshape(-1, 3)}) == 6


def test_the_chance_of_a_slice_grows_with_its_lesion_as_the_formula_says() -> None:
    """Patient a with power 1/2 and floor 1/2: weights 1/2, 1/2 + 1/2 and 1/2 + 1 of 3; patient b without a lesion: equal."""
    indices = drawn(9000, power=0.5, floor=0.5)
    shares = {index: np.mean(indices == index) * 3 for index in INDICES}
    expected = {10: 1 / 6, 11: 1 / 3, 12: 1 / 2, 20: 1 / 2, 21: 1 / 2, 30: 1}
    assert shares == pytest.approx(expected, abs=0.03)  # six standard deviations


def test_a_power_of_0_draws_every_slice_with_a_lesion_alike() -> None:
    indices = drawn(9000, power=0, floor=1)
    shares = [np.mean(indices == index) * 3 for index in (10, 11, 12)]
    assert shares == pytest.approx([0.2, 0.4, 0.4], abs=0.03)


def test_an_order_depends_on_seed_and_draw_alone() -> None:
    assert np.array_equal(drawn(50), drawn(50))
    assert not np.array_equal(drawn(50), drawn(50, seed=1))


@pytest.mark.parametrize("sampler", [patient_first, partial(strata, lesion_share=0.5)])
def test_another_process_draws_the_same(sampler) -> None:  # noqa: ANN001
    order = sampler(INDICES, PATIENTS, PIXELS, 4, 0)
    copy = pickle.loads(pickle.dumps(order))
    assert [order.slice_at(draw) for draw in range(40)] == [copy.slice_at(draw) for draw in range(40)]
