"""Gradients of a loss over a whole batch in the memory of one micro-batch, for a second forward pass.

GradCache (Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", RepL4NLP 2021, section 3.2): a loss L(e, s) over embeddings e = f(x; w), which s (a logit scale) may
enter beside, has ∂L/∂w = Σ_m (∂e_m/∂w)ᵀ ∂L/∂e_m over micro-batches m. So all are embedded without graphs,
∂L/∂e and ∂L/∂s are taken from a small graph, and each micro-batch is embedded again to pass its ∂L/∂e_m on.
The one embedded last can keep its graph: n micro-batches take 2n − 1 forward passes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from mmssl.engine import rng
from mmssl.engine.setup import Embeds
from mmssl.engine.step import MicroBatches, mean_loss
from mmssl.methods.base import Loss
from mmssl.stream.batch import Batch

Embeddings = dict[str, Tensor]


class TwoPasses(MicroBatches):
    """Micro-batches whose embeddings are compared all at once; ``accumulate`` is at least 2.

    Both passes over a micro-batch see the same random numbers and precision. Running statistics of norms take
    in each micro-batch once.
    """

    def forward_backward(self, model: nn.Module, batch: Batch) -> Loss:
        """Leave the gradient of the loss over all of this rank's samples, and of DDP's mean over ranks.

        Args:
            model: what ``setup.prepare`` made of a method that is ``TwoPart``.

        Returns:
            the loss over all of this rank's samples, detached.
        """
        model.zero_grad(set_to_none=True)
        method = _method(model)
        batch = batch.to(self.device)
        *early, last = batch.chunks(self.accumulate)
        seeds, embedded = [], []
        with torch.no_grad(), _as_they_were(method):
            for part in early:
                seeds.append(rng.get_state())
                embedded.append(self._embed(model, part))
        with _apart(model):
            kept = self._embed(model, last)
            loss, slopes, direct = self._compare(method, [*embedded, kept], batch)
            _pass_on(kept, slopes[-1])
        afterwards = rng.get_state()
        for number, (part, seed, slope) in enumerate(zip(early, seeds, slopes, strict=False), start=1):
            rng.put_state(seed)
            if number < len(early):
                with _apart(model):
                    _pass_on(self._embed(model, part), slope)
            else:  # all gradients are there: DDP averages them over ranks
                _pass_on(self._embed(model, part), slope, direct)
        rng.put_state(afterwards)
        return loss

    def _embed(self, model: nn.Module, part: Batch) -> Embeddings:
        ready = self.ready(part)
        with self.autocast():
            embeddings: Embeddings = model(ready)
        return embeddings

    def _compare(
        self, method: nn.Module, embedded: Sequence[Embeddings], batch: Batch
    ) -> tuple[Loss, list[Embeddings], list[tuple[nn.Parameter, Tensor]]]:
        """The loss; ∂L/∂e of each micro-batch by name; parameters that the loss itself uses, with ∂L/∂s."""
        joined = {name: torch.cat([each[name].detach() for each in embedded]) for name in embedded[0]}
        leaves = [name for name, e in joined.items() if e.is_floating_point()]
        for name in leaves:
            joined[name].requires_grad_()
        with self.autocast():
            loss: Loss = method.loss_of(joined, batch)  # type: ignore[operator]
        parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(
            loss.total, [*(joined[name] for name in leaves), *parameters], allow_unused=True
        )
        slopes: list[Embeddings] = [{} for _ in embedded]
        for name, slope in zip(leaves, found, strict=False):
            if slope is not None:
                rows = [len(each[name]) for each in embedded]
                for number, part in enumerate(slope.split(rows)):
                    slopes[number][name] = part
        of_parameters = zip(parameters, found[len(leaves) :], strict=True)
        direct = [(parameter, slope) for parameter, slope in of_parameters if slope is not None]
        return mean_loss([Loss(loss.total.detach(), loss.parts, loss.embedding)]), slopes, direct


def _pass_on(
    embeddings: Embeddings, slopes: Embeddings, direct: Sequence[tuple[Tensor, Tensor]] = ()
) -> None:
    """Add (∂e/∂w)ᵀ ∂L/∂e to the parameters' gradients, and what ``direct`` says of some of them."""
    pairs = [(embeddings[name], slope) for name, slope in slopes.items() if embeddings[name].requires_grad]
    tensors, gradients = zip(*pairs, *direct, strict=True)
    torch.autograd.backward(tensors, gradients)


def _method(model: nn.Module) -> nn.Module:
    embeds = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(embeds, Embeds)
    return embeds.method


@contextmanager
def _apart(model: nn.Module) -> Iterator[None]:
    """Gradients made inside stay on this rank for now."""
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    else:
        yield


@contextmanager
def _as_they_were(method: nn.Module) -> Iterator[None]:
    """Put running means and variances back: what is embedded inside will be embedded again."""
    norms = [module for module in method.modules() if isinstance(module, _NormBase)]
    statistics = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    before = [buffer.clone() for buffer in statistics]
    yield
    for buffer, value in zip(statistics, before, strict=True):
        buffer.copy_(value)
