"""Cross-view prediction: what is summed, what is masked, what it leaves, and that it learns to see."""

from typing import Any

import pytest
import torch
from made_views import FIELDS, SIZE, batch_of, built, layouts, sees
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.methods import Method, parse_method
from mmssl.methods.artifact import load_method, save_method
from mmssl.stream.batch import Batch
from mmssl.stream.sample import Sample
from mmssl.stream.views.draws import Draws

pytestmark = pytest.mark.usefixtures("one_thread")

VIEWS = {"L": sees("L"), "depth": sees("depth"), "ab": sees("ab"), "parts": sees("segmentation", channels=5)}
SMALL: dict[str, Any] = {"name": "cross_view", "core": "L", "decoder_width": 32}
GENERATOR = torch.Generator().manual_seed(0)


def random_batch(present: Tensor | None = None, count: int = 6) -> Batch:
    def noise(channels: int) -> Tensor:
        return torch.randn(count, channels, SIZE, SIZE, generator=GENERATOR)

    ids = torch.randint(0, 5, (count, SIZE, SIZE), generator=GENERATOR)
    known = (noise(1) > 0).float()
    views = {
        "L": noise(1),
        "depth": torch.cat([noise(1) * known, known], dim=1),
        "ab": noise(2),
        "parts": torch.stack([(ids == c).float() for c in range(5)], dim=1),
    }
    return batch_of(torch.arange(count), views, present)


@pytest.fixture
def method() -> Method:
    return built({**SMALL, "views": VIEWS})


