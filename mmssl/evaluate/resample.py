"""How sure a score is: the bootstrap over whole groups (videos, batches), whose cases are not independent."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 1000
FEWEST = 5
"""Groups below which there is no interval: two batches that happen to agree would seem to leave no doubt."""


@dataclass(frozen=True)
class Resampled:
    """Of a statistic over resampled groups."""

    interval: tuple[float, float]
    """2.5th and 97.5th percentile."""
    error: float
    """Standard deviation: the statistic's standard error."""

    @property
    def percent(self) -> tuple[float, float]:
        """The interval of a share, in %."""
        return 100 * self.interval[0], 100 * self.interval[1]


def bootstrap(
    totals: Tensor, statistic: Callable[[Tensor], Tensor], seed: int, draws: int = DRAWS
) -> Resampled | None:
    """Resample groups with replacement (Efron, Annals of Statistics 1979); None for fewer than five groups.

    Args:
        totals: (G, ...) float64, what each group adds to the sums that the statistic is computed from.
        statistic: sums (R, ...) of R resamples to (R,) values; NaN where a resample has no value.
        seed: of the draws.
        draws: R.
    """
    groups = len(totals)
    if groups < FEWEST:
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(groups, (draws, groups), generator=generator)
    counts = torch.zeros(draws, groups, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(draws, groups, dtype=torch.float64)
    )
    sums = (counts @ totals.double().flatten(1)).unflatten(1, totals.shape[1:])
    values = statistic(sums)
    values = values[values.isfinite()]
    if len(values) < 2:
        return None
    low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Resampled((low, high), float(values.std()))


def mean(sums: Tensor) -> Tensor:
    """(R, 2) sums of values and of their counts to (R,) means: the statistic of an average."""
    return sums[:, 0] / sums[:, 1]
