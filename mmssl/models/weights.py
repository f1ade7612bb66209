"""Where weights come from: tensors in files, never anything that is run, matched to a module key by key."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmssl.errors import MmsslError

WEIGHTS_FILE = "encoder.safetensors"
"""What an encoder's folder calls its weights."""


FOREIGN_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
"""What folders of open_clip, timm and transformers call theirs, in the order in which they are taken."""


def how_to_get(name: str) -> str:
    """What to do about pretrained weights or a tokenizer that are named but not here: none are downloaded.

    ``name`` may also be ``MODEL/TAG`` as open_clip lists them.
    """
    from open_clip import get_pretrained_cfg  # slow to import, and only errors need it

    known = get_pretrained_cfg(*name.split("/", 1)) if "/" in name else {}
    repository = "/".join(known.get("hf_hub", name).split("/")[:2])
    return (
        f"nothing is ever downloaded: if {name!r} is a model of a hub, get it where there is a network "
        f"(`hf download {repository} --local-dir FOLDER`) and give the path of that folder"
    )


def load_state(module: nn.Module, state: Mapping[str, Tensor], path: Path, network: str) -> None:
    """Load ``state`` whole; ``path`` and ``network`` are for messages.

    Raises:
        MmsslError: keys or shapes of another network.
    """
    own = module.state_dict()
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    found = [f"{kind}: {_some(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise MmsslError(f"{path}: weights of another network than {network}; {'; '.join(found)}")
    module.load_state_dict(dict(state))


def weights_path(source: str | Path) -> Path:
    """The file itself, or the weights in the folder of an encoder or of another library's model."""
    path = Path(source)
    if not path.is_dir():
        return path
    found = [name for name in (WEIGHTS_FILE, *FOREIGN_FILES) if (path / name).is_file()]
    return path / (found or [WEIGHTS_FILE])[0]


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    return ", ".join(keys[:4]) + more


def read_tensors(source: str | Path) -> dict[str, Tensor]:
    """A state dict from a folder (see ``weights_path``), a .safetensors file or a .pth of plain tensors.

    Raises:
        MmsslError: nothing there, or not readable as tensors.
    """
    path = weights_path(source)
    if not path.is_file():
        raise MmsslError(
            f"{path}: no such file; expected an encoder folder with {WEIGHTS_FILE}, a .safetensors or a "
            f".pth; {how_to_get(str(source))}"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise MmsslError(f"{path}: not readable as tensors: {error}") from error
    except Exception as error:  # pickle.UnpicklingError: something else than plain tensors, and never run
        raise MmsslError(f"{path}: refused, holds more than plain tensors: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MmsslError(f"{path}: expected a dictionary of tensors (a state dict)")
    return content
