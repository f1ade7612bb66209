"""Overlap of drawn regions: pixel by pixel in plain loops, and where geometry knows the answer."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tracked_truth import annotated

from mmssl.evaluate.tracking.protocols import regions
from mmssl.evaluate.tracking.protocols.regions import corners, overlaps, true_regions

SIZE = (40, 30)
POINT = st.tuples(st.integers(-80, 220), st.integers(-80, 200)).map(lambda p: (p[0] / 4, p[1] / 4))
REGION = st.lists(POINT, min_size=4, max_size=4)


def drawn(points, size):
    """The pixels of a region by TraX's rule: node after node, row after row."""
    points = [(int(np.floor(x + 0.5)), int(np.floor(y + 0.5))) for x, y in points]
    pixels = set()
    for row in range(size[1]):
        nodes = []
        for (x, y), (from_x, from_y) in zip(points, [points[-1], *points[:-1]], strict=True):
            if y == from_y == row:
                nodes.append(x)
            elif y != from_y and min(y, from_y) <= row <= max(y, from_y):
                nodes.append(int(x + (row - y) / (from_y - y) * (from_x - x)))
        nodes.sort()
        i = 0
        while i < len(nodes) - 1:
            if nodes[i] == nodes[i + 1] and i < len(nodes) - 2:
                i += 1
                continue
            pixels |= {
                (column, row) for column in range(max(nodes[i], 0), min(nodes[i + 1], size[0] - 1) + 1)
            }
            i += 2
    return pixels


def upright(points):
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    return ax == dx and bx == cx and ay == by and cy == dy and cx > ax and cy > ay


def flat(points):
    return np.array(points, float).reshape(1, 8)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(REGION, REGION), min_size=1, max_size=4))
def test_overlap_is_that_of_sets_of_pixels(pairs):
    """Any four points: crossed, concave, flat, outside. All pairs at once, although they differ in height."""
    assume(not any(upright(region) for pair in pairs for region in pair))
    a, b = (np.concatenate([flat(pair[side]) for pair in pairs]) for side in (0, 1))
    wanted = []
    for pair in pairs:
        first, second = (drawn(region, SIZE) for region in pair)
        wanted.append(len(first & second) / len(first | second) if first | second else 0)
    assert overlaps(a, b, SIZE).tolist() == wanted


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.tuples(*[st.integers(-10, 45)] * 2, *[st.integers(1, 30)] * 2)] * 2),
        min_size=1,
        max_size=5,
    )
)
def test_whole_boxes_have_the_overlap_of_their_pixels(pairs):
    a, b = (np.array([pair[side] for pair in pairs], float) for side in (0, 1))
    wanted = []
    for pair in pairs:
        first, second = (
            {
                (x, y)
                for x in range(max(box[0], 0), min(box[0] + box[2], SIZE[0]))
                for y in range(max(box[1], 0), min(box[1] + box[3], SIZE[1]))
            }
            for box in pair
        )
        wanted.append(len(first & second) / len(first | second) if first | second else 0)
    assert overlaps(corners(a), corners(b), SIZE).tolist() == wanted


def clipped_area(subject, window):
    """Area of the intersection of two convex polygons that turn the same way (Sutherland and Hodgman)."""
    for (ax, ay), (bx, by) in zip(window, [*window[1:], window[0]], strict=True):
        kept = []
        for p, q in zip(subject, [*subject[1:], subject[0]], strict=True):
            p_in, q_in = ((bx - ax) * (v[1] - ay) - (by - ay) * (v[0] - ax) for v in (p, q))
            if p_in >= 0:
                kept.append(p)
            if p_in * q_in < 0:
                share = p_in / (p_in - q_in)
                kept.append((p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])))
        subject = kept
        if not subject:
            return 0.0
    x, y = np.array(subject).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def test_large_rotated_boxes_have_nearly_the_overlap_of_geometry():
    draw, size = np.random.default_rng(0), (800, 600)
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for _ in range(30):
        pair = []
        for angle in draw.uniform(0, 2 * np.pi, 2):
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            pair.append(square * draw.uniform(60, 120, 2) @ turn + draw.uniform([350, 250], [450, 350]))
        shared = clipped_area(list(map(tuple, pair[0])), list(map(tuple, pair[1])))
        areas = [clipped_area(list(map(tuple, one)), list(map(tuple, one))) for one in pair]
        wanted = shared / (sum(areas) - shared)
        assert overlaps(flat(pair[0]), flat(pair[1]), size)[0] == pytest.approx(wanted, abs=0.012)


@settings(max_examples=100, deadline=None)
@given(REGION, REGION)
def test_overlap_is_symmetric_and_a_region_covers_itself(a, b):
    assert overlaps(flat(a), flat(b), SIZE)[0] == overlaps(flat(b), flat(a), SIZE)[0]
    inside = [(min(max(x, 0), SIZE[0] - 1), min(max(y, 0), SIZE[1] - 1)) for x, y in a]
    assert overlaps(flat(inside), flat(inside), SIZE)[0] == 1


def test_drawing_in_small_blocks_changes_nothing(monkeypatch):
    draw = np.random.default_rng(1)
    a, b = draw.uniform(-10, 40, (2, 60, 8))
    whole = overlaps(a, b, SIZE)
    assert 10 < np.count_nonzero(whole) < 60
    monkeypatch.setattr(regions, "_BLOCK", 70)
    np.testing.assert_array_equal(overlaps(a, b, SIZE), whole)


def test_unknown_regions_have_no_overlap():
    box = corners(np.array([[3.0, 3, 4, 4]] * 3))
    other = box.copy()
    other[1, 2] = np.nan
    found = overlaps(box, other, SIZE)
    assert found[[0, 2]].tolist() == [1, 1]
    assert np.isnan(found[1])
    assert overlaps(box[:0], box[:0], SIZE).shape == (0,)


def test_the_truth_is_the_polygons_where_there_are_some():
    polygons = np.arange(16.0).reshape(2, 8)
    boxes = [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert true_regions(annotated(boxes, polygons=polygons)) is polygons
    assert true_regions(annotated(boxes))[0].tolist() == [1, 2, 4, 2, 4, 6, 1, 6]
