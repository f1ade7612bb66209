"""Encoders: a thin, uniform face over timm's backbones, and the folder in which a trained one is kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mmssl.config import Config, parse
from mmssl.errors import MmsslError
from mmssl.files import read_json, write_bytes, write_json

WEIGHTS_FILE = "encoder.safetensors"
DESCRIPTION_FILE = "encoder.json"


class EncoderConfig(Config):
    """A timm backbone without its classifier, and the images it expects."""

    name: str = "resnet18"
    """Any name that ``timm.create_model`` knows."""
    stem: Literal["default", "small", "small_stride2", "small_stride4"] = "default"
    """For ResNets on small images: a 3×3 first convolution, and 1, 2 or 4 pixels a cell of the first stage.

    ``small`` has stride 1 and no max-pooling, ``small_stride2`` stride 2 and no max-pooling, and
    ``small_stride4`` stride 2 and the max-pooling."""
    image_size: PositiveInt = 224
    """Side of the square images in pixels; backbones of fixed size (ViT) are built for it."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed on to ``timm.create_model``, for instance ``{patch_size: 4, global_pool: avg}``."""
    weights: str | None = None
    """Where to start: an encoder folder, a .safetensors or .pth file, ``timm`` for timm's own, or random."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Channel means that images in 0..1 are normalised with."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    """Channel standard deviations that images in 0..1 are normalised with."""


class Encoder(nn.Module):
    """Images (B, 3, H, W) float, normalised with ``mean`` and ``std``, to pooled features (B, dim)."""

    def __init__(self, config: EncoderConfig, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.dim = int(backbone.num_features)  # type: ignore[arg-type]
        self.mean = config.mean
        self.std = config.std

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def feature_map(self, x: Tensor) -> Tensor:
        """Features before pooling, (B, dim, h, w); the patch tokens of a transformer in their grid."""
        features: Tensor = self.backbone.forward_features(x)  # type: ignore[operator]
        if features.ndim == 4:
            return features
        rows, columns = self.backbone.patch_embed.grid_size  # type: ignore[union-attr, misc]
        patches = features[:, self.backbone.num_prefix_tokens :]
        return patches.transpose(1, 2).unflatten(2, (rows, columns))


def timm_arguments(config: EncoderConfig) -> dict[str, Any]:
    """What ``timm.create_model(config.name, ...)`` is called with."""
    arguments = {"num_classes": 0, **config.kwargs}
    known = timm.get_pretrained_cfg(config.name)
    if known is not None and known.fixed_input_size:
        arguments["img_size"] = config.image_size
    return arguments


def build_encoder(config: EncoderConfig) -> Encoder:
    """Build the backbone and load its weights, if it starts from any.

    Raises:
        MmsslError: timm does not know the name or an argument, the stem does not fit the backbone, or the
            weights are missing or belong to another network.
    """
    from_timm = config.weights == "timm"
    if not timm.is_model(config.name):
        close = timm.list_models(f"{config.name[:8]}*")[:4]
        raise MmsslError(
            f"encoder.name: timm has no {config.name!r}" + (f"; near: {', '.join(close)}" if close else "")
        )
    try:
        backbone = timm.create_model(config.name, pretrained=from_timm, **timm_arguments(config))
    except Exception as error:  # timm and the hub raise many types; each of them means these settings fail
        field = "encoder.weights" if from_timm else "encoder.kwargs"
        hint = "; timm's weights need a network or a filled cache" if from_timm else ""
        raise MmsslError(f"{field}: timm could not build {config.name}: {error}{hint}") from error
    if config.stem != "default":
        _small_stem(backbone, config)
    encoder = Encoder(config, backbone)
    if config.weights is not None and not from_timm:
        load_weights(encoder, config.weights)
    return encoder


def _small_stem(backbone: Any, config: EncoderConfig) -> None:
    """The CIFAR convention (SimCLR, appendix B.9): 3×3 first convolution, no max-pooling; or cheaper ones."""
    if config.weights == "timm":
        raise MmsslError("encoder.stem: timm's weights fit the default stem only")
    if not isinstance(backbone, timm.models.resnet.ResNet) or not isinstance(backbone.conv1, nn.Conv2d):
        raise MmsslError(
            f"encoder.stem: {config.stem!r} replaces the 7×7 stem of a ResNet; {config.name} has none"
        )
    stride = 1 if config.stem == "small" else 2
    pooled = config.stem == "small_stride4"
    stem = nn.Conv2d(3, backbone.conv1.out_channels, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    backbone.conv1 = stem  # type: ignore[assignment]
    if not pooled:
        backbone.maxpool = nn.Identity()  # type: ignore[assignment]


def load_weights(encoder: Encoder, source: str | Path) -> None:
    """Load the backbone's weights from an encoder folder, a .safetensors file or a .pth of plain tensors.

    A classifier in the file is left out; everything else must match.

    Raises:
        MmsslError: nothing there, not readable as tensors, or keys and shapes of another network.
    """
    path = Path(source)
    path = path / WEIGHTS_FILE if path.is_dir() else path
    state = _read_tensors(path)
    classifier = getattr(encoder.backbone, "pretrained_cfg", {}).get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = {key: value for key, value in state.items() if not key.startswith(tuple(f"{n}." for n in names))}
    own = encoder.backbone.state_dict()
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
        raise MmsslError(f"{path}: weights of another network than {encoder.config.name}; {'; '.join(found)}")
    encoder.backbone.load_state_dict(state)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    return ", ".join(keys[:4]) + more


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MmsslError(
            f"{path}: no such file; expected an encoder folder with {WEIGHTS_FILE}, a .safetensors or a .pth"
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


def save_encoder(encoder: Encoder, folder: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write ``encoder.safetensors`` (the timm module's own state dict) and ``encoder.json`` to ``folder``.

    ``encoder.json`` holds the configuration, the call of ``timm.create_model`` that takes the weights
    (default stems only), and ``provenance``.
    """
    folder = Path(folder)
    config = encoder.config.model_dump(mode="json") | {"weights": None}
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.backbone.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
    description = {
        "format": "mmssl-encoder",
        "version": 1,
        "config": config,
        "dim": encoder.dim,
        "timm": {"name": encoder.config.name, "arguments": timm_arguments(encoder.config)},
        "started_from": encoder.config.weights,
        "provenance": dict(provenance),
    }
    write_json(folder / DESCRIPTION_FILE, description)


def load_encoder(folder: str | Path) -> Encoder:
    """Read what ``save_encoder`` wrote.

    Raises:
        MmsslError: a file is missing or damaged, another version, or weights that do not fit the config.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION_FILE
    description = read_json(path, "an encoder's description, as training leaves it")
    if not isinstance(description, dict) or description.get("format") != "mmssl-encoder":
        raise MmsslError(f"{path}: format: expected 'mmssl-encoder'")
    if description.get("version") != 1:
        raise MmsslError(f"{path}: version: expected 1, found {description.get('version')!r}")
    encoder = build_encoder(parse(EncoderConfig, description.get("config", {}), path, at="config"))
    load_weights(encoder, folder)
    return encoder
