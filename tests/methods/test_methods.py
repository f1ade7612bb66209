"""What holds for every method of images: the table, state, gradients, exact restoration, clear refusals."""

import copy
from collections.abc import Callable

import pytest
import torch
from tiny_methods import TINY
from torch import Tensor

from mmssl.config import read_yaml
from mmssl.errors import MmsslError
from mmssl.methods import DataInfo, Method, build_method, parse_method
from mmssl.stream.batch import Batch
from mmssl.stream.views.contrastive import ContrastiveAugmentation

Make = Callable[..., Method]
View = Callable[..., Batch]


def step(method: Method, batch: Batch, progress: float = 0.5) -> float:
    loss = method(batch)
    loss.total.backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= 0.05 * p.grad
                p.grad = None
    method.after_step(progress)
    return float(loss.total.detach())


@pytest.mark.parametrize("name", TINY)
def test_every_trained_parameter_gets_a_gradient(
    name: str, make: Make, view: View, noise_images: Tensor
) -> None:
    method = make(name)
    loss = method(view(method, noise_images))
    loss.total.backward()
    trained = [key for key, p in method.named_parameters() if p.requires_grad]
    assert trained
    assert [key for key in trained if method.get_parameter(key).grad is None] == []
    assert all(not value.requires_grad and value.ndim == 0 for value in loss.parts.values())
    assert loss.embedding is not None
    assert not loss.embedding.requires_grad
    assert loss.embedding.shape[1] == method.encoders()["image"].dim


@pytest.mark.parametrize("name", TINY)
def test_a_restored_method_goes_on_bit_for_bit(
    name: str, make: Make, view: View, noise_images: Tensor
) -> None:
    one = make(name)
    step(one, view(one, noise_images))
    two = make(name)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for pass_ in (1, 2):
        batch = view(one, noise_images, pass_)
        assert step(one, batch) == step(two, batch)
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key]), key


@pytest.mark.parametrize("name", TINY)
def test_no_tensor_is_stored_twice(name: str, make: Make) -> None:
    pointers = [value.data_ptr() for value in make(name).state_dict().values() if value.numel()]
    assert len(pointers) == len(set(pointers))


def test_state_holds_queue_pointer_and_momentum_encoder(make: Make) -> None:
    keys = make("moco_v2").state_dict().keys()
    assert {"queue.keys", "queue.pushed", "queue.born", "queue.step"} <= keys
    assert any(key.startswith("encoder_k.backbone.") for key in keys)
    assert any(key.startswith("projector_k.") for key in keys)


def test_an_augmentation_in_a_recipe_is_on_top_of_the_papers() -> None:
    config = parse_method({"name": "moco_v2", "augmentation": {"blur": 0.0}})
    expected = ContrastiveAugmentation.moco_v2().model_copy(update={"blur": 0.0})
    assert config.augmentation == expected  # type: ignore[attr-defined]


def test_unknown_methods_keys_and_types_name_the_place(tmp_path) -> None:  # type: ignore[no-untyped-def]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: simclr\ntemprature: 0.5\nprojector: wide\n")
    with pytest.raises(MmsslError) as error:
        parse_method(read_yaml(recipe), recipe, at="stages.train.method")
    where = f"{recipe}: stages.train.method"
    assert f"{where}.temprature: unknown key; did you mean 'temperature'" in str(error.value)
    assert f"{where}.projector" in str(error.value)
    with pytest.raises(MmsslError, match=r"train.name: expected one of .*'simlcr'.*'simclr'"):
        parse_method({"name": "simlcr"}, "r.yaml", at="train")


def test_data_without_images_is_refused(make: Make) -> None:
    config = make("simclr").config
    with pytest.raises(MmsslError, match="the data has no image; it has video"):
        build_method(config, DataInfo(10, frozenset({"video"})))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": {"name": "resnet18"}}, "encoder.name: MAE"),
        ({"decoder_width": 30}, "decoder_width"),
    ],
)
def test_mae_names_what_does_not_fit(settings: dict[str, object], message: str, make: Make) -> None:
    with pytest.raises(MmsslError, match=message):
        make("mae", **settings)
