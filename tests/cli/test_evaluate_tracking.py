"""``mmssl evaluate tracking`` on a small OTB folder, and ``mmssl evaluate FOLDER`` beside it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmssl import cli
from mmssl.models import dcfnet
from mmssl.models.artifact import save_encoder
from mmssl.models.encoder import EncoderConfig, build_encoder

pytestmark = pytest.mark.usefixtures("one_thread")
REPOSITORY = Path(__file__).parents[2]


def mmssl(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``mmssl ARGUMENTS``, run in this process."""
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    captured = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``otb`` with two sequences of a bright square on noise, ``encoder``, and ``truth`` as result files."""
    rng = np.random.default_rng(0)
    for name, length in (("Stroll", 9), ("Saunter", 7)):
        (tmp_path / "otb" / name / "img").mkdir(parents=True)
        lines = []
        for number in range(1, length + 1):
            pixels = rng.integers(0, 60, (48, 64, 3)).astype(np.uint8)
            pixels[16:32, 10 + number : 26 + number] = 200
            Image.fromarray(pixels).save(tmp_path / "otb" / name / "img" / f"{number:04d}.jpg")
            lines.append(f"{11 + number},17,16,16\n")
        (tmp_path / "otb" / name / "groundtruth_rect.txt").write_text("".join(lines))
        (tmp_path / "otb" / name / "attrs.txt").write_text("SV\n")
        (tmp_path / "truth").mkdir(exist_ok=True)
        (tmp_path / "truth" / f"{name}.txt").write_text("".join(lines))
    torch.manual_seed(0)
    encoder = EncoderConfig(name="dcfnet", image_size=32, kwargs={"width": 4}, std=dcfnet.PIXELS)
    save_encoder(build_encoder(encoder), tmp_path / "encoder", {})
    return tmp_path


def cells(out: str, first: str) -> list[str]:
    """The cells of the table row that starts with ``first``."""
    (row,) = [line for line in out.splitlines() if line.startswith(f"│ {first}")]
    return [cell.strip() for cell in row.split("│")[1:-1]]


def test_from_a_benchmark_to_tables(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    arguments = [
        "evaluate", "tracking", "--encoder", str(folder / "encoder"), "--root", str(folder / "otb"),
        "--compare", f"Truth={folder / 'truth'}", "--out", str(folder / "out"), "--lanes", "2",
    ]  # fmt: skip
    code, out, err = mmssl(capsys, *arguments)
    assert (code, err) == (0, "")
    summary = cells(out, "success AUC")
    assert len(summary) == 5, "metric, trained, untrained, Truth, ceiling"
    assert summary[3:] == ["95.24", "95.24"]
    assert 20 < float(summary[1]) <= 95.24
    assert cells(out, "Stroll")[1] == "9"
    assert cells(out, "attribute SV")[1] == "2 sequences"
    assert "protocol otb: mean over 21 thresholds" in out
    for tracker in ("trained", "untrained"):
        lines = (folder / "out" / "results" / "otb" / "ope" / tracker / "Stroll.txt").read_text().splitlines()
        assert lines[0] == "12.0000,17.0000,16.0000,16.0000"
        assert len(lines) == 9
    assert (folder / "out" / "pictures" / "tracking_Stroll.png").is_file()
    plain = json.loads((folder / "out" / "tracking_otb_ope_otb.json").read_text())
    assert plain["trackers"].keys() == {"trained", "untrained", "Truth"}
    # Again: nothing is tracked, and the same numbers are printed.
    monkeypatch.setattr("mmssl.evaluate.tracking.runs.lockstep", None)
    code, again, _ = mmssl(capsys, *arguments)
    assert code == 0
    assert again == out


def test_only_other_trackers_some_sequences_two_protocols(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, out, _ = mmssl(
        capsys, "evaluate", "tracking", "--root", str(folder / "otb"), "--sequences", "Stroll",
        "--compare", f"Truth={folder / 'truth'}", "--protocol", "otb", "--protocol", "got10k",
        "--out", str(folder / "out"),
    )  # fmt: skip
    assert code == 0
    assert cells(out, "AO")[1:] == ["100.00", "100.00"]
    assert "Saunter" not in out
    assert not (folder / "out" / "results").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "expected --encoder, --compare, or both"),
        (["--compare", "Truth"], "--compare Truth: expected NAME=FOLDER"),
        (["--compare", "A=none"], "none: no such folder; expected a tracker's result files"),
        (["--encoder", "none"], "encoder.json: no such file"),
        (["--encoder", "none", "--preset", "kcf"], "preset: expected one of"),
        (["--encoder", "none", "--benchmark", "otter"], "benchmark"),
        (["--encoder", "none", "--protocol", "vot2018"], "experiment ope: expected otb"),
        (["--encoder", "{folder}/encoder", "--sequences", "Strol"], "did you mean 'Stroll'"),
        (["--encoder", "{folder}/encoder", "--stage", "7"], "stage: dcfnet has stages 0 to 0, found 7"),
    ],
)
def test_bad_input_is_a_message(
    capsys: pytest.CaptureFixture[str], folder: Path, more: list[str], expected: str
) -> None:
    given = [word.format(folder=folder) for word in more]
    arguments = ["--root", str(folder / "otb"), "--out", str(folder / "out"), *given]
    code, _, err = mmssl(capsys, "evaluate", "tracking", *arguments)
    assert code == 2
    assert expected in " ".join(err.split())
    assert "Traceback" not in err


def test_a_folder_alone_is_an_encoder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``evaluate FOLDER``, with options before or after it, is ``evaluate encoder FOLDER``."""
    for arguments in (
        [str(tmp_path), "--shards", "none", "--evaluation", "kn"],
        ["--shards", "none", "--evaluation", "kn", str(tmp_path)],
        ["encoder", str(tmp_path), "--shards", "none", "--evaluation", "kn"],
    ):
        code, _, err = mmssl(capsys, "evaluate", *arguments)
        assert code == 2
        assert "--evaluation: kn.name: expected one of knn" in err
    _, out, _ = mmssl(capsys, "evaluate", "-h")
    assert "encoder" in out
    assert "tracking" in out


def test_the_script_is_the_command() -> None:
    script = REPOSITORY / "scripts" / "evaluate_tracker"
    done = subprocess.run([sys.executable, script, "-h"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Usage: mmssl evaluate tracking" in done.stdout
    assert os.access(script, os.X_OK)
