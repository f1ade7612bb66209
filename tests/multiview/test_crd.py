"""Distillation: the teacher stays as it is, the student is contrasted with what it says, and learns it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from made_views import CLASSES, FIELDS, NET, batch_of, built, layouts, sees
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mmssl.errors import MmsslError
from mmssl.methods import DataInfo, Method, build_method, parse_method
from mmssl.methods.artifact import load_method, save_method
from mmssl.models.artifact import save_encoder
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES = 256
SMALL: dict[str, Any] = {"name": "crd", "K": 64, "head": [16], "views": {"L": sees("L")}}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder of each sight; and in ``depth_taught`` one that tells the layouts apart."""
    root = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(5)
    for sight in ("L", "depth"):
        encoder = build_encoder(EncoderConfig(sees=sight, **NET))
        save_encoder(encoder, root / sight, {})
    head = nn.Linear(encoder.dim, CLASSES)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    for step in range(50):
        label, _, depth = layouts((torch.arange(32) + 32 * step) % SAMPLES)
        loss = cross_entropy(head(encoder(depth)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3
    save_encoder(encoder, root / "depth_taught", {})
    return root


def crd(teachers: dict[str, dict[str, Any]], **settings: Any) -> Method:
    return built({**SMALL, "teacher": {"views": teachers}, **settings}, SAMPLES)


@pytest.fixture
def two(taught: Path) -> Method:
    """A student of L, a teacher of L and depth."""
    return crd({sight: sees(sight, weights=str(taught / sight)) for sight in ("L", "depth")})


def seen(method: Method, ids: Tensor, seed: int = 0) -> Batch:
    _, light, depth = layouts(ids, seed)
    both = {"L": light, "depth": depth}
    names = method.config.teacher.views  # type: ignore[attr-defined]
    batch = batch_of(ids, {"L": light} | {f"teacher.{name}": both[name] for name in names})
    batch.views["present"] = torch.ones(len(ids), 1 + len(names), dtype=torch.bool)
    return batch


def train(method: Method, steps: range, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    method.train()
    for step in steps:
        loss = method(seen(method, (torch.arange(32) + 32 * step) % SAMPLES)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(0.0)
        losses.append(float(loss.detach()))
    return losses


def optimizer_of(method: Method, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)


def test_the_teacher_is_frozen_and_says_what_its_encoders_say(two: Method, taught: Path) -> None:
    before = {key: value.clone() for key, value in two.teacher.state_dict().items()}
    train(two, range(3), optimizer_of(two, 0.1))
    assert not any(module.training for module in two.teacher.modules())
    assert two.towers["L"].training
    for key, value in two.teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(p.grad is None for p in two.teacher.parameters())
    trained = [p.grad for part in (two.towers["L"], two.heads) for p in part.parameters()]
    assert all(grad is not None for grad in trained)
    batch = seen(two, torch.arange(8))
    alone = [
        build_encoder(EncoderConfig(sees=sight, weights=str(taught / sight), **NET)).eval()
        for sight in ("L", "depth")
    ]
    with torch.no_grad():
        expected = torch.cat(
            [e(batch.views[f"teacher.{s}"]) for e, s in zip(alone, ("L", "depth"), strict=True)], 1
        )
    features = two.features(two.taught(batch))
    torch.testing.assert_close(features["teacher"], expected)
    assert two.heads["teacher"][0].in_features == alone[0].dim + alone[1].dim
    assert list(two.encoders()) == ["L"]


def test_loss_against_plain_sums_in_float64(two: Method) -> None:
    ids = torch.arange(8)
    batch = seen(two, ids)
    train(two, range(2), optimizer_of(two))  # fills rows, fixes Z
    two.eval()
    loss = two(batch)
    h = two.features(two.taught(batch))
    z = {name: normalize(two.heads[name](h[name]).double(), dim=1) for name in ("L", "teacher")}
    total = 0.0
    for number, (a, b) in enumerate((("L", "teacher"), ("teacher", "L"))):
        bank = two.negatives.banks[b].rows.double()
        drawn = two.negatives.drawn(b)
        for row, i in enumerate(ids):
            others = drawn[drawn != i]  # the own sample is no negative
            scale = torch.exp(-two.log_z[number].double())
            p, q = (torch.exp((bank[j] * z[a][row]).sum(-1) / 0.07) * scale for j in (i, others))
            noise = 64 / SAMPLES
            total -= float((torch.log(p / (p + noise)) + torch.log(noise / (q + noise)).sum()).detach()) / 8
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)


def test_a_sample_without_a_teachers_view_is_not_learned_from(taught: Path) -> None:
    teachers = {
        "L": sees("L", weights=str(taught / "L")),
        "depth": sees("depth", weights=str(taught / "depth"), optional=True),
    }
    method = crd(teachers)
    assert method.views["views"].optional == ("depth",)
    batch = seen(method, torch.arange(8))
    batch.views["present"][3:, 2] = False
    batch.views["teacher.depth"][3:] = 0
    rows = method.negatives.banks["teacher"].rows.clone()
    method.train()
    method(batch)
    method.after_step(0.0)
    changed = (method.negatives.banks["teacher"].rows != rows).any(dim=1).nonzero()[:, 0]
    assert changed.tolist() == [0, 1, 2]
    assert len(method.pretext(batch)["L_teacher"].values) == 2 * 3


def test_resumes_exactly(taught: Path, tmp_path: Path) -> None:
    teachers = {"depth": sees("depth", weights=str(taught / "depth_taught"))}
    whole = crd(teachers)
    losses = train(whole, range(6), optimizer_of(whole))
    first = crd(teachers)
    optimizer = optimizer_of(first)
    assert train(first, range(3), optimizer) == losses[:3]
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state")
    again = crd({"depth": sees("depth", weights=str(taught / "depth"))})  # another teacher: the state knows
    state = torch.load(tmp_path / "state")
    again.load_state_dict(state[0])
    optimizer = optimizer_of(again)
    optimizer.load_state_dict(state[1])
    assert train(again, range(3, 6), optimizer) == losses[3:]
    for key, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_comes_back_with_its_teacher(two: Method, tmp_path: Path) -> None:
    batch = seen(two, torch.arange(16))
    save_method(two.eval(), tmp_path)
    again = load_method(tmp_path)
    assert again is not None
    found, expected = again.eval().pretext(batch), two.pretext(batch)
    assert torch.equal(found["L_teacher"].values, expected["L_teacher"].values)
    assert expected["L_teacher"].chance == 1 / 16


def test_a_teacher_has_been_taught(taught: Path, tmp_path: Path) -> None:
    method = crd({"L": sees("L", weights=str(taught / "L")), "depth": sees("depth")})
    with pytest.raises(MmsslError, match=r"crd: teacher\.views\.depth\.encoder\.weights: missing"):
        method.train()
    with pytest.raises(MmsslError, match="no such file"):
        crd({"depth": sees("depth", weights=str(tmp_path / "nowhere"))})


def test_views_that_the_data_lacks_and_settings_that_cannot_be(taught: Path) -> None:
    teacher = {"views": {"depth": sees("depth", weights=str(taught / "depth"))}}
    with pytest.raises(MmsslError, match=r"crd: view 'teacher\.depth' \(depth\) needs depth of every sample"):
        build_method({**SMALL, "teacher": teacher}, DataInfo(SAMPLES, FIELDS - {"depth"}))
    with pytest.raises(MmsslError, match=r"crd: K: 16384 negatives .* at most 255"):
        built({**SMALL, "teacher": teacher, "K": 16384}, SAMPLES)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"views": {"L": sees("L"), "ab": sees("ab")}}, "at most 1 item"),
        ({"views": {"teacher": sees("L")}}, r"views\.teacher: expected another name"),
        ({"teacher": {"views": {}}}, "at least 1 item"),
        ({"core": "L"}, "core"),
    ]
    for change, message in wrong:
        with pytest.raises(MmsslError, match=message):
            parse_method({**SMALL, "teacher": teacher, **change}, "test")


