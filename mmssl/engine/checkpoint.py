"""Checkpoints that are whole or absent, hold no pickled code, and can be passed over when damaged.

``checkpoints/step-00001234/`` holds ``method.safetensors`` (encoders, momentum encoders, queues, banks),
``optimizer.pt`` (tensors and numbers only, read with ``weights_only``), ``rng.safetensors`` (generator states
by rank) and ``checkpoint.json`` (step, samples consumed, identity of the run, provenance, checksums).
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from mmssl import distributed
from mmssl.engine import rng
from mmssl.errors import MmsslError
from mmssl.files import read_json, sync_folder

FORMAT = "mmssl-checkpoint"
VERSION = 1


class Checkpoints:
    """The checkpoints of one run; ``identity`` says which run, and going on as another is refused."""

    def __init__(self, folder: Path, keep: int, identity: Mapping[str, Any], harmless: Sequence[str]) -> None:
        self.folder = folder
        self.keep = keep
        self.identity = json.loads(json.dumps(identity))
        self.harmless = harmless

    def save(
        self,
        method: nn.Module,
        optimizer: Optimizer,
        *,
        step: int,
        consumed: int,
        provenance: Mapping[str, Any],
    ) -> None:
        """Write a checkpoint (all ranks call this; rank 0 writes), then drop the oldest beyond ``keep``.

        Raises:
            MmsslError: it could not be written (disk full, no permission); earlier checkpoints are untouched.
        """
        states = rng.gather_states()
        if distributed.is_main():
            final = self.folder / f"step-{step:08d}"
            temporary = self.folder / f".{final.name}.part"
            try:
                _clear(temporary)
                temporary.mkdir(parents=True)
                save_file(_portable(method), temporary / "method.safetensors")
                torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
                save_file(states, temporary / "rng.safetensors")
                header = {
                    "format": FORMAT,
                    "version": VERSION,
                    "step": step,
                    "consumed": consumed,
                    "ranks": distributed.world_size(),
                    "identity": self.identity,
                    "provenance": dict(provenance),
                    "sha256": {path.name: _digest(path) for path in sorted(temporary.iterdir())},
                }
                (temporary / "checkpoint.json").write_text(json.dumps(header, indent=2))
                for path in temporary.iterdir():
                    _sync_file(path)
                _clear(final)
                os.rename(temporary, final)
                sync_folder(self.folder)
            except (
                OSError,
                RuntimeError,
            ) as error:  # torch and safetensors report a full disk in their own way
                _clear(temporary)
                raise MmsslError(f"{final}: could not be written: {error}") from error
            for _, old in self._by_step()[self.keep :]:
                _clear(old)
        distributed.barrier()

    def restore(self, method: nn.Module, optimizer: Optimizer) -> tuple[int, int]:
        """Load the newest whole checkpoint into method, optimiser and generators.

        Every rank reads the files, so the folder must be visible to all of them; rank 0 chooses which.
        With another number of ranks than at saving, generators keep the state they have.

        Returns:
            steps finished and samples consumed; (0, 0) when there is no checkpoint.

        Raises:
            MmsslError: the checkpoint was made by a differently configured run (all differences listed), or
                every checkpoint is damaged, or one holds something else than plain tensors and numbers.
        """
        step = distributed.from_main(self._newest_whole() if distributed.is_main() else 0)
        if step == 0:
            return 0, 0
        folder = self.folder / f"step-{step:08d}"
        header = read_json(folder / "checkpoint.json", "the header of a checkpoint")
        self.check_same_run(header["identity"], folder / "checkpoint.json")
        try:
            method.load_state_dict(load_file(folder / "method.safetensors"))
        except (SafetensorError, RuntimeError) as error:
            raise MmsslError(f"{folder}/method.safetensors: not this method's state: {error}") from error
        try:
            state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
            optimizer.load_state_dict(state)
        except (UnpicklingError, ValueError, KeyError, RuntimeError) as error:
            raise MmsslError(
                f"{folder}/optimizer.pt: refused; expected the tensors and numbers of this optimiser: {error}"
            ) from error
        if header["ranks"] == distributed.world_size():
            rng.set_state(load_file(folder / "rng.safetensors"), distributed.rank())
        else:
            rng.seed_everything(header["identity"]["train"]["seed"], distributed.rank(), step)
        return step, int(header["consumed"])

    def check_same_run(self, saved: Mapping[str, Any], source: Path) -> None:
        """Refuse to go on with a run of another identity.

        Raises:
            MmsslError: one line for each difference: dotted path, old value, new value.
        """
        old, new = _flatten(saved), _flatten(self.identity)
        changed = [
            f"  {key}: {_show(old, key)} → {_show(new, key)}"
            for key in sorted(old.keys() | new.keys())
            if not self._is_harmless(key) and _show(old, key) != _show(new, key)
        ]
        if changed:
            raise MmsslError(
                f"{source}: this run was started with other settings; put them back, or use another folder\n"
                + "\n".join(changed)
            )

    def _is_harmless(self, key: str) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in self.harmless)

    def _by_step(self) -> list[tuple[int, Path]]:
        """Step and folder of every checkpoint, newest first."""
        found = self.folder.glob("step-*") if self.folder.is_dir() else []
        numbered = [(int(path.name[5:]), path) for path in found if path.name[5:].isdigit()]
        return sorted(numbered, reverse=True)

    def _newest_whole(self) -> int:
        """Step of the newest checkpoint whose files match their checksums; 0 when there are none at all."""
        for leftover in self.folder.glob(".step-*.part"):
            _clear(leftover)
        candidates = self._by_step()
        for step, folder in candidates:
            damage = _damage(folder)
            if damage is None:
                return step
            warnings.warn(f"{folder}: damaged checkpoint passed over: {damage}", stacklevel=2)
        if candidates:
            raise MmsslError(
                f"{self.folder}: all {len(candidates)} checkpoints are damaged; "
                "expected a whole one, or remove the folder to start again"
            )
        return 0


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        header = read_json(folder / "checkpoint.json", "the header of a checkpoint")
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            return f"expected {FORMAT} version {VERSION}"
        for name, digest in header["sha256"].items():
            if _digest(folder / name) != digest:
                return f"{name} does not match its checksum"
    except (MmsslError, OSError, KeyError, TypeError) as error:
        return str(error)
    return None


def _portable(method: nn.Module) -> dict[str, torch.Tensor]:
    """The state as contiguous CPU tensors of their own memory, which is what safetensors stores."""
    return {
        name: value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, value in method.state_dict().items()
    }


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _flatten(tree: Any, at: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    if not isinstance(tree, Mapping):
        return {at: tree}
    pairs = [_flatten(value, f"{at}.{key}" if at else str(key)) for key, value in tree.items()]
    return {key: value for flat in pairs for key, value in flat.items()}


def _show(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False) if key in flat else "absent"
