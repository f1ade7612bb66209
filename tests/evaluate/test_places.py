"""Places by camera pose: a loop over frames says the same; what is excluded, unknown or elsewhere."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import hypergeom
from tiny_rooms import WITHOUT_POSE, build_rooms, build_set, encoders, pose, still

from mmssl.errors import MmsslError
from mmssl.evaluate import Subject, evaluate, parse_evaluation
from mmssl.evaluate.poses import pose_distances
from mmssl.shards.writer import RawSample

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    return build_rooms(tmp_path_factory.mktemp("rooms"), train=22, val=16)


def ask(shards, *sights, gallery="train", queries="val", folder=None, **options):
    subject = Subject(encoders(*sights), shards, gallery=gallery, queries=queries, folder=folder)
    scores = evaluate(subject, [parse_evaluation({"name": "places", **options}, "x.yaml")])
    return subject, {score.metric: score for score in scores}


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, :3, :3] = Rotation.random(9, random_state=1).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(9, 3))
    metres, degrees = pose_distances(torch.tensor(poses[:4]), torch.tensor(poses))
    for i in range(4):
        for j in range(9):
            turn = Rotation.from_matrix(poses[i, :3, :3].T @ poses[j, :3, :3]).magnitude()
            assert float(degrees[i, j]) == pytest.approx(np.rad2deg(turn), abs=1e-5)
            assert float(metres[i, j]) == pytest.approx(np.linalg.norm(poses[i, :3, 3] - poses[j, :3, 3]))


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("world", ["sequence", "house", "sequence/.."])  # none has a house: all are of one
def test_scores_are_those_of_a_loop(rooms, same, world):
    limits = {"max_metres": 0.45, "max_degrees": 40.0, "min_seconds": 1.6}
    queries = "train" if same else "val"
    subject, scores = ask(rooms, "L", "depth", queries=queries, encoder="L+depth", world=world, **limits)
    gallery, asked = (subject.features(split, "L+depth") for split in ("train", queries))
    unit = [
        [np.concatenate([p / np.linalg.norm(p) for p in np.split(x, 2)]) for x in one.x.double().numpy()]
        for one in (gallery, asked)
    ]
    hits, chances, possible, first = {1: [], 5: []}, {1: [], 5: []}, [], []
    for q, number in enumerate(asked.ids.tolist()):
        if not same and number == WITHOUT_POSE:
            continue
        own = np.array(pose(number))
        candidates = []
        for g, other in enumerate(gallery.ids.tolist()):
            sequence = number % 2 == other % 2
            if (sequence and abs(number - other) * 0.5 < 1.6) or (same and number == other):
                continue
            its = np.array(pose(other))
            metres = float(np.linalg.norm(own[:3, 3] - its[:3, 3]))
            angle = 9.0 * abs(number - other)
            angle = min(angle, 360 - angle)
            comparable = sequence or world != "sequence"
            near = comparable and metres <= 0.45 and angle <= 40
            candidates.append((-float(unit[1][q] @ unit[0][g]), near, metres, angle, comparable))
        candidates.sort(key=lambda one: one[0])
        count = sum(one[1] for one in candidates)
        possible.append(count > 0)
        for k in hits:
            hits[k].append(any(one[1] for one in candidates[:k]))
            chances[k].append(hypergeom.sf(0, len(candidates), count, k))
        if candidates[0][4]:
            first.append(candidates[0][2:4])
    for k in hits:
        assert scores[f"R@{k}"].value == pytest.approx(100 * np.mean(hits[k]))
        assert scores[f"R@{k}"].chance == pytest.approx(100 * np.mean(chances[k]))
        assert scores[f"R@{k}"].ceiling == pytest.approx(100 * np.mean(possible))
    assert np.mean(possible) > 0
    assert scores["distance of first"].value == pytest.approx(np.mean([one[0] for one in first]))
    assert scores["angle of first"].value == pytest.approx(np.mean([one[1] for one in first]), abs=1e-4)
    assert scores["distance of first"].ceiling <= scores["distance of first"].value
    assert ("1 without a valid pose left out" in scores["R@1"].protocol) != same


def test_features_that_are_poses_find_every_place(rooms, monkeypatch, tmp_path):
    """The ceiling is reached by an encoder that knows where it is."""
    subject = Subject(encoders("L"), rooms, folder=tmp_path)
    for split in ("train", "val"):
        features = subject.features(split)
        angle = torch.deg2rad(9.0 * features.ids.double())
        known = torch.stack([angle.cos(), angle.sin()], dim=1).float()
        parity = torch.nn.functional.one_hot(features.ids % 2, 2) * 9.0
        object.__setattr__(features, "x", torch.cat([known, parity], dim=1))
    scores = evaluate(
        subject,
        [parse_evaluation({"name": "places", "min_seconds": 0, "max_degrees": 10, "shown": 3}, "x.yaml")],
    )
    found = {score.metric: score for score in scores}
    assert found["R@1"].value == found["R@1"].ceiling == 100
    assert found["R@1"].chance < 30
    assert found["distance of first"].value == found["distance of first"].ceiling == 0
    assert [score.headline for score in scores] == [True, False, False, False]
    assert (tmp_path / "pictures" / "places.png").is_file()


def test_no_pose_at_all_and_poses_that_are_none(tmp_path):
    def without(split, number, stored):
        raw = still(split, number)
        meta = json.loads(raw.members["meta.json"]) | {"pose": stored}
        return RawSample(raw.key, {**raw.members, "meta.json": json.dumps(meta).encode()})

    bad = [None, "lost", [[1, 0], [0, 1]], np.full((4, 4), np.nan).tolist(), np.diag([2, 1, 1, 1]).tolist()]
    samples = {
        "train": [still("train", n) for n in range(6)],
        "val": [without("val", n, stored) for n, stored in enumerate(bad)],
    }
    shards = build_set(tmp_path, samples, {"image": 1.0, "label": 1.0, "meta": 1.0}, {})
    with pytest.raises(MmsslError, match=r"'rooms': val: expected frames with meta\.pose, 4×4"):
        ask(shards, "L")
