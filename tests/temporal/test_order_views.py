"""What a view of order shows, and whether the answers it gives are the right ones."""

from itertools import permutations

import numpy as np
import pytest
import torch
from order_videos import RATE, brightening, gradient, sample, seen

from mmssl.stream.views.clip import ClipAugmentation
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.order import CLASSES, UNITS, OrderView, Task, arrangements, ask, sampler

TASKS: list[Task] = ["verify", "sort", "clips", "arrow"]
PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
COLOURLESS = ClipAugmentation(scale=(0.3, 0.6), jitter=0.0, grey=0.0, blur=0.0, flip=0.5)


def view(task: Task, augmentation: ClipAugmentation | None = None, **options: object) -> OrderView:
    frames = {"verify": 1, "sort": 1, "clips": 3, "arrow": 6}[task]
    moments = sampler(task, frames, 1 / RATE, (0.3, 0.8), 0.01)
    return OrderView(task, moments, 16, *PLAIN, augmentation, **options)  # type: ignore[arg-type]


def draws(count: int, seed: int = 0) -> Draws:
    return Draws(seed, "clip", np.arange(count), np.zeros(count, dtype=np.int64))


def test_every_permutation_of_three_clips_is_a_class_of_its_own() -> None:
    orders, classes = arrangements(3, reversible=False)
    assert sorted(map(tuple, orders.tolist())) == sorted(permutations(range(3)))
    assert sorted(classes.tolist()) == list(range(6))


def test_a_permutation_of_four_frames_and_its_reverse_are_one_class_and_no_others_are() -> None:
    orders, classes = arrangements(4, reversible=True)
    assert sorted(map(tuple, orders.tolist())) == sorted(permutations(range(4)))
    assert set(classes.tolist()) == set(range(12))
    for number in range(12):
        one, other = orders[classes == number].tolist()
        assert one == other[::-1]


def test_verification_asks_one_positive_and_three_negatives_with_the_same_ends() -> None:
    shown, order = ask("verify", draws(4000))
    a, b, c, d, e = range(5)
    assert shown.shape == (4000, 4, 3)
    assert order.mean() == 0.25
    right = {(b, c, d): 1, (d, c, b): 1, (b, a, d): 0, (b, e, d): 0, (d, a, b): 0, (d, e, b): 0}
    counts = dict.fromkeys(right, 0)
    for rows, answers in zip(shown.tolist(), order.tolist(), strict=True):
        assert len({tuple(row) for row in rows}) == 4
        for row, answer in zip(rows, answers, strict=True):
            assert right[tuple(row)] == answer
            counts[tuple(row)] += 1
    # reversed versions of all three are as frequent as the others
    assert abs(counts[b, c, d] - 2000) < 4 * 1000**0.5
    assert all(abs(counts[row] - 3000) < 4 * 750**0.5 for row, answer in right.items() if not answer)


@pytest.mark.parametrize("task", ["sort", "clips"])
def test_every_order_is_asked_for_once_and_both_directions_of_sorting_are_as_frequent(task: Task) -> None:
    shown, order = ask(task, draws(2000))
    assert (np.sort(order, axis=1) == np.arange(CLASSES[task])).all()
    orders, classes = arrangements(UNITS[task], reversible=task == "sort")
    found, counts = np.unique(shown.reshape(-1, UNITS[task]), axis=0, return_counts=True)
    assert found.tolist() == sorted(orders.tolist())
    number = {tuple(row): int(class_) for row, class_ in zip(orders.tolist(), classes, strict=True)}
    asked = zip(shown.reshape(-1, UNITS[task]).tolist(), order.flatten(), strict=True)
    assert all(number[tuple(row)] == class_ for row, class_ in asked)
    if task == "sort":
        assert (abs(counts - 1000) < 4 * 500**0.5).all()


