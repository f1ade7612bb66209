"""Encoders: shapes, stems, folders that timm reads, and messages for weights that do not fit."""

import pickle
from pathlib import Path

import pytest
import timm
import torch

from mmssl.errors import MmsslError
from mmssl.models.artifact import load_encoder, save_encoder
from mmssl.models.encoder import EncoderConfig, build_encoder, timm_arguments

RESNET = EncoderConfig(name="resnet18", stem="small", image_size=32)
VIT = EncoderConfig(
    name="vit_tiny_patch16_224",
    image_size=32,
    kwargs={"patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3},
)


@pytest.mark.parametrize(
    ("stem", "side"),
    [("default", 1), ("small", 4), ("small_stride2", 2), ("small_stride4", 1)],
    ids=lambda value: str(value),
)
def test_stems_keep_more_of_a_small_image(stem: str, side: int) -> None:
    encoder = build_encoder(EncoderConfig(name="resnet18", stem=stem, image_size=32))  # type: ignore[arg-type]
    x = torch.rand(2, 3, 32, 32)
    assert encoder.feature_map(x).shape == (2, 512, side, side)
    assert encoder(x).shape == (2, encoder.dim) == (2, 512)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_transformer_pools_its_feature_map(pool: str) -> None:
    encoder = build_encoder(VIT.model_copy(update={"kwargs": VIT.kwargs | {"global_pool": pool}})).eval()
    x = torch.rand(2, 3, 32, 32)
    tokens = encoder.backbone.forward_features(x)  # type: ignore[operator]
    assert encoder(x).shape == (2, 48)
    grid = encoder.feature_map(x)
    assert grid.shape == (2, 48, 4, 4)
    torch.testing.assert_close(grid[:, :, 1, 2], tokens[:, 1 + 1 * 4 + 2])


@pytest.mark.parametrize("config", [RESNET, VIT], ids=["resnet", "vit"])
def test_a_saved_encoder_comes_back(config: EncoderConfig, tmp_path: Path) -> None:
    encoder = build_encoder(config).to(memory_format=torch.channels_last).eval()
    save_encoder(encoder, tmp_path, {"stage": "train"})
    x = torch.rand(2, 3, 32, 32)
    again = load_encoder(tmp_path).eval()
    torch.testing.assert_close(again(x), encoder(x))
    started = build_encoder(config.model_copy(update={"weights": str(tmp_path)})).eval()
    torch.testing.assert_close(started(x), encoder(x))


@pytest.mark.parametrize("config", [EncoderConfig(name="resnet18"), VIT], ids=["resnet", "vit"])
def test_timm_loads_the_weights_of_a_default_stem(config: EncoderConfig, tmp_path: Path) -> None:
    encoder = build_encoder(config).eval()
    save_encoder(encoder, tmp_path, {})
    weights = tmp_path / "encoder.safetensors"
    model = timm.create_model(config.name, **timm_arguments(config), checkpoint_path=str(weights)).eval()
    x = torch.rand(2, 3, config.image_size, config.image_size)
    assert torch.equal(model(x), encoder(x))


def test_a_pth_with_a_classifier_is_a_start(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=7).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    encoder = build_encoder(EncoderConfig(weights=str(tmp_path / "model.pth"))).eval()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(encoder(x), model.forward_head(model.forward_features(x), pre_logits=True))


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("sprung"),))


def test_pickles_are_refused_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(MmsslError, match=r"model\.pth"):
        build_encoder(EncoderConfig(weights=str(tmp_path / "model.pth")))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "resnet1"}, "encoder.name"),
        ({"name": "vit_tiny_patch16_224", "stem": "small"}, "encoder.stem"),
        ({"kwargs": {"depht": 3}}, "encoder.kwargs.*depht"),
        ({"weights": "nowhere"}, "nowhere: no such file"),
    ],
)
def test_settings_that_cannot_work(change: dict[str, object], message: str) -> None:
    with pytest.raises(MmsslError, match=message):
        build_encoder(EncoderConfig(**change))  # type: ignore[arg-type]


def test_weights_of_another_network(tmp_path: Path) -> None:
    save_encoder(build_encoder(VIT), tmp_path, {})
    with pytest.raises(MmsslError, match=r"missing: .*bn1.*unexpected: .*blocks"):
        build_encoder(EncoderConfig(weights=str(tmp_path)))
    with pytest.raises(MmsslError, match=r"of another shape: .*pos_embed"):
        build_encoder(VIT.model_copy(update={"image_size": 64, "weights": str(tmp_path)}))


def test_a_truncated_file(tmp_path: Path) -> None:
    save_encoder(build_encoder(VIT), tmp_path, {})
    weights = tmp_path / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MmsslError, match=r"encoder\.safetensors: not readable"):
        load_encoder(tmp_path)
