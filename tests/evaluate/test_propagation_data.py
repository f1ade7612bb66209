"""Readers of DAVIS, VIP and JHMDB; PCK under both conventions; mIoU against scikit-learn."""

import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score
from tiny_propagation import davis, jhmdb, moving_block, save_index, vip

from mmssl.errors import MmsslError
from mmssl.evaluate.propagation.davis import Davis, DavisConfig
from mmssl.evaluate.propagation.files import palette, read_index, write_index
from mmssl.evaluate.propagation.jhmdb import Jhmdb, JhmdbConfig, hits, read_joints
from mmssl.evaluate.propagation.propagate import PRESETS
from mmssl.evaluate.propagation.vip import Vip, VipConfig, histogram, mean_iou


def values(task, answers):
    """Metric to value of answers by video."""
    judged = {video.name: task.judge(answers(video), video) for video in task}
    return {value.metric: value.value for value in task.combine(judged)}


def two_objects():
    video, masks = moving_block()
    masks[:, 36:44, 50:60] = 2
    return video, masks


# DAVIS


def test_davis_2017_counts_objects_and_leaves_the_first_and_last_frame_out(tmp_path):
    root = davis(tmp_path, {"one": moving_block(), "two": two_objects()})
    task = Davis(DavisConfig(root=str(root)))
    one, two = task
    assert (one.labels, two.labels, one.size, len(one.frames)) == (2, 3, (48, 64), 6)
    assert two.names == [f"{number:05}" for number in range(6)]
    found = values(task, lambda video: video.truth)
    assert {metric: found[metric] for metric in ("J&F", "J", "F", "J recall", "F recall")} == dict.fromkeys(
        ("J&F", "J", "F", "J recall", "F recall"), 100
    )
    assert found["J decay"] == found["F decay"] == 0

    def second_lost(video):
        """The second object is lost, and the first and last frames are nonsense, which nobody looks at."""
        answers = np.where(video.truth == 2, 0, video.truth)
        answers[[0, -1]] = 1
        return answers

    found = values(task, second_lost)
    assert found["J"] == pytest.approx(100 * 2 / 3), "mean over the three objects, not over the two videos"
    assert found["F"] == pytest.approx(100 * 2 / 3)
    assert found["J&F"] == pytest.approx(100 * 2 / 3)


def test_davis_void_pixels_are_background(tmp_path):
    video, masks = moving_block()
    masks[:, 40:] = 255
    (read,) = Davis(DavisConfig(root=str(davis(tmp_path, {"one": (video, masks)}))))
    assert read.labels == 2
    assert read.truth.max() == 1


def test_davis_2016_is_one_object_whatever_its_number(tmp_path):
    video, masks = moving_block()
    root = davis(tmp_path, {"b": (video, masks * 255), "a": (video, masks * 255)}, 2016)
    assert [one.name for one in Davis(DavisConfig(root=str(root), year=2016))] == ["b", "a"], (
        "the list's order"
    )
    (only,) = Davis(DavisConfig(root=str(root), year=2016, sequences=("a",)))
    assert (only.name, only.labels, only.truth.max()) == ("a", 2, 1)


def test_davis_2016_lists_of_file_pairs_and_no_lists_at_all(tmp_path):
    root = davis(tmp_path, {"x": moving_block(), "y": moving_block()}, lists=False)
    assert Davis(DavisConfig(root=str(root))).sequences == ["x", "y"], "without lists, all folders"
    (root / "ImageSets/480p").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/y/{n:05}.jpg /Annotations/480p/y/{n:05}.png" for n in range(6)]
    (root / "ImageSets/480p/val.txt").write_text("\n".join(lines))
    assert Davis(DavisConfig(root=str(root), year=2016)).sequences == ["y"]


def test_davis_names_what_is_missing_or_wrong(tmp_path):
    root = davis(tmp_path, {"one": moving_block()})
    config = DavisConfig(root=str(root))
    with pytest.raises(MmsslError, match="sequences: there is no 'dog'"):
        Davis(config.model_copy(update={"sequences": ("dog",)}))
    with pytest.raises(MmsslError, match=r"ImageSets/2017/train\.txt: no such file"):
        Davis(config.model_copy(update={"split": "train"}))
    with pytest.raises(MmsslError, match="Annotations/480p: expected a folder of masks"):
        Davis(DavisConfig(root=str(tmp_path / "nowhere")))
    mask = root / "Annotations/480p/one/00003.png"
    kept = mask.read_bytes()
    for damage, message in (
        (lambda: mask.unlink(), r"00003\.png: no such file"),
        (lambda: mask.write_bytes(kept[:60]), r"00003\.png: not readable as an image"),
        (lambda: Image.new("RGB", (64, 48)).save(mask), r"00003\.png: mode RGB; expected"),
        (lambda: save_index(mask, np.ones((48, 63), np.uint8)), r"00003\.png: 63x48 pixels; expected 64x48"),
    ):
        damage()
        with pytest.raises(MmsslError, match=message):
            list(Davis(config))
    mask.write_bytes(kept)
    save_index(root / "Annotations/480p/one/00000.png", np.zeros((48, 64), np.uint8))
    with pytest.raises(MmsslError, match=r"00000\.png: expected an object in the first frame, found none$"):
        list(Davis(config))
    save_index(root / "Annotations/480p/one/00000.png", np.full((48, 64), 255, np.uint8))
    with pytest.raises(MmsslError, match=r"found none but 255, .* DAVIS 2016\? \(year: 2016\)"):
        list(Davis(config))


