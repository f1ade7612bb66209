"""One transformer learns both modalities, and a teacher alone teaches: unseen images find their words."""

from pathlib import Path

import pytest
import torch
from captioned_stills import CONTEXT, NET, SIZE, made
from test_clip_learns_layouts import BATCH, STEPS, layouts_found, pairs

from mmssl.methods.artifact import save_method
from mmssl.methods.language.distil import Distil
from mmssl.methods.language.towers import ImageText
from mmssl.stream.batch import Batch

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {**NET, "kwargs": {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}}
VIT = {
    "name": "vit_tiny_patch16_224",
    "image_size": SIZE,
    "kwargs": {"patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 2},
}


def learn(method: ImageText) -> None:
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for step in range(STEPS):
        batch = pairs(method, BATCH, seed=step + 1)
        if isinstance(method, Distil):
            batch = Batch(batch | {"teacher_image": batch.image, "teacher_text": batch.text})
        optimizer.zero_grad()
        method(batch).total.backward()
        optimizer.step()
        method.after_step(step / STEPS)


def test_words_and_patches_find_each_other_through_the_same_layers() -> None:
    method = made("ms_clip", image=VIT, text={"context": CONTEXT})
    untrained = layouts_found(method)
    learn(method)
    trained = layouts_found(method)
    for before, after in zip(untrained, trained, strict=True):
        assert before < 0.4
        assert after > 0.5, (untrained, trained)  # four times chance


def test_a_teacher_is_enough_to_learn_from(tmp_path: Path) -> None:
    """Without a loss on captions the student only hears what the teacher makes of them."""
    teacher = made("clip", image=SMALL)
    learn(teacher)
    save_method(teacher, tmp_path)
    del teacher
    student = made("distil", image=VIT, contrast=0.0, teacher={"weights": str(tmp_path)})
    assert isinstance(student, Distil)
    alone = made("clip", image=VIT)
    untrained = layouts_found(alone)
    learn(student)
    alone.load_state_dict(student.state_dict())  # asked without its teacher
    trained = layouts_found(alone)
    for before, after in zip(untrained, trained, strict=True):
        assert before < 0.4
        assert after > 0.7, (untrained, trained)
