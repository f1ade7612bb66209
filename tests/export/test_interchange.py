"""Exported encoders, loaded by timm alone, give the same features; and they can be started from again."""

import json
import re
import stat

import pytest
import timm
import torch

from mmssl.errors import MmsslError
from mmssl.models.artifact import save_encoder
from mmssl.models.encoder import EncoderConfig, build_encoder
from mmssl.models.interchange import export_encoder
from mmssl.sights import SIGHTS

ENCODERS = {
    "resnet": EncoderConfig(name="resnet18", image_size=64),
    "small": EncoderConfig(name="resnet18", stem="small", image_size=32, mean=(0.5, 0.4, 0.3)),
    "small_stride2": EncoderConfig(name="resnet18", stem="small_stride2", image_size=32),
    "small_stride4": EncoderConfig(name="resnet18", stem="small_stride4", image_size=32),
    "vit": EncoderConfig(
        name="vit_tiny_patch16_224",
        image_size=32,
        kwargs={"patch_size": 4, "embed_dim": 96, "num_heads": 3, "depth": 2, "global_pool": "avg"},
    ),
    "depth": EncoderConfig(name="resnet18", image_size=64, sees="depth"),
    "L": EncoderConfig(name="resnet18", stem="small_stride2", image_size=32, sees="L"),
    "classes": EncoderConfig(name="resnet18", image_size=64, sees="segmentation", channels=9),
    "flow": EncoderConfig(
        name="vit_tiny_patch16_224",
        image_size=32,
        sees="flow",
        channels=10,
        kwargs={"patch_size": 8, "embed_dim": 96, "num_heads": 3, "depth": 2, "global_pool": "avg"},
    ),
}


@pytest.fixture(params=ENCODERS)
def trained(request, tmp_path):
    """An encoder with weights and batch statistics that no initialisation gives, its folder, and images."""
    torch.manual_seed(3)
    encoder = build_encoder(ENCODERS[request.param])
    images = torch.randn(4, encoder.config.channels, encoder.config.image_size, encoder.config.image_size)
    encoder.train()(images)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_encoder(encoder.eval(), tmp_path / "encoder", {"stage": "simclr", "seconds": 12})
    with torch.inference_mode():
        return encoder, tmp_path / "encoder", images, encoder(images)


def test_the_card_s_own_lines_load_it(trained, tmp_path, monkeypatch):
    encoder, folder, images, features = trained
    out = export_encoder(folder, tmp_path / "exported")
    readme = (out / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    assert "mmssl" not in code
    names = {}
    monkeypatch.chdir(out)
    exec(code, names)
    with torch.inference_mode():
        torch.testing.assert_close(names["model"](images), features, rtol=0, atol=0)
    assert f"{encoder.config.image_size} × {encoder.config.image_size}" in readme
    assert '"stage": "simclr"' in readme
    assert f"pixels of {encoder.config.sees} ({SIGHTS[encoder.config.sees].about})" in readme


def test_timm_reads_the_folder_itself_where_the_stem_is_its_own(trained, tmp_path):
    encoder, folder, images, features = trained
    if encoder.config.stem != "default":
        pytest.skip("timm has no small-image stem; the card's lines are tested above")
    out = export_encoder(folder, tmp_path / "exported")
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(images), features, rtol=0, atol=0)
    data = timm.data.resolve_model_data_config(model)
    assert data["mean"] == pytest.approx(encoder.mean)
    size = encoder.config.image_size
    assert tuple(data["input_size"]) == (encoder.config.channels, size, size)


def test_a_stage_starts_from_an_export(trained, tmp_path):
    encoder, folder, images, features = trained
    out = export_encoder(folder, tmp_path / "exported")
    again = build_encoder(
        encoder.config.model_copy(update={"weights": str(out / "model.safetensors")})
    ).eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(images), features, rtol=0, atol=0)


def test_config_carries_statistics_and_provenance(trained, tmp_path):
    encoder, folder, _, features = trained
    content = json.loads((export_encoder(folder, tmp_path / "exported") / "config.json").read_text())
    assert content["architecture"] == encoder.config.name
    assert content["num_features"] == features.shape[1]
    assert content["mmssl"]["encoder"]["sees"] == encoder.config.sees
    assert content["pretrained_cfg"]["mean"] == pytest.approx(encoder.mean)
    assert content["mmssl"]["provenance"] == {"stage": "simclr", "seconds": 12}


def test_replaces_an_export_and_nothing_else(trained, tmp_path):
    _, folder, _, _ = trained
    out = export_encoder(folder, tmp_path / "exported")
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    before = (out / "model.safetensors").read_bytes()
    assert (export_encoder(folder, out) / "model.safetensors").read_bytes() == before
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(MmsslError, match="already exists and is not an exported encoder"):
        export_encoder(folder, out)
    assert (out / "thesis.txt").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "exported"]


def test_bad_input(tmp_path):
    with pytest.raises(
        MmsslError, match="format: expected one of timm, open_clip, transformers, found 'onnx'"
    ):
        export_encoder(tmp_path, tmp_path / "out", format="onnx")
    with pytest.raises(MmsslError, match=r"encoder\.json: no such file"):
        export_encoder(tmp_path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_writing_fails(trained, tmp_path, monkeypatch):
    _, folder, _, _ = trained

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmssl.files.write_json", full)
    with pytest.raises(MmsslError, match="exported: could not be written: No space left on device"):
        export_encoder(folder, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
