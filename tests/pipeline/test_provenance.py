"""The command that a stage records can be pasted."""

import sys

import pytest

from mmssl.pipeline.provenance import command, peak_memory, versions


def test_command_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/mmssl", "run", "a b", "x=1"])
    assert command() == "mmssl run 'a b' x=1"


@pytest.mark.parametrize(("world", "nodes"), [(2, ""), (8, "--nnodes 4 ")])
def test_command_under_torchrun(monkeypatch: pytest.MonkeyPatch, world: int, nodes: str) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    monkeypatch.setattr(sys, "argv", ["scripts/run_stage", "cifar10"])
    assert command() == f"torchrun {nodes}--nproc-per-node 2 scripts/run_stage cifar10"


def test_facts_about_the_process() -> None:
    assert {"python", "torch", "timm", "mmssl"} <= versions().keys()
    before = peak_memory()
    filled = bytearray(b"x" * int(before * 1e9 + 50e6))
    assert peak_memory() >= before + 0.04
    assert filled
