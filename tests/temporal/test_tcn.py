"""TCN: who is compared with whom, what is gated, several processes against one, and what can be asked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tcn import CAMERAS, NET, noise_batch, tiny_tcn, two_cameras
from torch import Tensor

from mmssl.distributed import mean
from mmssl.errors import MmsslError
from mmssl.losses.n_pairs import n_pairs
from mmssl.losses.triplet import semi_hard_triplet
from mmssl.methods import DataInfo, build_method
from mmssl.methods.temporal.tcn import TCN, Moments
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.stream.batch import Batch
from mmssl.stream.views.draws import Draws

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES = ["triplet", "n_pairs", "info_nce"]


def clocks(*rows: list[float]) -> Tensor:
    """Times (B, 2, T) of two cameras that agree."""
    return torch.tensor(rows).double()[:, None].repeat(1, 2, 1)


def test_a_moment_is_its_sequence_and_its_time() -> None:
    sequence = torch.tensor([3, 3, 3, 9, 9])
    time = torch.tensor([0.0, 0.2, 0.5, 0.0, 0.2]).double()
    moments = Moments(sequence, time)
    positive, negative = moments.relations(moments, together=0.2, apart=0.4)
    for i in range(5):
        for j in range(5):
            same, gap = bool(sequence[i] == sequence[j]), abs(float(time[i] - time[j]))
            assert bool(positive[i, j]) == (same and gap < 0.21)
            assert bool(negative[i, j]) == (not same or gap > 0.41)
    assert not (positive & negative).any()
    assert bool((~positive & ~negative)[1, 2])  # 0.3 s apart: neither


def test_pairs_of_several_sequences_never_collide() -> None:
    """The third pair of one sequence is not the third pair of another, though both have the same number."""
    method = tiny_tcn(loss="n_pairs", batch_norm="local").eval()
    batch = noise_batch(method, clocks([0.0, 0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3]), [4, 7])
    loss = method(batch)
    assert float(loss.parts["negatives"]) == 7  # all but the pair's own
    assert float(loss.parts["anchors"]) == 8
    z = method.embed(batch.clip)[0]
    a, p = z[:, 0].flatten(0, 1), z[:, 1].flatten(0, 1)
    eye = torch.eye(8, dtype=torch.bool)
    expected = float(n_pairs(a, p, p, eye, ~eye).contrast.loss.detach())
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_moment_that_is_shown_twice_is_no_negative_of_itself() -> None:
    method = tiny_tcn(loss="info_nce").eval()
    padded = noise_batch(method, clocks([0.0, 0.1, 0.1, 0.1]), [4])
    assert float(method(padded).parts["negatives"]) == pytest.approx((3 + 1 + 1 + 1) / 4)
    twice = noise_batch(method, clocks([0.0, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]), [4, 4])
    assert float(method(twice).parts["negatives"]) == pytest.approx((7 + 6 * 6 + 7) / 8)


def test_triplets_of_one_camera_come_from_all_frames() -> None:
    method = tiny_tcn(views="single", loss="triplet", cameras=["video"], moments=3).eval()
    times = torch.tensor([[0.0, 1.0, 2.0, 0.1, 1.3, 1.9]]).double()[:, None]
    batch = noise_batch(method, times, [4])
    loss = method(batch)
    z = method.embed(batch.clip)[0].flatten(0, 2)
    gap = (times[0, 0][:, None] - times[0, 0]).abs()
    positive = (gap < 0.2001) & ~torch.eye(6, dtype=torch.bool)
    assert int(positive.sum()) == 4  # 0 with 0.1 and 2 with 1.9; 1 and 1.3 are too far apart
    expected = semi_hard_triplet(z, z, positive, gap > 0.4, 0.2)
    assert float(loss.total.detach()) == pytest.approx(float(expected.loss.detach()), rel=1e-5)
    assert float(loss.parts["pairs"]) == 4
    assert float(loss.parts["negatives"]) == pytest.approx(float((gap > 0.4).sum(1).float().mean()))
    assert {"active", "semi_hard", "static", "motion_known", "same_frame"} <= loss.parts.keys()


@pytest.mark.parametrize("loss", LOSSES)
def test_static_moments_are_no_anchors(loss: str) -> None:
    method = tiny_tcn(loss=loss, batch_norm="local").eval()
    times, moving = clocks([0.0, 0.1, 0.2, 0.3]), torch.tensor([[True, False, True, False]])
    every = method(noise_batch(method, times, [4]))
    gated = method(noise_batch(method, times, [4], moving=moving))
    count = "pairs" if loss == "triplet" else "anchors"
    assert float(gated.parts[count]) == float(every.parts[count]) / 2
    assert float(gated.parts["static"]) == 0.5
    assert float(gated.parts["negatives"]) == float(every.parts["negatives"])  # they still repel
    assert not torch.equal(gated.total, every.total)
    none = method(noise_batch(method, times, [4], moving=torch.zeros(1, 4, dtype=torch.bool)))
    assert float(none.total.detach()) == 0
    none.total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_embeddings_are_normalised_where_the_loss_has_a_scale(loss: str) -> None:
    method = tiny_tcn(loss=loss).eval()
    z = method.embed(noise_batch(method, clocks([0.0, 0.1, 0.2, 0.3]), [4]).clip)[0]
    length = z.norm(dim=-1)
    assert bool((length - 1).abs().max() < 1e-5) == (loss != "n_pairs")


def test_a_clip_of_frames_leads_up_to_its_moment() -> None:
    method = tiny_tcn(loss="n_pairs", encoder={"frames": 3, "stride": 0.1}).eval()
    times = clocks([0.0, 0.0, 0.1, 0.0, 0.1, 0.2, 0.1, 0.2, 0.3, 0.2, 0.3, 0.4])
    batch = noise_batch(method, times, [4])
    z, moments, _ = method.embed(batch.clip)
    assert z.shape == (1, 2, 4, 3 * 6)
    assert moments[0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    alone = method.encoder(batch.clip["frames"][0, 1, 3:6][None])
    torch.testing.assert_close(z[0, 1, 1], alone[0])
    view = method.views["clip"]
    draws = Draws(0, "clip", np.array([0]), np.array([0]))
    item = view.prepare([view.read(two_cameras(), draws)], draws)
    assert item["frames"].shape == (1, 2, 12, 3, 16, 16)


def compare_with_one_process(rank: int, world: int, loss: str, views: str) -> None:
    method = tiny_tcn(double=True, loss=loss, views=views, batch_norm="sync")
    whole = tiny_tcn(double=True, loss=loss, views=views, batch_norm="local")
    generator = torch.Generator().manual_seed(1)
    shown = 2 if views == "multi" else 1
    times = torch.rand(2 * world, 1, 8 // shown, generator=generator, dtype=torch.float64).repeat(1, shown, 1)
    moving = torch.rand(2 * world, 8 // shown, generator=generator) < 0.7
    moving[:2] = True  # ranks have different numbers of anchors
    sequence = [1, 2, 2, 3, 4, 5, 6, 7][: 2 * world]  # one sequence on two ranks
    everything = noise_batch(method, times, sequence, moving=moving, dtype=torch.float64)
    own = Batch(clip={k: v[2 * rank : 2 * rank + 2] for k, v in everything.clip.items()})
    mine = method(own)
    mine.total.backward()
    if rank == 0:
        reference = _alone(whole, everything)
        assert float(mean(mine.total)) == pytest.approx(reference, rel=1e-4)
    else:
        mean(mine.total)
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        averaged = mean(parameter.grad)
        if rank == 0:
            expected = dict(whole.named_parameters())[name].grad
            torch.testing.assert_close(averaged, expected, rtol=1e-3, atol=1e-7, msg=name)


def _alone(method: TCN, batch: Batch) -> float:
    """The loss of one process that has the whole batch, with its gradient left in the method."""
    import mmssl.methods.temporal.tcn as module

    kept = module.gather, module.mean, module.rank
    module.gather, module.mean, module.rank = (lambda x: x), (lambda x: x.detach()), (lambda: 0)  # type: ignore[assignment]
    try:
        total = method(batch).total
        total.backward()
    finally:
        module.gather, module.mean, module.rank = kept
    return float(total.detach())


def compare_all(rank: int, world: int) -> None:
    for loss in LOSSES:
        compare_with_one_process(rank, world, loss, "multi")
    compare_with_one_process(rank, world, "triplet", "single")


def test_two_processes_are_one(ranks: Callable[..., None]) -> None:
    ranks(compare_all, 2)


def test_what_is_asked_is_told_by_brute_force() -> None:
    method = tiny_tcn(loss="info_nce", positive_radius=0.15).eval()
    times = clocks([0.0, 0.1, 0.2, 0.3], [0.0, 0.4, 0.8, 1.2])
    moving = torch.tensor([[True, True, True, False], [True, True, True, True]])
    batch = noise_batch(method, times, [4, 7], moving=moving)
    found = method.pretext(batch)
    z = method.embed(batch.clip)[0].detach()
    right, error, chance, far = [], [], [], []
    for b in range(2):
        for i in range(4):
            if not moving[b, i]:
                continue
            gaps = [abs(float(times[b, 0, i] - times[b, 1, j])) for j in range(4)]
            best = max(range(4), key=lambda j: float(z[b, 0, i] @ z[b, 1, j]))
            right.append(gaps[best] < 0.151)
            error.append(gaps[best])
            chance.append(sum(gap < 0.151 for gap in gaps) / 4)
            far.append(sum(gaps) / 4)
    hits, off = found["same moment"], found["same moment, error"]
    assert hits.values.tolist() == right
    assert hits.chance == pytest.approx(sum(chance) / 7)
    assert off.values.tolist() == pytest.approx(error)
    assert off.chance == pytest.approx(sum(far) / 7)
    assert (hits.unit, off.unit) == ("%", "s")
    still = noise_batch(method, times, [4, 7], moving=torch.zeros(2, 4, dtype=torch.bool))
    assert method.pretext(still) == {}


def test_pictures_show_moments_in_order_and_what_was_found() -> None:
    method = tiny_tcn(loss="info_nce").eval()
    batch = noise_batch(method, clocks([0.3, 0.1, 0.2, 0.0]), [4])
    batch.clip["frames"][:, 1] = batch.clip["frames"][:, 0]  # the other camera sees the same
    shown = method.pictures(batch)
    assert shown["moment"].shape == (4, 3, 16, 16)
    assert torch.equal(shown["moment"], shown["nearest"])
    encoder = method.encoder
    first = batch.clip["frames"][0, 0, 3] * torch.tensor(encoder.std).view(3, 1, 1)
    torch.testing.assert_close(
        shown["moment"][0], (first + torch.tensor(encoder.mean).view(3, 1, 1)).clamp(0, 1)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cameras": ["video"]}, "at least 2 different fields"),
        ({"cameras": ["video", "video"]}, "at least 2 different fields"),
        ({"views": "single", "cameras": []}, "at least 1 different"),
        ({"views": "single", "positive_radius": 0.5, "negative_radius": 0.1}, "at least the positive_radius"),
        ({"loss": "lifted"}, "loss"),
        ({"encoder": {"net": {"widht": 3}}}, "did you mean 'width'"),
        ({"cameras": ["video", "video_top"]}, "the data has no video_top"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        build_method({"name": "tcn", "encoder": {"net": NET}, **settings}, DataInfo(9, frozenset(CAMERAS)))


def test_defaults_are_the_papers_and_a_recipe_changes_only_what_it_names() -> None:
    config = TCN.Config.model_validate({"encoder": {"frames": 2, "net": {"width": 16}}})
    net = config.encoder.net
    assert (net.pool, net.convolutions, net.hidden, net.width) == ("spatial_softmax", (512, 512), 2048, 16)
    assert (config.encoder.frames, config.encoder.fuse) == (2, "concat")
    assert config.margin == 0.2
    changed = TCN.Config.model_validate({"augmentation": {"hue": 0.0}}).augmentation
    assert changed == TCN.Config().augmentation.model_copy(update={"hue": 0.0})
    assert TCN.Config(augmentation=None).augmentation is None
    single = TCN.Config(views="single", positive_radius=0.3)
    assert (single.together, single.apart) == (0.3, 0.6)
    assert (TCN.Config().together, TCN.Config().apart) == (0.0, 0.0)


def test_the_encoder_that_is_left_computes_what_was_trained(tmp_path: Path) -> None:
    method = tiny_tcn(loss="n_pairs", encoder={"frames": 2, "stride": 0.1}).eval()
    save_encoder(method.encoders()["clip"], tmp_path, {})
    loaded = load_encoder(tmp_path).eval()
    batch = noise_batch(method, clocks([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]), [4])
    z = method.embed(batch.clip)[0]
    clips = batch.clip["frames"][0].flatten(0, 1).unflatten(0, (-1, 2))
    torch.testing.assert_close(loaded(clips), z[0].flatten(0, 1))
    assert (loaded.frames, loaded.stride) == (2, 0.1)
