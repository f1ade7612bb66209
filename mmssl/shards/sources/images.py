"""Check an encoded image once, when shards are built, so that training does not meet it damaged."""

import io
import warnings

import simplejpeg
from PIL import Image

from mmssl.config import Config
from mmssl.shards.sources.base import BadInput

EXTENSIONS = frozenset(("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"))
"""Files with other extensions are not taken for images."""

_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


class ImageOptions(Config):
    """How raw images are taken into shards."""

    check: bool = True
    """Decode each image fully once; without it only headers are looked at."""
    resize: int | None = None
    """Shorten the short side to this many pixels (larger images only; re-encoded as JPEG, quality 95)."""
    max_pixels: int = 1 << 27
    """Images whose header announces more are skipped as decompression bombs."""


def sniff(data: bytes) -> str | None:
    """The extension that the first bytes speak for, whatever the file is called: jpg, png, webp, or None."""
    for magic, extension in _MAGIC.items():
        if data.startswith(magic):
            return extension
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def image_member(data: bytes, options: ImageOptions) -> tuple[str, bytes]:
    """Column and bytes to store: JPEG, PNG and WebP as they are, anything else as PNG.

    Raises:
        BadInput: empty, truncated, not an image, or a decompression bomb.
    """
    if not data:
        raise BadInput("empty file")
    extension = sniff(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return _stored(image, data, extension, options)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(f"decompression bomb ({error})") from error
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
        raise BadInput(f"not a readable image ({error})") from error


def _stored(
    image: Image.Image, data: bytes, extension: str | None, options: ImageOptions
) -> tuple[str, bytes]:
    width, height = image.size
    if width * height > options.max_pixels:
        raise BadInput(f"decompression bomb ({width}×{height} pixels, at most {options.max_pixels} expected)")
    if options.resize is not None and min(width, height) > options.resize:
        scale = options.resize / min(width, height)
        size = max(options.resize, round(width * scale)), max(options.resize, round(height * scale))
        return "image.jpg", _encode(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), "JPEG")
    if extension is None:
        return "image.png", _encode(image.convert("RGB"), "PNG")
    if options.check:
        if extension == "jpg" and image.mode in ("RGB", "L"):
            simplejpeg.decode_jpeg(data, strict=True)  # also refuses what libjpeg only warns about
        else:
            image.load()
    return f"image.{extension}", data


def _encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()
