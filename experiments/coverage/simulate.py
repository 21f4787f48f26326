"""How often an interval of the mean Dice over patients holds the true mean: four distributions, five methods.

python experiments/coverage/simulate.py     writes coverage.csv beside this file
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
DRAWS, RESAMPLES, LEVEL = 4000, 9999, 0.95
PATIENTS = (5, 7, 10, 20, 40)

with (HERE / "patients.csv").open() as stream:
    REAL = np.array([float(row["dice"]) for row in csv.DictReader(stream)])

Sample = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def mixture(missed: float) -> tuple[Sample, float]:
    """A share of the patients is missed, Beta(1.5, 6) with mean 0.2, the others are found, Beta(14, 4.5) with mean 0.76."""

    def sample(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return np.where(rng.random(shape) < missed, rng.beta(1.5, 6, shape), rng.beta(14, 4.5, shape))

    return sample, missed * 1.5 / 7.5 + (1 - missed) * 14 / 18.5


DISTRIBUTIONS: dict[str, tuple[Sample, float]] = {
    "26 real patients": (lambda rng, shape: rng.choice(REAL, shape), float(REAL.mean())),
    "27 % missed": mixture(7 / 26),
    "one skewed hump": (lambda rng, shape: rng.beta(3, 0.8, shape), 3 / 3.8),
    "10 % missed": mixture(0.1),
}


def student(values: np.ndarray) -> np.ndarray:
    mean, error = values.mean(axis=1), stats.sem(values, axis=1)
    half = stats.t.ppf((1 + LEVEL) / 2, values.shape[1] - 1) * error
    return np.stack([mean - half, mean + half], axis=1)


def bca(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Efron's, by SciPy; a constant sample is its own interval."""
    intervals = np.repeat(values[:, :1], 2, axis=1)
    varied = np.ptp(values, axis=1) > 0
    interval = stats.bootstrap(
        (values[varied],),
        np.mean,
        n_resamples=RESAMPLES,
        batch=50,
        axis=-1,
        method="BCa",
        confidence_level=level,
        rng=np.random.default_rng(0),
    ).confidence_interval
    intervals[varied] = np.stack([interval.low, interval.high], axis=1)
    return intervals


def bca_t(values: np.ndarray) -> np.ndarray:
    """BCa at the level whose normal quantile is Student's."""
    return bca(values, 2 * stats.norm.cdf(stats.t.ppf((1 + LEVEL) / 2, values.shape[1] - 1)) - 1)


def bca_expanded(values: np.ndarray) -> np.ndarray:
    """The same, with that quantile times sqrt(n / (n - 1)) besides."""
    n = values.shape[1]
    return bca(values, 2 * stats.norm.cdf(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(n / (n - 1))) - 1)


def bootstrap_t(values: np.ndarray) -> np.ndarray:
    """mean - t* s for the quantiles t* of (resample's mean - mean) / resample's s; a constant resample is left out."""
    n = values.shape[1]
    picks = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    mean, spread = values.mean(axis=1), values.std(axis=1)
    t = np.full((RESAMPLES, len(values)), np.nan)
    for row, pick in enumerate(picks):
        drawn = values[:, pick]
        s = drawn.std(axis=1)
        np.divide(drawn.mean(axis=1) - mean, s, out=t[row], where=s > 1e-12)
    low, high = np.nanquantile(t, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.stack([mean - high * spread, mean - low * spread], axis=1)


METHODS = {
    "Student's t": student,
    "BCa": bca,
    "BCa, t": bca_t,
    "BCa, expanded": bca_expanded,
    "bootstrap-t": bootstrap_t,
}


def main() -> None:
    with (HERE / "coverage.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["distribution", "mean", "patients", "method", "coverage", "below", "above", "width"])
        for distribution, (sample, mean) in DISTRIBUTIONS.items():
            for n in PATIENTS:
                values = sample(np.random.default_rng(n), (DRAWS, n))
                for name, method in METHODS.items():
                    low, high = method(values).T
                    below, above = np.mean(high < mean), np.mean(low > mean)
                    figures = [f"{x:.4f}" for x in (1 - below - above, below, above, np.mean(high - low))]
                    writer.writerow([distribution, f"{mean:.4f}", n, name, *figures])
                    print(f"{distribution:18} {n:3} {name:14}", *figures, flush=True)


if __name__ == "__main__":
    main()
