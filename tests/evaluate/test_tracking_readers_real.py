"""Readers on sequences as the benchmarks publish them."""

import os
from pathlib import Path

import numpy as np
import pytest

from mmssl.errors import MmsslError
from mmssl.evaluate.tracking.readers import read_benchmark
from mmssl.evaluate.tracking.readers.otb import OtbConfig
from mmssl.evaluate.tracking.readers.table import table
from mmssl.evaluate.tracking.readers.vot import VotConfig

ROOT = Path(os.environ.get("MMSSL_REAL_DATA", "")) / "tracking"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("MMSSL_REAL_DATA" not in os.environ, reason="MMSSL_REAL_DATA: no folder of real data"),
    pytest.mark.skipif(not ROOT.is_dir(), reason=f"{ROOT}: no such data"),
]


def test_every_otb_sequence():
    found = {one.name: one for one in read_benchmark(OtbConfig(root=str(ROOT)))}
    lengths = {
        "Couple": 140, "Crossing": 120, "David": 471, "Diving": 215, "Dog": 127, "DragonBaby": 113,
        "Football1": 74, "Freeman1": 326, "Girl": 500, "Jogging.1": 307, "Jogging.2": 307, "Man": 134,
        "Skiing": 81, "Surfer": 376,
    }  # fmt: skip
    assert {name: len(one) for name, one in found.items()} == lengths
    for name, one in found.items():
        assert one.truth.shape == (lengths[name], 4)
        channels, height, width = one.frames[len(one) - 1].shape
        assert channels == 3
        # 1-based boxes, minus one, begin within the image on every frame of these sequences.
        assert (one.truth[:, :2] >= 0).all(), name
        assert (one.truth[:, 0] < width).all(), name
        assert (one.truth[:, 1] < height).all(), name
        assert one.attributes


def test_the_irregular_ones():
    found = {one.name: one for one in read_benchmark(OtbConfig(root=str(ROOT)))}
    david, diving = found["David"].frames, found["Diving"].frames
    assert [david.paths[0].name, david.paths[-1].name] == ["0300.jpg", "0770.jpg"]
    assert diving.paths[-1].name == "0215.jpg"
    # The first lines of the files: 129,80,64,78 and, of the second target, 180,79,37,114.
    np.testing.assert_array_equal(found["David"].truth[0], [128, 79, 64, 78])
    np.testing.assert_array_equal(found["Jogging.2"].truth[0], [179, 78, 37, 114])
    assert found["Couple"].attributes == ("SV", "DEF", "FM", "OPR", "BC")


def test_attributes_of_the_files_are_those_of_the_list():
    listed = {row[0]: row[4] for row in table("otb")}
    files = {path.parent.name: path.read_text() for path in ROOT.glob("*/attrs.txt")}
    assert files
    for name, attributes in files.items():
        assert attributes.replace(" ", "").strip() == listed[name]


def test_a_whole_list_is_refused_and_a_part_is_read():
    with pytest.raises(MmsslError, match=r"otb: .*: 86 of 100 sequences are missing .*: Basketball, Biker"):
        read_benchmark(OtbConfig(root=str(ROOT), year=2015))
    picked = OtbConfig(root=str(ROOT), year=2013, sequences=("Skiing", "Jogging"))
    assert [one.name for one in read_benchmark(picked)] == ["Jogging.1", "Jogging.2", "Skiing"]


def test_vot_bag():
    (bag,) = read_benchmark(VotConfig(root=str(ROOT)))
    assert (bag.name, len(bag)) == ("vot_bag", 196)
    assert bag.polygons.shape == (196, 8)
    assert bag.frames[0].shape == (3, 360, 480)
    # First line: 334.02,128.36,438.19,188.78,396.39,260.83,292.23,200.41.
    np.testing.assert_allclose(bag.truth[0], [292.23, 128.36, 438.19 - 292.23, 260.83 - 128.36])
