"""Memory banks against a dictionary in float64; replicated and sharded ones on several ranks against one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import rank as this_rank
from mmssl.errors import MmsslError
from mmssl.models.memory_bank import MemoryBank

SAMPLES, DIM = 23, 6


def made(*, sharded: bool = False) -> MemoryBank:
    torch.manual_seed(3)
    return MemoryBank(SAMPLES, DIM, 0.5, sharded=sharded)


def updates(steps: int, n: int, seed: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Ids (n,) with repeats, unit vectors (n, d), presence (n,) of a global batch, for each step."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(0, SAMPLES, (n,), generator=generator),
            normalize(torch.randn(n, DIM, generator=generator), dim=1),
            torch.rand(n, generator=generator) > 0.3,
        )
        for _ in range(steps)
    ]


def test_rows_begin_as_unit_vectors_and_stay_so() -> None:
    bank = made()
    for ids, z, present in updates(5, 12):
        bank.update(ids, z, present)
    torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(SAMPLES))
    assert bank.rows.dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=9), min_size=1, max_size=5
    ),
    momentum=st.floats(0.0, 0.9),
)
def test_the_bank_is_a_dictionary(steps: list[list[tuple[int, bool]]], momentum: float) -> None:
    bank = MemoryBank(8, 3, momentum)
    oracle = {i: row.astype(np.float64) for i, row in enumerate(bank.rows.clone().numpy())}
    random = np.random.default_rng(0)
    for step in steps:
        z = random.normal(size=(len(step), 3))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        last = {sample: z[k] for k, (sample, present) in enumerate(step) if present}
        for sample, new in last.items():
            moved = momentum * oracle[sample] + (1 - momentum) * new
            oracle[sample] = moved / np.linalg.norm(moved)
        ids, present = (torch.tensor(list(values)) for values in zip(*step, strict=True))
        bank.update(ids, torch.from_numpy(z).float(), present)
    expected = torch.from_numpy(np.stack([oracle[i] for i in range(8)])).float()
    torch.testing.assert_close(bank(torch.arange(8)), expected, atol=1e-4, rtol=1e-4)


def test_ids_without_a_row_are_named_with_both_sizes() -> None:
    bank = made()
    with pytest.raises(MmsslError, match=r"sample id 23 has no row; the bank has 23 .* at least 24 samples"):
        bank(torch.tensor([0, 23]))
    with pytest.raises(MmsslError, match="sample id -1 has no row"):
        bank.update(torch.tensor([-1, 2]), torch.ones(2, DIM), torch.ones(2, dtype=torch.bool))


def test_the_checksum_sees_a_bit_and_two_rows_changing_places() -> None:
    bank = made()
    first = int(bank.checksum())
    bank.rows[4, 2] = torch.nextafter(bank.rows[4, 2], torch.tensor(2.0))
    second = int(bank.checksum())
    bank.rows[[0, 1]] = bank.rows[[1, 0]]
    third = int(bank.checksum())
    bank.rows[5] = -bank.rows[5]
    assert len({first, second, third, int(bank.checksum())}) == 4
    assert int(made().checksum()) == first


def share(rank: int, world: int, update: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    n = len(update[0]) // world
    return tuple(x[rank * n : (rank + 1) * n] for x in update)


def as_one_process(rank: int, world: int, sharded: bool, rows: Tensor, checksum: Tensor) -> None:
    bank = made(sharded=sharded)
    assert len(bank.rows) == (len(range(rank, SAMPLES, world)) if sharded else SAMPLES)
    for update in updates(6, 12):
        bank.update(*share(rank, world, update))
    assert torch.equal(bank.checksum(), checksum)
    asked = torch.randint(0, SAMPLES, (5 + 3 * rank,), generator=torch.Generator().manual_seed(rank))
    assert torch.equal(bank(asked), rows[asked])

    state = bank.state_dict()
    assert torch.equal(state["rows"], rows)
    if rank == 0:  # rank 0 alone writes a checkpoint, after all have made their state once
        assert torch.equal(bank.state_dict()["rows"], rows)

    # another kind of bank goes on from it: a checkpoint knows neither ranks nor sharding
    other = made(sharded=not sharded)
    other.load_state_dict(state)
    more = updates(1, 12, seed=9)[0]
    for each in (bank, other):
        each.update(*share(rank, world, more))
    assert torch.equal(bank.state_dict()["rows"], other.state_dict()["rows"])
    assert not torch.equal(bank.state_dict()["rows"], rows)
    bank.check_ranks_agree("L")
    with pytest.raises(RuntimeError, match="rows"):
        other.load_state_dict({"rows": torch.zeros(SAMPLES + 1, DIM)})


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
def test_several_ranks_hold_the_rows_of_one(world: int, sharded: bool, ranks: Callable[..., None]) -> None:
    bank = made()
    for update in updates(6, 12):
        bank.update(*update)
    ranks(as_one_process, world, sharded, bank.rows, bank.checksum())


def one_drifts(rank: int, world: int) -> None:
    bank = made()
    bank.check_ranks_agree("ab")
    if this_rank() == 1:
        bank.rows[3] = -bank.rows[3]
    with pytest.raises(MmsslError, match=r"memory bank 'ab': rank 1 of 3 drifted from rank 0"):
        bank.check_ranks_agree("ab")


def test_a_rank_that_drifts_is_named(ranks: Callable[..., None]) -> None:
    ranks(one_drifts, 3)
