"""MAE: only visible patches are encoded, only hidden ones are scored, and masks are each sample's own."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_methods import VIT
from torch import Tensor, nn

from mmssl.methods import Method
from mmssl.methods.image.mae import patchify, unpatchify
from mmssl.stream.batch import Batch

Make = Callable[..., Method]
View = Callable[..., Batch]


def test_patchify_is_invertible_and_ordered_like_a_convolution() -> None:
    images = torch.rand(2, 3, 16, 24)
    patches = patchify(images, 8)
    assert patches.shape == (2, 6, 192)
    assert torch.equal(patches[1, 4].view(3, 8, 8), images[1, :, 8:16, 8:16])
    assert torch.equal(unpatchify(patches, 8, 2), images)


def test_blocks_see_visible_tokens_only(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("mae")
    seen: list[int] = []
    method.encoder.backbone.blocks[0].register_forward_hook(
        lambda m, args, out: seen.append(args[0].shape[1])
    )
    method(view(method, noise_images))
    assert seen == [4 + 1]  # a quarter of 16 patches, and the class token


def test_all_patches_visible_is_timms_own_forward(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("mae").eval()
    pixels = view(method, noise_images).image["pixels"]
    everything = torch.arange(16).expand(len(pixels), 16)
    tokens = method.encode(patchify(pixels, 8), everything)
    backbone = method.encoder.backbone
    torch.testing.assert_close(tokens, backbone.fc_norm(backbone.forward_features(pixels)))


def test_loss_against_float64_and_hidden_patches_only(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("mae").double().eval()
    batch = view(method, noise_images)
    pixels, noise = batch.image["pixels"].double(), batch.image["noise"]
    loss = method(Batch(image={"pixels": pixels, "noise": noise})).total
    order = np.argsort(noise.numpy(), axis=1, kind="stable")
    total = []
    for i in range(len(pixels)):
        visible, hidden = torch.tensor(order[i : i + 1, :4]), torch.tensor(order[i : i + 1, 4:])
        one = pixels[i : i + 1]
        latent = method.encode(patchify(one, 8)[:, visible[0]], visible)
        painted = method.decode(latent, visible, hidden)[0].detach().numpy()
        for row, where in enumerate(order[i, 4:]):
            y, x = divmod(int(where), 4)
            patch = pixels[i, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].numpy().reshape(-1)
            target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            total.append(((painted[row] - target) ** 2).mean())
    np.testing.assert_allclose(float(loss.detach()), np.mean(total), rtol=1e-5)


def test_hidden_pixels_do_not_reach_the_prediction(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("mae", normalise_targets=False).eval()
    batch = view(method, noise_images)
    order = batch.image["noise"].argsort(dim=1)
    patches = patchify(batch.image["pixels"], 8)
    where = order[:, 4:, None].expand(-1, -1, 192)
    changed = patches.scatter(1, where, torch.randn(8, 12, 192))
    other = Batch(image=batch.image | {"pixels": unpatchify(changed, 8, 4)})
    one, two = method.pictures(batch), method.pictures(other)
    assert torch.equal(one["reconstruction"], two["reconstruction"])
    assert not torch.equal(one["original"], two["original"])


def test_pictures_keep_what_was_visible(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("mae").eval()
    batch = view(method, noise_images)
    pictures = method.pictures(batch)
    assert list(pictures) == ["original", "masked", "reconstruction"]
    rows = {name: patchify(picture, 8) for name, picture in pictures.items()}
    visible = batch.image["noise"].argsort(dim=1)[:, :4, None].expand(-1, -1, 192)
    for name in ("masked", "reconstruction"):
        assert torch.equal(rows[name].gather(1, visible), rows["original"].gather(1, visible))
        assert 0 <= pictures[name].min() <= pictures[name].max() <= 1
    same = (rows["masked"] == rows["original"]).all(dim=2)
    assert same.sum(dim=1).tolist() == [4] * 8


def test_masks_differ_between_samples_and_passes_and_repeat(
    make: Make, view: View, noise_images: Tensor
) -> None:
    method = make("mae")
    first, again, later = (view(method, noise_images, p).image["noise"] for p in (0, 0, 1))
    assert torch.equal(first, again)
    assert not (first == later).any()
    assert len({tuple(row) for row in first.argsort(dim=1).tolist()}) == 8


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_features_are_what_the_masked_encoder_pools(
    pool: str, make: Make, view: View, noise_images: Tensor
) -> None:
    encoder = {**VIT, "kwargs": {**VIT["kwargs"], "global_pool": pool}}
    method = make("mae", encoder=encoder).eval()
    pixels = view(method, noise_images).image["pixels"]
    features = method.encoder(pixels)
    vit = method.encoder.backbone
    vit.fc_norm, after_pooling = nn.Identity(), vit.fc_norm  # with "avg" the norm follows the pooling
    tokens = method.encode(patchify(pixels, 8), torch.arange(16).expand(len(pixels), 16))
    pooled = tokens[:, 0] if pool == "token" else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(after_pooling(pooled), features, rtol=1e-5, atol=1e-5)
