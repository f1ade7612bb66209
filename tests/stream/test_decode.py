"""Decoders against Pillow, OpenCV and arithmetic; and what they say to bytes of another kind."""

import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from skimage import data as photographs

from mmssl.stream.decode import EncodedVideo, decode

RNG = np.random.default_rng(0)
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 8, 3), np.uint8), (48, 36), interpolation=cv2.INTER_CUBIC)


def encoded(image: Image.Image, format_: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **settings)
    return file.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()


JPEG = simplejpeg.encode_jpeg(SMOOTH, quality=90)


@pytest.mark.parametrize("extension", ["png", "webp", "bmp", "tiff", "ppm", "gif"])
def test_lossless_images(extension: str) -> None:
    image = Image.fromarray(SMOOTH)
    if extension == "gif":
        image = image.quantize(64)
    settings = {"lossless": True} if extension == "webp" else {}
    value = decode("image", extension, encoded(image, extension, **settings))
    assert value.dtype == torch.uint8
    assert value.shape == (3, 36, 48)
    assert value.stride() == (1, 144, 3)
    assert np.array_equal(value.permute(1, 2, 0).numpy(), np.array(image.convert("RGB")))


def test_jpeg_is_within_rounding_of_pillow_and_the_extension_does_not_matter() -> None:
    expected = np.array(Image.open(io.BytesIO(JPEG))).astype(int)
    for extension, data in (("jpg", JPEG), ("png", memoryview(JPEG))):
        value = decode("image", extension, data).permute(1, 2, 0).numpy()
        assert np.abs(value - expected).max() <= 3


def test_grey_cmyk_transparent_and_sixteen_bit() -> None:
    grey = Image.fromarray(SMOOTH).convert("L")
    for data in (encoded(grey, "png"), encoded(grey, "jpeg")):
        value = decode("image", "png", data)
        assert value.shape == (3, 36, 48)
        assert torch.equal(value[0], value[2])
    cmyk = Image.new("CMYK", (5, 4), (0, 255, 255, 0))
    red = decode("image", "jpg", encoded(cmyk, "jpeg", quality=95))[:, 2, 2]
    assert red[0] > 240
    assert red[1] < 20
    assert red[2] < 20
    clear = Image.new("RGBA", (2, 1), (100, 0, 0, 128))
    clear.putpixel((1, 0), (9, 9, 9, 0))
    value = decode("image", "png", encoded(clear, "png"))
    expected = [100 * 128 / 255 + 255 * 127 / 255, 127, 127]
    assert np.abs(value[:, 0, 0].numpy() - np.array(expected)).max() <= 1
    assert value[:, 0, 1].tolist() == [255, 255, 255]
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    assert decode("image", "png", png16(deep))[1].tolist() == [[0, 0, 1, 255]]


