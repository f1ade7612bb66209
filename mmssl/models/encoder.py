"""Image encoders: a thin, uniform face over timm's backbones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import timm
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.models import dcfnet, resnet_stride8  # noqa: F401 (timm knows them once they are imported)
from mmssl.models.dialects import image_part
from mmssl.models.weights import load_state, read_tensors, weights_path
from mmssl.sights import SIGHTS


class StartConfig(Config):
    """What every encoder's configuration has, of images, clips and texts: where its weights start."""

    weights: str | None = None
    """Where to start: an encoder folder, a .safetensors or .pth file; random where nothing is given."""


def encoder_configs(config: Any, at: str) -> Iterator[tuple[str, StartConfig]]:
    """Every encoder's configuration inside another configuration, with its dotted key, outermost first."""
    if isinstance(config, StartConfig):
        yield at, config
    for key, part in _parts(config):
        yield from encoder_configs(part, f"{at}.{key}")


def with_weights(config: Any, change: Callable[[str], str | None]) -> Any:
    """The configuration with the ``weights`` of every encoder that has any changed."""
    return with_changed(config, "weights", change)


def with_tokenizers(config: Any, change: Callable[[str], str]) -> Any:
    """The configuration with the ``tokenizer`` of every text encoder changed."""
    return with_changed(config, "tokenizer", change)


def with_changed(config: Any, name: str, change: Callable[[str], str | None]) -> Any:
    """The configuration with the field ``name`` of every encoder that has one changed."""
    parts = {key: with_changed(part, name, change) for key, part in _parts(config)}
    if isinstance(config, StartConfig) and (value := getattr(config, name, None)) is not None:
        parts[name] = change(value)
    if isinstance(config, Config):
        # what was left to its default still counts as left
        return config.model_copy(update={k: part for k, part in parts.items() if part != getattr(config, k)})
    if isinstance(config, dict):
        return parts
    if isinstance(config, tuple):
        return tuple(parts.values())
    return config


def _parts(config: Any) -> list[tuple[Any, Any]]:
    if isinstance(config, Config):
        return [(name, getattr(config, name)) for name in type(config).model_fields]
    if isinstance(config, dict):
        return list(config.items())
    return list(enumerate(config)) if isinstance(config, tuple) else []


class EncoderConfig(StartConfig):
    """A timm backbone without its classifier, and the images it expects."""

    name: str = "resnet18"
    """Any name that ``timm.create_model`` knows, or ``dcfnet``, the trackers' own."""
    stem: Literal["default", "small", "small_stride2", "small_stride4"] = "default"
    """For ResNets on small images: a 3×3 first convolution, and 1, 2 or 4 pixels a cell of the first stage.

    ``small`` has stride 1 and no max-pooling, ``small_stride2`` stride 2 and no max-pooling, and
    ``small_stride4`` stride 2 and the max-pooling."""
    image_size: PositiveInt = 224
    """Side of the square images in pixels; backbones of fixed size (ViT) are built for it."""
    sees: str = "rgb"
    """What of a sample it is shown, a name of ``mmssl.sights``: rgb, L, ab, Y, CbCr, O3, O12, depth, normals,
    segmentation, flow."""
    channels: PositiveInt | None = None
    """Of a segmentation the number of classes, of a flow two for each field; of anything else its own."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Passed on to ``timm.create_model``, for instance ``{patch_size: 4, global_pool: avg}``."""
    weights: str | None = None
    """Where to start: an encoder folder, a .safetensors or .pth file, ``timm`` for timm's own, or random.

    Of an encoder of clips that sees its frames one by one, the network that sees them is taken. Also a CLIP's
    folder or file of open_clip or transformers, whose image tower is taken: ``name`` is then
    what timm calls that ViT, vit_base_patch32_clip_224 or vit_base_patch32_clip_quickgelu_224 (OpenAI's)."""
    mean: tuple[float, ...] = ()
    """What is subtracted from every channel; by default what suits ``sees``."""
    std: tuple[PositiveFloat, ...] = ()
    """What every channel is then divided by; by default what suits ``sees``."""

    @model_validator(mode="before")
    @classmethod
    def _seen(cls, data: Any) -> Any:
        """Number of channels and their statistics, where they follow from ``sees``."""
        if not isinstance(data, dict):
            return data
        name = data.get("sees", "rgb")
        if name not in SIGHTS:
            raise ValueError(f"sees: expected one of {', '.join(SIGHTS)}, found {name!r}")
        sight = SIGHTS[name]
        channels = data.get("channels") or sight.channels or (2 if name == "flow" else None)
        if channels is None:
            raise ValueError(f"channels: missing; expected the number of classes, to see a {name}")
        if sight.channels not in (None, channels) or (name == "flow" and channels % 2):
            raise ValueError(f"channels: {name} has {sight.channels or 'an even number'}, found {channels}")
        found = {}
        for key, default in (("mean", sight.mean), ("std", sight.std)):
            values = tuple(data.get(key) or default)
            found[key] = values if len(values) == channels else values * channels
            if len(found[key]) != channels:
                raise ValueError(f"{key}: expected one value or {channels}, found {len(values)}")
        return {**data, "channels": channels, **found}


class Encoder(nn.Module):
    """Images (B, channels, H, W) float, normalised with ``mean`` and ``std``, to pooled features (B, dim)."""

    def __init__(self, config: EncoderConfig, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.dim = int(backbone.num_features)  # type: ignore[arg-type]
        self.image_size = config.image_size
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
    if config.channels != 3:
        arguments["in_chans"] = config.channels
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
    width, mode = backbone.conv1.out_channels, backbone.conv1.padding_mode
    stem = nn.Conv2d(
        backbone.conv1.in_channels, width, 3, stride=stride, padding=1, bias=False, padding_mode=mode
    )
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    backbone.conv1 = stem  # type: ignore[assignment]
    if not pooled:
        backbone.maxpool = nn.Identity()  # type: ignore[assignment]


def load_weights(encoder: Encoder, source: str | Path) -> None:
    """Load the backbone's weights from an encoder folder, a .safetensors file or a .pth of plain tensors.

    A classifier in the file is left out, of a CLIP its image tower is taken; everything else must match.

    Raises:
        MmsslError: nothing there, not readable as tensors, or keys and shapes of another network.
    """
    state = image_part(read_tensors(source), encoder.backbone.state_dict())
    classifier = getattr(encoder.backbone, "pretrained_cfg", {}).get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = {key: value for key, value in state.items() if not key.startswith(tuple(f"{n}." for n in names))}
    load_state(encoder.backbone, state, weights_path(source), encoder.config.name)
