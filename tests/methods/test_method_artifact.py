"""What training leaves of a method comes back as it was, whatever memory format it was trained in."""

import pytest
import torch

from mmssl.errors import MmsslError
from mmssl.methods import build_method
from mmssl.methods.artifact import load_method, save_method
from mmssl.methods.base import DataInfo

SIMCLR = {
    "name": "simclr",
    "projector": [16, 8],
    "encoder": {
        "name": "resnet18",
        "stem": "small",
        "image_size": 16,
        "kwargs": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
    },
}


@pytest.fixture(scope="module")
def method():
    torch.manual_seed(0)
    return build_method(SIMCLR, DataInfo(10), "test").to(memory_format=torch.channels_last)


def test_channels_last_weights_come_back(method, tmp_path):
    weight = method.encoder.backbone.conv1.weight
    assert not weight.is_contiguous()
    save_method(method, tmp_path)
    again = load_method(tmp_path)
    assert again.config == method.config
    assert again.data == method.data
    for key, value in method.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_untrained_is_the_same_method_with_other_weights(method, tmp_path):
    save_method(method, tmp_path)
    torch.manual_seed(1)
    fresh = load_method(tmp_path, trained=False)
    assert fresh.config == method.config
    assert not torch.equal(fresh.encoder.backbone.conv1.weight, method.encoder.backbone.conv1.weight)


def test_nothing_was_left_and_damage(method, tmp_path):
    assert load_method(tmp_path) is None
    (tmp_path / "method.json").write_text('{"config": {}}')
    with pytest.raises(MmsslError, match=r"method\.json: expected a method's config and data"):
        load_method(tmp_path)
