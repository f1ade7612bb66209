"""Several processes for one check, without paying for their imports each time."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(folder: Path, function: Callable[..., None], world: int, *arguments: Any) -> None:
    """Run ``function(rank, world, *arguments)`` in ``world`` processes that form a gloo group.

    ``function`` is a module's own, so that the processes can import it. The first failure ends them all and
    is raised here with its traceback. They are forks of one server per session that has imported everything.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["mmssl.engine", "mmssl.methods"])
    meeting = folder / f"meeting-{world}"
    mp.start_processes(
        _rank, args=(world, str(meeting), function, arguments), nprocs=world, start_method="forkserver"
    )


def _rank(
    rank: int, world: int, meeting: str, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    function(rank, world, *arguments)
    dist.destroy_process_group()