def test_results_are_palette_images_in_daviss_colours(tmp_path):
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    write_index(tmp_path / "00000.png", labels)
    with Image.open(tmp_path / "00000.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:15] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128]
    np.testing.assert_array_equal(read_index(tmp_path / "00000.png"), labels)
    assert palette()[[8, 20, 255]].tolist() == [[64, 0, 0], [0, 64, 128], [224, 224, 192]]


@pytest.mark.real
def test_truth_scores_100_on_real_davis():
    if "MMSSL_REAL_DATA" not in os.environ:
        pytest.skip("MMSSL_REAL_DATA names no folder of real data")
    root = Path(os.environ["MMSSL_REAL_DATA"]) / "vos/davis"
    task = Davis(DavisConfig(root=str(root), year=2016))
    assert len(task.sequences) == 5
    found = values(task, lambda video: video.truth)
    assert (found["J&F"], found["J"], found["F"], found["J decay"]) == (100, 100, 100, 0)


# VIP


def test_miou_is_scikit_learns(tmp_path):
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 20, (2, 3, 30, 40)).astype(np.uint8)
    truth[truth == 7], found[found == 7] = 0, 3  # a class that does not occur
    truth[0, :5] = 255
    known = truth < 20
    wanted = jaccard_score(
        truth[known], found[known], average=None, labels=np.unique([truth[known], found[known]])
    )
    assert mean_iou(histogram(truth, found)) == pytest.approx(wanted.mean())
    assert math.isnan(mean_iou(histogram(truth[0, :5], found[0, :5])))


def test_vip_pools_all_pixels_and_leaves_the_given_frame_out(tmp_path):
    video, masks = moving_block()
    masks *= 4
    small = (video[:, ::2, ::2], masks[:, ::2, ::2])
    task = Vip(VipConfig(root=str(vip(tmp_path, {"v1": (video, masks), "v2": small}))))
    assert [one.labels for one in task] == [20, 20]
    assert values(task, lambda one: one.truth) == {"mIoU": 100, "mIoU with first frames": 100}
    found = values(task, lambda one: np.concatenate([one.truth[:1], 0 * one.truth[1:]]))
    share = (masks == 0).mean()
    assert found["mIoU"] == pytest.approx(100 * (share + 0) / 2), (
        "background, and clothes that were never found"
    )
    assert found["mIoU with first frames"] > found["mIoU"]
    with pytest.raises(MmsslError, match=r"train_videos\.txt: no such file"):
        Vip(VipConfig(root=str(tmp_path), split="train"))


# JHMDB


