"""Random numbers for a whole batch, each a pure function of (seed, view, sample, pass, name of the draw).

The generator is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): a
keyed bijection of a 128-bit counter, so a number is computed from where it is used, not from how many were
drawn before. A sample gets the same view whatever batch, rank or worker it falls into, and a new draw in a
view leaves all others as they were.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FIRST, _SECOND = 0xD2511F53, 0xCD9E8D57
_MULTIPLIERS = np.array([[_FIRST], [_SECOND]], dtype=np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], dtype=np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_BLOCKS = 1 << 16
_IDS = 1 << 48
_FEW = 8
"""Up to so many counters Python's integers are faster than arrays: views of video draw for one sample."""


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Ten Philox rounds on counters (4, ...) under one key; words are 32-bit values held as uint64."""
    even, odd = counter[0::2], counter[1::2]
    alike = (2, *[1] * (counter.ndim - 1))
    multipliers = _MULTIPLIERS.reshape(alike)
    for round_key in _round_keys(key):
        product = even * multipliers
        even = (product >> _HALF)[::-1] ^ odd ^ round_key.reshape(alike)
        odd = (product & _LOW)[::-1]
    words = np.empty_like(counter)
    words[0::2], words[1::2] = even, odd
    return words


def philox_single(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """``philox`` of one counter, in Python's integers."""
    a, b, c, d = counter
    for first, second in _single_round_keys(key):
        left, right = a * _FIRST, c * _SECOND
        a, b = right >> 32 ^ b ^ first, right & 0xFFFFFFFF
        c, d = left >> 32 ^ d ^ second, left & 0xFFFFFFFF
    return a, b, c, d


@lru_cache(maxsize=4096)
def _round_keys(key: tuple[int, int]) -> NDArray[np.uint64]:
    """(10, 2): the keys of the rounds, apart by Weyl's sequence."""
    steps = np.arange(10, dtype=np.uint64)[:, None]
    return (np.array(key, dtype=np.uint64) + steps * _WEYL) & _LOW


@lru_cache(maxsize=4096)
def _single_round_keys(key: tuple[int, int]) -> list[tuple[int, int]]:
    return [(first, second) for first, second in _round_keys(key).tolist()]


@lru_cache(maxsize=4096)
def _hash(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "little")


@dataclass(frozen=True)
class Draws:
    """The random numbers of one view for B samples.

    The key is a hash of (seed, name); the counter is (low half of the id, pass, hash of the draw's name,
    number of the block and high half of the id).
    """

    seed: int
    name: str
    ids: NDArray[np.int64]
    """(B,) stable sample ids, 0 ≤ id < 2**48."""
    passes: NDArray[np.int64]
    """(B,) how often the sample's source had been gone through before, 0 ≤ pass < 2**32."""

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.ids.shape != self.passes.shape:
            raise ValueError(f"ids {self.ids.shape} and passes {self.passes.shape}: expected two equal (B,)")
        if self.ids.size and (self.ids.min() < 0 or self.ids.max() >= _IDS):
            raise ValueError("sample ids must lie in 0 .. 2**48 - 1")
        if self.passes.size and (self.passes.min() < 0 or self.passes.max() > 0xFFFFFFFF):
            raise ValueError("passes must lie in 0 .. 2**32 - 1")

    def __len__(self) -> int:
        return len(self.ids)

    def named(self, name: str) -> "Draws":
        """An independent stream for the same samples."""
        return replace(self, name=f"{self.name}/{name}")

    def view(self, v: int) -> "Draws":
        """The stream of the v-th of several views of the same samples."""
        return self.named(f"view{v}")

    def rows(self, index: ArrayLike | slice) -> "Draws":
        """The same stream for some of the samples (indices, boolean mask or slice)."""
        chosen = index if isinstance(index, slice) else np.asarray(index)
        return replace(self, ids=self.ids[chosen], passes=self.passes[chosen])

    def words(self, what: str, n: int) -> NDArray[np.uint64]:
        """(B, n) independent, uniform 32-bit words (as uint64) for the draw called ``what``."""
        blocks = -(-n // 4)
        if not 1 <= blocks <= _BLOCKS:
            raise ValueError(f"{what}: n = {n}; a draw has between 1 and {4 * _BLOCKS} numbers a sample")
        hashed, name = _hash(f"{self.seed}\n{self.name}", 8), _hash(what, 4)
        key = (hashed & 0xFFFFFFFF, hashed >> 32)
        if len(self.ids) * blocks <= _FEW:
            few = [
                philox_single((id_ & 0xFFFFFFFF, pass_, name, id_ >> 32 << 16 | block), key)
                for id_, pass_ in zip(self.ids.tolist(), self.passes.tolist(), strict=True)
                for block in range(blocks)
            ]
            return np.array(few, dtype=np.uint64).reshape(len(self.ids), 4 * blocks)[:, :n]
        ids = self.ids.astype(np.uint64)
        counter = np.empty((4, len(ids), blocks), dtype=np.uint64)
        counter[0] = (ids & _LOW)[:, None]
        counter[1] = self.passes.astype(np.uint64)[:, None]
        counter[2] = name
        counter[3] = ((ids >> _HALF) << np.uint64(16))[:, None] | np.arange(blocks, dtype=np.uint64)
        words = philox(counter, key)
        return words.transpose(1, 2, 0).reshape(len(ids), 4 * blocks)[:, :n]

    def uniform(self, what: str, n: int = 1, low: float = 0.0, high: float = 1.0) -> NDArray[np.float32]:
        """(B, n) float32, uniform in [low, high) on a grid of 2**24 steps (rounding may reach ``high``)."""
        unit = (self.words(what, n) >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
        if low == 0.0 and high == 1.0:
            return unit
        return np.float32(low) + unit * np.float32(high - low)

    def integers(self, what: str, n: int, low: ArrayLike, high: ArrayLike) -> NDArray[np.int64]:
        """(B, n) int64, uniform in low .. high - 1; bounds may be arrays that broadcast to (B, n).

        Multiply and shift, without rejection: for a range r a value is off by at most r / 2**32 of its share.
        """
        start = np.asarray(low, dtype=np.int64)
        span = np.asarray(high, dtype=np.int64) - start
        if (span < 1).any() or (span > 0xFFFFFFFF).any():
            raise ValueError(f"{what}: expected low < high, at most 2**32 - 1 apart")
        scaled = (self.words(what, n) * span.astype(np.uint64)) >> _HALF
        return scaled.astype(np.int64) + start

    def normal(self, what: str, n: int = 1) -> NDArray[np.float32]:
        """(B, n) float32, standard normal (Box and Muller, in float64)."""
        pairs = -(-n // 2)
        unit = (self.words(what, 2 * pairs).astype(np.float64) + 0.5) * 2.0**-32
        radius = np.sqrt(-2.0 * np.log(unit[:, 0::2]))
        angle = 2.0 * np.pi * unit[:, 1::2]
        both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
        return both.reshape(len(self), 2 * pairs)[:, :n].astype(np.float32)

    def permutation(self, what: str, n: int) -> NDArray[np.int64]:
        """(B, n) int64: one permutation of 0 .. n - 1 a sample (the order of n random 32-bit words)."""
        return np.argsort(self.words(what, n), axis=1, kind="stable").astype(np.int64)
