"""Exact resume on real processes that are really killed."""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from engine_tiny import FakeStream, lines, losses, rank_main, start

from mmssl.errors import EXIT_PREEMPTED

STEPS = 64
SETTINGS: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 5, "optimizer": {"base_lr": 1.0}}
PAUSE = 0.06


def launch(ranks: int, folder: Path, **arguments: Any) -> list[ForkServerProcess]:
    """Processes with the environment that torchrun gives; forked from one that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mmssl.engine"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(ranks):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
        environment = {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
        process = context.Process(target=rank_main, args=(environment, folder, arguments))
        process.start()
        processes.append(process)
    return processes


def exit_codes(processes: list[ForkServerProcess]) -> list[int | None]:
    """Of all ranks, as they ended; one that hangs is killed and shows as -SIGKILL."""
    for process in processes:
        process.join(timeout=90)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def finish(ranks: int, folder: Path, **arguments: Any) -> None:
    assert exit_codes(launch(ranks, folder, **arguments)) == [0] * ranks


def wait_for_step(processes: list[ForkServerProcess], folder: Path, step: int) -> None:
    deadline = time.monotonic() + 90
    path = folder / "log.jsonl"
    while not path.is_file() or path.read_bytes().count(b"\n") < step:
        assert all(process.is_alive() for process in processes)
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit(ranks: int, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(ranks, whole, train_config=SETTINGS)
    processes = launch(ranks, killed, train_config=SETTINGS, pause=PAUSE)
    wait_for_step(processes, killed, random.Random(time.time_ns()).randint(6, STEPS - 52))
    for process in processes:
        process.kill()
    assert exit_codes(processes) == [-signal.SIGKILL] * ranks
    assert len(lines(killed)) < STEPS
    finish(ranks, killed, train_config=SETTINGS)
    assert losses(killed) == losses(whole)
    assert list(losses(killed)) == list(range(1, STEPS + 1))
    ours = (killed / "encoders/image/encoder.safetensors").read_bytes()
    assert ours == (whole / "encoders/image/encoder.safetensors").read_bytes()


def test_ranks_may_change_and_no_sample_is_seen_twice(tmp_path: Path) -> None:
    """2 → 1 → 2 ranks, over one pass and a bit; a signal to one rank stops all of them at the same step."""
    folder, record = tmp_path / "run", tmp_path / "ids"
    samples = 240
    arguments = {
        "train_config": {**SETTINGS, "checkpoint_every": 1000},
        "record": record,
        "samples": samples,
        "pause": PAUSE,
    }
    for ranks, step, number in ((2, 15, signal.SIGTERM), (1, 35, signal.SIGUSR1)):
        processes = launch(ranks, folder, **arguments)
        wait_for_step(processes, folder, step)
        os.kill(processes[-1].pid or 0, number)
        assert exit_codes(processes) == [EXIT_PREEMPTED] * ranks
        assert step <= len(lines(folder)) < STEPS
    finish(2, folder, **arguments)
    seen = [tuple(map(int, line.split())) for line in record.read_text().splitlines()]
    assert [step for step, _ in seen] == [step for step in range(1, STEPS + 1) for _ in range(4)]
    stream = FakeStream(4, samples)
    assert [id_ for _, id_ in seen] == [stream.at(position)[0] for position in range(STEPS * 4)]
    assert sorted(id_ for _, id_ in seen[:samples]) == list(range(samples))


def test_two_ranks_under_torchrun_learn_what_one_learns(tmp_path: Path) -> None:
    """Without dropout and batch statistics, the mean of two ranks' gradients is the whole batch's."""
    one, two = tmp_path / "one", tmp_path / "two"
    start(one, {"batch_size": 8, "optimizer": {"base_lr": 0.1}}, {"norm": False})
    script = str(Path(__file__).with_name("engine_tiny.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, script, str(two)], env=environment, check=True, timeout=120)
    assert len(losses(one)) == 12
    for step, (loss, norm) in losses(one).items():
        assert losses(two)[step] == pytest.approx((loss, norm), rel=1e-4), step
