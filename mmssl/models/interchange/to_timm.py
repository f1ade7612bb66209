"""Image encoders for the world outside: a folder that plain timm loads, with a card that says what it is.

The way back needs no code here: ``EncoderConfig.weights`` takes the exported ``model.safetensors``, any other
safetensors file with timm's parameter names, or the folder of an earlier stage's encoder.
"""

from pathlib import Path
from string import Template
from typing import Any

from safetensors.torch import save

from mmssl import files
from mmssl.models.encoder import Encoder, timm_arguments
from mmssl.models.interchange.folder import new_folder, told
from mmssl.sights import SIGHTS

NAMES = frozenset({"model.safetensors", "config.json", "README.md"})

_CONV = "model.conv1 = torch.nn.Conv2d({{channels}}, {{width}}, 3, stride={stride}, padding=1, bias=False)\n"
_NO_POOL = "model.maxpool = torch.nn.Identity()\n"
STEM_LINES = {
    "default": "",
    "small": _CONV.format(stride=1) + _NO_POOL,
    "small_stride2": _CONV.format(stride=2) + _NO_POOL,
    "small_stride4": _CONV.format(stride=2),
}
"""What turns timm's network into the one that was trained, before its weights are loaded."""

CARD = Template("""\
# $name: a self-supervised encoder

Pooled features of dimension $dim from $size × $size pixels of $sees ($about), normalised with mean $mean and
standard deviation $std. Weights in `model.safetensors`, in timm's own parameter names.

```python
$snippet```

## How it came to be

```json
$provenance
```
""")


def export_timm(encoder: Encoder, provenance: dict[str, Any], folder: Path) -> Path:
    """Write ``folder`` with ``model.safetensors``, ``config.json`` and ``README.md``; return it.

    ``config.json`` has the form that timm reads from a folder, so for default stems
    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` is the trained network.

    Raises:
        MmsslError: ``folder`` holds something else, or could not be written.
    """
    with new_folder(folder, NAMES) as new:
        weights = {name: value.contiguous() for name, value in encoder.backbone.state_dict().items()}
        files.write_bytes(new / "model.safetensors", save(weights, metadata={"format": "pt"}))
        files.write_json(new / "config.json", timm_config(encoder, provenance))
        files.write_bytes(new / "README.md", card(encoder, provenance).encode())
    return folder


def timm_config(encoder: Encoder, provenance: dict[str, Any]) -> dict[str, Any]:
    """The description timm reads beside a model's weights, and under ``mmssl`` everything else."""
    config = encoder.config
    arguments = timm_arguments(config)
    return {
        "architecture": config.name,
        "num_classes": 0,
        "num_features": encoder.dim,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [config.channels, config.image_size, config.image_size],
            "fixed_input_size": "img_size" in arguments,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "num_classes": 0,
        },
        "mmssl": {"encoder": config.model_dump(mode="json"), "provenance": provenance},
    }


def snippet(encoder: Encoder) -> str:
    """Python that loads the exported folder with timm and torch alone, in variable ``model``."""
    config = encoder.config
    arguments = "".join(f", {key}={value!r}" for key, value in timm_arguments(config).items())
    if config.stem == "default":
        return (
            "import timm\n\n"
            f'model = timm.create_model("{config.name}", pretrained=False{arguments},\n'
            '                          checkpoint_path="model.safetensors").eval()\n'
        )
    width, channels = encoder.backbone.state_dict()["conv1.weight"].shape[:2]
    return (
        "import timm\nimport torch\n\n"
        f'model = timm.create_model("{config.name}", pretrained=False{arguments})\n'
        f"{STEM_LINES[config.stem].format(width=width, channels=channels)}"
        'timm.models.load_checkpoint(model, "model.safetensors")\n'
        "model.eval()\n"
    )


def card(encoder: Encoder, provenance: dict[str, Any]) -> str:
    """The README of an exported encoder."""
    return CARD.substitute(
        name=encoder.config.name,
        dim=encoder.dim,
        size=encoder.config.image_size,
        sees=encoder.config.sees,
        about=SIGHTS[encoder.config.sees].about,
        mean=", ".join(f"{value:g}" for value in encoder.mean),
        std=", ".join(f"{value:g}" for value in encoder.std),
        snippet=snippet(encoder),
        provenance=told(provenance),
    )
