"""``mmssl track`` from a tiny video to boxes, film and contact sheet, and with real sequences."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from moving_patch import HEIGHT, WIDTH, film, random_features, truth
from PIL import Image

from mmssl import cli
from mmssl.models.artifact import save_encoder
from mmssl.shards.encode import h264
from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video import open_video
from mmssl.tracking.boxes import iou
from mmssl.tracking.frames import open_frames
from mmssl.tracking.overlay import Film, Sheet, drawn
from mmssl.tracking.tracker import PRESETS, Tracker

pytestmark = pytest.mark.usefixtures("one_thread")
CENTRES = np.array([80.0, 70.0]) + np.arange(12)[:, None] * np.array([3, -2])
TRUTH = truth(CENTRES, np.ones(12))


def track(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["track", *map(str, arguments)])
    captured = capsys.readouterr()
    return (left.value.code if isinstance(left.value.code, int) else 0), captured.out, captured.err


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(random_features().encoder, folder, {})
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "patch.mp4"
    path.write_bytes(
        h264([frame.permute(1, 2, 0).numpy() for frame in film(CENTRES, np.ones(12))], 15, crf=10)
    )
    return path


def read(path: Path) -> np.ndarray:
    return np.array([[float(number) for number in line.split(",")] for line in path.read_text().splitlines()])


def text(box: np.ndarray, origin: int) -> str:
    return ",".join(str(number) for number in box + np.array([origin, origin, 0, 0]))


def test_a_video_becomes_boxes_a_film_and_a_sheet(capsys, encoder, video, tmp_path) -> None:
    box = text(TRUTH[0], 1)
    code, out, err = track(capsys, video, "--box", box, "--encoder", encoder, "--out", tmp_path, "--sheet")
    assert (code, out.strip(), err) == (0, str(tmp_path), "")
    boxes = read(tmp_path / "boxes.txt") - np.array([1, 1, 0, 0])
    assert len(boxes) == 12
    assert iou(boxes, TRUTH).min() > 0.8
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 15)
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(shown) == 12
    for picture, box in zip(shown, boxes, strict=True):  # amber at the middle of the box's left edge
        red, green, blue = picture[round(box[1] + box[3] / 2), round(box[0])].astype(int)
        assert red > blue + 60
        assert green > blue + 30
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 5 * 260 + 4


def test_a_part_of_the_frames_counted_from_0_or_1(capsys, encoder, video, tmp_path) -> None:
    arguments = (video, "--encoder", encoder, "--frames", "3:7", "--preset", "dcfnet")
    for origin in (0, 1):
        code, *_ = track(
            capsys,
            *arguments,
            "--box",
            text(TRUTH[3], origin),
            "--out",
            tmp_path / str(origin),
            "--origin",
            origin,
        )
        assert code == 0
    zero, one = (read(tmp_path / str(origin) / "boxes.txt") for origin in (0, 1))
    assert len(zero) == 4
    assert np.abs(one - zero - np.array([1, 1, 0, 0])).max() < 1e-3
    assert np.abs(zero[0] - TRUTH[3]).max() < 1e-3
    assert iou(zero, TRUTH[3:7]).min() > 0.8
    assert not (tmp_path / "0" / "sheet.png").exists()


def test_ctrl_c_keeps_what_there_is(capsys, encoder, video, tmp_path, monkeypatch) -> None:
    update = Tracker.update
    calls = iter(range(100))

    def interrupted(self, frame):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return update(self, frame)

    monkeypatch.setattr(Tracker, "update", interrupted)
    code, _, err = track(capsys, video, "--box", text(TRUTH[0], 1), "--encoder", encoder, "--out", tmp_path)
    assert code == 0
    assert "stopped after 5 frames" in err
    assert len(read(tmp_path / "boxes.txt")) == 5
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert container.streams.video[0].frames == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--box": "1,2,3"}, "--box: '1,2,3'; expected four numbers"),
        ({"--box": "10,10,0,5"}, "expected a width and a height above 0"),
        ({"--box": "900,10,20,5"}, "outside the frame of 200x160"),
        ({"--frames": "3-7"}, "--frames: '3-7'; expected A:B"),
        ({"--frames": "50:"}, "none of them is in"),
        ({"--encoder": "nowhere"}, "nowhere/encoder.json: no such file"),
        ({"--stage": "4"}, "dcfnet has stages 0 to 0, found 4"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(capsys, encoder, video, tmp_path, change, words) -> None:
    options = {"--box": "60,50,32,32", "--encoder": encoder, "--out": tmp_path} | change
    code, out, err = track(capsys, video, *(part for option in options.items() for part in option))
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_an_encoder_is_asked_for(capsys, video) -> None:
    code, _, err = track(capsys, video, "--box", "60,50,32,32")
    assert code == 2
    assert "--encoder" in err


def test_sheets_spread_over_whatever_comes_and_films_keep_their_size() -> None:
    frames = film(CENTRES[:2], np.ones(2))
    picture = drawn(frames[0], np.array([10.0, 10, 30, 20]), "1")
    assert (frames[0].permute(1, 2, 0).numpy() != picture).any()
    sheet = Sheet(most=6)
    for _ in range(50):
        sheet.put(picture)
    assert sheet.step == 16  # every eighth would be 7
    made = Film(30)
    for size in (picture[:101, :77], picture, picture[:50]):
        made.put(np.ascontiguousarray(size))
    with open_video(EncodedVideo(made.finish(), "mp4")) as video:
        assert video.read(np.arange(3)).shape == (3, 3, 102, 78)


@pytest.mark.real
@pytest.mark.parametrize("name", ["Crossing", "David"])
def test_random_features_follow_better_than_standing_still(name: str) -> None:
    root = os.environ.get("MMSSL_REAL_DATA")
    if root is None:
        pytest.skip("MMSSL_REAL_DATA is not set")
    folder = Path(root, "tracking", name)
    lines = (folder / "groundtruth_rect.txt").read_text().replace("\t", ",").split()
    expected = np.array([[float(number) for number in line.split(",")] for line in lines][:100]) - [
        1,
        1,
        0,
        0,
    ]
    frames = open_frames(folder / "img")
    tracker = Tracker(random_features(), PRESETS["dcfnet"])
    tracker.init(frames[0], expected[0])
    found = np.stack(
        [expected[0], *(tracker.update(frames[number])[0] for number in range(1, len(expected)))]
    )
    still = np.repeat(expected[:1], len(expected), axis=0)
    assert iou(found, expected).mean() > iou(still, expected).mean() + 0.1
