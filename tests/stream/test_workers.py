"""Worker processes: deaf to a scheduler's signals, obedient to the loader, gone when training is."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_stream import Shown, config_of

from mmssl.stream import Stream


def train(root: str) -> None:
    """Stand-in for training: 20 batches for every line on stdin; "end" leaves with the stream still open."""
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 60.0  # what the loader grants a worker that hangs
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: signals.append(number))
    batches = Stream(config_of(Path(root), workers=2), {"image": Shown()}, batch_size=10, seed=1).batches()
    say(next(batches).id.tolist())
    for line in sys.stdin:
        if line.strip() == "end":
            worker = multiprocessing.active_children()[0]
            worker.terminate()
            worker.join(10)
            say(worker.exitcode)
            sys.exit(7)
        say([next(batches).id.tolist() for _ in range(20)], sorted(signals))


def say(*values: object) -> None:
    print(*values, flush=True)


def living() -> dict[int, int]:
    """Every process that runs, and its parent."""
    parents = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    return parents


def family(pid: int) -> set[int]:
    """All living descendants of a process."""
    parents = living()
    found: set[int] = set()
    latest = {pid}
    while latest:
        latest = {child for child, parent in parents.items() if parent in latest}
        found |= latest
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def training(shards: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, str(shards)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


def ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_signals_to_all_processes_stop_no_worker(training: subprocess.Popen[str], shards: Path) -> None:
    """As from a scheduler: to the process group, and to each process by itself; then training ends."""
    assert training.stdout is not None
    expected = [
        batch.id.tolist()
        for batch in Stream(config_of(shards), {"image": Shown()}, batch_size=10, seed=1).batches(0, 41)
    ]
    assert training.stdout.readline() == f"{expected[0]}\n"
    children = family(training.pid)
    assert len(children) >= 3  # the fork server and two workers
    os.killpg(training.pid, signal.SIGUSR1)
    assert ask(training, "go") == f"{expected[1:21]} {[int(signal.SIGUSR1)]}\n"
    for pid in [training.pid, *children]:
        os.kill(pid, signal.SIGTERM)
    assert ask(training, "go") == f"{expected[21:41]} {[int(signal.SIGUSR1), int(signal.SIGTERM)]}\n"
    assert ask(training, "end") == "0\n"  # the loader's own way to end a worker that hangs
    assert training.wait(30) == 7  # nobody waited for the loader's minute
    wait_for(lambda: not children & living().keys())


def test_no_worker_survives_a_killed_training(training: subprocess.Popen[str]) -> None:
    assert training.stdout is not None
    training.stdout.readline()
    children = family(training.pid)
    assert len(children) >= 3
    training.kill()
    training.wait()
    wait_for(lambda: not children & living().keys())


if __name__ == "__main__":
    train(sys.argv[1])
