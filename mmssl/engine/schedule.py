"""How long a run is and which learning rate each step takes: pure functions of the step, so no state."""

import math
from dataclasses import dataclass

from mmssl.engine.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine from ``peak`` down to ``final`` (Loshchilov & Hutter 2017)."""

    steps: int
    warmup: int
    peak: float
    final: float

    def lr(self, step: int) -> float:
        """Learning rate of the step that follows ``step`` finished ones, 0 ≤ step < steps.

        Warm-up step k of w (from 0) takes peak · (k + 1) / w, so that no step is wasted at rate 0.
        """
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final + (self.peak - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


def schedule_of(config: TrainConfig, samples_per_pass: int) -> Schedule:
    """Turn passes into steps (rounded to whole steps, at least one) and scale the rates to the batch."""
    per_pass = samples_per_pass / config.batch_size
    steps = config.steps if config.steps is not None else max(1, round((config.passes or 0) * per_pass))
    scale = config.batch_size / 256
    return Schedule(
        steps=steps,
        warmup=min(steps, round(config.warmup * per_pass)),
        peak=config.optimizer.base_lr * scale,
        final=config.final_lr * scale,
    )
