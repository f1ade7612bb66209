"""The ``mmssl`` command as people meet it: help, messages, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mmssl import cli
from mmssl.errors import Preempted

REPOSITORY = Path(__file__).parents[2]


def mmssl(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``mmssl ARGUMENTS``, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mmssl", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    captured = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = mmssl(capsys, "--help")
    assert code == 0
    for command in ("run", "evaluate", "track", "report", "export", "schema", "shards"):
        assert command in out
        code, its, _ = mmssl(capsys, command, "--help")
        assert code == 0
        assert "Usage: mmssl" in its
    _, out, _ = mmssl(capsys, "shards", "--help")
    for command in ("build", "index", "inspect", "verify"):
        assert command in out


def test_help_does_not_wait_for_heavy_imports() -> None:
    """Counted in modules, since seconds depend on what else the machine does."""
    code = (
        "import sys; from mmssl.cli import main; sys.argv = ['mmssl', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'numpy', 'cv2', 'pydantic', 'omegaconf', 'sklearn', 'plotly', 'av'}\n"
        "sys.exit(' '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_dry_run_shows_what_and_why_and_does_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(REPOSITORY)
    code, out, _ = mmssl(capsys, "run", "quickstart", "--dry-run", "--runs", str(tmp_path / "runs"))
    assert code == 0
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    table = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert table["frames"] == ["build", "run", "not run yet"]
    assert table["mae_scores"] == ["evaluate", "run", "not run yet"]
    assert not (tmp_path / "runs").exists()


def test_bad_input_is_a_message_and_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(REPOSITORY)
    code, out, err = mmssl(capsys, "run", "quickstart", "simclr.train.pases=3")
    assert (code, out) == (2, "")
    assert "pipelines/quickstart.yaml: stages.simclr.train.pases: unknown key; did you mean 'passes'?" in err
    assert "Traceback" not in err

    code, _, err = mmssl(capsys, "run", "nonsense")
    assert code == 2
    assert "quickstart" in err

    code, _, err = mmssl(capsys, "evaluate", str(tmp_path), "--shards", str(tmp_path), "--evaluation", "kn")
    assert code == 2
    assert "--evaluation: kn.name: expected one of knn" in err

    code, _, err = mmssl(capsys, "export", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "encoder.json: no such file" in err

    code, _, err = mmssl(capsys, "run")
    assert code == 2


@pytest.mark.parametrize(
    ("raised", "expected"), [(Preempted("stopped after step 3; saved"), 75), (KeyboardInterrupt(), 130)]
)
def test_exit_codes_of_interruptions(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    raised: BaseException,
    expected: int,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr("mmssl.pipeline.runner.run_pipeline", interrupted)
    monkeypatch.chdir(REPOSITORY)
    code, _, err = mmssl(capsys, "run", "quickstart", "--runs", str(tmp_path))
    assert code == expected
    assert "Traceback" not in err
    assert ("after step 3" in err) == (expected == 75)


def resolve(schema: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    part: Any = schema
    for key in reference[2:].split("/"):
        part = part[key]
    return part


def check_schema(schema: dict[str, Any], part: Any) -> int:
    """Every ``$ref`` leads somewhere and every ``type`` is one of JSON Schema's; returns how many refs."""
    count = 0
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            assert isinstance(resolve(schema, part["$ref"]), dict)
            count += 1
        if isinstance(part.get("type"), str):
            known = {"object", "array", "string", "number", "integer", "boolean", "null"}
            assert part["type"] in known or "properties" not in part
        return count + sum(check_schema(schema, inner) for inner in part.values())
    if isinstance(part, list):
        return sum(check_schema(schema, inner) for inner in part)
    return 0


@pytest.mark.parametrize("what", ["pipeline", "shards"])
def test_schema(capsys: pytest.CaptureFixture[str], what: str) -> None:
    code, out, _ = mmssl(capsys, "schema", what)
    assert code == 0
    schema = json.loads(out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    assert check_schema(schema, schema) > 5
    text = json.dumps(schema)
    wanted = {
        "pipeline": ["moco_v3", "temperature", "layer_decay", "mask_ratio", "cached", "image_training"],
        "shards": ["miniworld", "splits"],
    }
    for word in wanted[what]:
        assert word in text


def test_schema_knows_every_key_of_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    from mmssl.engine.config import TrainConfig
    from mmssl.methods import METHODS

    schema = json.loads(mmssl(capsys, "schema")[1])
    models: list[type[BaseModel]] = [TrainConfig, *(method.Config for method in METHODS.values())]
    for model in models:
        assert schema["$defs"][model.__name__]["properties"].keys() == model.model_fields.keys()


def test_run_stage_may_start_processes_that_import_it(tmp_path: Path) -> None:
    shards = "name: few\nsource: {kind: miniworld_clips, clips: {train: 2}, fields: [video]}\n"
    (tmp_path / "few.yaml").write_text(shards)
    recipe = f"name: few\nstages: {{clips: {{kind: build, recipe: {tmp_path}/few.yaml, workers: 2}}}}\n"
    (tmp_path / "pipeline.yaml").write_text(recipe)
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "run_stage", "pipeline.yaml"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((tmp_path / "runs/few/clips/manifest.json").read_text())["splits"]["train"]["samples"] == 2
    )


def test_run_stage_is_a_python_script_for_torchrun(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "run_stage", "none", "--stage", "simclr"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "no such pipeline" in done.stderr
    assert os.access(REPOSITORY / "scripts" / "run_stage", os.X_OK)