def bomb() -> bytes:
    """A PNG header that claims 20000 x 20000 pixels, and next to no data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def jpeg_bomb() -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", 60000, 60000) + JPEG[at + 4 :]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "zero bytes"),
        (b"<html>404 Not Found</html>", "not an image"),
        (JPEG[: len(JPEG) // 2], "(?i)premature|truncated|corrupt"),
        (JPEG[:20], "(?i)."),
        (encoded(Image.fromarray(SMOOTH), "png")[:-400], "(?i)truncated|broken|incomplete"),
        (bomb(), "(?i)bomb"),
        (jpeg_bomb(), "(?i)bomb"),
    ],
    ids=["empty", "html", "half jpeg", "jpeg header", "cut png", "png bomb", "jpeg bomb"],
)
def test_images_that_are_none(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode("image", "jpg", data)


def test_every_truncation_of_a_jpeg_is_noticed() -> None:
    for length in range(1, len(JPEG) - 2, 7):
        with pytest.raises(ValueError):
            decode("image", "jpg", JPEG[:length])


def test_depth_flow_normals_segmentation() -> None:
    millimetres = np.array([[0, 1, 1500, 65535]], np.uint16)
    depth = decode("depth", "png", png16(millimetres))
    assert depth.shape == (1, 1, 4)
    assert torch.allclose(depth[0, 0], torch.tensor([0, 0.001, 1.5, 65.535]))
    flow = np.array([[[32768 + 64, 32768 - 128, 1], [0, 0, 0]]], np.uint16)
    value = decode("flow_backward", "png", png16(flow))
    assert value[:, 0, 0].tolist() == [1, -2]
    assert value[:, 0, 1].isnan().all()
    unit = RNG.normal(size=(5, 6, 3))
    unit /= np.linalg.norm(unit, axis=2, keepdims=True)
    stored = np.rint((unit + 1) / 2 * 65535).astype(np.uint16)
    stored[0, 0] = 32768
    normals = decode("normals", "png", png16(stored)).permute(1, 2, 0).numpy()
    unit[0, 0] = 0
    assert np.abs(normals - unit).max() < 3e-5
    ids = np.array([[0, 7, 255]], np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(list(range(256)) * 3)
    for image in (palette, Image.fromarray(ids)):
        assert decode("segmentation", "png", encoded(image, "png")).tolist() == [[[0, 7, 255]]]


@pytest.mark.parametrize("field", ["depth", "flow", "normals", "segmentation"])
def test_dense_maps_of_the_wrong_kind(field: str) -> None:
    for data in (
        encoded(Image.fromarray(SMOOTH), "png"),
        JPEG,
        png16(np.ones((40, 40), np.uint16))[:-20],
        b"\x89PNG",
    ):
        with pytest.raises(ValueError):
            decode(field, "png", data)


def test_text_fields() -> None:
    assert decode("caption", "txt", "a grün cat\n".encode()) == ["a grün cat"]
    assert decode("caption", "json", b'["a", "b"]') == ["a", "b"]
    assert decode("label", "json", b'{"shape": 0, "texture": 2}') == {"shape": 0, "texture": 2}
    assert decode("label", "cls", b"12\n") == {"class": 12}
    assert decode("meta", "json", memoryview(b'{"fps": 25}')) == {"fps": 25}
    boxes = decode(
        "boxes", "json", json.dumps([[[1, 2, 3, 4.5], None], [[0, 0, 1, 1], [5, 5, 2, 2]]]).encode()
    )
    assert boxes.shape == (2, 2, 4)
    assert boxes[0, 0].tolist() == [1, 2, 3, 4.5]
    assert boxes[0, 1].isnan().all()
    assert decode("boxes", "json", b"[[]]").shape == (1, 0, 4)
    assert decode("video", "mp4", b"xyz") == EncodedVideo(b"xyz", "mp4")


@pytest.mark.parametrize(
    ("field", "extension", "data"),
    [
        ("caption", "json", b"[]"),
        ("caption", "json", b'"one"'),
        ("caption", "txt", b"\xff\xfe"),
        ("label", "json", b'{"class": -1}'),
        ("label", "json", b'{"class": 1.5}'),
        ("label", "json", b'{"class": true}'),
        ("label", "cls", b"cat"),
        ("meta", "json", b"[1]"),
        ("meta", "json", b"{"),
        ("boxes", "json", b"[[[1, 2, 3]]]"),
        ("boxes", "json", b"[[[1, 2, 3, 4]], []]"),
        ("boxes", "json", b"7"),
    ],
)
def test_text_fields_of_the_wrong_kind(field: str, extension: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(field, extension, data)


def test_the_limit_is_on_the_number_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel more than allowed is refused by every decoder of pictures, as many as allowed are not."""
    depth = png16(np.zeros((36, 48), np.uint16))
    index = encoded(Image.fromarray(SMOOTH[..., 0]), "png")
    kinds = [("image", JPEG), ("image", encoded(Image.fromarray(SMOOTH), "png")), ("depth", depth)]
    for field, data in [*kinds, ("segmentation", index)]:
        monkeypatch.setattr("mmssl.stream.decode.MAX_PIXELS", 36 * 48)
        assert decode(field, "png", data).shape[1:] == (36, 48)
        monkeypatch.setattr("mmssl.stream.decode.MAX_PIXELS", 36 * 48 - 1)
        with pytest.raises(ValueError, match="48x36 pixels"):
            decode(field, "png", data)


def test_photographs() -> None:
    """As JPEGs of both colour samplings, against Pillow."""
    for photograph in (photographs.astronaut(), photographs.coffee(), photographs.chelsea()):
        for sampling in ("420", "444"):
            jpeg = simplejpeg.encode_jpeg(photograph, quality=85, colorsubsampling=sampling)
            expected = np.array(Image.open(io.BytesIO(jpeg))).astype(int)
            value = decode("image", "jpg", jpeg).permute(1, 2, 0).numpy()
            assert np.abs(value - expected).mean() < 0.5
