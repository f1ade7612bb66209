"""The two ends of a run: who may write to its folder, and what it leaves there when it has finished."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from mmssl import distributed
from mmssl.engine.checkpoint import Checkpoints
from mmssl.errors import MmsslError
from mmssl.files import only_writer, read_json, write_bytes, write_json
from mmssl.methods.artifact import save_method
from mmssl.methods.base import Method
from mmssl.models.artifact import save_encoder
from mmssl.stream.batch import Batch

FINISHED = "finished.json"


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Rank 0 holds the folder's lock; when it is refused, all ranks give up together.

    Raises:
        MmsslError: another run writes to the folder.
    """
    with ExitStack() as held:
        refusal: MmsslError | None = None
        if distributed.is_main():
            try:
                held.enter_context(only_writer(folder))
            except MmsslError as error:
                refusal = error
        if distributed.any_rank(refusal is not None):
            raise refusal or MmsslError(f"{folder}: another run is writing here")
        yield


def already_finished(folder: Path, checkpoints: Checkpoints) -> bool:
    """Whether this very run finished here before.

    Raises:
        MmsslError: a run with other settings finished here.
    """
    path = folder / FINISHED
    if not distributed.any_rank(path.is_file()):
        return False
    checkpoints.check_same_run(read_json(path, "the mark of a finished run")["identity"], path)
    return True


def leave_behind(
    method: Method,
    batch: Batch,
    folder: Path,
    checkpoints: Checkpoints,
    *,
    steps: int,
    provenance: Mapping[str, Any],
) -> None:
    """Write encoders and pictures, and last of all the mark that says the run is finished (rank 0)."""
    method.eval()
    if distributed.is_main():
        made_by = {**provenance, "method": method.config.name, "steps": steps}
        for name, encoder in method.encoders().items():
            save_encoder(encoder, folder / "encoders" / name, made_by)
        if type(method).pretext is not Method.pretext:
            save_method(method, folder)
        with torch.no_grad():
            for name, images in method.pictures(batch).items():
                write_bytes(folder / "pictures" / f"{name}.png", png(images))
        write_json(folder / FINISHED, {"identity": checkpoints.identity, "steps": steps})
    distributed.barrier()


def png(images: Tensor, columns: int = 8) -> bytes:
    """A sheet of (N, 3, H, W) float images in 0..1, ``columns`` to a row."""
    sheet = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=columns)
    encoded = BytesIO()
    to_pil_image(sheet).save(encoded, format="PNG")
    return encoded.getvalue()
