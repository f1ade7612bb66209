"""VideoMAE: tubes stay hidden at all times, none reaches the encoder, and it learns to paint them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.methods import DataInfo, Method, build_method
from mmssl.methods.temporal.video_mae import VideoMAE, VideoMAEConfig
from mmssl.miniworld import MiniworldConfig, clip
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.shards import encode
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample
from mmssl.stream.views.draws import Draws

pytestmark = pytest.mark.usefixtures("one_thread")

ENCODER = {"frames": 4, "image_size": 32, "patch": 8, "width": 24, "depth": 2, "heads": 2, "stride": 0.25}
TINY = {"encoder": ENCODER, "decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2, "mask_ratio": 0.75}


def tiny(**settings: Any) -> VideoMAE:
    torch.manual_seed(0)
    data = DataInfo(samples=100, fields=frozenset({"video"}))
    method: Method = build_method({"name": "video_mae", **TINY, **settings}, data)
    assert isinstance(method, VideoMAE)
    return method


def batch_of(frames: Tensor, seed: int = 0) -> Batch:
    noise = torch.rand(len(frames), 16, generator=torch.Generator().manual_seed(seed))
    return Batch(clip={"frames": frames, "noise": noise})


@pytest.fixture
def batch() -> Batch:
    return batch_of(torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def where_hidden(method: VideoMAE, noise: Tensor) -> Tensor:
    """(B, T, 1, S, S) bool: the pixels that the encoder must not see, from the noise and nothing else."""
    e = method.config.encoder
    side = e.image_size // e.patch
    mask = torch.zeros(len(noise), side, side, dtype=torch.bool)
    for sample, values in enumerate(noise.tolist()):
        for cell in sorted(range(side * side), key=values.__getitem__)[method.config.visible :]:
            mask[sample, cell // side, cell % side] = True
    pixels = mask.repeat_interleave(e.patch, 1).repeat_interleave(e.patch, 2)
    return pixels[:, None, None].expand(-1, e.frames, -1, -1, -1)


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_the_same_cells_are_hidden_at_all_times_and_as_many_as_asked(ratio: float, batch: Batch) -> None:
    method = tiny(mask_ratio=ratio)
    visible, hidden = method.tubes(batch.clip["noise"])
    seen = round(16 * (1 - ratio))
    assert (visible.shape, hidden.shape) == ((3, 2 * seen), (3, 2 * (16 - seen)))
    for sample in range(3):
        assert sorted([*visible[sample].tolist(), *hidden[sample].tolist()]) == list(range(32))
        cells = [set((hidden[sample][hidden[sample] // 16 == t] % 16).tolist()) for t in range(2)]
        assert cells[0] == cells[1]
    assert len({tuple(row) for row in visible.tolist()}) == 3


def test_the_papers_sizes() -> None:
    config = VideoMAEConfig()
    assert (config.tubes, config.visible, config.encoder.grid[0]) == (196, 20, 8)
    with pytest.raises(ValueError, match="hides none of 1 tubes"):
        VideoMAEConfig(encoder={"image_size": 16})  # type: ignore[arg-type]


def test_loss_against_float64_with_every_token_in_its_place(batch: Batch) -> None:
    """A second decoder: a whole grid of tokens in order, every block whole; targets pixel by pixel."""
    method = tiny().double().eval()
    frames = batch.clip["frames"].double()
    noise = batch.clip["noise"]
    loss = method(Batch(clip={"frames": frames, "noise": noise})).total
    errors = []
    for sample in range(3):
        order = np.argsort(noise[sample].numpy(), kind="stable")
        places = [t * 16 + int(cell) for t in range(2) for cell in order[:4]]
        rows = method.encoder.rows(frames[sample : sample + 1])
        latent = method.encoder.encode(rows[:, places], torch.tensor([places]))
        embedded = method.decoder_embed(method.encoder.norm(latent))
        grid = method.mask_token.expand(1, 32, -1).clone()
        grid[:, places] = embedded
        x = method.decoder(grid + method.decoder_positions)
        painted = method.decoder_pixels(method.decoder_norm(x))[0].detach().numpy()
        for t in range(2):
            for cell in order[4:]:
                y, x_ = divmod(int(cell), 4)
                cube = frames[sample, 2 * t : 2 * t + 2, :, 8 * y : 8 * y + 8, 8 * x_ : 8 * x_ + 8].numpy()
                colours = cube.transpose(1, 0, 2, 3).reshape(3, -1)
                spread = np.sqrt(colours.var(axis=1, ddof=1, keepdims=True) + 1e-6)
                target = ((colours - colours.mean(axis=1, keepdims=True)) / spread).reshape(-1)
                errors.append(((painted[t * 16 + int(cell)] - target) ** 2).mean())
    assert len(errors) == 3 * 2 * 12
    np.testing.assert_allclose(float(loss.detach()), np.mean(errors), rtol=1e-5)


def test_hidden_pixels_never_reach_the_encoder(batch: Batch) -> None:
    method = tiny().eval()
    hidden = where_hidden(method, batch.clip["noise"]).expand(-1, -1, 3, -1, -1)
    frames = batch.clip["frames"].requires_grad_()
    _, prediction, latent = method.paint(batch)
    for seen in (latent, prediction):
        (gradient,) = torch.autograd.grad(seen.square().sum(), frames, retain_graph=True)
        assert not gradient[hidden].any()
        assert (gradient[~hidden] != 0).float().mean() > 0.99
    changed = torch.where(hidden, torch.randn_like(frames), frames).detach()
    target, painted, _ = method.paint(Batch(clip=batch.clip | {"frames": changed}))
    assert torch.equal(painted, prediction)
    assert not torch.equal(target, method.paint(batch)[0])


def test_with_nothing_hidden_the_tokens_are_the_encoders(batch: Batch) -> None:
    method = tiny().eval()
    frames = batch.clip["frames"]
    everything = torch.arange(32).expand(3, 32)
    tokens = method.encoder.encode(method.encoder.rows(frames), everything)
    torch.testing.assert_close(method.encoder.norm(tokens), method.encoder.tokens(frames))
    torch.testing.assert_close(method.encoder.norm(tokens.mean(dim=1)), method.encoder(frames))


@pytest.mark.parametrize("normalise", [True, False])
def test_pictures_show_what_was_seen_and_a_perfect_decoder_the_clip(
    normalise: bool, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny(normalise_targets=normalise).eval()
    target = method.paint(batch)[0]
    monkeypatch.setattr(method, "decode", lambda latent, visible, hidden: target)
    (sheet,) = method.pictures(batch)["reconstruction"]
    assert sheet.shape == (3, 3 * (3 * 32 + 4), 2 * 32)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (method.encoder.mean, method.encoder.std))
    hidden = where_hidden(method, batch.clip["noise"])
    for sample in range(3):
        original, masked, painted = sheet[:, 100 * sample : 100 * sample + 96].chunk(3, dim=1)
        for number, t in enumerate((0, 2)):
            shown = (batch.clip["frames"][sample, t] * std + mean).clamp(0, 1)
            part = slice(32 * number, 32 * (number + 1))
            torch.testing.assert_close(original[:, :, part], shown)
            torch.testing.assert_close(painted[:, :, part], shown, rtol=1e-4, atol=1e-4)
            grey = mean.expand_as(shown)
            torch.testing.assert_close(
                masked[:, :, part], torch.where(hidden[sample, t], grey, shown), rtol=1e-5, atol=1e-6
            )


def test_answers_are_the_variance_explained_of_each_clip(batch: Batch) -> None:
    method = tiny(normalise_targets=False).eval()
    with torch.no_grad():
        answers = method.pretext(batch)["hidden tubelets"]
        target, prediction, _ = (x.double().numpy() for x in method.paint(batch))
    pairs = zip(prediction, target, strict=True)
    expected = [1 - ((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum() for p, t in pairs]
    np.testing.assert_allclose(answers.values.numpy(), expected, rtol=1e-4)
    assert answers.chance == 0
    assert "75% of the tubes hidden" in answers.protocol


def test_the_view_reads_a_video_and_draws_the_same_tubes_again() -> None:
    method = tiny()
    view = method.views["clip"]
    world = MiniworldConfig(size=48, frames=12)
    members = {"video": ("mp4", encode.h264(clip("train", 0, world).frames, world.fps))}

    def shown(id_: int, pass_: int) -> dict[str, Tensor]:
        draws = Draws(0, "clip", np.array([id_]), np.array([pass_]))
        item = view.read(Sample(id_, "000000", "shard", pass_, members), draws)
        x = view.finish(view.prepare([item], draws), draws)
        assert isinstance(x, dict)
        return x

    first, again, later, other = shown(7, 0), shown(7, 0), shown(7, 1), shown(8, 0)
    assert first["frames"].shape == (1, 4, 3, 32, 32)
    assert first["noise"].shape == (1, 16)
    np.testing.assert_allclose(np.diff(first["times"][0].numpy()), 0.25, atol=1e-6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["noise"], later["noise"])
    assert not torch.equal(first["noise"], other["noise"])
    assert not torch.equal(first["frames"], later["frames"])  # another start, another crop


def test_a_recipe_changes_parts_of_the_augmentation_only() -> None:
    config = VideoMAEConfig(augmentation={"flip": 0.5})  # type: ignore[arg-type]
    assert config.augmentation is not None
    assert (config.augmentation.flip, config.augmentation.jitter, config.augmentation.scale) == (
        0.5,
        0.0,
        (0.4, 1.0),
    )


def train(method: VideoMAE, steps: int, lr: float, batches: Any) -> None:
    optimizer = torch.optim.AdamW(method.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.05)
    method.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 30) * 0.5 * (1 + np.cos(np.pi * step / steps))
        loss = method(batches(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    method.eval()


def test_it_learns_a_few_clips_by_heart_and_leaves_its_encoder(tmp_path: Any) -> None:
    method = tiny(encoder={**ENCODER, "width": 64}, decoder_width=48)
    world = MiniworldConfig(size=32, frames=4, fps=2)
    frames = torch.from_numpy(np.stack([clip("train", i, world).frames for i in range(4)]))
    fixed = batch_of(frames.permute(0, 1, 4, 2, 3).float() / 128 - 1)
    with torch.no_grad():
        before = float(method.eval()(fixed).parts["explained"])
    train(method, 250, 4e-3, lambda step: fixed)
    with torch.no_grad():
        after = float(method(fixed).parts["explained"])
    assert before < 0
    assert after > 0.6
    save_encoder(method.encoders()["clip"], tmp_path, {})
    again = load_encoder(tmp_path).eval()
    assert torch.equal(again(fixed.clip["frames"]), method.encoder(fixed.clip["frames"]))


def test_it_learns_to_paint_what_it_never_saw() -> None:
    """Held-out clips, half of them hidden: better than untrained, and than the mean of what is seen."""
    world = MiniworldConfig(size=32, frames=4, fps=2, distractors=0, radius=(0.4, 0.5), defocus=0.1, haze=1)
    encoder = {**ENCODER, "width": 64}
    method = tiny(encoder=encoder, decoder_width=48, decoder_depth=1, normalise_targets=False, mask_ratio=0.5)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (method.encoder.mean, method.encoder.std))

    def clips(split: str, n: int) -> Tensor:
        frames = torch.from_numpy(np.stack([clip(split, i, world).frames for i in range(n)]))
        return (frames.permute(0, 1, 4, 2, 3).float() / 255 - mean) / std

    known, held_out = clips("train", 256), batch_of(clips("val", 64), seed=5)
    generator = torch.Generator().manual_seed(0)

    def batches(step: int) -> Batch:
        x = known[torch.randint(256, (32,), generator=generator)]
        turned = [axis for number, axis in enumerate((-1, -2, 1)) if step >> number & 1]
        return batch_of(x.flip(turned), seed=step)

    def explained() -> float:
        with torch.no_grad():
            return float(method.eval()(held_out).parts["explained"])

    before = explained()
    train(method, 300, 4e-3, batches)
    hidden = where_hidden(method, held_out.clip["noise"]).expand(-1, -1, 3, -1, -1)
    frames = held_out.clip["frames"]
    seen = torch.where(hidden, torch.nan, frames).nanmean(dim=(1, 3, 4), keepdim=True).expand_as(frames)
    plain = float(1 - (frames - seen)[hidden].square().mean() / frames[hidden].var())
    assert before < -0.5
    assert explained() > plain + 0.02
