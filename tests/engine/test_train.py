"""What a run leaves, what it refuses, and what it does with damage; all in this process."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_tiny import FakeStream, Tiny, TinyConfig, lines, losses, start
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmssl.engine import checkpoint as checkpoint_module
from mmssl.engine.setup import pick_precision
from mmssl.errors import MmsslError, Preempted
from mmssl.files import only_writer
from mmssl.methods.base import DataInfo, Loss
from mmssl.models.artifact import load_encoder
from mmssl.stream.batch import Batch


class Interrupting(FakeStream):
    """Sends this process a signal while batch ``at_step`` is fetched."""

    at_step = 4

    def batches(self, consumed: int = 0, steps: int | None = None) -> Any:
        for number, batch in enumerate(super().batches(consumed, steps), start=1):
            if number == self.at_step:
                os.kill(os.getpid(), signal.SIGUSR1)
            yield batch


def test_a_finished_run_leaves_everything_and_is_not_repeated(tmp_path: Path) -> None:
    method = start(tmp_path, {"steps": 7, "checkpoint_every": 3, "keep": 2})
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000006",
        "step-00000007",
    ]
    encoder = load_encoder(tmp_path / "encoders/image")
    for name, value in method.encoder.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], value, rtol=0, atol=0)
    provenance = json.loads((tmp_path / "encoders/image/encoder.json").read_text())["provenance"]
    assert provenance["command"] == "test"
    assert provenance["method"] == "tiny"
    assert Image.open(tmp_path / "pictures/inputs.png").size == (2 + 4 * 10, 12)

    log = lines(tmp_path)
    assert [line["step"] for line in log] == list(range(1, 8))
    last = log[-1]
    assert last["samples"] == 28
    assert last["pass"] == 28 / 20
    assert last["images_per_s"] > 0
    assert 0 <= last["data_wait"] <= 1
    assert 0 <= last["parts"]["top1"] <= 1
    assert 1 <= last["health"]["rankme"] <= 4.01  # a batch of 4
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 8))
    assert board.Scalars("parts/top1")[-1].value == pytest.approx(last["parts"]["top1"])

    before = (tmp_path / "log.jsonl").read_bytes()
    start(tmp_path, {"steps": 7, "checkpoint_every": 3, "keep": 2})
    assert (tmp_path / "log.jsonl").read_bytes() == before
    with pytest.raises(MmsslError, match=r"train\.steps: 7 → 8"):
        start(tmp_path, {"steps": 8})


def preempt(folder: Path, **settings: Any) -> None:
    """Run until the signal that Interrupting sends in step 4, which is seen at the next boundary."""
    from mmssl.engine import TrainConfig, seed_everything, train

    config = TrainConfig(**{"steps": 12, "batch_size": 4, "log_every": 1, "precision": "fp32", **settings})
    stream = Interrupting(4)
    seed_everything(0)
    handler = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(Preempted, match="SIGUSR1 after step 5; saved"):
        train(Tiny(TinyConfig(), DataInfo(20)), stream, config, folder, provenance={"command": "test"})
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert stream.closed == 1


def test_a_signal_saves_and_the_next_start_goes_on(tmp_path: Path) -> None:
    start(tmp_path / "whole", {})
    preempt(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000005"]
    start(tmp_path / "run", {"log_every": 1, "keep": 3})  # how much is kept is nobody's result
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_other_settings_are_refused_with_the_list(tmp_path: Path) -> None:
    preempt(tmp_path)
    with pytest.raises(MmsslError) as refused:
        start(tmp_path, {"optimizer": {"base_lr": 0.5}, "seed": 3}, {"temperature": 0.3}, samples=24)
    message = str(refused.value)
    assert "checkpoint.json" in message
    for line in (
        "train.optimizer.base_lr: 0.03 → 0.5",
        "train.seed: 0 → 3",
        "method.temperature: 0.2 → 0.3",
        "data.samples: 20 → 24",
    ):
        assert line in message
    assert "train.steps" not in message


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "header"])
def test_a_damaged_checkpoint_is_passed_over(damage: str, tmp_path: Path) -> None:
    start(tmp_path / "whole", {"checkpoint_every": 3})
    preempt(tmp_path / "run", checkpoint_every=3)
    newest = tmp_path / "run/checkpoints/step-00000005"
    file = newest / ("checkpoint.json" if damage == "header" else "optimizer.pt")
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="step-00000005: damaged checkpoint passed over"):
        start(tmp_path / "run", {"checkpoint_every": 3})
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    preempt(tmp_path)
    (tmp_path / "checkpoints/step-00000005/method.safetensors").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="method.safetensors"),
        pytest.raises(MmsslError, match="all 1 checkpoints are damaged"),
    ):
        start(tmp_path, {})


def test_a_loss_that_is_not_a_number_names_its_step_and_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MmsslError, match="step 8: the loss is nan"):
        start(tmp_path, {"checkpoint_every": 5, "log_every": 100}, {"bad_at": 8})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    saved = load_file(tmp_path / "checkpoints/step-00000005/method.safetensors")
    assert all(bool(value.isfinite().all()) for value in saved.values())
    assert list(losses(tmp_path)) == [5]


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = checkpoint_module.save_file

    def full_at_step_6(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "step-00000006" in str(path):
            raise OSError(28, "No space left on device")
        written(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", full_at_step_6)
    with pytest.raises(MmsslError, match=r"step-00000006: could not be written: .*No space left"):
        start(tmp_path, {"checkpoint_every": 3})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    monkeypatch.undo()
    start(tmp_path, {"checkpoint_every": 3})
    start(tmp_path / "whole", {"checkpoint_every": 3})
    assert losses(tmp_path) == losses(tmp_path / "whole")


def test_two_runs_on_one_folder(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(MmsslError, match="another run"):
        start(tmp_path, {})
    start(tmp_path, {"steps": 1})


def test_the_optimizer_file_holds_no_code(tmp_path: Path) -> None:
    """A pickled callable in a checkpoint is refused by the reader even when the checksum was adapted."""
    import hashlib
    import pickle

    preempt(tmp_path)
    folder = tmp_path / "checkpoints/step-00000005"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "pwned"),))

    (folder / "optimizer.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    header = json.loads((folder / "checkpoint.json").read_text())
    header["sha256"]["optimizer.pt"] = hashlib.sha256((folder / "optimizer.pt").read_bytes()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(header))
    with pytest.raises(MmsslError, match=r"optimizer\.pt: refused"):
        start(tmp_path, {})
    assert not (tmp_path / "pwned").exists()


def test_micro_batches_give_the_gradient_of_the_mean(tmp_path: Path) -> None:
    """The tiny objective without norm sees samples one by one, so accumulation must change nothing."""
    settings = {"batch_size": 8, "optimizer": {"base_lr": 0.1}}
    start(tmp_path / "whole", settings, {"norm": False})
    start(tmp_path / "parts", {**settings, "accumulate": 4}, {"norm": False})
    for step, values in losses(tmp_path / "whole").items():
        assert losses(tmp_path / "parts")[step] == pytest.approx(values, rel=1e-4), step
    with pytest.raises(MmsslError, match=r"train\.batch_size: 8 does not divide"):
        start(tmp_path / "odd", {"batch_size": 8, "accumulate": 3})


def test_views_are_finished_once_wherever_that_happens(tmp_path: Path) -> None:
    start(tmp_path / "worker", {"accumulate": 2})
    start(tmp_path / "device", {"accumulate": 2}, finish_on="device")
    assert losses(tmp_path / "worker") == losses(tmp_path / "device")


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    """With plain SGD of rate 1 and no decay, the step is the gradient: its length is the clip."""
    settings = {"steps": 1, "batch_size": 4, "clip": 0.001, "warmup": 0}
    optimizer = {"base_lr": 64.0, "momentum": 0.0, "weight_decay": 0.0}  # 64 × 4 / 256 = 1
    start(tmp_path / "one", {**settings, "optimizer": optimizer})
    start(tmp_path / "none", {**settings, "optimizer": {**optimizer, "base_lr": 1e-30}})
    after, before = (
        load_file(tmp_path / name / "checkpoints/step-00000001/method.safetensors")
        for name in ("one", "none")
    )
    trained = [name for name in after if name.startswith(("encoder.", "head.")) and "running" not in name]
    squares = sum(float((after[n].double() - before[n].double()).square().sum()) for n in trained)
    assert squares**0.5 == pytest.approx(0.001, rel=1e-3)
    assert losses(tmp_path / "one")[1][1] > 0.001  # the norm in the log is the one before clipping


def test_bf16_keeps_float_weights_and_learns_nearly_the_same(tmp_path: Path) -> None:
    method = start(tmp_path / "bf16", {"precision": "bf16"}, {"norm": False})
    start(tmp_path / "fp32", {"precision": "fp32"}, {"norm": False})
    assert {parameter.dtype for parameter in method.parameters()} == {torch.float32}
    ours, exact = ([loss for loss, _ in losses(tmp_path / run).values()] for run in ("bf16", "fp32"))
    assert ours != exact
    assert ours == pytest.approx(exact, rel=0.05)


def test_auto_precision_is_one_of_the_two() -> None:
    cpu, flat, solid = torch.device("cpu"), torch.nn.Conv2d(3, 4, 3), torch.nn.Conv3d(3, 4, 3)
    assert pick_precision("fp32", cpu, flat) == "fp32"
    assert pick_precision("bf16", cpu, flat) == "bf16"
    assert pick_precision("auto", cpu, torch.nn.Sequential(solid)) == "fp32"
    assert pick_precision("bf16", cpu, solid) == "bf16"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        assert pick_precision("auto", cpu, flat) == "bf16"


def test_chunks_cut_every_entry() -> None:
    batch = Batch(
        id=torch.arange(6), key=list("abcdef"), label={"class": torch.arange(6) * 2}, view={"x": torch.eye(6)}
    )
    parts = batch.chunks(3)
    assert [part.id.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert parts[1]["key"] == ["c", "d"]
    assert parts[2].label["class"].tolist() == [8, 10]
    assert torch.equal(torch.cat([part.view["x"] for part in parts]), torch.eye(6))
    with pytest.raises(ValueError, match="do not divide"):
        batch.chunks(4)


def test_a_method_may_leave_out_embedding_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Tiny.forward
    monkeypatch.setattr(Tiny, "forward", lambda self, batch: Loss(forward(self, batch).total))
    start(tmp_path, {"steps": 2})
    assert lines(tmp_path)[-1]["parts"] == lines(tmp_path)[-1]["health"] == {}
