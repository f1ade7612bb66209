"""What training leaves of a whole method, heads and all, for questions about its objective."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from mmssl.errors import MmsslError
from mmssl.files import read_json, write_bytes, write_json
from mmssl.methods import build_method, parse_method
from mmssl.methods.base import DataInfo, Method
from mmssl.models.encoder import with_tokenizers, with_weights
from mmssl.models.text.tokenizer import FILE, WordPieces, beside, load_tokenizer
from mmssl.models.weights import load_state, read_tensors

WEIGHTS = "method.safetensors"
DESCRIPTION = "method.json"


def save_method(method: Method, folder: Path) -> None:
    """Write the state and the configuration of ``method`` to ``folder``, and copies of its tokenizers."""
    plain = torch.contiguous_format  # convolutions are trained in channels_last, which safetensors refuses
    state = {
        key: value.detach().cpu().clone(memory_format=plain) for key, value in method.state_dict().items()
    }
    write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    config = with_tokenizers(with_weights(method.config, lambda _: None), _copies(folder))
    data = {
        "samples": method.data.samples,
        "fields": sorted(method.data.fields),
        "some": sorted(method.data.some),
    }
    write_json(folder / DESCRIPTION, {"config": config.model_dump(mode="json"), "data": data})


def _copies(folder: Path) -> Callable[[str], str]:
    """Writes a tokenizer to ``folder`` when it is first named, and tells what it is called there."""
    names: dict[str, str] = {"clip": "clip"}

    def copy(name: str) -> str:
        if name not in names:
            tokenizer = load_tokenizer(name)
            assert isinstance(tokenizer, WordPieces)  # all others have a name of their own
            number = len(names)
            names[name] = FILE if number == 1 else f"{Path(FILE).stem}-{number}.json"
            tokenizer.save(folder, names[name])
        return names[name]

    return copy


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
    config = parse_method(content["config"], path)
    method = build_method(with_tokenizers(config, lambda name: beside(folder, name)), data, path)
    if trained:
        load_state(method, read_tensors(folder / WEIGHTS), folder / WEIGHTS, method.config.name)
    return method
