"""Modality-shared CLIP: which tensors are one, what each modality has of its own, and that both learn."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from captioned_stills import CONTEXT, NET, SIZE, seen
from captioned_stills import made as built
from safetensors.torch import load_file
from timm.models.vision_transformer import Block
from torch import Tensor

from mmssl.engine import TrainConfig
from mmssl.engine.config import OptimizerConfig
from mmssl.engine.optim import build_optimizer, parameter_groups
from mmssl.engine.setup import prepare
from mmssl.errors import MmsslError
from mmssl.methods.artifact import load_method, save_method
from mmssl.methods.language.ms_clip import MSCLIP
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.text import ClipText
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["a cat", "a dog", "two birds", "snow", "a red kite", "an old man reads"]
DEPTH, WIDTH = 3, 24
VIT: dict[str, Any] = {
    "name": "vit_tiny_patch16_224",
    "image_size": SIZE,
    "kwargs": {"patch_size": 8, "depth": DEPTH, "embed_dim": WIDTH, "num_heads": 2},
}
OF_ONE_LAYER = 12 * WIDTH**2 + 9 * WIDTH
"""Weights 3·w² + w² + 2·4·w² of attention and MLP, biases 3w + w + 4w + w."""


def made(**settings: Any) -> MSCLIP:
    method = built("ms_clip", **{"image": VIT, "text": {"context": CONTEXT}} | settings)
    assert isinstance(method, MSCLIP)
    return method


def layers(method: MSCLIP) -> list[tuple[Any, Any]]:
    """(timm's block, open_clip's block), layer by layer."""
    return list(zip(method.image.backbone.blocks, method.text.net.transformer.resblocks, strict=True))


def in_both(method: MSCLIP) -> dict[str, str]:
    """Name in the image tower to name in the text tower of every parameter that is the same object."""
    read = {id(p): name for name, p in method.text.named_parameters()}
    return {name: read[id(p)] for name, p in method.image.named_parameters() if id(p) in read}


@pytest.mark.parametrize("own", [0, 1])
def test_attention_and_mlps_are_one_and_all_else_is_apart(own: int) -> None:
    method = made(own_layers=own)
    shared = in_both(method)
    assert len(shared) == 8 * (DEPTH - own)
    assert all(".attn." in name or ".mlp." in name for name in shared)
    assert not any(name.startswith(f"backbone.blocks.{number}.") for name in shared for number in range(own))
    towers = sum(p.numel() for encoder in method.encoders().values() for p in encoder.parameters())
    heads = sum(p.numel() for head in (method.image_head, method.text_head) for p in head.parameters())
    everything = sum(p.numel() for p in method.parameters())
    assert everything == towers + heads + 1 - (DEPTH - own) * OF_ONE_LAYER


def test_the_text_tower_takes_its_shape_from_the_image_tower() -> None:
    method = made(image={**VIT, "kwargs": {**VIT["kwargs"], "mlp_ratio": 37 / 24}})
    config = method.config.text
    assert isinstance(config, type(method.text.config))
    assert (config.width, config.heads, config.layers) == (WIDTH, 2, DEPTH)
    assert method.text.net.transformer.resblocks[0].mlp.c_fc.out_features == 37
    assert method.text.config == config


def test_a_layer_reads_as_it_sees_but_for_its_norms_and_the_mask() -> None:
    """Queries, keys, values and heads lie alike in both libraries: timm's layer is the oracle."""
    method = made().double().eval()
    with torch.no_grad():
        for p in method.parameters():
            p.normal_(std=0.3)
    x = torch.randn(2, CONTEXT, WIDTH, dtype=torch.float64)
    mask = method.text.net.attn_mask.double()
    for seeing, reading in layers(method):
        oracle = Block(WIDTH, 2, qkv_bias=True).double().eval()
        state = seeing.state_dict()
        for ours, theirs in (("norm1", "ln_1"), ("norm2", "ln_2")):
            state |= {f"{ours}.{k}": v for k, v in getattr(reading, theirs).state_dict().items()}
        oracle.load_state_dict(state)
        oracle.norm1.eps = oracle.norm2.eps = reading.ln_1.eps
        expected = oracle(x, is_causal=True)
        torch.testing.assert_close(reading(x, attn_mask=mask), expected, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(seeing(x), expected)  # its norms are its own


def test_words_see_those_before_them_and_patches_see_all() -> None:
    method = made().double().eval()
    x = torch.randn(1, CONTEXT, WIDTH, dtype=torch.float64, requires_grad=True)
    net = method.text.net
    (slope,) = torch.autograd.grad(net.transformer(x, attn_mask=net.attn_mask.double())[0, 3].sum(), x)
    assert (slope[0, :4].abs().amax(dim=1) > 0).all()
    assert not slope[0, 4:].any()
    (slope,) = torch.autograd.grad(method.image.backbone.blocks(x)[0, 3].square().sum(), x)
    assert (slope[0].abs().amax(dim=1) > 0).all()
    tokens = method.text.tokenizer(["a dog"], CONTEXT)
    other = tokens.clone()
    other[0, -1] = 77  # behind the end
    assert torch.equal(method.encode_text(tokens), method.encode_text(other))


def apart(method: MSCLIP, folder: Path) -> MSCLIP:
    """The same values, every tensor a tower's own: towers as their folders give them."""
    loose = copy.deepcopy(method)
    for name, encoder in method.encoders().items():
        save_encoder(encoder, folder / name, {})
        setattr(loose, name, load_encoder(folder / name))
    assert not in_both(loose)
    return loose


def test_a_shared_tensor_has_the_gradient_of_both_modalities(tmp_path: Path) -> None:
    method = made()
    loose = apart(method, tmp_path).double()
    method.double()
    batch = seen(method, WORDS)
    batch["image"] = batch.image.double()
    method(batch).total.backward()
    loose(batch).total.backward()
    seeing, reading = (dict(tower.named_parameters()) for tower in (loose.image, loose.text))
    shared = in_both(method)
    for name, p in method.image.named_parameters():
        expected = seeing[name].grad
        if name in shared:
            assert reading[shared[name]].grad.abs().max() > 0
            expected = expected + reading[shared[name]].grad
        torch.testing.assert_close(p.grad, expected, rtol=1e-8, atol=1e-12, msg=name)


def test_encoders_load_alone_and_give_the_same_features(tmp_path: Path) -> None:
    method = made(own_layers=1).eval()
    loose = apart(method, tmp_path).eval()
    batch = seen(method, WORDS)
    for name, z in method.embed(batch).items():
        torch.testing.assert_close(loose.embed(batch)[name], z, rtol=0, atol=1e-6)
    assert isinstance(loose.text, ClipText)
    call = json.loads((tmp_path / "image" / "encoder.json").read_text())["timm"]
    plain = timm.create_model(call["name"], **call["arguments"]).eval()
    plain.load_state_dict(load_file(tmp_path / "image" / "encoder.safetensors"))
    torch.testing.assert_close(plain(batch.image), method.image(batch.image))


def test_a_method_from_its_folder_is_the_same_and_still_shares(tmp_path: Path) -> None:
    method = made(own_layers=1).eval()
    with torch.no_grad():
        method.image.backbone.blocks[2].mlp.fc1.weight.normal_()
    save_method(method, tmp_path)
    again = load_method(tmp_path)
    assert isinstance(again, MSCLIP)
    assert in_both(again) == in_both(method)
    batch = seen(method, WORDS)
    assert torch.equal(again.eval()(batch).total, method(batch).total)


def test_shared_tensors_are_decayed_once() -> None:
    method = made()
    config = OptimizerConfig(name="adamw", base_lr=0.1, weight_decay=0.2)
    listed = [id(p) for group in parameter_groups(method, config) for p in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(method.parameters()))
    optimizer = build_optimizer(method, config)
    weight, bias = method.image.backbone.blocks[1].attn.qkv.weight, layers(method)[1][1].mlp.c_fc.bias
    with torch.no_grad():
        bias.fill_(1.0)
    before = weight.detach().clone()
    for p in method.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.2))
    assert torch.equal(bias, torch.ones_like(bias))


