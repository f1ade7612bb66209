"""CPC's loss against loops in float64, for every score and pool; the accuracy of planted predictors."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.losses.predictive import Negatives, Scoring, predictive_nce
from mmssl.methods.predictive import Ahead, PredictiveConfig, ask_ahead, build_pool, lots

B, P, D = 4, 5, 6
IDS = torch.tensor([3, 8, 3, 5])
"""One sample appears twice."""
STARTS = torch.tensor([0.0, 0.0, 1.5, 0.0], dtype=torch.float64)
TAU = 0.3


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spans_of(starts: Tensor, p: int = P) -> Tensor:
    """Positions of 0.9 s every second; those of the last sequence end at 2.4 s, where its video does."""
    first = starts[:, None] + torch.arange(p, dtype=torch.float64)
    spans = torch.stack([first, first + 0.9], dim=-1)
    spans[-1] = spans[-1].clamp(max=2.4)
    return spans


def same(b: int, p: int, m: int, q: int) -> bool:
    """Whether candidate (m, q) shows what the candidate (b, p) shows."""
    if IDS[b] != IDS[m]:
        return False
    spans = spans_of(STARTS).numpy()
    (first, last), (start, end) = spans[b, p], spans[m, q]
    return bool(max(first, start) <= min(last, end))


def by_loops(
    predicted: np.ndarray, target: list[int], z: np.ndarray, policy: str, scoring: str
) -> dict[str, float]:
    losses, hits, counts, bounds = [], [], [], []
    for b in range(B):
        for a, position in enumerate(target):

            def score(m: int, q: int, p: np.ndarray = predicted[b, a]) -> float:
                dot = sum(float(x) * float(y) for x, y in zip(p, z[m, q], strict=True))
                scale = {"none": 1.0, "sqrt_dim": math.sqrt(D), "dim": float(D)}
                if scoring == "cosine":
                    return dot / (math.sqrt((p**2).sum()) * math.sqrt((z[m, q] ** 2).sum())) / TAU
                return dot / scale[scoring]

            others = []
            for m in range(B):
                for q in range(P):
                    if same(b, position, m, q):
                        continue
                    if policy == "other_sequences" and IDS[m] == IDS[b]:
                        continue
                    if policy == "same_sequence" and m != b:
                        continue
                    others.append(score(m, q))
            positive = score(b, position)
            total = math.exp(positive) + sum(math.exp(o) for o in others)
            losses.append(math.log(total) - positive)
            hits.append(bool(others) and positive > max(others))
            counts.append(len(others))
            bounds.append(math.log(len(others) + 1) - losses[-1])
    return {
        "loss": float(np.mean(losses)),
        "accuracy": float(np.mean(hits)),
        "negatives": float(np.mean(counts)),
        "bound": float(np.mean(bounds)),
    }


@pytest.mark.parametrize("policy", get_args(Negatives))
@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_loss_against_loops(scoring: Scoring, policy: Negatives) -> None:
    predicted, z, target = noise(B, 3, D), noise(B, P, D, seed=1), torch.tensor([2, 3, 4])
    pool = build_pool(z, IDS, spans_of(STARTS))
    found = predictive_nce(predicted, target, pool, negatives=policy, scoring=scoring, temperature=TAU)
    expected = by_loops(predicted.numpy(), target.tolist(), z.numpy(), policy, scoring)
    for name, value in expected.items():
        assert float(getattr(found, name)) == pytest.approx(value, rel=1e-6, abs=1e-7), name
    assert float(found.loss) == pytest.approx(expected["loss"], rel=1e-12)


@pytest.mark.parametrize("policy", get_args(Negatives))
@pytest.mark.parametrize("scoring", get_args(Scoring))
def test_gradients(scoring: Scoring, policy: Negatives) -> None:
    target = torch.tensor([1, 2])

    def loss(predicted: Tensor, z: Tensor) -> Tensor:
        pool = build_pool(z, torch.arange(2))
        return predictive_nce(
            predicted, target, pool, negatives=policy, scoring=scoring, temperature=TAU
        ).loss

    inputs = noise(2, 2, 4).requires_grad_(), noise(2, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize(
    ("policy", "count"), [("all", 4 * 5 - 1), ("other_sequences", 3 * 5), ("same_sequence", 4)]
)
def test_negatives_of_each_policy(policy: Negatives, count: int) -> None:
    spans = spans_of(torch.zeros(1).double().expand(5))[:4]  # none of them ends early
    pool = build_pool(noise(4, 5, D), torch.arange(4), spans)
    found = predictive_nce(noise(4, 5, D, seed=1), torch.arange(5), pool, negatives=policy)
    assert float(found.negatives) == count


def test_an_anchor_without_negatives_is_a_miss_and_costs_nothing() -> None:
    still = torch.zeros(1, 3, 2, dtype=torch.float64)  # three blocks of one and the same frame
    pool = build_pool(noise(1, 3, D), torch.tensor([7]), still)
    found = predictive_nce(noise(1, 2, D, seed=1), torch.tensor([1, 2]), pool)
    assert [float(x) for x in found] == [0.0, 0.0, 0.0, 0.0]


def test_scores_are_full_precision_under_autocast() -> None:
    predicted, z = noise(3, 2, 64).float(), noise(3, 4, 64, seed=1).float()
    target = torch.tensor([1, 3])
    plain = predictive_nce(predicted, target, build_pool(z, torch.arange(3))).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(predictive_nce(predicted, target, build_pool(z, torch.arange(3))).loss, plain)


def test_places_of_one_moment_are_no_twins() -> None:
    spans = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[2.5, 3.5], [4.0, 5.0]]], dtype=torch.float64)
    pool = build_pool(noise(2, 6, D), torch.tensor([4, 4]), spans, places=3)
    for p in range(6):
        for m in range(2):
            for q in range(6):
                (first, last), (start, end) = spans[0, p // 3].tolist(), spans[m, q // 3].tolist()
                expected = p % 3 == q % 3 and max(first, start) <= min(last, end)
                assert bool(pool.twins[0, p, m, q]) == expected


def test_other_appearances_of_an_image_are_twins_altogether() -> None:
    pool = build_pool(noise(3, 4, D), torch.tensor([4, 6, 4]))
    assert pool.twins[0, 1, 2].all()
    assert pool.twins[0, 1, 0].tolist() == [False, True, False, False]
    assert not pool.twins[0, 1, 1].any()


def ask(predicted: Tensor, z: Tensor, ids: Tensor | None = None, n: int = 9) -> dict[str, Tensor]:
    ids = torch.arange(len(z)) if ids is None else ids
    config = PredictiveConfig(name="cpc", candidates=n)
    ahead = Ahead(1, predicted, torch.arange(z.shape[1]))
    answers = ask_ahead(config, [ahead], build_pool(z, ids), ids, "noise", "steps")
    assert {a.at for a in answers.values()} == {1.0}
    assert answers["accuracy_same_sequence_1"].chance == pytest.approx(1 / min(n, z.shape[1]))
    assert answers["accuracy_other_sequences_1"].chance == pytest.approx(1 / n)
    assert answers["reciprocal_rank_other_sequences_1"].chance == pytest.approx(
        np.mean([1 / r for r in range(1, n + 1)])
    )
    return {question: answer.values for question, answer in answers.items()}


def test_a_planted_predictor_is_always_right() -> None:
    z = torch.nn.functional.normalize(noise(30, 8, 16), dim=-1)
    assert all(float(values.mean()) == 1.0 for values in ask(z, z).values())


def test_a_random_predictor_is_at_chance() -> None:
    found = ask(noise(100, 8, 16), noise(100, 8, 16, seed=1))
    for question, n in (("other_sequences", 9), ("same_sequence", 8)):
        hits = found[f"accuracy_{question}_1"]
        assert len(hits) == 800
        error = math.sqrt((1 / n) * (1 - 1 / n) / len(hits))
        assert abs(float(hits.mean()) - 1 / n) < 4 * error
        ranks = [1 / r for r in range(1, n + 1)]
        error = float(np.std(ranks)) / math.sqrt(len(hits))
        assert abs(float(found[f"reciprocal_rank_{question}_1"].mean()) - np.mean(ranks)) < 4 * error


def test_a_collapsed_predictor_knows_nothing() -> None:
    found = ask(torch.ones(30, 8, 16), torch.ones(30, 8, 16))
    assert float(found["accuracy_other_sequences_1"].sum()) == 0.0
    assert torch.allclose(found["reciprocal_rank_other_sequences_1"], torch.tensor(1 / 9))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(7)), st.integers(2, 20))
def test_candidates_depend_on_who_is_in_the_batch_alone(order: list[int], n: int) -> None:
    predicted, z, ids = noise(7, 4, 8), noise(7, 4, 8, seed=1), torch.arange(7) * 13 + 2
    found = ask(predicted, z, ids, n)
    torch.manual_seed(n)
    shuffled = ask(predicted[order], z[order], ids[order], n)
    for question, values in found.items():
        torch.testing.assert_close(
            shuffled[question].unflatten(0, (7, 4)), values.unflatten(0, (7, 4))[order]
        )


def test_candidates_are_drawn_from_everywhere() -> None:
    pool = build_pool(noise(40, 5, 2), torch.arange(40))
    lot = lots(torch.arange(40), torch.arange(5), pool).flatten(0, 1)
    drawn = lot.topk(20, dim=1, largest=False).indices
    counts = torch.bincount(drawn.flatten(), minlength=200).double()
    expected = 200 * 20 / 200
    chi_square = float(((counts - expected) ** 2 / (expected * (1 - 20 / 200))).sum())
    assert chi_square < 200 + 4 * math.sqrt(2 * 200)


def test_padded_videos_are_left_out_of_the_same_sequence_and_small_batches_refused() -> None:
    config = PredictiveConfig(name="cpc", candidates=4)
    z, ids = noise(3, 4, D), torch.arange(3)
    spans = torch.arange(4).double()[None, :, None].repeat(3, 1, 2)
    spans[0] = spans[0].clamp(max=1.0)  # the last three blocks show its last frame
    ahead = Ahead(2, z[:, :3], torch.arange(1, 4))
    answers = ask_ahead(config, [ahead], build_pool(z, ids, spans), ids, "noise", "steps")
    assert len(answers["accuracy_same_sequence_2"].values) == 6
    assert len(answers["accuracy_other_sequences_2"].values) == 9
    config = PredictiveConfig(name="cpc", candidates=10)
    with pytest.raises(MmsslError, match=r"candidates: 10 are more than 3 samples of 4 .* at most 9"):
        ask_ahead(config, [ahead], build_pool(z, ids, spans), ids, "noise", "steps")


@pytest.mark.parametrize("settings", [{"score": "cosine"}, {"score": "dim", "temperature": 0.1}])
def test_a_temperature_belongs_to_cosine_scores(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="temperature: expected a number with score: cosine"):
        PredictiveConfig(name="cpc", **settings)  # type: ignore[arg-type]
