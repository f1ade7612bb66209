"""``compile``: the same training, to rounding, through torch.compile."""

import shutil
from pathlib import Path

import pytest
from engine_tiny import losses, start


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_has_the_losses_of_a_plain_one(tmp_path: Path) -> None:
    settings = {"steps": 6, "optimizer": {"name": "sgd", "base_lr": 1.0}}
    method = {"norm": False}  # dropout draws its numbers otherwise when compiled
    start(tmp_path / "plain", settings, method)
    start(tmp_path / "compiled", {**settings, "compile": True}, method)
    plain, compiled = losses(tmp_path / "plain"), losses(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for step, (loss, norm) in plain.items():
        assert compiled[step] == pytest.approx((loss, norm), rel=1e-4)
    assert (tmp_path / "compiled/encoders/image/encoder.safetensors").read_bytes() != b""
    assert plain[1][0] != pytest.approx(plain[6][0], rel=1e-3)  # something was learned meanwhile