def test_clips_run_forwards_and_backwards_equally_often() -> None:
    order = ask("arrow", draws(6000))[1].flatten()
    assert abs(order.mean() - 0.5) < 4 * (0.25 / 6000) ** 0.5


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_true_of_what_is_seen(task: Task) -> None:
    """Frames brighten with time, so their brightness is an independent account of their order."""
    samples = [sample(id_, brightening()) for id_ in range(24)]
    x = seen(view(task), samples)
    level = 255 * x["frames"].mean(dim=(2, 3, 4))
    np.testing.assert_allclose((level.numpy() - 20) / 5 / RATE, x["times"].numpy(), atol=0.06)
    assert x["order"].unique().numel() > 1
    for row in range(len(samples)):
        units = level[row].unflatten(0, (UNITS[task], -1))
        for shown, answer in zip(x["shown"][row], x["order"][row], strict=True):
            first = units[shown][:, 0].numpy()  # of the units as they are shown
            ranks = tuple(np.argsort(np.argsort(first)).tolist())
            if task == "verify":
                assert (ranks in ((0, 1, 2), (2, 1, 0))) == bool(answer)
            elif task == "arrow":
                assert bool((units[0].diff() > 0).all()) == bool(answer)
                assert bool((units[0].diff() < 0).all()) != bool(answer)
            else:
                orders, classes = arrangements(len(ranks), reversible=task == "sort")
                assert orders[classes == int(answer)].tolist().count(list(ranks)) == 1
        if task == "clips":
            assert (units.diff(dim=1) > 0).all()  # every clip runs forwards


@pytest.mark.parametrize("task", TASKS)
def test_views_are_repeated_exactly_and_differ_between_passes(task: Task) -> None:
    samples = [sample(id_, brightening()) for id_ in range(6)]
    options = {"augmentation": ClipAugmentation(), "jitter": 2, "split_channels": True}
    one, again = (seen(view(task, **options), samples) for _ in range(2))  # type: ignore[arg-type]
    alone = seen(view(task, **options), samples[3:4])  # type: ignore[arg-type]
    other = seen(view(task, **options), samples, pass_=1)  # type: ignore[arg-type]
    for name in one:
        assert torch.equal(one[name], again[name])
        torch.testing.assert_close(one[name][3:4], alone[name])
    assert not torch.equal(one["frames"], other["frames"])
    assert not torch.equal(one["shown"], other["shown"]) or task in ("clips", "arrow")  # asked alike


def centres(x: torch.Tensor) -> np.ndarray:
    """(..., 2) where the middle of each frame lies in the picture of ``gradient``, in pixels: x and y."""
    return ((255 * x[..., :2, :, :].mean(dim=(-2, -1)) - 20) / 3).numpy()


def test_frames_are_cut_alike_but_every_clip_of_clip_order_has_a_crop_of_its_own() -> None:
    samples = [sample(id_, gradient()) for id_ in range(8)]
    alike = centres(seen(view("sort", augmentation=COLOURLESS), samples)["frames"])
    assert np.ptp(alike, axis=1).max() < 0.5
    assert np.ptp(alike[:, 0], axis=0).min() > 5  # but samples differ
    clips = centres(seen(view("clips", augmentation=COLOURLESS), samples)["frames"]).reshape(8, 3, 3, 2)
    assert np.ptp(clips, axis=2).max() < 0.5
    assert np.median(np.ptp(clips[:, :, 0], axis=1)) > 3


def test_jitter_moves_every_frame_on_its_own_by_no_more_than_it_says() -> None:
    samples = [sample(id_, gradient()) for id_ in range(8)]
    square = ClipAugmentation(scale=(0.25, 0.25), ratio=(1, 1), jitter=0.0, grey=0.0, blur=0.0, flip=0.0)
    # the crop's side is half of 64 pixels and the view's is 16: a pixel of the view is two of the picture
    x = centres(seen(view("sort", augmentation=square, jitter=2), samples)["frames"])
    still = centres(seen(view("sort", augmentation=square), samples)["frames"])
    assert abs(x - still).max() < 4.5
    assert np.ptp(x, axis=1).max() > 4
    assert np.ptp(still, axis=1).max() < 0.5


def test_split_channels_show_one_channel_of_each_frame_three_times() -> None:
    frames = np.zeros((40, 32, 32, 3), np.uint8)
    frames[...] = (200, 120, 40)
    x = seen(view("sort", split_channels=True), [sample(id_, frames) for id_ in range(20)])["frames"]
    assert torch.equal(x[:, :, 0], x[:, :, 1])
    assert torch.equal(x[:, :, 0], x[:, :, 2])
    level = (255 * x.mean(dim=(2, 3, 4))).numpy()
    nearest = np.array([200, 120, 40])[abs(level[..., None] - [200, 120, 40]).argmin(axis=-1)]
    assert abs(level - nearest).max() < 8
    assert sorted(set(nearest.flatten().tolist())) == [40, 120, 200]
    assert (np.ptp(nearest, axis=1) > 0).any()  # frames of one sample differ


@pytest.mark.parametrize("task", TASKS)
def test_a_video_of_one_frame_is_padded(task: Task) -> None:
    x = seen(view(task), [sample(0, brightening(frames=1))])
    assert x["frames"].isfinite().all()
    assert (x["times"] == 0).all()
