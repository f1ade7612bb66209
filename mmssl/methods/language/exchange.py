"""A trained method of images and texts as a pair that other libraries load."""

from pathlib import Path

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.methods import METHODS
from mmssl.methods.artifact import DESCRIPTION as METHOD_FILE
from mmssl.methods.artifact import load_method
from mmssl.methods.base import Method
from mmssl.methods.language.towers import ImageText
from mmssl.models.artifact import DESCRIPTION_FILE as ENCODER_FILE
from mmssl.models.encoder import Encoder
from mmssl.models.interchange import Pair, export_encoder, export_pair
from mmssl.models.text import TextEncoder


def export(folder_in: Path | str, folder_out: Path | str, format: str = "timm") -> Path:
    """Write what training left in ``folder_in`` to ``folder_out``, which appears whole or not at all.

    Args:
        folder_in: one encoder's folder, or a train stage's with a whole method between images and texts.
        format: ``timm``, ``open_clip`` or ``transformers``.

    Raises:
        MmsslError: unknown format, nothing in ``folder_in`` that it takes, or ``folder_out`` holds something
            else.
    """
    folder_in = Path(folder_in)
    if (folder_in / ENCODER_FILE).is_file() or format not in ("open_clip", "transformers"):
        return export_encoder(folder_in, folder_out, format)
    method = load_method(folder_in)
    if method is None:
        raise MmsslError(
            f"{folder_in}: no {ENCODER_FILE} and no {METHOD_FILE}; expected the folder of an encoder, or of "
            "a train stage of clip or siglip"
        )
    about = folder_in / "encoders" / "image" / ENCODER_FILE
    provenance = {}
    if about.is_file():
        provenance = files.read_json(about, "an encoder's description").get("provenance", {})
    return export_pair(pair_of(method, provenance), folder_out, format)


def has_both_towers(stage: Path) -> bool:
    """Whether a train stage's folder has a whole method between images and texts."""
    if not (stage / METHOD_FILE).is_file():
        return False
    content = files.read_json(stage / METHOD_FILE, "a method's description, as training leaves it")
    return issubclass(METHODS.get(content["config"]["name"], Method), ImageText)


def pair_of(method: Method, provenance: dict[str, object] | None = None) -> Pair:
    """The towers and heads of a method.

    Raises:
        MmsslError: it has none, or its image tower takes clips.
    """
    if not isinstance(method, ImageText):
        raise MmsslError(f"export: {method.config.name} has no image and text tower; expected clip or siglip")
    if not isinstance(method.image, Encoder) or not isinstance(method.text, TextEncoder):
        kind = getattr(method.config.image, "kind", "shared")
        raise MmsslError(
            f"export: {method.config.name} has a {kind} tower; open_clip and transformers know an image "
            "and a text encoder only"
        )
    bias = getattr(method, "logit_bias", None)
    return Pair(
        method.image,
        method.text,
        method.image_head.weight.detach(),
        method.text_head.weight.detach(),
        float(method.logit_scale.detach()),
        None if bias is None else float(bias.detach()),
        dict(provenance or {}),
    )
