"""The evaluation ``propagation``: an encoder of colours on videos in which colour tells everything."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_propagation import box_shards, colours, davis, jhmdb, moving_block

from mmssl.errors import MmsslError
from mmssl.evaluate import EVALUATIONS, Subject, evaluate, parse_evaluation
from mmssl.evaluate.propagation.shard_set import filled
from mmssl.models.clip import FramesConfig, build_clip_encoder
from mmssl.models.clip.frame_net import FrameNetConfig
from mmssl.models.clip.recurrent import RecurrentConfig
from mmssl.models.clip.video_net import VideoNetConfig
from mmssl.models.encoder import EncoderConfig, build_encoder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return box_shards(tmp_path_factory.mktemp("blocks"), clips=5)


def ask(subject, **options):
    config = parse_evaluation({"name": "propagation", **options}, "x.yaml")
    return {(score.evaluation, score.metric): score for score in evaluate(subject, [config])}


def test_it_is_in_the_table():
    assert EVALUATIONS["propagation"].Config().name == "propagation"


def test_colour_carries_a_box_that_moves_and_stillness_does_not(shards, tmp_path):
    subject = Subject({"image": colours()}, shards, folder=tmp_path)
    found = ask(subject, data={"kind": "shard_set", "clips": 3})
    score = found["propagation/boxes/last", "IoU"]
    assert score.headline
    assert score.value > 95
    assert score.ceiling == pytest.approx(100, abs=3)
    # Frames are 4 px apart: of 16 columns the first box keeps 12, 8, 4, 0 and 0.
    assert score.chance == pytest.approx(100 * np.mean([12 / 20, 8 / 24, 4 / 28, 0, 0]))
    assert "3 videos" in score.protocol
    assert "64x48, 16x12 cells of 4 px" in score.protocol
    assert "box masks: blocks/val" in score.protocol
    written = json.loads((tmp_path / "propagation/boxes_last.json").read_text())
    assert list(written["videos"]) == ["clip000", "clip002", "clip004"], "evenly spread over the split"
    assert np.mean([one["values"]["IoU"] for one in written["videos"].values()]) == pytest.approx(score.value)
    with Image.open(tmp_path / "pictures/propagation_boxes_last.png") as picture:
        assert picture.width > 6 * 112


def test_the_default_asks_about_the_stages_own_clips_and_draws_nothing_for_the_untrained(shards):
    found = ask(Subject({"image": colours()}, shards))
    assert ("propagation/boxes/last", "IoU") in found


def test_another_shard_set_may_be_named(shards, tmp_path):
    other = box_shards(tmp_path, clips=1, frames=4)
    found = ask(Subject({"image": colours()}, shards), data={"kind": "shard_set", "root": str(other)})
    assert "1 videos" in found["propagation/boxes/last", "IoU"].protocol


def test_clips_without_usable_boxes_are_left_out(shards, tmp_path):
    some, none = tmp_path / "some", tmp_path / "none"
    for folder in (some, none):
        folder.mkdir()
    found = ask(Subject({"image": colours()}, box_shards(some, clips=4, short=(1,), absent=(2,))))
    assert "; 2 videos; " in found["propagation/boxes/last", "IoU"].protocol
    with pytest.raises(MmsslError, match="boxes: no readable video with an object"):
        ask(Subject({"image": colours()}, box_shards(none, clips=1, absent=(0,))))


def test_several_stages_in_one_run(shards):
    encoder = build_encoder(EncoderConfig(name="resnet10t", image_size=64))
    found = ask(
        Subject({"image": encoder}, shards), stages=[0, 1, None], previous=2, k=3, radius=2, temperature=0.07,
        data={"kind": "shard_set", "clips": 1, "frames": 3},
    )  # fmt: skip
    assert {name for name, _ in found} == {f"propagation/boxes/{tag}" for tag in ("stage0", "stage1", "last")}
    words = found["propagation/boxes/stage1", "IoU"].protocol
    assert "and the 2 before, 3 most similar cells, square of radius 2, T 0.07 (preset dino)" in words
    ceilings = [found[f"propagation/boxes/{tag}", "IoU"].ceiling for tag in ("stage1", "last")]
    assert ceilings[0] > ceilings[1], "coarse cells cannot say more"


@pytest.mark.parametrize("preset", ["dino", "crw"])
def test_davis_with_masks_kept(shards, tmp_path, preset):
    video, masks = moving_block()
    root = davis(tmp_path / "davis", {"one": (video, masks), "two": (video[:, :, ::-1], masks[:, :, ::-1])})
    subject = Subject({"image": colours(8)}, shards, folder=tmp_path / "out")
    found = ask(subject, preset=preset, masks=True, data={"kind": "davis", "root": str(root), "side": 96})
    score = found["propagation/davis2017/last", "J&F"]
    assert score.headline
    assert not found["propagation/davis2017/last", "J"].headline
    assert score.value > 95 > score.chance
    assert found["propagation/davis2017/last", "J decay"].better == "lower"
    for name in ("one", "two"):
        folder = tmp_path / "out/masks/davis2017_last" / name
        assert sorted(path.name for path in folder.iterdir()) == [f"{n:05}.png" for n in range(6)]
        with Image.open(folder / "00005.png") as image:
            assert (image.mode, image.size) == ("P", (64, 48))
    assert (tmp_path / "out/pictures/propagation_davis2017_last.png").is_file()


def test_joints_follow_what_they_lie_on(shards, tmp_path):
    video, _ = moving_block(5, width=48)
    joints = np.zeros((5, 15, 2))
    for frame in range(5):
        for joint in range(15):  # a grid of colours of its own for each joint, which moves with the block
            x, y = 4 + 4 * frame + 4 * (joint % 4), 16 + 4 * (joint // 4)
            video[frame, y : y + 4, x : x + 4] = (16 * joint, 255 - 16 * joint, (97 * joint) % 256)
            joints[frame, joint] = x + 1.5, y + 1.5
    root = jhmdb(tmp_path, {"a": (video, joints)})
    data = {"kind": "jhmdb", "root": str(root), "side": 48, "cell": 4}
    found = ask(Subject({"image": colours()}, shards), data=data, k=1)
    best = found["propagation/jhmdb/last", "PCK@0.1 (visible by prediction)"]
    assert best.headline
    # The faint rim of a joint at the block's edge lies on the ground, and is carried off by it.
    assert best.value > 75
    assert (best.chance, best.ceiling) == (0, 100)


def test_a_clip_encoder_is_asked_by_what_sees_its_single_frames(shards):
    net = FrameNetConfig(encoder=EncoderConfig(name="resnet10t", image_size=32))
    clips = build_clip_encoder(RecurrentConfig(blocks=2, block=FramesConfig(net=net), context=8)).eval()
    found, same = (ask(Subject({"x": one}, shards)) for one in (clips, clips.g_enc.net.encoder))
    assert {key: score.value for key, score in found.items()} == {
        key: score.value for key, score in same.items()
    }


def test_encoders_of_whole_clips_and_sets_without_boxes_are_refused(shards, tmp_path):
    whole = build_clip_encoder(VideoNetConfig(name="r2d3d", frames=4, image_size=32))
    with pytest.raises(MmsslError, match=r"propagation: encoder: .* found one of clips \(video_net\)"):
        ask(Subject({"video": whole}, shards))
    manifest = json.loads((shards / "manifest.json").read_text())
    without = tmp_path / "without"
    without.mkdir()
    for path in shards.iterdir():
        (without / path.name).write_bytes(path.read_bytes())
    del manifest["fields"]["boxes"]
    (without / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MmsslError, match="expected fields video and boxes; it has"):
        ask(Subject({"image": colours()}, without))
    with pytest.raises(MmsslError, match=r"x\.yaml: data\.davis\.root: missing"):
        ask(Subject({"image": colours()}, shards), data={"kind": "davis"})


def test_boxes_are_filled_small_ones_on_top_and_absent_ones_not_at_all():
    boxes = np.array(
        [[[2, 1, 3, 2], [0, 0, 8, 6], [np.nan] * 4, [6.5, 4, 5, 5], [1, 1, 0, 5]]], dtype=np.float64
    )
    mask = filled(boxes, (6, 8))[0]
    by_hand = np.full((6, 8), 2)
    by_hand[4:, 6:] = 4  # 6.5 - 0.5 is where its first column begins
    by_hand[1:3, 2:5] = 1
    np.testing.assert_array_equal(mask, by_hand)