def test_they_stay_one_through_moves_copies_and_steps() -> None:
    method = copy.deepcopy(made().double())
    prepare(method, TrainConfig(steps=1, batch_size=6), torch.device("cpu"))
    assert len(in_both(method)) == 8 * DEPTH
    optimizer = build_optimizer(method, OptimizerConfig(name="adamw", base_lr=1e-2))
    batch = seen(method, WORDS)
    batch["image"] = batch.image.double()
    before = layers(method)[0][1].attn.in_proj_weight.detach().clone()
    method(batch).total.backward()
    optimizer.step()
    seeing, reading = layers(method)[0]
    assert reading.attn.in_proj_weight is seeing.attn.qkv.weight
    assert not torch.equal(reading.attn.in_proj_weight, before)


@pytest.mark.parametrize("given", ["image", "text", "both"])
def test_shared_layers_start_as_the_image_towers_unless_only_text_has_any(given: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    earlier = apart(made(), tmp_path)
    with torch.no_grad():
        for p in earlier.parameters():
            p.normal_()
    for name, encoder in earlier.encoders().items():
        save_encoder(encoder, tmp_path / name, {})
    image = {**VIT, "weights": str(tmp_path / "image")} if given != "text" else VIT
    text = {"context": CONTEXT} | ({"weights": str(tmp_path / "text")} if given != "image" else {})
    method = made(image=image, text=text)
    start = earlier.text if given == "text" else earlier.image
    name = (
        "net.transformer.resblocks.1.mlp.c_fc.weight"
        if given == "text"
        else "backbone.blocks.1.mlp.fc1.weight"
    )
    assert torch.equal(method.image.backbone.blocks[1].mlp.fc1.weight, start.get_parameter(name))
    norms = torch.equal(method.text.net.ln_final.weight, earlier.text.net.ln_final.weight)
    assert norms == (given != "image")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": NET}, "image: expected a vision transformer"),
        ({"image": {**VIT, "kwargs": {**VIT["kwargs"], "init_values": 0.1}}}, "block 0 is no plain"),
        ({"image": {**VIT, "kwargs": {**VIT["kwargs"], "qk_norm": True}}}, "block 0 is no plain"),
        ({"text": {"context": CONTEXT, "width": 32}}, f"text.width: 32 beside {WIDTH}"),
        (
            {"text": {"context": CONTEXT, "activation": "quick_gelu"}},
            "text.activation: quick_gelu beside gelu",
        ),
        ({"own_layers": DEPTH}, f"own_layers: {DEPTH} of {DEPTH}"),
        ({"image_training": "frozen"}, "image_training"),
        ({"text": {"kind": "bert"}}, "text.kind"),
    ],
)
def test_what_cannot_be_shared_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        made(**settings)


