"""Worker processes: they make batches in order, survive the signals that stop training, and end with it."""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from mmssl.errors import MmsslError
from mmssl.stream.batch import Batch
from mmssl.stream.batches import BatchMaker, Made
from mmssl.stream.quarantine import Quarantine

_FOR_TRAINING = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
"""A terminal or a scheduler sends these to every process of a run. What they ask for is decided by training,
which saves after its next step, and may need one more batch for that."""
_LOOK = 1.0
"""Seconds between two looks whether training is still alive."""


def run(
    maker: BatchMaker, starts: Iterable[int], workers: int, quarantine: Quarantine, pin: bool
) -> Iterator[Batch | None]:
    """Items of ``maker`` in the order of ``starts``; the workers are fed nothing but these integers.

    Raises:
        MmsslError: too many samples cannot be read.
    """
    loader: DataLoader[Made] = DataLoader(
        maker,
        batch_size=None,
        sampler=starts,
        collate_fn=_unchanged,  # the default would turn NumPy arrays into tensors
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_start if workers else None,
        multiprocessing_context=_context() if workers else None,
        # The loader draws a seed from the global generator unless it has its own; runs must not depend on
        # that.
        generator=torch.Generator(),
    )
    # A list, so that the only reference can be dropped at exit, before the interpreter waits for the workers.
    running = [iter(loader)]
    atexit.register(running.clear)
    try:
        while True:
            try:
                batch, attempts, stop = next(running[0])
            except StopIteration:
                return
            quarantine.note(attempts)
            if stop:
                raise MmsslError(stop)
            yield batch
    finally:
        running.clear()
        atexit.unregister(running.clear)


def _unchanged(made: Any) -> Any:
    return made


def _context() -> ForkServerContext:
    """Never fork a process that has threads (OpenMP, gloo, NCCL, autograd): a lock that one of them holds at
    that moment stays locked in the child. The fork server has none, and imports torch once for all workers.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    resource_tracker.ensure_running()  # the server starts it otherwise, and unblocks signals while doing so
    # The server and all workers inherit what is blocked here. A signal that comes meanwhile waits for us.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_TRAINING)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    return context


def _start(number: int) -> None:
    """One thread for the work of a worker, and one that ends it."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_TRAINING)  # the server may have been started by others
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """End this process when its parent does, or says so.

    The loader's own watch is for its workers' parent in the system's sense, which is the fork server; and
    that one lives as long as any worker does.
    """
    while parent.is_alive():
        told = signal.sigtimedwait({signal.SIGTERM}, _LOOK)
        if told is not None and told.si_pid == parent.pid:
            break
    os._exit(0)
