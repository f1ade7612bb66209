"""Member names: what belongs to which key and field, and which names are refused."""

import pytest

from mmssl.errors import MmsslError
from mmssl.modalities import MODALITIES, modality_of, split_member


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("000001.image.jpg", ("000001", "image", "jpg")),
        ("train/a-b.flow_backward.png", ("train/a-b", "flow_backward", "png")),
        ("v1.2/x.label.json", ("v1.2/x", "label", "json")),
        ("000001.jpg", ("000001", "image", "jpg")),
        ("000001.JPG", ("000001", "image", "jpg")),
        ("000001.cls", ("000001", "label", "cls")),
        ("000001.txt", ("000001", "caption", "txt")),
        ("000001.json", ("000001", "meta", "json")),
    ],
)
def test_names_split_at_the_first_dot_of_the_base_name(name: str, parts: tuple[str, str, str]) -> None:
    assert split_member(name) == parts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip.v1.0.jpg", "dots in a key"),
        ("clip.v1.jpg", "dots in a key"),
        ("000001", "expected <key>"),
        (".jpg", "expected <key>"),
        ("000001.pyd", "no known modality"),
        ("000001.depth.jpg", "expected extension png"),
    ],
)
def test_names_that_would_be_grouped_wrongly_are_refused(name: str, message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        split_member(name)


def test_every_field_name_leads_back_to_its_modality() -> None:
    for name, modality in MODALITIES.items():
        assert modality_of(name) is modality
        assert modality_of(f"{name}_left") is modality
    with pytest.raises(MmsslError, match="unknown field 'picture'"):
        modality_of("picture")
