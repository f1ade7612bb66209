"""States of the random generators that a training step may draw from, as tensors, for every rank."""

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl import distributed


def seed_everything(seed: int, *more: int) -> None:
    """Seed torch, numpy and random from ``seed`` and further integers (rank, step); call before building."""
    words = np.random.SeedSequence([seed, *more]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def get_state() -> dict[str, Tensor]:
    """State of torch (CPU and this rank's GPU), numpy and random; shapes never change between calls."""
    numpy_state: Any = np.random.get_state(legacy=False)
    _, words, spare = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy.key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "numpy.at": torch.tensor([numpy_state["state"]["pos"], numpy_state["has_gauss"]]),
        "numpy.gauss": torch.tensor(numpy_state["gauss"], dtype=torch.float64),
        "random": torch.tensor(words),
        "random.gauss": torch.tensor(math.nan if spare is None else spare, dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def gather_states() -> dict[str, Tensor]:
    """Every rank's state under "RANK.NAME", on all ranks (a collective)."""
    states = {name: distributed.gather(value[None], gradient=False) for name, value in get_state().items()}
    return {
        f"{rank}.{name}": value[rank].clone()
        for name, value in states.items()
        for rank in range(distributed.world_size())
    }


def set_state(states: Mapping[str, Tensor], rank: int) -> None:
    """Take back what ``gather_states`` stored for ``rank``."""
    mine = {name.split(".", 1)[1]: value for name, value in states.items() if name.startswith(f"{rank}.")}
    put_state(mine)


def put_state(mine: Mapping[str, Tensor]) -> None:
    """Take back what ``get_state`` gave; without a GPU, a GPU's state is left out."""
    torch.set_rng_state(mine["torch"])
    at, has_gauss = mine["numpy.at"].tolist()
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": mine["numpy.key"].numpy().astype(np.uint32), "pos": at},
            "has_gauss": has_gauss,
            "gauss": mine["numpy.gauss"].item(),
        }
    )
    spare = mine["random.gauss"].item()
    random.setstate((3, tuple(mine["random"].tolist()), None if math.isnan(spare) else spare))
    if "cuda" in mine and torch.cuda.is_available():
        torch.cuda.set_rng_state(mine["cuda"])