def pose(frames=4, joints=15, height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform((6, 6), (width - 7, height - 7), (frames, joints, 2))


def test_pck_under_both_conventions_by_hand():
    """Joints at the corners of a 30 × 40 box: diagonal 50, 0.6 of it 30; at 0.1 an error of 3 px is a hit."""
    truth = np.array([[[0.0, 0.0], [30, 0], [30, 40], [0, 40]]])
    found = truth.copy()
    found[0, 0] += (3, 0)
    found[0, 1] += (0, 3.01)
    found[0, 2] += (12, 0)
    found[0, 3] = np.nan
    everything, kept = np.ones((1, 4), dtype=bool), np.array([[True, True, True, False]])
    by_truth = hits(found, truth, everything)
    assert by_truth.tolist() == [
        [1, 1, 1, 1, 1, 1],
        [1, 0, 1, 1, 1, 1],
        [1, 0, 0, 0, 1, 1],
        [1, 0, 0, 0, 0, 0],
    ]
    by_prediction = hits(found, truth, kept)
    assert by_prediction[:3].tolist() == by_truth[:3].tolist(), "three corners span the same box"
    assert by_prediction[3].tolist() == [0] * 6, "the lost joint does not count"


def test_the_box_is_around_the_visible_joints_only():
    truth = np.array([[[0.0, 0.0], [3, 4], [300, 400]]])
    found = truth + np.array([0.31, 0])
    visible = np.array([[True, True, False]])
    assert hits(found, truth, visible)[0].tolist() == [1, 0, 1, 1, 1, 1], "0.6 · 5 = 3 px"
    assert hits(found, truth, np.ones_like(visible))[0].tolist() == [1] * 6
    alone = np.array([[True, False, False]])
    assert hits(truth, truth, alone)[0].tolist() == [1] * 6, (
        "a box of one joint has no size: only exact is a hit"
    )
    assert hits(found, truth, alone)[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert hits(found, truth, np.zeros_like(visible)).sum() == 0


def by_loops(videos, visible):
    """PCK as the mean over joints, and pooled, one joint of one frame after the other."""
    shares = {threshold: [] for threshold in (0.1, 0.2, 0.3, 0.4, 0.5)}
    pooled = {threshold: [] for threshold in shares}
    for joint in range(15):
        each = {threshold: [] for threshold in shares}
        for name, (truth, found) in videos.items():
            for frame in range(1, len(truth)):
                seen = [j for j in range(15) if visible(name, frame, j)]
                if joint not in seen:
                    continue
                points = truth[frame][seen]
                length = 0.6 * np.hypot(*(points.max(0) - points.min(0)))
                error = np.hypot(*(found[frame][joint] - truth[frame][joint]))
                for threshold in shares:
                    each[threshold].append(bool(error / length <= threshold))
        for threshold, answers in each.items():
            pooled[threshold] += answers
            if answers:
                shares[threshold].append(np.mean(answers))
    return {t: 100 * np.mean(s) for t, s in shares.items()}, {t: 100 * np.mean(s) for t, s in pooled.items()}


def test_jhmdb_scores_are_those_of_plain_loops(tmp_path):
    video, _ = moving_block(4)
    truths = {"a": pose(seed=1), "b": pose(seed=2)}
    truths["a"][2, 3] = (-5, 10)  # walks out of the frame
    truths["b"][0, 6] = (200, 10)  # was never given
    task = Jhmdb(
        JhmdbConfig(root=str(jhmdb(tmp_path, {name: (video, truth) for name, truth in truths.items()})))
    )
    assert task.sequences == ["wave/a", "wave/b"], "what the list calls training is not asked about"
    rng = np.random.default_rng(3)
    answers = {name: truth + rng.normal(0, 4, truth.shape) for name, truth in truths.items()}
    answers["a"][1:, 9] = np.nan
    found = values(task, lambda one: answers[one.name[-1]])
    pairs = {name: (truths[name], answers[name]) for name in truths}

    def inside(name, frame, joint):
        x, y = truths[name][frame, joint]
        return -0.5 <= x < 63.5 and -0.5 <= y < 47.5

    for by, visible in {
        "prediction": lambda name, frame, joint: not np.isnan(answers[name][frame, joint, 0]),
        "truth": lambda name, frame, joint: inside(name, frame, joint) and inside(name, 0, joint),
    }.items():
        shares, pooled = by_loops(pairs, visible)
        for threshold in shares:
            assert found[f"PCK@{threshold} (visible by {by})"] == pytest.approx(shares[threshold])
            assert found[f"PCK@{threshold} pooled (visible by {by})"] == pytest.approx(pooled[threshold])


def test_joints_go_through_the_cells_without_a_shift(tmp_path):
    """Drawn as Gaussians on a grid of 8 px and read again: errors below half a cell, and not to one side."""
    joints = pose(40, height=320, width=320)
    task = Jhmdb(JhmdbConfig(root=str(jhmdb(tmp_path, {"a": (np.zeros((40, 48, 64, 3), np.uint8), joints)}))))
    video = SimpleNamespace(size=(320, 320), labels=16)
    rule = PRESETS["crw"]
    errors = []
    for frame in joints:
        maps = task.maps(frame, video, (40, 40), rule)
        assert maps.shape == (16, 40, 40)
        assert torch.equal(maps[0] > 0, maps[1:].sum(0) == 0)
        errors.append(task.answer(maps, video, (320, 320), rule) - frame)
    errors = np.concatenate(errors)
    assert np.abs(errors).max() < 4
    assert np.abs(errors.mean(axis=0)).max() < 0.3
    outside = joints[0].copy()
    outside[4] = (400, 10)
    again = task.answer(task.maps(outside, video, (40, 40), rule), video, (320, 320), rule)
    assert np.isnan(again[4]).all()
    assert np.isfinite(np.delete(again, 4, axis=0)).all()


def test_jhmdb_names_what_is_wrong(tmp_path):
    video, _ = moving_block(4)
    root = jhmdb(tmp_path, {"a": (video, pose())})
    path = root / "joint_positions/wave/a/joint_positions.mat"
    np.testing.assert_allclose(read_joints(path), pose(), atol=1e-12)
    path.write_bytes(b"not a file of MATLAB's" * 10)
    with pytest.raises(MmsslError, match=r"joint_positions\.mat: not readable as a MATLAB file"):
        list(Jhmdb(JhmdbConfig(root=str(root))))
    path.unlink()
    with pytest.raises(MmsslError, match=r"joint_positions\.mat: no such file"):
        list(Jhmdb(JhmdbConfig(root=str(root))))
    (root / "splits/wave_test_split1.txt").write_text("a.avi two\n")
    with pytest.raises(MmsslError, match=r"wave_test_split1\.txt: line 1: expected 'VIDEO\.avi 2'"):
        Jhmdb(JhmdbConfig(root=str(root)))
    with pytest.raises(MmsslError, match=r"expected ACTION_test_split3\.txt, found none"):
        Jhmdb(JhmdbConfig(root=str(root), split=3))
