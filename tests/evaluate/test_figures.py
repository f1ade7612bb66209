"""Figures: what is written is what was given, and nothing that cannot be drawn."""

import json

import pytest

from mmssl.evaluate.figures import Lines, write_lines


def test_written_as_plain_data(tmp_path):
    write_lines(tmp_path, "steps", Lines("t", "k", "%", [1, 2], {"a": [3.0, None]}, [1.0, 1.0], "p"))
    assert json.loads((tmp_path / "figures" / "steps.json").read_text()) == {
        "title": "t", "x_label": "k", "y_label": "%", "x": [1, 2], "series": {"a": [3.0, None]},
        "chance": [1.0, 1.0], "protocol": "p", "untrained": [],
    }  # fmt: skip


def test_untrained_networks_leave_no_figure(tmp_path):
    write_lines(None, "steps", Lines("t", "k", "%", [1], {"a": [3.0]}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("series", "chance"), [({}, None), ({"a": [1.0]}, None), ({"a": [1.0, 2.0]}, [1.0])])
def test_lengths_must_fit(series, chance):
    with pytest.raises(ValueError, match="expected series of 2 points"):
        Lines("t", "k", "%", [1, 2], series, chance)
