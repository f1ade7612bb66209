"""MoCo's dictionary: whose keys, in which order, normalised with whom; on one process and on several."""

from collections.abc import Callable

import pytest
import torch
from tiny_methods import tiny
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmssl.distributed import gather, mean
from mmssl.methods import Method
from mmssl.methods.image.moco import scramble
from mmssl.methods.image.moco_v3 import MoCoV3
from mmssl.stream.batch import Batch

Make = Callable[..., Method]
View = Callable[..., Batch]


def test_scramble_is_a_permutation_that_changes_with_the_salt() -> None:
    ids, salt = torch.arange(1000), torch.tensor(64)
    order = scramble(ids, salt)
    assert torch.equal(order.sort().values, ids)
    assert torch.equal(order, scramble(ids, salt))
    other = scramble(ids, salt + 64)
    assert (order == other).float().mean() < 0.02
    # neighbours are torn apart: the rank correlation with the given order is that of chance
    assert abs(float(torch.corrcoef(torch.stack([order, ids]).double())[0, 1])) < 0.1


def test_keys_come_back_in_the_order_of_the_batch(make: Make, view: View, noise_images: Tensor) -> None:
    shuffled, local = make("moco_v2"), make("moco_v2", batch_norm="local")
    local.load_state_dict(shuffled.state_dict())
    batch = view(shuffled, noise_images)
    for method in (shuffled, local):
        method.encoder_k.eval()  # without batch statistics a key depends on its own image alone
        method(batch)
    torch.testing.assert_close(shuffled._new_keys[0], local._new_keys[0])
    assert not shuffled._new_keys[0].requires_grad


def test_each_group_of_keys_has_its_own_statistics(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("moco_v2", key_groups=4)
    sizes: list[int] = []
    method.encoder_k.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    batch = view(method, noise_images)
    method(batch)
    assert sizes == [2, 2, 2, 2]
    order = scramble(batch.id, torch.tensor(0))
    two = order[:2]
    expected = normalize(method.projector_k(method.encoder_k(batch.image[:, 1][two])), dim=1)
    torch.testing.assert_close(method._new_keys[0][two], expected)


def test_the_queue_takes_the_keys_after_the_step(make: Make, view: View, noise_images: Tensor) -> None:
    method = make("moco_v2")
    before = method.queue.keys.clone()
    method(view(method, noise_images))
    keys = method._new_keys[0]
    assert torch.equal(method.queue.keys, before)
    method.after_step(0.0)
    assert torch.equal(method.queue.keys[:8], keys)
    assert torch.equal(method.queue.keys[8:], before[8:])
    method.eval()
    method(view(method, noise_images))
    assert method._new_keys == []


@pytest.mark.parametrize("name", ["moco_v1", "moco_v2", "moco_v3"])
def test_the_momentum_encoder_moves_by_one_minus_m(name: str, make: Make) -> None:
    method = make(name, momentum=0.9, momentum_schedule="constant")
    start = {key: p.clone() for key, p in method.encoder_k.named_parameters()}
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(0.3)
    for key, p in method.encoder_k.named_parameters():
        torch.testing.assert_close(p, start[key] + 0.1, atol=1e-5, rtol=1e-5)


def test_v2_differs_from_v1_by_its_head_and_blur(make: Make) -> None:
    one, two = make("moco_v1"), make("moco_v2")
    assert isinstance(one.projector, nn.Linear)
    assert [type(layer) for layer in two.projector] == [nn.Linear, nn.ReLU, nn.Linear]
    assert (one.config.augmentation.blur, two.config.augmentation.blur) == (0.0, 0.5)


def test_v3_keeps_the_patch_embedding_fixed(make: Make) -> None:
    method = make("moco_v3")
    assert isinstance(method, MoCoV3)
    frozen = {key for key, p in method.encoder.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def compare_with_one_process(rank: int, world: int, batch: Batch, expected: dict[str, Tensor]) -> None:
    n = len(batch.id) // world
    own = slice(rank * n, rank * n + n)
    method = tiny("moco_v2", batch_norm="sync")
    loss = method(Batch(image=batch.image[own], id=batch.id[own]))
    loss.total.backward()
    torch.testing.assert_close(mean(loss.total), expected["loss"], rtol=1e-4, atol=1e-4)
    trained = {key: p for key, p in method.named_parameters() if p.requires_grad}
    assert trained.keys() < expected.keys()
    for key, p in trained.items():
        assert p.grad is not None
        torch.testing.assert_close(mean(p.grad), expected[key], rtol=1e-2, atol=2e-4, msg=key)
    method.after_step(0.0)
    torch.testing.assert_close(method.queue.keys, expected["queue"], rtol=1e-4, atol=1e-4)

    shuffled = tiny("moco_v2")
    shuffled(Batch(image=batch.image[own], id=batch.id[own]))
    shuffled.after_step(0.0)
    everyone = gather(shuffled.queue.keys[None], gradient=False)
    assert len(everyone) == world
    assert all(torch.equal(everyone[0], other) for other in everyone[1:])


@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_fill_the_queue_as_one(
    world: int, ranks: Callable[..., None], view: View, noise_images: Tensor
) -> None:
    whole = tiny("moco_v2", batch_norm="sync")
    batch = view(whole, noise_images)
    loss = whole(batch).total
    loss.backward()
    whole.after_step(0.0)
    gradients = {key: p.grad for key, p in whole.named_parameters() if p.grad is not None}
    expected = gradients | {"loss": loss.detach(), "queue": whole.queue.keys}
    ranks(compare_with_one_process, world, Batch(image=batch.image, id=batch.id), expected)
