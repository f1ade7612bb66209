"""What training leaves of a whole method, heads and all, for questions about its objective."""

from pathlib import Path

import torch
from safetensors.torch import save

from mmssl.errors import MmsslError
from mmssl.files import read_json, write_bytes, write_json
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo, Method
from mmssl.models.encoder import with_weights
from mmssl.models.weights import load_state, read_tensors

WEIGHTS = "method.safetensors"
DESCRIPTION = "method.json"


def save_method(method: Method, folder: Path) -> None:
    """Write the state and the configuration of ``method`` to ``folder``."""
    plain = torch.contiguous_format  # convolutions are trained in channels_last, which safetensors refuses
    state = {
        key: value.detach().cpu().clone(memory_format=plain) for key, value in method.state_dict().items()
    }
    write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    config = with_weights(method.config, lambda _: None)
    data = {
        "samples": method.data.samples,
        "fields": sorted(method.data.fields),
        "some": sorted(method.data.some),
    }
    write_json(folder / DESCRIPTION, {"config": config.model_dump(mode="json"), "data": data})


def load_method(folder: Path, *, trained: bool = True) -> Method | None:
    """The method that a train stage left in ``folder``, or None where it has nothing to ask.

    With ``trained=False`` the same method with the random weights of the generator's state.

    Raises:
        MmsslError: a file is damaged, or weights that do not fit.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    content = read_json(path, "a method's description, as training leaves it")
    if not isinstance(content, dict) or not {"config", "data"} <= content.keys():
        raise MmsslError(f"{path}: expected a method's config and data")
    about = content["data"]
    data = DataInfo(int(about["samples"]), frozenset(about["fields"]), frozenset(about.get("some", ())))
    method = build_method(content["config"], data, path)
    if trained:
        load_state(method, read_tensors(folder / WEIGHTS), folder / WEIGHTS, method.config.name)
    return method
