"""Several sources as one sequence: a short periodic table says which source each position belongs to."""

from collections.abc import Sequence

import numpy as np

from mmssl.stream.order import Order

LONGEST_PERIOD = 1000


class Mixture:
    """Positions to (id, pass), where ids of source i start where those of source i - 1 end.

    In every L positions that start at a multiple of L, source i occurs exactly ``counts[i]`` times; each
    source goes through its own passes, whole.
    """

    def __init__(self, orders: Sequence[Order], weights: Sequence[float]) -> None:
        self.orders = list(orders)
        self.counts = period_counts(weights)
        self.period = int(self.counts.sum())
        self.first_ids = np.cumsum([0, *(order.samples for order in self.orders)])
        # Occurrence j of source i is due at (j + 1/2) / counts[i] of the period: as even as can be.
        due = np.concatenate([(np.arange(count) + 0.5) / count for count in self.counts])
        source = np.repeat(np.arange(len(self.counts)), self.counts)
        self.table = source[np.argsort(due, kind="stable")]
        """(L,) source of each position."""
        self._before = np.concatenate(
            [
                np.zeros((1, len(self.counts)), np.int64),
                np.cumsum(self.table[:, None] == np.arange(len(self.counts)), 0),
            ]
        )

    @property
    def samples(self) -> int:
        """Distinct ids."""
        return int(self.first_ids[-1])

    def at(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and passes at positions ``start`` ≤ p < ``stop``: two (stop - start,) int64."""
        ids = np.empty(stop - start, np.int64)
        passes = np.empty(stop - start, np.int64)
        source = self.table[np.arange(start, stop) % self.period]
        for index, order in enumerate(self.orders):
            here = np.flatnonzero(source == index)
            # The positions of one source are consecutive in its own sequence.
            local = self._seen(start, index)
            done = 0
            while done < len(here):
                pass_, position = divmod(local + done, order.samples)
                take = min(len(here) - done, order.samples - position)
                rows = here[done : done + take]
                ids[rows] = order.ids(pass_, position, position + take) + self.first_ids[index]
                passes[rows] = pass_
                done += take
        return ids, passes

    def replacement(self, id_: int, pass_: int, attempt: int) -> int:
        """Another id of the same source."""
        index = int(np.searchsorted(self.first_ids, id_, side="right")) - 1
        first = int(self.first_ids[index])
        return first + self.orders[index].replacement(pass_, id_ - first, attempt)

    def _seen(self, position: int, source: int) -> int:
        periods, rest = divmod(position, self.period)
        return periods * int(self.counts[source]) + int(self._before[rest, source])


def period_counts(weights: Sequence[float]) -> np.ndarray:
    """How often each source occurs in one period: (S,) int64, each at least 1.

    The shortest period of at most ``LONGEST_PERIOD`` that meets the weights exactly; where there is none, the
    longest one, with the nearest whole counts (largest remainders).
    """
    share = np.asarray(weights, np.float64) / np.sum(weights)
    periods = np.arange(len(share), LONGEST_PERIOD + 1)[:, None]
    wanted = share * periods
    exact = np.all((np.abs(wanted - np.rint(wanted)) <= 1e-9 * periods) & (np.rint(wanted) >= 1), axis=1)
    if exact.any():
        return np.rint(wanted[exact.argmax()]).astype(np.int64)
    counts = np.maximum(1, np.floor(share * LONGEST_PERIOD)).astype(np.int64)
    largest = np.argsort(counts - share * LONGEST_PERIOD, kind="stable")
    counts[largest[: max(0, LONGEST_PERIOD - int(counts.sum()))]] += 1
    return counts