def test_frames_of_videos_and_convolutional_stems_share_too() -> None:
    clips = {"kind": "frames", "frames": 2, "net": {"encoder": VIT}}
    method = made(image=clips)
    assert len(in_both(method)) == 8 * DEPTH
    stem = made(image={"name": "vit_tiny_r_s16_p8_224", "image_size": 64}, own_layers=1)
    assert len(in_both(stem)) == 8 * 11
    batch = seen(stem, WORDS[:2])
    batch["image"] = torch.randn(2, 3, 64, 64)
    assert stem(batch).total.isfinite()


def gradients(method: MSCLIP) -> dict[str, Tensor]:
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def whole() -> tuple[MSCLIP, Batch]:
    method = made(own_layers=1).double()
    batch = seen(method, WORDS)
    batch["image"] = batch.image.double()
    return method, batch


def on_a_rank(rank: int, world: int, expected: dict[str, Tensor]) -> None:
    method, batch = whole()
    model = prepare(method, TrainConfig(steps=1, batch_size=len(WORDS)), torch.device("cpu"))
    share = len(WORDS) // world
    model(batch.rows(slice(rank * share, (rank + 1) * share))).total.backward()
    found = gradients(method)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-12, msg=name)


def test_two_ranks_have_the_gradient_of_the_whole_batch(ranks: Callable[..., None]) -> None:
    method, batch = whole()
    method(batch).total.backward()
    ranks(on_a_rank, 2, gradients(method))
