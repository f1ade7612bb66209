"""What a training run can be told; everything else follows from the method and the data."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mmssl.config import Config

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """The optimiser. Norms, biases, tokens and other vectors are never decayed (nor adapted by LARS)."""

    name: Literal["sgd", "adamw", "lars"] = "sgd"
    base_lr: PositiveFloat = 0.03
    """Peak learning rate for a global batch of 256; the rate used is base_lr × batch_size / 256."""
    weight_decay: NonNegativeFloat = 1e-4
    momentum: Share = 0.9
    """Of SGD and LARS."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Of AdamW; MAE uses (0.9, 0.95)."""
    trust: PositiveFloat = 0.001
    """Trust coefficient η of LARS (You et al. 2017, eq. 6)."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rate of each encoder layer relative to the layer above it (BEiT); 1 treats all layers alike."""


class TrainConfig(Config):
    """One training run. Give its length either as ``passes`` over the data or as ``steps``."""

    passes: PositiveFloat | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 256
    """Samples in one optimiser step, over all ranks and micro-batches."""
    seed: NonNegativeInt = 0
    optimizer: OptimizerConfig = OptimizerConfig()
    warmup: NonNegativeFloat = 0.0
    """Passes over which the learning rate rises linearly to its peak."""
    final_lr: NonNegativeFloat = 0.0
    """Where the cosine ends; like base_lr it is for a batch of 256."""
    clip: PositiveFloat | None = None
    """Largest allowed L2 norm of the whole gradient."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is autocast over fp32 weights; auto takes it where the hardware computes in it."""
    accumulate: PositiveInt = 1
    """Micro-batches that each rank's share of the batch is split into, to save memory.

    The gradient is the mean over micro-batches. Methods that compare samples of one batch see only those of
    a micro-batch, so their objective changes, unless ``cached``; the log records how many there were."""
    cached: bool = Field(False, exclude_if=lambda cached: not cached)
    """Compare all samples of the batch although micro-batches are encoded one at a time, all but one of them
    twice: the gradient is that of the whole batch, in the memory of a micro-batch. Needs accumulate > 1 and a
    method that can (clip, siglip, simclr …). Batch norms still see micro-batches."""
    compile: bool = False
    """Run the method through torch.compile."""
    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints; one more is written at the end, or when a signal asks to stop."""
    keep: PositiveInt = 2
    """Newest checkpoints that stay; with 2 or more a damaged one can be passed over."""
    log_every: PositiveInt = 10
    """Steps between log lines; each line holds the values of its own step."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.passes is None) == (self.steps is None):
            raise ValueError("expected exactly one of passes and steps")
        return self

    @model_validator(mode="after")
    def _two_passes_are_of_use(self) -> Self:
        if self.cached and self.accumulate == 1:
            raise ValueError("cached: expected accumulate > 1; a batch in one piece needs no second pass")
        if self.cached and self.compile:
            raise ValueError(
                "cached: expected compile: false; compiled dropout would differ in the second pass"
            )
        return self


HARMLESS = (
    *("train.checkpoint_every", "train.keep", "train.log_every"),
    *("stream.workers", "stream.verify", "stream.cache", "stream.faults"),
)
"""Settings a run may resume with changed: none of them alters what is learnt."""
