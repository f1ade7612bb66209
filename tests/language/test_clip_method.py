"""CLIP and SigLIP as methods: what is trained, decayed, clamped, shown and asked."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from captioned_stills import INFO, NET, SIZE, TEXT, made, seen

from mmssl.engine.config import OptimizerConfig
from mmssl.engine.optim import parameter_groups
from mmssl.errors import MmsslError
from mmssl.methods import build_method
from mmssl.methods.artifact import load_method, save_method
from mmssl.models.artifact import save_encoder
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.stream.views.draws import Draws

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["a cat", "a dog", "a cat", "two birds", "snow", "a red kite"]
CLIPS = {"kind": "frames", "frames": 3, "stride": 0.2, "net": {"encoder": NET}}
VIT = {
    "name": "vit_tiny_patch16_224",
    "image_size": SIZE,
    "kwargs": {"patch_size": 8, "depth": 4, "embed_dim": 24, "num_heads": 2, "drop_path_rate": 0.5},
}


@pytest.mark.parametrize(("name", "scale", "bias"), [("clip", 1 / 0.07, None), ("siglip", 10.0, -10.0)])
def test_the_numbers_of_the_loss_begin_where_the_papers_say_and_are_not_decayed(name, scale, bias):
    method = made(name)
    assert method.logit_scale.exp().item() == pytest.approx(scale)
    numbers = {id(method.logit_scale)}
    if bias is not None:
        assert method.logit_bias.item() == bias
        numbers.add(id(method.logit_bias))
    groups = parameter_groups(method, OptimizerConfig(name="adamw", base_lr=1e-3, weight_decay=0.2))
    plain = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    decayed = {id(p) for group in groups if group["weight_decay"] == 0.2 for p in group["params"]}
    assert numbers <= plain
    assert {id(method.image_head.weight), id(method.text_head.weight)} <= decayed


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_logits_are_scaled_by_a_hundred_at_most(name):
    method = made(name)
    rate = torch.optim.SGD([method.logit_scale], lr=1.0)
    method.logit_scale.grad = torch.tensor(-50.0)
    rate.step()
    assert method.logit_scale.item() > math.log(100)
    method.after_step(0.5)
    assert method.logit_scale.item() == pytest.approx(math.log(100))


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_forward_is_the_loss_of_the_embeddings_and_reaches_every_parameter(name):
    method = made(name)
    batch = seen(method, WORDS)
    method.eval()  # the same statistics both times
    loss = method(batch)
    z = method.embed(batch)
    assert torch.equal(method.loss_of(z, batch).total, loss.total)
    for side in z.values():
        torch.testing.assert_close(side.norm(dim=1), torch.ones(len(WORDS)))
    loss.total.backward()
    assert not [key for key, parameter in method.named_parameters() if parameter.grad is None]
    assert loss.parts["duplicates"].item() == pytest.approx(2 / len(WORDS))
    assert loss.parts["logit_scale"].item() == pytest.approx(method.logit_scale.exp().item())


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_who_says_the_same_or_is_the_same_does_not_repel(name):
    """An image and a text that are never compared share no term of the loss: no mixed derivative."""
    method = made(name).eval()
    batch = seen(method, ["a cat", "a cat", "a dog", "snow"], ids=[0, 1, 0, 3])
    z = {side: x.detach().requires_grad_() for side, x in method.embed(batch).items()}
    (slope,) = torch.autograd.grad(method.loss_of(z, batch).total, z["text"], create_graph=True)
    compared = torch.zeros(4, 4, dtype=torch.bool)
    for j in range(4):
        (mixed,) = torch.autograd.grad(slope[j].sum(), z["image"], retain_graph=True)
        compared[:, j] = mixed.abs().amax(dim=1) > 0
    alike = torch.zeros(4, 4, dtype=torch.bool)
    alike[0, 1] = alike[1, 0] = alike[0, 2] = alike[2, 0] = True
    assert torch.equal(compared, ~alike)


def test_a_frozen_tower_stays_as_it_is_and_rests():
    method = made(image_training="frozen")
    before = {key: value.clone() for key, value in method.image.state_dict().items()}
    assert not any(p.requires_grad for p in method.image.parameters())
    assert not any(module.training for module in method.image.modules())
    assert method.text.training
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    head = method.image_head.weight.detach().clone()
    method(seen(method, WORDS)).total.backward()
    optimizer.step()
    for key, value in method.image.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not torch.equal(method.image_head.weight, head)


@pytest.mark.parametrize(
    ("encoder", "last", "trained"),
    [
        (NET, 1, {"backbone.layer4"}),
        (NET, 2, {"backbone.layer3", "backbone.layer4"}),
        (VIT, 2, {"backbone.blocks.2", "backbone.blocks.3", "backbone.norm"}),
    ],
)
def test_the_last_layers_are_trained_and_the_others_rest(encoder, last, trained):
    method = made(image=encoder, image_training=last)
    learns = {key for key, p in method.image.named_parameters() if p.requires_grad}
    assert learns == {key for key, _ in method.image.named_parameters() if key.startswith(tuple(trained))}
    before = {key: value.clone() for key, value in method.image.state_dict().items()}
    method(seen(method, WORDS)).total.backward()
    with torch.no_grad():
        for p in method.image.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    changed = {key for key, x in method.image.state_dict().items() if not torch.equal(x, before[key])}
    assert changed  # running statistics of frozen norms among what does not
    assert all(key.startswith(tuple(trained)) for key in changed), changed


def test_more_layers_than_there_are_is_an_error():
    with pytest.raises(MmsslError, match=r"9 layers to train of an encoder of 5"):
        made(image_training=9)


def test_the_image_tower_starts_from_an_earlier_encoder(tmp_path: Path):
    torch.manual_seed(5)
    earlier = build_encoder(EncoderConfig.model_validate(NET))
    save_encoder(earlier, tmp_path, {"stage": "mae"})
    method = made(image={**NET, "weights": str(tmp_path)}, image_training="frozen")
    for key, value in earlier.state_dict().items():
        assert torch.equal(method.image.state_dict()[key], value), key


@pytest.mark.parametrize("fuse", ["mean", "attention"])
def test_a_clip_encoder_takes_videos(fuse):
    method = made(image={**CLIPS, "fuse": fuse})
    assert method.views["image"].fields == ("video",)
    batch = seen(method, WORDS)
    clips = torch.randn(len(WORDS), 3, 3, SIZE, SIZE)
    batch["image"] = {"frames": clips, "times": torch.zeros(len(WORDS), 3)}
    method(batch).total.backward()
    assert not [key for key, parameter in method.named_parameters() if parameter.grad is None]


def test_an_image_encoder_averages_over_the_frames_of_a_clip():
    method = made().eval()
    clips = torch.randn(4, 3, 3, SIZE, SIZE)
    mean = torch.stack([method.image(clips[:, t]) for t in range(3)]).mean(dim=0)
    torch.testing.assert_close(method.encode_image({"frames": clips}), method.project_image(mean))


def test_an_image_is_shown_once():
    """Crop only: what is not asked for (mirror, colours) is not done."""
    method = made(augmentation={"scale": [1.0, 1.0], "ratio": [1.0, 1.0]})
    view = method.views["image"]
    assert view.fields == ("image",)
    image = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    draws = Draws(0, "image", np.array([0]), np.array([0]))
    shown = view.finish(view.prepare([image], draws), draws)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (method.image.mean, method.image.std))
    torch.testing.assert_close(shown, ((image / 255 - mean) / std)[None], rtol=0, atol=1e-5)


def test_pretext_counts_the_nearest_and_takes_equal_captions_for_each_other():
    method = made().eval()
    batch = seen(method, WORDS)
    answers = method.pretext(batch)
    z = {side: x.detach() for side, x in method.embed(batch).items()}
    for name, one, other in (("image_to_text", "image", "text"), ("text_to_image", "text", "image")):
        for i, value in enumerate(answers[name].values.tolist()):
            nearest = max(range(len(WORDS)), key=lambda j, i=i: float(z[one][i] @ z[other][j]))
            assert value == (WORDS[nearest] == WORDS[i])
        assert answers[name].chance == pytest.approx((4 + 4 * 1) / len(WORDS) ** 2)


def test_a_folder_gives_the_same_method_back(tmp_path: Path):
    method = made("siglip").eval()
    save_method(method, tmp_path)
    again = load_method(tmp_path)
    assert again is not None
    batch = seen(method, WORDS)
    assert torch.equal(again.eval()(batch).total, method(batch).total)


def test_no_captions_is_an_error():
    data = INFO.__class__(10, frozenset({"image"}))
    with pytest.raises(MmsslError, match=r"clip: the data has no caption"):
        build_method({"name": "clip", "image": NET, "text": TEXT}, data)


def test_noise_of_a_frozen_block_rests_and_that_of_a_trained_one_does_not():
    blocks = made(image=VIT, image_training=2).image.backbone.blocks
    awake = [block.drop_path1.training for block in blocks[1:]]  # the first drops nothing
    assert awake == [False, True, True]
