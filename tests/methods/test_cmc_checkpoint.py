"""A sharded bank through the engine's checkpoints: saved by two ranks, gone on with by one and by three."""

from collections.abc import Callable
from pathlib import Path

import torch
from test_cmc import course, made, seen
from torch import Tensor

from mmssl.engine import setup
from mmssl.engine.checkpoint import Checkpoints
from mmssl.methods.multiview.cmc import CMC
from mmssl.stream.batch import Batch

SETTINGS = {"negatives": "bank", "sharded": True}


def checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(folder, keep=1, identity={"train": {"seed": 0}}, harmless=())


def started() -> tuple[CMC, torch.optim.Optimizer]:
    method = made(**SETTINGS)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    return method, optimizer


def save(rank: int, world: int, folder: Path) -> None:
    """As the engine does: state shared, a step, ranks compared, rank 0 writes."""
    method, optimizer = started()
    if rank:
        for bank in method.negatives.banks.values():
            bank.rows.mul_(-1)  # had this rank begun otherwise, its rows would be the bank's all the same
    setup.share_state(method)
    step(method, optimizer, seen(0).rows(slice(rank * 12 // world, (rank + 1) * 12 // world)))
    setup.average_statistics(method)
    setup.check_ranks_agree(method, 1)
    checkpoints(folder).save(method, optimizer, step=1, consumed=12, provenance={})


def step(method: CMC, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    method(batch).total.backward()
    for p in method.parameters():
        if torch.distributed.is_initialized() and p.grad is not None:
            torch.distributed.all_reduce(p.grad)
            p.grad /= torch.distributed.get_world_size()
    optimizer.step()
    optimizer.zero_grad()
    method.after_step(0.0)


def go_on(rank: int, world: int, folder: Path, expected: dict[str, Tensor]) -> None:
    method, optimizer = started()
    assert checkpoints(folder).restore(method, optimizer) == (1, 12)
    setup.share_state(method)
    assert len(method.negatives.banks["L"].rows) == 90 // world
    n = 12 // world
    found = course(method, lambda batch: batch.rows(slice(rank * n, rank * n + n)))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-2, atol=2e-3, msg=key)


def test_another_number_of_ranks_goes_on(tmp_path: Path, ranks: Callable[..., None]) -> None:
    ranks(save, 2, tmp_path / "checkpoints")
    method, optimizer = started()
    assert checkpoints(tmp_path / "checkpoints").restore(method, optimizer) == (1, 12)
    assert method.negatives.banks["depth"].rows.shape == (90, 12)
    assert int(method.negatives.step) == 1
    ranks(go_on, 3, tmp_path / "checkpoints", course(method, lambda batch: batch))
