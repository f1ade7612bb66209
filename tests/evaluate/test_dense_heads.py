"""Heads on feature maps beside scikit-learn, and what they are fitted to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy, interpolate, mse_loss

from mmssl.evaluate.dense.heads import (
    DecoderFit,
    Gallery,
    SoftmaxFit,
    decode,
    hold_out_runs,
    ridge,
    sampled,
    softmax,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(seed=0, pictures=30, points=40, dim=6, outputs=3, noise=0.5):
    """Rows with a linear relation to (…, outputs) numbers."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(pictures, points, dim, generator=rng) * torch.arange(1, dim + 1) + 3
    y = x @ torch.randn(dim, outputs, generator=rng) + noise * torch.randn(
        pictures, points, outputs, generator=rng
    )
    return Gallery(torch.empty(0), x, torch.empty(0), y)


def squared(answers, truth):
    return float(mse_loss(answers, truth))


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_ridge_is_sklearns(l2):
    gallery = rows_of()
    train, held_out = torch.arange(25), torch.arange(25, 30)
    fitted = ridge(gallery, train, held_out, [l2], squared)
    x, y = (part.double().numpy() for part in gallery.pictures(train))
    scaler = StandardScaler().fit(x)
    oracle = Ridge(alpha=l2 * len(x)).fit(scaler.transform(x), y)
    q, truth = (part.double().numpy() for part in gallery.pictures(held_out))
    want = oracle.predict(scaler.transform(q))
    found = fitted.head(torch.from_numpy(q).float().T[None, :, :, None])[0, :, :, 0].T
    np.testing.assert_allclose(found, want, atol=1e-3)
    assert fitted.bad == pytest.approx(np.mean((want - truth) ** 2), rel=1e-4)


def test_ridge_takes_the_penalty_that_the_held_out_pictures_like_best():
    gallery = rows_of(pictures=30, points=1, dim=25, noise=20.0)
    train, held_out = torch.arange(26), torch.arange(26, 30)
    each = [ridge(gallery, train, held_out, [l2], squared).bad for l2 in (0.0, 1.0)]
    both = ridge(gallery, train, held_out, [0.0, 1.0], squared)
    assert both.bad == min(each) == each[1], "26 noisy rows of 25 numbers want a penalty"
    assert both.words == "λ=1 of 2"


def test_features_that_say_nothing_give_the_mean():
    gallery = rows_of()
    still = Gallery(gallery.maps, torch.full_like(gallery.rows, 7.0), gallery.at, gallery.truth)
    fitted = ridge(still, torch.arange(25), torch.arange(25, 30), [0.0, 1e-3], squared)
    answer = fitted.head(torch.full((1, 6, 2, 2), 7.0))
    want = gallery.truth[:25].mean((0, 1)).view(1, 3, 1, 1).expand_as(answer)
    torch.testing.assert_close(answer, want, rtol=1e-4, atol=1e-4)


def test_softmax_is_as_good_as_sklearns_logistic_regression():
    gallery = rows_of(noise=2.0)
    labels = gallery.truth.argmax(2, keepdim=True).to(torch.uint8)
    gallery = Gallery(gallery.maps, gallery.rows, gallery.at, labels)
    train, held_out = torch.arange(25), torch.arange(25, 30)
    fitted = softmax(
        gallery, train, held_out, 3, SoftmaxFit(batch_size=50),
        lambda logits, y: float(cross_entropy(logits, y[:, 0].long())), torch.Generator().manual_seed(0),
    )  # fmt: skip
    x, y = gallery.pictures(train)
    q, truth = gallery.pictures(held_out)
    scaler = StandardScaler().fit(x.numpy())
    oracle = LogisticRegression(C=1e6, max_iter=1000).fit(scaler.transform(x.numpy()), y[:, 0].numpy())
    want = oracle.score(scaler.transform(q.numpy()), truth[:, 0].numpy())
    answers = fitted.head(q.T[None, :, :, None])[0, :, :, 0].T.argmax(1)
    assert float((answers == truth[:, 0]).float().mean()) == pytest.approx(want, abs=0.02)
    best = -np.log(oracle.predict_proba(scaler.transform(q.numpy()))[np.arange(len(q)), truth[:, 0]]).mean()
    assert fitted.bad < best + 0.05


def test_sampling_a_map_is_reading_what_interpolation_makes_of_it():
    maps = torch.randn(2, 5, 4, 6)
    whole = interpolate(maps, (20, 42), mode="bilinear", align_corners=False)
    y, x = torch.randint(0, 20, (2, 50)), torch.randint(0, 42, (2, 50))
    at = torch.stack([(2 * x + 1) / 42 - 1, (2 * y + 1) / 20 - 1], dim=2)
    want = torch.stack([whole[row, :, y[row], x[row]].T for row in range(2)])
    torch.testing.assert_close(sampled(maps, at), want, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 9))
def test_held_out_pictures_are_whole_runs(pictures, share, seed):
    train, held_out = hold_out_runs(pictures, share, torch.Generator().manual_seed(seed))
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(pictures))
    assert len(train)
    assert len(held_out)
    run = max(1, min(16, pictures // 20))
    assert not set((train // run).tolist()) & set((held_out // run).tolist())
    if 0.1 <= share <= 0.9 and pictures >= 100:
        assert abs(len(held_out) / pictures - share) < 0.08


def test_a_decoder_sees_what_no_single_cell_says():
    """A pixel's class is whether its cell equals the one to the left: a linear head cannot know."""
    rng = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 2, (120, 1, 6, 6), generator=rng)
    truth = (cells == cells.roll(1, dims=3)).long()
    at = torch.rand(120, 30, 2, generator=rng) * 12 // 2  # columns and rows 0..5
    at[..., 0] = at[..., 0].clamp(min=1)
    values = torch.stack([truth[n, 0, at[n, :, 1].long(), at[n, :, 0].long()] for n in range(120)])
    at = (2 * at + 1) / 6 - 1
    maps = torch.cat([cells.float(), torch.randn(120, 3, 6, 6, generator=rng)], dim=1)
    gallery = Gallery(maps.half(), sampled(maps, at), at, values[..., None].to(torch.uint8))

    def loss(answers, y):
        return cross_entropy(answers, y[:, 0].long())

    def wrong(answers, y):
        return float((answers.argmax(1) != y[:, 0]).float().mean())

    train, held_out = torch.arange(100), torch.arange(100, 120)
    generator = torch.Generator().manual_seed(0)
    fit = DecoderFit(width=16, lr=(1e-2, 1e-5), epochs=12)
    fitted = decode(gallery, train, held_out, 2, fit, loss, wrong, torch.zeros(2), generator)
    linear = softmax(gallery, train, held_out, 2, SoftmaxFit(), wrong, generator)
    assert fitted.bad < 0.1
    assert linear.bad > 0.35
    assert "lr=0.01 of 2" in fitted.words
    assert fitted.head(maps[:1]).shape == (1, 2, 12, 12)
    assert not any(parameter.requires_grad for parameter in fitted.head.parameters())
