"""The vocabulary: every modality a sample can carry, its field name in a shard, its encodings, its tensor.

A shard member is called ``<key>.<field>.<extension>``. A field is a modality's name, optionally followed by
``_<role>`` when a sample carries several of the same kind: ``video``, ``video_left``, ``flow_backward``.
Tars written by others use bare extensions (``<key>.jpg``); ``FOREIGN`` says which field each one means.
"""

from collections.abc import Set
from dataclasses import dataclass

from mmssl.errors import MmsslError

IGNORED = 255
"""The id of a segmentation's pixels that belong to no class."""


@dataclass(frozen=True)
class Modality:
    """One kind of data: how it is stored, and what a decoder hands on."""

    name: str
    extensions: tuple[str, ...]
    """Accepted encodings, the default first."""
    decoded: str
    """What decoding gives: shape, dtype, range, units."""
    about: str


MODALITIES: dict[str, Modality] = {
    modality.name: modality
    for modality in (
        Modality(
            "image",
            ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"),
            "(3, H, W) uint8 sRGB 0..255",
            "one photograph or frame; the first frame of an animated file",
        ),
        Modality(
            "video",
            ("mp4", "mkv", "webm", "avi", "mov", "mpg", "mpeg", "m4v"),
            "encoded bytes; readers give (T, 3, H, W) uint8 sRGB at times in seconds",
            "a clip with presentation timestamps; read through a video decoder, never whole",
        ),
        Modality(
            "flow",
            ("jpg", "png", "mkv"),
            "(2, H, W) float32 pixels per frame gap, x right and y down; NaN = unknown",
            "optical flow to a later frame; jpg = grey with its own scale, png = KITTI 16 bit, "
            "mkv = fields of a video, read through ``mmssl.stream.flow``",
        ),
        Modality("depth", ("png",), "(1, H, W) float32 metres; 0 = missing", "16-bit millimetres"),
        Modality(
            "normals",
            ("png",),
            "(3, H, W) float32 unit vectors, camera axes x right, y down, z forward",
            "16-bit RGB, (n + 1) / 2",
        ),
        Modality(
            "segmentation",
            ("png",),
            "(1, H, W) uint8 ids; 0 = background, 255 = ignore",
            "index image",
        ),
        Modality("caption", ("json", "txt"), "list of str, at least one", "one or many captions"),
        Modality(
            "boxes",
            ("json",),
            "(T, N, 4) float32 x, y, w, h in pixels, 0-based; NaN = absent",
            "one box per frame and object; T = 1 for a single image",
        ),
        Modality(
            "label",
            ("json", "cls"),
            "dict of name to class index",
            "names in the manifest's classes",
        ),
        Modality("meta", ("json",), "dict", "everything else: source, fps, timestamps, intrinsics, pose"),
    )
}

FOREIGN: dict[str, str] = {
    "jpg": "image", "jpeg": "image", "png": "image", "webp": "image",
    "mp4": "video", "webm": "video", "mkv": "video", "avi": "video", "mov": "video",
    "txt": "caption", "cls": "label", "json": "meta",
}  # fmt: skip


def modality_of(field: str) -> Modality:
    """The modality of a field name such as ``flow_backward``.

    Raises:
        MmsslError: the field's first word is not in the vocabulary.
    """
    modality = MODALITIES.get(field.split("_", 1)[0])
    if modality is None:
        raise MmsslError(f"unknown field {field!r}; expected one of {', '.join(MODALITIES)}, or NAME_role")
    return modality


def are_videos(fields: Set[str]) -> bool:
    """Whether samples with these fields are videos, and not still images: where both are, images are seen."""
    return "video" in fields and "image" not in fields


def split_member(name: str) -> tuple[str, str, str]:
    """Split a tar member's name into (key, field, extension), as webdataset groups them: at the first dot.

    Raises:
        MmsslError: the name has no extension, a dotted key, or an extension its field does not allow.
    """
    folder, _, base = name.rpartition("/")
    stem, *rest = base.split(".")
    key = f"{folder}/{stem}" if folder else stem
    if not stem or not rest:
        raise MmsslError(f"member {name!r}: expected <key>.<field>.<extension>")
    extension = rest[-1].lower()
    if len(rest) == 1:
        field = FOREIGN.get(extension)
        if field is None:
            raise MmsslError(f"member {name!r}: extension {extension!r} belongs to no known modality")
        return key, field, extension
    if len(rest) > 2 or rest[0].split("_", 1)[0] not in MODALITIES:
        raise MmsslError(f"member {name!r}: dots in a key would be grouped wrongly; use - or _ instead")
    field = rest[0]
    if extension not in modality_of(field).extensions:
        raise MmsslError(
            f"member {name!r}: expected extension {', '.join(modality_of(field).extensions)} for {field}"
        )
    return key, field, extension
