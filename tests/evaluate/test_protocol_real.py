"""The truth of real sequences against itself: the ceilings that every table has to print."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from tracked_truth import annotated

from mmssl.evaluate.tracking.protocols import PROTOCOLS, VotAnchor, VotReset
from mmssl.tracking.boxes import enclosing

pytestmark = pytest.mark.real

SIZE = (640, 360)
"""As large as the largest frames: nothing is cut that the annotators did not cut."""


@pytest.fixture(scope="module")
def folder():
    if "MMSSL_REAL_DATA" not in os.environ:
        pytest.skip("MMSSL_REAL_DATA is not set: the folder with tracking/SEQUENCE/groundtruth_rect.txt")
    return Path(os.environ["MMSSL_REAL_DATA"]) / "tracking"


def numbers(path):
    return np.array(
        [[float(x) for x in re.split(r"[,\s]+", line)] for line in path.read_text().split("\n") if line]
    )


@pytest.fixture(scope="module")
def sequences(folder):
    return [
        annotated(numbers(path) - [[1, 1, 0, 0]], f"{path.parent.name}{path.stem[16:]}", size=SIZE)
        for path in sorted(folder.glob("*/groundtruth_rect*.txt"))
    ]


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_the_ceiling_of_real_sequences(name, sequences):
    assert len(sequences) >= 14
    ceiling = PROTOCOLS[name].ceiling(sequences)
    headline = next(iter(ceiling.values))
    full = {"trackingnet": 100, "got10k": 100}.get(name, 100 * 20 / 21)
    assert ceiling.values.pop(headline) == pytest.approx(full, abs=1e-9)
    assert all(value == pytest.approx(100) for value in ceiling.values.values())
    assert ceiling.counts["invalid truth"] == 0
    assert ceiling.counts["frames"] == sum(len(one) - (name == "got10k") for one in sequences)


def test_a_box_that_never_moves_scores_lower_under_every_protocol(sequences):
    for protocol in PROTOCOLS.values():
        judged = {one.name: protocol.judge(np.tile(one.truth[0], (len(one), 1)), one) for one in sequences}
        found, ceiling = protocol.combine(judged, sequences).values, protocol.ceiling(sequences).values
        assert all(0 < found[metric] < 0.7 * ceiling[metric] for metric in found)


def test_strict_protocols_agree_on_valid_truth(sequences):
    """The same boxes, a little off, under toolkits that differ in nothing but what these sequences lack."""
    found = []
    for name in ("otb", "pysot", "lasot", "got10k_otb", "got10k_lasot"):
        draw = np.random.default_rng(0)
        judged = {}
        for one in sequences:
            boxes = one.truth + draw.normal(0, 5, one.truth.shape)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
            boxes[0] = one.truth[0]
            judged[one.name] = PROTOCOLS[name].judge(boxes, one)
        found.append(PROTOCOLS[name].combine(judged, sequences).values)
    for values in found:
        assert values["success AUC"] == pytest.approx(found[0]["success AUC"])
        assert values["precision at 20 px"] == pytest.approx(found[0]["precision at 20 px"])


def test_the_ceiling_of_vot_s_polygons(folder):
    polygons = numbers(folder / "vot_bag" / "groundtruth.txt")
    bag = annotated(enclosing(polygons), "bag", polygons=polygons, size=(480, 360), anchors=(0, 50, -150))
    reset = VotReset(2018).ceiling([bag])
    assert reset.values["EAO"] == reset.values["accuracy"] == 100
    anchored = VotAnchor().ceiling([bag])
    assert anchored.values["robustness"] == 100
    assert anchored.values["accuracy"] == pytest.approx(100 * (195 + 145 + 150) / (196 + 146 + 151))
