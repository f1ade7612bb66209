"""Write shards in this process or in several; the caller gets them as they are finished."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from mmssl.errors import MmsslError
from mmssl.files import join_crew
from mmssl.shards.plan import Task
from mmssl.shards.sources import BadInput, Source
from mmssl.shards.state import STATE, Record, Skipped, write_record
from mmssl.shards.writer import RawSample, write_shard

Result = tuple[Task, Record]


def run_tasks(
    source: Source, out: Path, tasks: list[Task], workers: int, counted: Callable[[int], None]
) -> Iterator[Result]:
    """Write every task's tar below ``out``; ``counted`` hears how many inputs have been taken in so far.

    Raises:
        MmsslError: a shard could not be written, or a worker was killed.
    """
    if not tasks:
        return
    if workers <= 1:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            counted(done)

        for task in tasks:
            yield task, _write(source, out, task, count)
        return
    yield from _run_in_processes(source, out, tasks, min(workers, len(tasks)), counted)


def _run_in_processes(
    source: Source, out: Path, tasks: list[Task], workers: int, counted: Callable[[int], None]
) -> Iterator[Result]:
    # Spawned rather than forked: open archives and threads of the parent must not be shared with the workers.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, _set_up_worker, (source, out, counter))
    try:
        waiting = {pool.submit(_write_in_worker, task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            counted(counter.value)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise MmsslError(
            f"{out}: a worker process died, possibly for lack of memory; run the same command again to go on "
            "from there, with fewer workers or a smaller shard_mb"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}


def _set_up_worker(source: Source, out: Path, counter: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    parent = multiprocessing.parent_process()
    assert parent is not None

    def die_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=die_with_parent, daemon=True).start()
    join_crew(out / STATE)  # whoever goes on with the work of a killed parent waits for us
    if not parent.is_alive():
        os._exit(1)  # that has begun already
    _worker.update(source=source, out=out, counter=counter)


def _write_in_worker(task: Task) -> Result:
    def count() -> None:
        with _worker["counter"].get_lock():
            _worker["counter"].value += 1

    return task, _write(_worker["source"], _worker["out"], task, count)


def _write(source: Source, out: Path, task: Task, count: Callable[[], None]) -> Record:
    """The tar and its record: written here, so that a shard counts even if nobody waits for it any more."""
    skipped: list[Skipped] = []

    def samples() -> Iterator[RawSample]:
        for item in task.items:
            try:
                # An input counts as a whole: nothing of it is written before all of it is known to be good.
                loaded = list(source.load(item))
            except BadInput as error:
                skipped.append(
                    {"split": task.split, "key": item.key, "input": item.path, "reason": str(error)}
                )
                loaded = []
            yield from loaded
            count()

    written = write_shard(out / f"{task.name}.tar", samples())
    return write_record(out, task, written, skipped)
