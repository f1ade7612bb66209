"""Training: the loop, and what makes it exact, resumable and distributed."""

from mmssl.engine.config import OptimizerConfig, TrainConfig
from mmssl.engine.rng import seed_everything
from mmssl.engine.setup import process_group
from mmssl.engine.train import train

__all__ = ["OptimizerConfig", "TrainConfig", "process_group", "seed_everything", "train"]
