"""Files are whole or absent, and a folder has one writer."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mmssl.errors import MmsslError
from mmssl.files import atomic, only_writer, read_json, write_json


def test_the_old_content_survives_an_error_and_nothing_else_remains(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic(path) as file:
        file.write(b"half")
        raise RuntimeError("stop")
    assert read_json(path, "anything") == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit makes the kernel refuse the write half-way, as a full disk does."""
    code = f"""
import resource, signal
from mmssl.files import write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
write_bytes({str(tmp_path / "big.bin")!r}, b"x" * 100_000)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "MmsslError" in ended.stderr
    assert "big.bin: could not be written: File too large" in ended.stderr
    assert os.listdir(tmp_path) == []


def test_json_that_is_not_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(MmsslError, match=r"a\.json: not readable as JSON.*expected a manifest"):
        read_json(tmp_path / "a.json", "a manifest")
    with pytest.raises(MmsslError, match=r"b\.json: no such file; expected a manifest"):
        read_json(tmp_path / "b.json", "a manifest")


def test_the_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    code = f"""
from mmssl.files import only_writer
with only_writer({str(tmp_path)!r}):
    print("held", flush=True)
    input()
"""
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdin is not None
    with first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(MmsslError, match=rf"process {first.pid}"), only_writer(tmp_path):
            pass
        first.kill()
    with only_writer(tmp_path):
        pass
