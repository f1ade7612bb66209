"""Order: its loss and its heads against plain loops, its questions against counting, its settings."""

import math
from itertools import combinations
from typing import Any

import pytest
import torch
from order_videos import RATE, batch_of, noise, sample, seen
from torch import Tensor
from torch.nn.functional import relu

from mmssl.errors import MmsslError
from mmssl.methods import DataInfo, build_method, parse_method
from mmssl.methods.temporal.order import Order
from mmssl.methods.temporal.order_heads import Concatenated, Pairwise
from mmssl.stream.batch import Batch
from mmssl.stream.views.order import CLASSES, Task

NET = {
    "encoder": {
        "name": "resnet18", "stem": "small_stride4", "image_size": 32,
        "kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 16, 16, 16]},
    },
}  # fmt: skip
TASKS: list[Task] = ["verify", "sort", "clips", "arrow"]
DATA = DataInfo(samples=100, fields=frozenset({"video"}))


def tiny(task: Task, **settings: Any) -> Order:
    torch.manual_seed(0)
    frames = {"verify": 1, "sort": 1, "clips": 2, "arrow": 4}[task]
    encoder = {"kind": "frames", "net": NET, "frames": frames, "stride": 1 / RATE, "fuse": "concat"}
    settings = {"spacing": [0.3, 0.6], "augmentation": None, "dropout": 0.0} | settings
    method = build_method({"name": "order", "task": task, "encoder": encoder, **settings}, DATA)
    assert isinstance(method, Order)
    return method


def batch(method: Order, count: int = 6) -> Batch:
    return batch_of(seen(method.views["clip"], [sample(id_, noise(id_)) for id_ in range(count)]))


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_the_cross_entropy_of_every_question_asked_alone(task: Task) -> None:
    method = tiny(task).double().eval()  # a BatchNorm in training looks at all units at once
    given = batch(method)
    clip = given.clip
    clip["frames"] = clip["frames"].double()
    losses, hits = [], []
    for b in range(len(given)):
        units = clip["frames"][b].unflatten(0, (method.units, -1))
        for shown, answer in zip(clip["shown"][b].tolist(), clip["order"][b].tolist(), strict=True):
            z = torch.cat([method.encoder(units[u][None]) for u in shown])  # as the network is shown them
            logits = method.head(z[None])[0].tolist()
            losses.append(math.log(sum(math.exp(v) for v in logits)) - logits[answer])
            hits.append(logits.index(max(logits)) == answer)
    loss = method(given)
    assert loss.total.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)  # taken in float32
    assert float(loss.parts["accuracy"]) == pytest.approx(sum(hits) / len(hits))
    assert loss.embedding is not None
    assert loss.embedding.shape == (6 * method.units, method.encoder.dim)


@pytest.mark.parametrize("task", TASKS)
def test_the_head_and_the_first_layer_of_the_encoder_learn(task: Task) -> None:
    method = tiny(task)
    method(batch(method)).total.backward()
    learning = {
        name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert {f"head.{name}" for name, _ in method.head.named_parameters()} <= learning
    assert "encoder.net.encoder.backbone.conv1.weight" in learning


def test_the_papers_single_layer_cannot_compare_the_middle_with_the_ends() -> None:
    """Its logits are sums over the places; what another middle changes does not depend on the ends."""
    torch.manual_seed(0)
    z = torch.randn(2, 3, 8, dtype=torch.float64)
    z[1, 1] = z[0, 1]  # one middle between two pairs of ends
    moved = z.clone()
    moved[:, 1] = torch.randn(8, dtype=torch.float64)  # and another

    def change(head: Concatenated) -> Tensor:
        with torch.no_grad():
            return head(moved) - head(z)

    plain = change(Concatenated(8, 3, 2, dropout=0.0).double())
    torch.testing.assert_close(plain[0], plain[1])
    deep = change(Concatenated(8, 3, 2, (16,), dropout=0.0).double())
    assert (deep[0] - deep[1]).abs().max() > 1e-3


def test_pairs_are_seen_by_one_shared_layer() -> None:
    torch.manual_seed(0)
    head = Pairwise(5, 4, 12, width=7, dropout=0.0).double()
    z = torch.randn(3, 4, 5, dtype=torch.float64)
    weight, bias = head.pair[0].weight, head.pair[0].bias
    seen_pairs = [relu(weight @ torch.cat([z[0, i], z[0, j]]) + bias) for i, j in combinations(range(4), 2)]
    last = head.classes[1]
    torch.testing.assert_close(head(z)[0], last.weight @ torch.cat(seen_pairs) + last.bias)


@pytest.mark.parametrize("task", ["verify", "sort", "clips"])
@pytest.mark.parametrize("head", ["concatenated", "pairwise"])
def test_either_head_answers_every_task_of_several_places(task: Task, head: str) -> None:
    method = tiny(task, head=head).eval()
    assert type(method.head) is {"concatenated": Concatenated, "pairwise": Pairwise}[head]
    given = batch(method, 3)
    assert method.answer(given)[0].shape == (*given.clip["order"].shape, CLASSES[task])


@pytest.mark.parametrize("task", TASKS)
def test_questions_are_counted_right(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tiny(task).eval()
    given = batch(method, 10)
    order = given.clip["order"]

    def asked(guess: Tensor) -> dict[str, tuple[float, float | None]]:
        logits = torch.nn.functional.one_hot(guess, CLASSES[task]).float()
        monkeypatch.setattr(method, "answer", lambda _: (logits, None))
        return {name: (float(a.values.mean()), a.chance) for name, a in method.pretext(given).items()}

    assert all(value == 1.0 for value, _ in asked(order).values())
    wrong = (order + 1) % CLASSES[task]
    assert all(value == 0.0 for value, _ in asked(wrong).values())
    always = asked(torch.zeros_like(order))
    if task == "verify":  # always 'shuffled' is what chance stands for
        assert always == {"verification": (0.75, 0.75), "verification_balanced": (0.5, 0.5)}
    else:
        ((value, chance),) = always.values()
        assert value == pytest.approx(float((order == 0).float().mean()))
        assert chance == pytest.approx(1 / CLASSES[task])


def test_accumulated_micro_batches_are_the_batch() -> None:
    method = tiny("verify").eval()
    given = batch(method)
    parts = [method(part).total for part in given.chunks(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), method(given).total)


def test_it_leaves_its_clip_encoder() -> None:
    method = tiny("clips")
    assert set(method.encoders()) == {"clip"}
    assert method.encoders()["clip"](torch.zeros(2, 2, 3, 32, 32)).shape == (2, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "verify", "encoder": {"kind": "frames", "net": NET, "frames": 2}},
            "expected one frame for task verify",
        ),
        ({"task": "arrow", "encoder": {"kind": "frames", "net": NET}}, "more than one frame for task arrow"),
        ({"task": "arrow", "head": "pairwise"}, "head: expected concatenated for task arrow"),
        ({"spacing": [2.0, 1.0]}, "spacing: expected \\(shortest, longest\\)"),
        ({"task": "shuffle"}, "task"),
        ({"floor": -1}, "floor"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        build_method({"name": "order", **settings}, DATA)


def test_a_recipe_changes_single_values_of_the_augmentation() -> None:
    config: Any = parse_method({"name": "order", "augmentation": {"flip": 0.0}})
    assert (config.augmentation.flip, config.augmentation.brightness) == (0.0, 0.4)
    assert parse_method({"name": "order", "augmentation": None}).model_dump()["augmentation"] is None
    assert parse_method(config.model_dump(mode="json")) == config
