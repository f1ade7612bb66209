"""CoCLR: which keys are positives, what the queue holds, on one process and several, stopped and resumed."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import gather, mean
from mmssl.errors import MmsslError
from mmssl.losses.info_nce import info_nce
from mmssl.methods import DataInfo, build_method, parse_method
from mmssl.methods.multiview.coclr import CoCLR
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

NET = {
    "kind": "video_net", "name": "r2d3d", "frames": 4, "stride": 0.1, "image_size": 16,
    "stem": "small_stride2", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1],
}  # fmt: skip
DATA = DataInfo(samples=100, fields=frozenset({"video", "flow"}))
CO_TRAINING = {"sibling": {"encoder": {**NET, "sees": "flow"}}, "mine": 3}


def tiny(**settings: Any) -> CoCLR:
    torch.manual_seed(0)
    method = build_method({"name": "coclr", "encoder": NET, "queue": 24, "dim": 8} | settings, DATA)
    assert isinstance(method, CoCLR)
    return method


def noise(ids: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(1000 * seed + ids[0])

    def clips(channels: int) -> Tensor:
        return torch.randn(len(ids), 4, channels, 16, 16, generator=generator)

    key = {"own": clips(3), "sibling": clips(2)}
    return Batch(id=torch.tensor(ids), query={"own": clips(3)}, key=key)


def step(method: CoCLR, batch: Batch, rate: float = 0.01) -> Tensor:
    loss = method(batch).total
    method.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= rate * p.grad
    method.after_step(0.0)
    return loss.detach()


def test_one_view_alone_is_moco() -> None:
    method = tiny(batch_norm="local")
    batch = noise(list(range(8)))
    q = normalize(method.head(method.encoder(batch.query["own"])), dim=1)
    with torch.no_grad():
        k = normalize(method.head_k(method.encoder_k(batch.key["own"])), dim=1)
    expected = info_nce(q, k, method.queue.keys, 0.07)
    found = method(batch)
    torch.testing.assert_close(found.total, expected.loss)
    assert "mined" not in found.parts
    assert not any(name.startswith("sibling") for name, _ in method.named_parameters())


def test_positives_are_the_own_video_and_what_the_sibling_finds() -> None:
    method = tiny(**CO_TRAINING)
    assert method.sibling is not None
    for round_ in range(4):
        batch = noise([(8 * round_ + i) % 20 for i in range(8)], round_)
        own = method.same_video(batch)
        s = method.look_at_siblings(batch)
        mined = method.mined(s, own)
        parts = method(batch).parts
        if round_ < 3:  # 24 slots, 8 a step: no mining before the queue is full
            assert not mined.any()
            assert float(parts["mined"]) == 0
        method.after_step(0.0)
    ids = method.queue.ids.tolist()
    assert sorted(set(ids)) == list(range(20))
    batch = noise([0, 3, 9, 15, 19, 50], 9)
    own, s = method.same_video(batch), method.look_at_siblings(batch)
    mined = method.mined(s, own)
    slots = method.sibling_queue.keys.numpy()
    for row, id_ in enumerate(batch.id.tolist()):
        assert own[row].tolist() == [id_ == other for other in ids]
        others = np.flatnonzero(np.array(ids) != id_)
        nearest = NearestNeighbors(n_neighbors=3, metric="cosine").fit(slots[others])
        found = others[nearest.kneighbors(s[row : row + 1].numpy())[1][0]]
        assert sorted(found) == mined[row].nonzero()[:, 0].tolist()
    assert not (own & mined).any()


def test_mining_finds_no_more_than_there_is() -> None:
    method = tiny(**CO_TRAINING)
    for _ in range(3):
        step(method, noise([7] * 8))
    batch = noise([7, 8])
    mined = method.mined(method.look_at_siblings(batch), method.same_video(batch))
    assert mined.sum(1).tolist() == [0, 3]


def test_the_sibling_stays_as_it_was_trained() -> None:
    method = tiny(**CO_TRAINING)
    assert method.sibling is not None
    before = copy.deepcopy(method.sibling.state_dict())
    method.train()
    for i in range(4):
        step(method, noise(list(range(8 * i, 8 * i + 8))))
    assert not method.sibling.training
    assert method.encoder.training
    assert all(torch.equal(value, before[key]) for key, value in method.sibling.state_dict().items())
    assert not any(p.requires_grad for p in method.sibling.parameters())
    assert list(method.encoders()) == ["rgb"]
    assert list(tiny(encoder={**NET, "sees": "flow"}).encoders()) == ["flow"]


def test_mined_positives_attract() -> None:
    """Steps of co-training bring a query nearer to the keys that its sibling named than to the others."""
    method = tiny(**CO_TRAINING, momentum=1.0, temperature=0.2)
    for i in range(3):
        step(method, noise(list(range(8 * i, 8 * i + 8))), rate=0.0)
    batch = noise(list(range(30, 38)))
    mined = method.mined(method.look_at_siblings(batch), method.same_video(batch))
    keys = method.queue.keys.clone()

    def gap() -> float:
        with torch.no_grad():
            q = normalize(method.head(method.encoder(batch.query["own"])), dim=1)
        similarity = q @ keys.T
        return float(similarity[mined].mean() - similarity[~mined].mean())

    before = gap()
    for _ in range(15):
        method.zero_grad()
        method(batch).total.backward()
        method._new.clear()  # the queue stays
        with torch.no_grad():
            for p in [*method.encoder.parameters(), *method.head.parameters()]:
                assert p.grad is not None
                p -= 0.1 * p.grad
    assert gap() > before + 0.05


def test_resumed_training_is_the_same_training() -> None:
    batches = [noise(list(range(8 * i, 8 * i + 8)), i) for i in range(7)]
    straight = tiny(**CO_TRAINING)
    losses = [step(straight, batch) for batch in batches]
    first, second = tiny(**CO_TRAINING), tiny(**CO_TRAINING)
    for batch in batches[:4]:
        step(first, batch)
    second.load_state_dict(first.state_dict())
    assert [step(second, batch) for batch in batches[4:]] == losses[4:]


def test_micro_batches_fill_the_queue_after_the_step() -> None:
    method = tiny(**CO_TRAINING)
    for part in noise(list(range(8))).chunks(2):
        method(part).total.backward()
    assert not (method.queue.ids >= 0).any()
    method.after_step(0.0)
    assert method.queue.ids.tolist() == [*range(8), *([-1] * 16)]
    assert int(method.queue.pushed) == int(method.sibling_queue.pushed) == 8


def share(rank: int, world: int, batches: list[Batch], expected: dict[str, Tensor]) -> None:
    method = tiny(**CO_TRAINING, batch_norm="sync")
    shuffled = tiny(**CO_TRAINING)
    for batch in batches:
        n = len(batch) // world
        part = batch.rows(slice(rank * n, rank * n + n))
        loss = method(part)
        method.after_step(0.0)
        shuffled(part)
        shuffled.after_step(0.0)
    torch.testing.assert_close(mean(loss.total), expected["loss"], rtol=1e-4, atol=1e-4)
    assert torch.equal(method.queue.ids, expected["ids"])
    torch.testing.assert_close(method.queue.keys, expected["keys"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(method.sibling_queue.keys, expected["siblings"], rtol=1e-4, atol=1e-4)
    for queue in (shuffled.queue, shuffled.sibling_queue, method.queue, method.sibling_queue):
        for name, buffer in queue.named_buffers():
            everyone = gather(buffer[None].contiguous(), gradient=False)
            assert all(torch.equal(everyone[0], other) for other in everyone[1:]), name


def test_two_processes_hold_one_queue(ranks: Callable[..., None]) -> None:
    batches = [noise(list(range(8 * i, 8 * i + 8)), i) for i in range(4)]
    whole = tiny(**CO_TRAINING, batch_norm="sync")
    for batch in batches:
        loss = whole(batch)
        whole.after_step(0.0)
    expected = {
        "loss": loss.total.detach(), "ids": whole.queue.ids, "keys": whole.queue.keys,
        "siblings": whole.sibling_queue.keys,
    }  # fmt: skip
    ranks(share, 2, batches, expected)


def test_pretext_asks_for_the_own_video() -> None:
    method = tiny().eval()
    batch = noise(list(range(6)))
    batch["key"]["own"] = batch.query["own"].clone()  # the key network starts as a copy
    (answers,) = method.pretext(batch).values()
    assert answers.values.tolist() == [1.0] * 6
    assert answers.chance == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mine": 5}, "mine, sibling: expected both"),
        ({"sibling": CO_TRAINING["sibling"]}, "mine, sibling: expected both"),
        ({**CO_TRAINING, "mine": 25}, "mine: expected at most the queue's 24, found 25"),
    ],
)
def test_settings_that_do_not_fit_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        parse_method({"name": "coclr", "queue": 24} | settings)


def test_data_without_flow_is_refused_before_training() -> None:
    data = DataInfo(samples=8, fields=frozenset({"video"}))
    with pytest.raises(MmsslError, match="coclr: the data has no flow; it has video"):
        build_method({"name": "coclr", "encoder": NET, **CO_TRAINING}, data)