def test_the_loss_is_the_sum_over_the_predicted_views(method: Method) -> None:
    batch = random_batch()
    loss = method.eval()(batch)
    assert list(loss.parts) == ["depth", "ab", "parts"]
    assert float(loss.total.detach()) == pytest.approx(sum(map(float, loss.parts.values())), rel=1e-6)
    features = method.towers["L"].feature_map(batch.views["L"])
    painted = {name: decoder(features).double() for name, decoder in method.decoders.items()}
    depth, known = batch.views["depth"].double().unbind(1)
    expected = (painted["depth"][:, 0] - depth).abs()[known > 0].mean()
    assert float(loss.parts["depth"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(loss.parts["ab"]) == pytest.approx(
        float((painted["ab"] - batch.views["ab"].double()).abs().mean()), rel=1e-5
    )
    log = painted["parts"].log_softmax(1)
    assert float(loss.parts["parts"]) == pytest.approx(
        float(-(log * batch.views["parts"]).sum(1).mean()), rel=1e-5
    )


def test_one_encoder_is_built_and_left(method: Method) -> None:
    assert list(method.towers) == ["L"]
    assert method.encoders() == {"L": method.towers["L"]}
    random = method(random_batch())
    random.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert random.embedding.shape == (6, method.towers["L"].dim)


def test_absent_views_and_unknown_pixels_teach_nothing(method: Method) -> None:
    present = torch.ones(6, 4, dtype=torch.bool)
    present[2:, 1] = False  # only two samples have depth
    batch = random_batch(present)
    other = Batch(batch | {"views": dict(batch.views)})
    depth = batch.views["depth"].clone()
    depth[2:] = torch.randn(4, 2, SIZE, SIZE)
    depth[:2, :1] += 100.0 * (1 - depth[:2, 1:])  # where it is missing
    other.views["depth"] = depth
    method.eval()
    assert float(method(batch).total) == pytest.approx(float(method(other).total), rel=1e-6)
    batch.views["present"][:, 1] = False
    assert float(method(batch).parts["depth"]) == 0
    assert len(method.pretext(batch)["depth"].values) == 0


def test_flow_is_predicted_where_it_is_known() -> None:
    method = built({**SMALL, "views": {"L": sees("L"), "flow": sees("flow")}}).eval()
    view = method.views["views"]
    flow = torch.zeros(2, SIZE, SIZE)
    flow[:, :, : SIZE // 2] = torch.nan
    still = Sample(0, "a", "s", 0, {"image": ("png", b""), "flow": ("png", b"")})
    still._decoded = {"image": torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), "flow": flow}
    draws = Draws(0, "views", torch.zeros(1, dtype=torch.int64).numpy(), torch.zeros(1).long().numpy())
    views = view.finish(view.prepare([view.read(still, draws)], draws), draws)
    known = views["flow.known"]
    assert known.shape == (1, SIZE, SIZE)
    assert 0 < known.float().mean() < 1  # rest is known, though its flow is zero, too
    batch = Batch(views=views, id=torch.zeros(1).long())
    assert torch.equal(method.known(batch, "flow"), known)
    views["flow"] = torch.where(known[:, None], views["flow"], 1e3)
    assert float(method(batch).total) < 100


def test_targets_may_be_smaller_than_what_is_seen() -> None:
    method = built({**SMALL, "views": VIEWS, "target_size": 8})
    shown = method.views["views"].look.shown
    assert {name: s.size for name, s in shown.items()} == {"L": SIZE, "depth": 8, "ab": 8, "parts": 8}


def test_pictures_are_rows_of_equal_size(method: Method) -> None:
    sheets = method.eval().pictures(random_batch(count=10))
    assert list(sheets) == ["depth", "ab", "parts"]
    for sheet in sheets.values():
        assert sheet.shape == (24, 3, SIZE, SIZE)  # 8 seen, 8 true, 8 painted
        assert 0 <= sheet.min() <= sheet.max() <= 1
        assert not torch.equal(sheet[8:16], sheet[16:])


def test_comes_back_with_its_decoders(method: Method, tmp_path: Any) -> None:
    batch = random_batch()
    save_method(method.eval(), tmp_path)
    again = load_method(tmp_path)
    assert again is not None
    for name, answers in again.eval().pretext(batch).items():
        assert torch.equal(answers.values, method.pretext(batch)[name].values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core": "rgb"}, "core: expected one of L, depth, ab, parts, found 'rgb'"),
        ({"views": VIEWS | {"L": sees("L", optional=True)}}, "core: 'L' is optional"),
        ({"views": {"L": VIEWS["L"]}}, "at least 2 items"),
        ({"norm": "l3"}, "norm"),
        (
            {
                "views": VIEWS
                | {"clip": {"encoder": {"kind": "frames", "frames": 2, "stride": 0.1, "net": {}}}}
            },
            "views.clip.encoder: pictures are predicted from pictures",
        ),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        parse_method({**SMALL, "views": VIEWS, **change}, "test")


def test_a_view_that_the_data_lacks_is_named() -> None:
    with pytest.raises(MmsslError, match=r"cross_view: view 'depth' \(depth\) needs depth of every sample"):
        built({**SMALL, "views": VIEWS}, fields=FIELDS - {"depth"})
    views = VIEWS | {"depth": sees("depth", optional=True)}
    assert built({**SMALL, "views": views}, fields=FIELDS - {"depth"}).views["views"].optional == ("depth",)


def seen(method: Method, ids: Tensor, seed: int = 0) -> Batch:
    _, light, depth = layouts(ids, seed)
    return batch_of(ids, {"L": light, "depth": depth})


def train(method: Method, steps: range, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    method.train()
    for step in steps:
        loss = method(seen(method, (torch.arange(32) + 32 * step) % 256)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(0.0)
        losses.append(float(loss.detach()))
    return losses


def depth_only(**settings: Any) -> Method:
    return built({**SMALL, "views": {"L": sees("L"), "depth": sees("depth")}, **settings})


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_learns_to_see_depth_in_lightness(norm: str) -> None:
    method = depth_only(norm=norm)
    held_out = seen(method, torch.arange(64), seed=1)

    def error() -> tuple[float, float]:
        answers = method.eval().pretext(held_out)["depth"]
        assert answers.chance is not None
        return float(answers.values.mean()), answers.chance

    before, chance = error()
    train(method, range(80), torch.optim.AdamW(method.parameters(), lr=5e-3))
    after, _ = error()
    assert before > 0.9 * chance
    assert after < 0.6 * chance, f"{after:.3f} against {chance:.3f} of the mean"


def test_resumes_exactly(tmp_path: Any) -> None:
    whole = depth_only()
    optimizer = torch.optim.AdamW(whole.parameters(), lr=1e-3)
    losses = train(whole, range(6), optimizer)
    first = depth_only()
    optimizer = torch.optim.AdamW(first.parameters(), lr=1e-3)
    assert train(first, range(3), optimizer) == losses[:3]
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state")
    again = depth_only()
    optimizer = torch.optim.AdamW(again.parameters(), lr=1e-3)
    state = torch.load(tmp_path / "state")
    again.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    assert train(again, range(3, 6), optimizer) == losses[3:]
    for key, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