def accuracy(method: Method) -> float:
    """Percent of 160 unseen samples whose layout 5 nearest neighbours among 160 others tell, from L alone."""
    encoder = method.encoders()["L"].eval()
    (labels, x, _), (truth, y, _) = (layouts(torch.arange(160), seed) for seed in (1, 2))
    with torch.no_grad():
        x, y = encoder(x), encoder(y)
    neighbours = KNeighborsClassifier(5, metric="cosine").fit(x.numpy(), labels.numpy())
    return 100 * float(neighbours.score(y.numpy(), truth.numpy()))


def found(method: Method) -> float:
    """Percent of 64 unseen samples whose teacher's embedding is the nearest of its layout's, and back."""
    with torch.no_grad():
        return 100 * float(method.eval().pretext(seen(method, torch.arange(8), 1))["L_teacher"].values.mean())


@pytest.mark.parametrize("way", [{}, {"negatives": "batch", "loss": "info_nce", "temperature": 0.2}])
def test_the_student_learns_what_a_taught_teacher_knows(way: dict[str, Any], taught: Path) -> None:
    student = crd({"depth": sees("depth", weights=str(taught / "depth_taught"))}, **way)
    untrained = accuracy(student)
    guessing = found(student)
    train(student, range(100), optimizer_of(student, 5e-3))
    trained, matched = accuracy(student), found(student)
    assert trained > untrained + 15, f"{untrained:.1f} % untrained, {trained:.1f} % taught"
    assert matched > guessing + 25, f"{guessing:.1f} % of 8 matched untrained, {matched:.1f} % taught"
