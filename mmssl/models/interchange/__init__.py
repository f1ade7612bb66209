"""What was trained, for the world outside: folders that timm, open_clip and transformers load by themselves.

The way back is ``weights`` of an encoder or of a whole method: see ``mmssl.models.dialects``.
"""

from pathlib import Path

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.models.artifact import DESCRIPTION_FILE, load_encoder
from mmssl.models.encoder import Encoder
from mmssl.models.interchange.pair import Pair
from mmssl.models.interchange.to_timm import export_timm
from mmssl.models.text.bert import BertText

FORMATS = ("timm", "open_clip", "transformers")

__all__ = ["FORMATS", "Pair", "export_encoder", "export_pair"]


def export_encoder(folder_in: Path | str, folder_out: Path | str, format: str = "timm") -> Path:
    """Write one encoder to ``folder_out``; return it. The folder appears whole or not at all.

    ``timm`` takes encoders of images; ``transformers`` a text encoder of kind ``bert``, as a ``BertModel``.

    Raises:
        MmsslError: unknown format, no encoder in ``folder_in``, one that the format has no place for, or
            ``folder_out`` holds something else.
    """
    _refuse_unknown(format)
    folder_in, folder_out = Path(folder_in), Path(folder_out)
    encoder = load_encoder(folder_in)
    description = files.read_json(folder_in / DESCRIPTION_FILE, "an encoder's description")
    provenance = description.get("provenance", {})
    if format == "timm":
        if not isinstance(encoder, Encoder):
            raise MmsslError(f"{folder_in}: {_what(encoder)} encoder; timm knows image encoders only")
        return export_timm(encoder, provenance, folder_out)
    if format == "transformers" and isinstance(encoder, BertText):
        from mmssl.models.interchange.to_transformers import export_bert

        return export_bert(encoder, provenance, folder_out)
    raise MmsslError(
        f"{folder_in}: one {_what(encoder)} encoder; {format} takes a CLIP or SigLIP whole (the folder of "
        "its train stage)" + (", or a text encoder of kind bert" if format == "transformers" else "")
    )


def export_pair(pair: Pair, folder_out: Path | str, format: str) -> Path:
    """Write an image and a text encoder with one space to ``folder_out``; return it.

    Raises:
        MmsslError: a format that has no pairs, parts that the format's networks lack, or ``folder_out`` holds
            something else.
    """
    _refuse_unknown(format)
    if format == "open_clip":
        from mmssl.models.interchange.to_open_clip import export_open_clip  # slow to import, as the next

        return export_open_clip(pair, Path(folder_out))
    if format == "transformers":
        from mmssl.models.interchange.to_transformers import export_transformers_clip

        return export_transformers_clip(pair, Path(folder_out))
    raise MmsslError(f"export: format: expected open_clip or transformers for a whole CLIP, found {format!r}")


def _refuse_unknown(format: str) -> None:
    if format not in FORMATS:
        raise MmsslError(f"export: format: expected one of {', '.join(FORMATS)}, found {format!r}")


def _what(encoder: object) -> str:
    config = getattr(encoder, "config", None)
    return f"a {getattr(config, 'kind', 'image')}"
