"""Position to sample: a block shuffle that is a pure function of (seed, pass).

Blocks of neighbouring samples are permuted, and the samples of several blocks in a row (a window) are
permuted among each other. Reads stay near each other: while one window is consumed, only its blocks are
touched. Nothing is remembered between calls but what can be computed again, so a stream resumes anywhere at
the cost of one window.
"""

from functools import lru_cache

import numpy as np

_WORD = (1 << 64) - 1
_BLOCKS, _SHIFT, _WINDOW, _REPLACEMENT = range(4)
"""What a random number is for: separates the streams of one (seed, pass)."""


class Order:
    """The order of ``samples`` ids in every pass.

    Args:
        samples: number of ids, N ≥ 1.
        seed: any integer; taken modulo 2^64.
        block: neighbouring ids that travel together.
        window: ids that are shuffled among each other; at least one block.
    """

    def __init__(self, samples: int, seed: int, block: int, window: int) -> None:
        self.samples = samples
        self.seed = seed & _WORD
        self.block = min(block, samples)
        self.blocks = -(-samples // self.block)
        self.blocks_per_window = max(1, window // self.block)
        # A window no smaller than the split holds all of its blocks: a uniform permutation.
        if window >= samples:
            self.blocks_per_window = self.blocks
        # Two of each: a batch may straddle two windows or two passes.
        self._layout = lru_cache(2)(self._make_layout)
        self._window = lru_cache(4)(self._make_window)

    def __reduce__(self) -> tuple[type["Order"], tuple[int, int, int, int]]:
        return Order, (self.samples, self.seed, self.block, self.blocks_per_window * self.block)

    def ids(self, pass_: int, start: int, stop: int) -> np.ndarray:
        """Ids at positions ``start`` ≤ p < ``stop`` ≤ N of one pass: (stop - start,) int64."""
        if not 0 <= start <= stop <= self.samples:
            raise ValueError(f"positions {start}..{stop} are not within a pass of {self.samples} samples")
        _, starts = self._layout(pass_)
        parts = []
        window = int(np.searchsorted(starts, start, side="right")) - 1
        while start < stop:
            first, end = int(starts[window]), int(starts[window + 1])
            parts.append(self._window(pass_, window)[start - first : min(stop, end) - first])
            start, window = end, window + 1
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def replacement(self, pass_: int, id_: int, attempt: int) -> int:
        """Another id to use in place of ``id_``, which could not be read; ``id_`` itself only if N = 1."""
        if self.samples == 1:
            return id_
        step = 1 + int(self._raw(pass_, _REPLACEMENT, id_, 1, attempt)[0] % np.uint64(self.samples - 1))
        return (id_ + step) % self.samples

    def _make_layout(self, pass_: int) -> tuple[np.ndarray, np.ndarray]:
        """The blocks in their order, and the position at which each window starts (and the last one ends)."""
        blocks = np.argsort(self._raw(pass_, _BLOCKS, 0, self.blocks), kind="stable")
        ends = np.cumsum(np.minimum(self.block, self.samples - blocks * self.block))
        last = np.append(np.arange(self.blocks_per_window, self.blocks, self.blocks_per_window), self.blocks)
        return blocks, np.append(0, ends[last - 1])

    def _make_window(self, pass_: int, window: int) -> np.ndarray:
        """The ids of one window in their order."""
        first = window * self.blocks_per_window
        blocks = self._layout(pass_)[0][first : first + self.blocks_per_window]
        ids = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        ids = ids[ids < self.samples]
        # Every pass cuts its blocks at other places, or the same neighbours would travel together for ever.
        shift = int(self._raw(pass_, _SHIFT, 0, 1)[0] % np.uint64(self.samples))
        shuffled = np.argsort(self._raw(pass_, _WINDOW, window, len(ids)), kind="stable")
        return (ids[shuffled] + shift) % self.samples

    def _raw(self, pass_: int, purpose: int, index: int, n: int, attempt: int = 0) -> np.ndarray:
        """(n,) uint64. Raw output is the same in every NumPy, which ``permutation`` does not promise."""
        key = np.array([self.seed, pass_], np.uint64)  # a list with numbers from 2^63 on would become floats
        return np.random.Philox(key=key, counter=[0, index, attempt, purpose]).random_raw(n)
