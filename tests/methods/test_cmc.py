"""CMC: which pairs, whose rows, which noise; the same after a resume and on several ranks."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.distributed import mean
from mmssl.errors import MmsslError
from mmssl.losses.nce import Scores, log_normaliser, nce
from mmssl.methods import DataInfo, build_method
from mmssl.methods.multiview.cmc import CMC
from mmssl.stream.batch import Batch

SAMPLES, K, SIZE = 90, 40, 16
CHANNELS = {"L": 1, "ab": 2, "depth": 2}
NET = {"name": "resnet10t", "image_size": SIZE, "kwargs": {"channels": [8, 8, 16, 16]}}
WAYS = [(loss, source) for loss in ("nce", "info_nce") for source in ("bank", "batch", "queue")]


def made(*names: str, **settings: Any) -> CMC:
    names = names or ("L", "ab", "depth")
    views = {name: {"encoder": {**NET, "sees": name}, "optional": name == "depth"} for name in names}
    torch.manual_seed(0)
    data = DataInfo(SAMPLES, frozenset({"image"}), frozenset({"depth"}))
    method = build_method({"name": "cmc", "views": views, "head": [12], "K": K, **settings}, data)
    assert isinstance(method, CMC)
    return method.train()


def seen(step: int, size: int = 12, absent: tuple[int, ...] = ()) -> Batch:
    """Noise for three views; samples at the places ``absent`` lack depth."""
    generator = torch.Generator().manual_seed(step)
    views = {name: torch.randn(size, c, SIZE, SIZE, generator=generator) for name, c in CHANNELS.items()}
    present = torch.ones(size, 3, dtype=torch.bool)
    present[list(absent), 2] = False
    ids = torch.randperm(SAMPLES, generator=generator)[:size]
    return Batch(id=ids, views={**views, "present": present})


def only(batch: Batch, *names: str) -> Batch:
    chosen = {name: batch.views[name] for name in names}
    columns = [list(CHANNELS).index(name) for name in names]
    return Batch(id=batch.id, views={**chosen, "present": batch.views["present"][:, columns]})


def advance(method: CMC, *steps: int, rate: float = 0.05) -> list[float]:
    """Plain gradient descent on the batches of some steps; their losses."""
    losses = []
    for step in steps:
        method.zero_grad()
        loss = method(seen(step, absent=(1, 4))).total
        loss.backward()
        with torch.no_grad():
            for p in method.parameters():
                assert p.grad is not None
                p -= rate * p.grad
        method.after_step(0.0)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("loss", "source"), WAYS)
def test_a_run_resumed_from_its_state_goes_on_bit_for_bit(loss: str, source: str) -> None:
    whole = made(loss=loss, negatives=source)
    advance(whole, 0, 1, 2)
    resumed = made(loss=loss, negatives=source)
    torch.manual_seed(77)  # nothing is drawn from the global generator
    resumed.load_state_dict({key: value.clone() for key, value in whole.state_dict().items()})
    assert advance(resumed, 3, 4) == advance(whole, 3, 4)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_the_loss_is_nce_of_own_rows_and_one_draw_of_ids() -> None:
    """Everything again by hand for one pair: lookup, own sample left out, Z of the first batch."""
    method, batch = made("L", "ab"), only(seen(0), "L", "ab")
    banks = {name: bank.rows.double() for name, bank in method.negatives.banks.items()}
    drawn = {name: method.negatives.drawn(name) for name in banks}
    assert not torch.equal(drawn["L"], drawn["ab"])
    found = method(batch)
    method.eval()
    z = {name: v.double() for name, v in made("L", "ab").embed(batch).items()}
    total = torch.zeros((), dtype=torch.float64)
    for i, j in (("L", "ab"), ("ab", "L")):
        noise = z[i] @ banks[j][drawn[j]].T
        own = batch.id[:, None] == drawn[j]
        assert own.any()
        noise = noise.masked_fill(own, -torch.inf)
        positive = (z[i] * banks[j][batch.id]).sum(1)
        scores = Scores(positive, noise, torch.full((12,), 1 / 12, dtype=torch.float64))
        total += nce(scores, 0.07, log_normaliser(scores, 0.07, SAMPLES), SAMPLES).loss.detach()
    assert found.total.item() == pytest.approx(total.item(), rel=1e-4)


def test_the_normaliser_is_frozen_and_the_draw_is_not() -> None:
    method = made()
    advance(method, 0)
    z, drawn = method.log_z.clone(), method.negatives.drawn("ab")
    advance(method, 1)
    assert z.isfinite().all()
    assert torch.equal(method.log_z, z)
    assert not torch.equal(method.negatives.drawn("ab"), drawn)


def test_a_pair_first_seen_later_gets_its_normaliser_then() -> None:
    method = made()
    method(seen(0, absent=tuple(range(12)))).total.backward()
    depthless = torch.tensor(["depth" not in pair for pair in method.ordered])
    assert torch.equal(method.log_z.isfinite(), depthless)
    assert torch.stack([p.grad.isfinite().all() for p in method.parameters()]).all()
    method(seen(1))
    assert method.log_z.isfinite().all()


def test_draws_are_uniform_over_all_ids() -> None:
    method = made()
    counts = torch.zeros(SAMPLES)
    for step in range(500):
        method.negatives.step.fill_(step)
        counts += torch.bincount(method.negatives.drawn("L"), minlength=SAMPLES)
    expected = 500 * K / SAMPLES
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 140  # of 89 degrees of freedom: 1 in 2000


def test_banks_move_after_the_step_and_only_where_the_view_is_present() -> None:
    method, batch = made(), seen(0, absent=(1, 4))
    before = {name: bank.rows.clone() for name, bank in method.negatives.banks.items()}
    lacking = batch.id[[1, 4]]
    z = {name: v.detach() for name, v in made().embed(batch).items()}
    method(batch).total.backward()
    for name, bank in method.negatives.banks.items():
        assert torch.equal(bank.rows, before[name])
    method.after_step(0.0)
    for number, (name, bank) in enumerate(method.negatives.banks.items()):
        kept = batch.views["present"][:, number]
        expected = before[name].clone()
        moved = 0.5 * before[name][batch.id] + 0.5 * z[name]
        expected[batch.id[kept]] = normalize(moved, dim=1)[kept]
        torch.testing.assert_close(bank.rows, expected, atol=1e-5, rtol=1e-5)
    untouched = method.negatives.banks["depth"].rows[lacking]
    assert torch.equal(untouched, before["depth"][lacking])


def test_evaluating_leaves_no_trace() -> None:
    method = made()
    state = {key: value.clone() for key, value in method.state_dict().items()}
    method.eval()
    with torch.no_grad():
        method(seen(0))
        method.pretext(seen(0))
    method.after_step(0.0)
    for key, value in method.state_dict().items():
        assert torch.equal(value.nan_to_num(), state[key].nan_to_num()), key


def adopt(method: CMC, other: CMC) -> None:
    """Take over what the two have in common but the normalisers, which belong to pairs."""
    state, theirs = method.state_dict(), other.state_dict()
    method.load_state_dict({key: theirs[key] if key != "log_z" else state[key] for key in state})


@pytest.mark.parametrize("loss", ["nce", "info_nce"])
def test_the_full_graph_is_the_sum_of_its_pairs_and_the_core_view_of_some(loss: str) -> None:
    full, batch = made(loss=loss, negatives="batch"), seen(0, absent=(2, 3, 7))
    core = made(loss=loss, negatives="batch", core="ab")
    adopt(core, full)
    pairs = {}
    for names in combinations(CHANNELS, 2):
        pair = made(*names, loss=loss, negatives="batch")
        adopt(pair, full)
        pairs[names] = pair(only(batch, *names)).total.item()
    assert full(batch).total.item() == pytest.approx(sum(pairs.values()), rel=1e-5)
    with_core = [value for names, value in pairs.items() if "ab" in names]
    assert core(batch).total.item() == pytest.approx(sum(with_core), rel=1e-5)


@pytest.mark.parametrize(("loss", "source"), WAYS)
def test_what_an_absent_view_would_show_does_not_matter(loss: str, source: str) -> None:
    """In batch statistics of its own tower it does; so towers are in evaluation mode here."""
    results = []
    for value in (0.0, 5.0):
        method, batch = made(loss=loss, negatives=source), seen(0, absent=(1, 4))
        batch.views["depth"][[1, 4]] = value
        method.towers.eval()
        output = method(batch)
        output.total.backward()
        method.after_step(0.0)
        gradient = method.heads["depth"][0].weight.grad
        results.append((output.total.detach(), gradient, method.state_dict()))
    (total, gradient, state), (other, gradient_too, state_too) = results
    torch.testing.assert_close(total, other)
    torch.testing.assert_close(gradient, gradient_too, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(state[key], state_too[key]) for key in state if key.startswith("negatives."))


def test_the_own_sample_is_no_negative() -> None:
    method = made("L", "ab", loss="info_nce", negatives="queue", K=16)
    batch = only(seen(0), "L", "ab")
    method(batch)
    method.after_step(0.0)
    again = method(batch)
    assert float(again.parts["negatives"]) == 15  # of 16, one is the own embedding of the step before
    assert float(again.parts["own_share"]) == pytest.approx(1 / 16)
    assert float(made("L", "ab", negatives="batch")(batch).parts["negatives"]) == 11


def test_accumulated_micro_batches_update_as_one_batch() -> None:
    one, two = made(negatives="bank"), made(negatives="bank")
    for method in (one, two):
        method.towers.eval()
    batch = seen(0, absent=(1, 4))
    one(batch)
    for part in batch.chunks(2):
        two(part)
    one.after_step(0.0)
    two.after_step(0.0)
    for name in CHANNELS:
        mine, theirs = one.negatives.banks[name].rows, two.negatives.banks[name].rows
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert int(two.negatives.step) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"K": SAMPLES}, "K: 90 negatives from a bank over 90 samples; expected fewer .* at most 89"),
        ({"K": 200, "negatives": "queue"}, "K: 200 negatives from a queue over 90 samples"),
        ({"core": "normals"}, "core: expected null or one of L, ab, depth, found 'normals'"),
        ({"sharded": True, "negatives": "batch"}, "sharded: expected negatives: bank, found batch"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        made(**settings)


def test_a_shard_set_larger_than_the_bank_is_named() -> None:
    method, batch = made(), seen(0)
    batch["id"] = batch.id + SAMPLES
    with pytest.raises(MmsslError, match=r"sample id \d+ has no row; the bank has 90 "):
        method(batch)


def test_views_that_the_data_lacks_are_refused_by_name() -> None:
    views = {name: {"encoder": {**NET, "sees": name}} for name in ("L", "depth")}
    data = DataInfo(SAMPLES, frozenset({"image"}), frozenset({"depth"}))
    with pytest.raises(MmsslError, match=r"view 'depth' \(depth\) needs depth of every sample; the data has"):
        build_method({"name": "cmc", "views": views, "K": K}, data)


def test_pictures_and_pretext_of_a_batch() -> None:
    method = made().eval()
    with torch.no_grad():
        sheet = method.pictures(seen(0))["views"]
        answers = method.pretext(seen(0, absent=tuple(range(11))))
    assert sheet.shape == (12, 3, SIZE, 3 * SIZE)
    assert 0 <= float(sheet.min()) <= float(sheet.max()) <= 1
    assert list(answers) == ["L_ab"]  # one sample alone has depth
    assert answers["L_ab"].chance == 1 / 12


def course(method: CMC, slices: Callable[[Batch], Batch]) -> dict[str, Tensor]:
    """Two steps; the loss and gradients of the second, and what the pools hold afterwards, whole."""
    method(slices(seen(0, absent=(1, 4, 7)))).total.backward()
    method.after_step(0.0)
    method.zero_grad()
    loss = method(slices(seen(1, absent=(0, 2)))).total
    loss.backward()
    method.after_step(0.0)
    gradients = {key: mean(p.grad) for key, p in method.named_parameters() if p.grad is not None}
    state = {key: value for key, value in method.state_dict().items() if "negatives" in key or key == "log_z"}
    return gradients | {"loss": mean(loss)} | state


def as_one(rank: int, world: int, settings: dict[str, Any], expected: dict[str, Tensor]) -> None:
    n = 12 // world
    found = course(made(**settings), lambda batch: batch.rows(slice(rank * n, rank * n + n)))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-2, atol=2e-3, msg=key)


@pytest.mark.parametrize(
    ("world", "settings"),
    [
        (2, {"negatives": "bank"}),
        (3, {"negatives": "bank", "sharded": True}),
        (2, {"negatives": "bank", "loss": "info_nce", "sharded": True}),
        (2, {"negatives": "batch", "loss": "info_nce"}),
        (2, {"negatives": "queue"}),
    ],
)
def test_several_ranks_train_as_one(world: int, settings: dict[str, Any], ranks: Callable[..., None]) -> None:
    ranks(as_one, world, settings, course(made(**settings), lambda batch: batch))
