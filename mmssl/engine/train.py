"""The training loop. All it needs to be exact after a kill is a step number and a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl import distributed
from mmssl.engine import setup
from mmssl.engine.cache import TwoPasses
from mmssl.engine.checkpoint import Checkpoints
from mmssl.engine.config import HARMLESS, TrainConfig
from mmssl.engine.leave import already_finished, leave_behind, one_writer
from mmssl.engine.log import Log, Stopwatch
from mmssl.engine.optim import build_optimizer, set_lr
from mmssl.engine.preempt import StopSignals
from mmssl.engine.rng import seed_everything
from mmssl.engine.schedule import schedule_of
from mmssl.engine.step import BatchStream, MicroBatches, Recent, closed_after, facts, gradient_norm
from mmssl.errors import Preempted
from mmssl.methods.base import Method


def train(
    method: Method,
    stream: BatchStream,
    config: TrainConfig,
    folder: Path | str,
    *,
    provenance: Mapping[str, Any],
) -> None:
    """Train ``method`` on ``stream`` and leave its encoders in ``folder``; go on where a former run stopped.

    The stream must deliver global batches of ``config.batch_size``, and know this process's rank. Several
    ranks must be inside ``setup.process_group()``. A run that has finished returns at once. Leaves
    ``log.jsonl``, ``tensorboard/``, ``checkpoints/``, ``encoders/NAME/``, ``pictures/NAME.png`` and,
    if samples could not be read, ``quarantine.jsonl``.

    Raises:
        MmsslError: the folder belongs to a run with other settings or another process writes to it, the loss
            or gradient stopped being finite, ranks drifted apart, or a file could not be written.
        Preempted: SIGTERM or SIGUSR1 came; a checkpoint of the step just finished has been saved.
    """
    folder = Path(folder)
    device = setup.pick_device()
    precision = setup.pick_precision(config.precision, device, method)
    schedule = schedule_of(config, stream.samples_per_pass)
    identity = {
        "train": config.model_dump(mode="json") | {"precision": precision},
        "method": method.config.model_dump(mode="json"),
        "stream": stream.config.model_dump(mode="json"),
        "data": {"samples": method.data.samples, "samples_per_pass": stream.samples_per_pass},
    }
    provenance = {**provenance, "hardware": setup.describe_hardware(device, precision)}
    checkpoints = Checkpoints(folder / "checkpoints", config.keep, identity, HARMLESS)
    with one_writer(folder):
        if already_finished(folder, checkpoints):
            return
        model = setup.prepare(method, config, device)
        optimizer = build_optimizer(method, config.optimizer)
        seed_everything(config.seed, distributed.rank())
        first, consumed = checkpoints.restore(method, optimizer)
        setup.share_state(method)
        stream.quarantine.log_to(folder / "quarantine.jsonl")
        batches = stream.batches(consumed, schedule.steps - first)
        log = Log(folder, step=first, steps=schedule.steps)
        passes_over = TwoPasses if config.cached else MicroBatches
        micro = passes_over(stream, config.accumulate, precision, device)
        watch, recent = Stopwatch(), Recent()
        with closed_after(batches), log, StopSignals() as signals:
            for step in range(first + 1, schedule.steps + 1):
                stop = distributed.any_rank(signals.requested is not None)
                save = stop or step == schedule.steps or step % config.checkpoint_every == 0
                report = save or step % config.log_every == 0

                lr = schedule.lr(step - 1)
                set_lr(optimizer, lr)
                loss = micro.forward_backward(model, watch.next(batches))
                norm = gradient_norm(method, config.clip) if report or config.clip else None
                optimizer.step()
                method.after_step(step / schedule.steps)
                consumed += config.batch_size

                recent.add(step, loss.total, norm)
                log.advance(step)
                if report:
                    values = recent.check() | {"lr": lr} | watch.read(config.batch_size) | facts(loss)
                    passes = consumed / stream.samples_per_pass
                    log.write({"step": step, "samples": consumed, "pass": passes, **values})
                if save:
                    setup.average_statistics(method)
                    setup.check_ranks_agree(method, step)
                    checkpoints.save(method, optimizer, step=step, consumed=consumed, provenance=provenance)
                if stop and step < schedule.steps:
                    raise Preempted(f"{folder}: {signals.requested or 'signal'} after step {step}; saved")
        leave_behind(
            method, micro.first_batch(), folder, checkpoints, steps=schedule.steps, provenance=provenance
        )
