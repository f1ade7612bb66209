"""Encoders against the stream's decoders, and against what libraries make of the bytes."""

import io
import math

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_shards import picture

from mmssl.shards import encode
from mmssl.stream.decode import decode

RNG = np.random.default_rng(0)


def test_depth_round_trip() -> None:
    metres = RNG.uniform(0.01, 65, (13, 17)).astype(np.float32)
    metres[0] = 0
    metres[1, :3] = (math.nan, math.inf, 70.0)
    back = decode("depth", "png", encode.depth_png(metres))[0].numpy()
    expected = metres.copy()
    expected[1, :3] = 0
    np.testing.assert_allclose(back, expected, atol=0.000505)


def test_normals_round_trip() -> None:
    normals = RNG.normal(size=(13, 17, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    back = decode("normals", "png", encode.normals_png(normals)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(back, normals, atol=3e-5)


def test_flow_round_trip() -> None:
    flow = RNG.uniform(-500, 500, (13, 17, 2)).astype(np.float32)
    flow[2, 3] = math.nan
    flow[4, 5] = (600, 0)
    back = decode("flow", "png", encode.flow_png(flow)).permute(1, 2, 0).numpy()
    unknown = np.zeros((13, 17), bool)
    unknown[2, 3] = unknown[4, 5] = True
    assert np.isnan(back[unknown]).all()
    np.testing.assert_allclose(back[~unknown], flow[~unknown], atol=1 / 127)


def test_flow_is_kittis_encoding() -> None:
    """Channels u, v, valid in RGB order: OpenCV reads them reversed."""
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 1] = (1.5, -2.0)
    raw = cv2.imdecode(np.frombuffer(encode.flow_png(flow), np.uint8), cv2.IMREAD_UNCHANGED)
    assert raw is not None
    assert raw.dtype == np.uint16
    assert raw[0, 1, ::-1].tolist() == [32768 + 96, 32768 - 128, 1]


def test_segmentation_and_picture_round_trip() -> None:
    ids = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
    assert (decode("segmentation", "png", encode.segmentation_png(ids))[0].numpy() == ids).all()
    rgb = np.asarray(Image.open(io.BytesIO(picture(3, (40, 30)))))
    back = decode("image", "jpg", encode.jpeg(rgb)).permute(1, 2, 0).numpy()
    assert np.abs(back.astype(int) - rgb).mean() < 2
    exact = decode("image", "png", encode.png(rgb)).permute(1, 2, 0).numpy()
    assert (exact == rgb).all()


@pytest.mark.parametrize("fps", [30.0, 29.97, 12.5])
def test_mjpeg_keeps_every_byte_and_its_time(fps: float) -> None:
    frames = [picture(number, (48, 32)) for number in range(7)]
    data = encode.mjpeg(frames, fps, (48, 32))
    assert data == encode.mjpeg(frames, fps, (48, 32))
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [bytes(packet) for packet in packets] == frames
        times = [float(packet.pts * packet.time_base) for packet in packets]
        np.testing.assert_allclose(times, np.arange(7) / fps, atol=0.00051)
        assert all(packet.is_keyframe for packet in packets)
    with av.open(io.BytesIO(data)) as container:
        decoded = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    reference = np.asarray(Image.open(io.BytesIO(frames[3])).convert("L"))
    assert len(decoded) == 7
    assert np.abs(decoded[3].astype(int) - reference).mean() < 2
