"""A trained CLIP has the same features in plain open_clip and transformers; and can be started from."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel
from typer.testing import CliRunner

from mmssl.cli import application
from mmssl.errors import MmsslError
from mmssl.methods import build_method
from mmssl.methods.artifact import save_method
from mmssl.methods.base import DataInfo
from mmssl.methods.language.exchange import export
from mmssl.models.artifact import save_encoder
from mmssl.models.text.tokenizer import WordPieces
from mmssl.models.weights import how_to_get
from mmssl.pipeline.identity import identities
from mmssl.pipeline.recipe import parse_pipeline
from mmssl.pipeline.stages import RUN, Place

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = DataInfo(64, frozenset({"image", "caption"}))
SMALL = {"embed_dim": 48, "num_heads": 3, "depth": 2}
IMAGES = {
    "vit": {"name": "vit_tiny_patch16_224", "image_size": 32, "kwargs": SMALL | {"patch_size": 8}},
    "vit_avg": {
        "name": "vit_tiny_patch16_224",
        "image_size": 32,
        "kwargs": SMALL | {"patch_size": 8, "global_pool": "avg", "init_values": 0.1},
    },
    "vit_clip": {"name": "vit_base_patch32_clip_224", "image_size": 64, "kwargs": SMALL},
    "vit_quick": {"name": "vit_base_patch32_clip_quickgelu_224", "image_size": 64, "kwargs": SMALL},
    "resnet": {"name": "resnet10t", "image_size": 64},
    "stem4": {"name": "resnet18", "image_size": 64, "stem": "small_stride4"},
    "stem2": {"name": "resnet18", "image_size": 64, "stem": "small_stride2"},
    "stem1": {"name": "resnet18", "image_size": 32, "stem": "small"},
}
TEXT = {"width": 32, "heads": 2, "layers": 2, "context": 16}
TEXTS = ["A red circle", "two DOGS, and a zebra!", " ".join(["snow"] * 40), "", "a café  in\nthe snow"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("words")
    captions = ["a red circle and two blue dogs play in the snow, café", "the green square turns slowly"]
    WordPieces.train(captions * 3, 160).save(folder)
    return str(folder)


def method_of(image, text, name="clip", weights=None, **more):
    torch.manual_seed(1)
    image = IMAGES[image] | {"mean": (0.5, 0.4, 0.3), "weights": weights}
    config = {"name": name, "image": image, "text": text, "dim": 24} | more
    return build_method(config, DATA)


def trained(image, text, folder, **more):
    """A method with weights and batch statistics that no initialisation gives, in a stage's folder."""
    method = method_of(image, text, **more)
    method.train().image(torch.randn(4, 3, method.image.image_size, method.image.image_size))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    save_method(method.eval(), folder)
    for name, encoder in method.encoders().items():
        save_encoder(encoder, folder / "encoders" / name, {"stage": "clip", "seconds": 12})
    return method


@torch.no_grad()
def features(method):
    """Images, tokens, and the unit vectors of both."""
    size = method.image.image_size
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(5))
    tokens = method.text.tokenizer(TEXTS, method.text.context)
    return images, tokens, method.encode_image(images), method.encode_text(tokens)


def close(theirs, ours):
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


CASES = [
    ("vit", {"kind": "clip", "tokenizer": "pieces"}, {}),
    ("vit_avg", {"kind": "clip", "tokenizer": "pieces"}, {"name": "siglip"}),
    ("vit_clip", {"kind": "clip"}, {}),
    ("vit_quick", {"kind": "clip", "tokenizer": "pieces", "activation": "quick_gelu"}, {}),
    ("resnet", {"kind": "clip", "tokenizer": "pieces"}, {}),
    ("stem4", {"kind": "clip", "tokenizer": "pieces"}, {}),
    ("vit", {"kind": "bert", "tokenizer": "pieces", "pool": "mean"}, {}),
    ("resnet", {"kind": "bert", "tokenizer": "pieces", "pool": "cls"}, {}),
]


def in_full(text, pieces):
    return {**TEXT, **text} | ({"tokenizer": pieces} if text.get("tokenizer") == "pieces" else {})


@pytest.mark.parametrize(("image", "text", "more"), CASES)
def test_plain_open_clip_has_the_same_tokens_and_features(image, text, more, pieces, tmp_path, monkeypatch):
    method = trained(image, in_full(text, pieces), tmp_path / "stage", **more)
    images, tokens, of_images, of_texts = features(method)
    folder = shutil.move(export(tmp_path / "stage", tmp_path / "new", "open_clip"), tmp_path / "moved")
    if text["kind"] == "bert":  # open_clip finds its configuration in the working folder only
        monkeypatch.chdir(folder)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    assert torch.equal(tokenizer(TEXTS), tokens)
    model.eval()
    with torch.no_grad():
        close(model.encode_image(images, normalize=True), of_images)
        close(model.encode_text(tokens, normalize=True), of_texts)
        ours = method.logit_scale.exp() * of_images @ of_texts.T + getattr(method, "logit_bias", 0)
        torch.testing.assert_close(model.get_logits(images, tokens)[0], ours, rtol=1e-5, atol=1e-3)
    size = method.image.image_size
    grey = preprocess(Image.fromarray(np.full((90, 70, 3), 51, np.uint8)))
    assert grey.shape == (3, size, size)
    close(grey.mean((1, 2)), (0.2 - torch.tensor(method.image.mean)) / torch.tensor(method.image.std))


@pytest.mark.parametrize("image", ["stem2", "stem1"])
def test_the_card_s_own_lines_load_a_small_stem(image, pieces, tmp_path, monkeypatch):
    method = trained(image, in_full({"kind": "clip", "tokenizer": "pieces"}, pieces), tmp_path / "stage")
    images, tokens, of_images, of_texts = features(method)
    folder = export(tmp_path / "stage", tmp_path / "out", "open_clip")
    readme = (folder / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    assert "mmssl" not in code
    assert '"seconds": 12' in readme
    monkeypatch.chdir(folder)
    names = {}
    exec(code, names)
    assert torch.equal(names["tokenizer"](TEXTS), tokens)
    with torch.no_grad():
        close(names["model"].encode_image(images, normalize=True), of_images)
        close(names["model"].encode_text(tokens, normalize=True), of_texts)
    with pytest.raises(RuntimeError, match="conv1"):
        open_clip.create_model_from_pretrained(f"local-dir:{folder}")


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("vit_clip", {"kind": "clip"}),
        ("vit_quick", {"kind": "clip", "tokenizer": "pieces", "activation": "quick_gelu"}),
    ],
)
def test_plain_transformers_has_the_same_tokens_and_features(image, text, pieces, tmp_path):
    method = trained(image, in_full(text, pieces), tmp_path / "stage")
    images, tokens, of_images, of_texts = features(method)
    folder = export(tmp_path / "stage", tmp_path / "out", "transformers")
    model = CLIPModel.from_pretrained(folder).eval()
    read = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, return_tensors="pt"
    )
    kept = read.attention_mask.bool()
    assert torch.equal(read.input_ids[kept], tokens[kept])
    assert (tokens[~kept] == 0).all()
    with torch.no_grad():
        close(normalize(model.get_image_features(pixel_values=images).pooler_output, dim=-1), of_images)
        found = model.get_text_features(input_ids=read.input_ids, attention_mask=read.attention_mask)
        close(normalize(found.pooler_output, dim=-1), of_texts)
        both = model(input_ids=tokens, pixel_values=images)
    ours = method.logit_scale.exp() * of_images @ of_texts.T
    torch.testing.assert_close(both.logits_per_image, ours, rtol=1e-4, atol=1e-4)
    grey = Image.fromarray(np.full((90, 70, 3), 51, np.uint8))
    pixels = AutoImageProcessor.from_pretrained(folder)(grey, return_tensors="pt").pixel_values
    assert pixels.shape[2:] == images.shape[2:]
    expected = (0.2 - torch.tensor(method.image.mean)) / torch.tensor(method.image.std)
    close(pixels.mean((0, 2, 3)), expected)


def test_bert_by_itself(pieces, tmp_path):
    method = trained("vit", in_full({"kind": "bert", "tokenizer": "pieces"}, pieces), tmp_path / "stage")
    tokens = method.text.tokenizer(TEXTS, 16)
    folder = export(tmp_path / "stage" / "encoders" / "text", tmp_path / "out", "transformers")
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    read = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert torch.equal(read.input_ids, tokens)
    with torch.no_grad():
        states = model(**read).last_hidden_state
        seen = read.attention_mask[..., None]
        close((states * seen).sum(1) / seen.sum(1), method.text(tokens))
    text = in_full({"kind": "bert", "tokenizer": "pieces"}, pieces) | {"weights": str(folder)}
    again = method_of("vit", text).eval()
    with torch.no_grad():
        assert torch.equal(again.text(tokens), method.text(tokens))


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
@pytest.mark.parametrize("piece", [True, False])
def test_a_stage_starts_from_an_export(format, piece, pieces, tmp_path):
    text = in_full({"kind": "clip"} | ({"tokenizer": "pieces"} if piece else {}), pieces)
    method = trained("vit_clip", text, tmp_path / "stage")
    images, tokens, of_images, of_texts = features(method)
    folder = str(export(tmp_path / "stage", tmp_path / "out", format))
    whole = method_of("vit_clip", text, start={"weights": folder}).eval()
    close(features(whole)[2], of_images)
    close(features(whole)[3], of_texts)
    assert whole.logit_scale.item() == pytest.approx(method.logit_scale.item())
    towers = method_of("vit_clip", text | {"weights": folder}, weights=folder).eval()
    with torch.no_grad():
        close(towers.image(images), method.image(images))
        close(towers.text(tokens), method.text(tokens))
    assert not torch.equal(towers.image_head.weight, method.image_head.weight)


@pytest.mark.parametrize(("image", "name"), [("vit_avg", "siglip"), ("resnet", "clip")])
def test_a_stage_starts_from_other_towers(image, name, pieces, tmp_path):
    text = in_full({"kind": "clip", "tokenizer": "pieces"}, pieces)
    method = trained(image, text, tmp_path / "stage", name=name)
    folder = export(tmp_path / "stage", tmp_path / "out", "open_clip")
    for source in (folder, folder / "open_clip_model.safetensors", tmp_path / "stage"):
        again = method_of(image, text, name=name, start={"weights": str(source)}).eval()
        close(features(again)[2], features(method)[2])
        close(features(again)[3], features(method)[3])
        assert float(getattr(again, "logit_bias", 0)) == float(getattr(method, "logit_bias", 0))


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-32-quickgelu"])
def test_open_clip_s_own_checkpoints_start_a_stage(model, tmp_path):
    """open_clip's own model and file layout, made small: a training checkpoint of its first form."""
    config = open_clip.get_model_config(model)
    config["vision_cfg"] |= {"layers": 2, "width": 64, "head_width": 32, "image_size": 64}
    config["text_cfg"] |= {"layers": 2, "width": 32, "heads": 2}
    config["embed_dim"] = 24
    torch.manual_seed(0)
    theirs = open_clip.CLIP(**config).eval()
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state}, tmp_path / "epoch_3.pt")
    quick = model.endswith("quickgelu")
    name = "vit_base_patch32_clip_quickgelu_224" if quick else "vit_base_patch32_clip_224"
    kwargs = {"embed_dim": 64, "num_heads": 2, "depth": 2}
    text = {"kind": "clip", **TEXT, "context": 77, "activation": "quick_gelu" if quick else "gelu"}
    config = {
        "name": "clip",
        "image": {"name": name, "image_size": 64, "kwargs": kwargs},
        "text": text,
        "dim": 24,
        "start": {"weights": str(tmp_path / "epoch_3.pt")},
    }
    ours = build_method(config, DATA).eval()
    images, _, of_images, of_texts = features(ours)
    with torch.no_grad():
        close(theirs.encode_image(images, normalize=True), of_images)
        close(theirs.encode_text(open_clip.SimpleTokenizer()(TEXTS), normalize=True), of_texts)


def test_refused_before_anything_is_written(pieces, tmp_path):
    text = in_full({"kind": "clip", "tokenizer": "pieces"}, pieces)
    bert = in_full({"kind": "bert", "tokenizer": "pieces"}, pieces)
    trained("vit_quick", text, tmp_path / "quick")
    trained("vit", text, tmp_path / "vit")
    trained("vit_clip", bert, tmp_path / "bert")
    trained("resnet", text, tmp_path / "resnet")
    for stage, format, expected in [
        ("quick", "open_clip", "cannot be told .*embed_dim=48"),
        ("vit", "transformers", "norm before its blocks"),
        ("bert", "transformers", "CLIP's causal transformer for texts, not kind 'bert'"),
        ("resnet", "transformers", "a ViT for images, not resnet10t"),
        ("vit", "onnx", "format: expected one of timm, open_clip, transformers"),
        ("nothing", "open_clip", "no encoder.json and no method.json"),
        ("vit/encoders/image", "open_clip", "takes a CLIP or SigLIP whole"),
        ("vit/encoders/text", "timm", "timm knows image encoders only"),
    ]:
        with pytest.raises(MmsslError, match=expected):
            export(tmp_path / stage, tmp_path / "out", format)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_network_with_other_sums_is_noticed(pieces, tmp_path, monkeypatch):
    text = in_full({"kind": "clip", "tokenizer": "pieces"}, pieces)
    method = trained("vit", text, tmp_path / "stage")
    activation = torch.nn.GELU("tanh")  # has no parameter that could be missed
    for block in method.image.backbone.blocks:
        block.mlp.act = activation
    monkeypatch.setattr("mmssl.methods.language.exchange.load_method", lambda folder: method)
    with torch.no_grad():
        for block in method.image.backbone.blocks:
            block.mlp.fc1.weight.mul_(10)
    with pytest.raises(MmsslError, match="no network that computes what the image tower"):
        export(tmp_path / "stage", tmp_path / "out", "open_clip")
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit(pieces, tmp_path):
    text = in_full({"kind": "clip", "tokenizer": "pieces"}, pieces)
    trained("vit_clip", text, tmp_path / "stage")
    folder = str(export(tmp_path / "stage", tmp_path / "out", "open_clip"))
    start = {"start": {"weights": folder}}
    with pytest.raises(MmsslError, match="leads to a space of 24 dimensions; expected dim 32"):
        method_of("vit_clip", text, dim=32, **start)
    with pytest.raises(MmsslError, match="weights of another network than vit_tiny_patch16_224"):
        method_of("vit", text, **start)
    with pytest.raises(MmsslError, match="another tokenizer than 'clip'"):
        method_of("vit_clip", {"kind": "clip", **TEXT}, **start)
    with pytest.raises(MmsslError, match=r"expected no text\.weights"):
        method_of("vit_clip", text | {"weights": folder}, **start)
    image = tmp_path / "stage" / "encoders" / "image"
    with pytest.raises(MmsslError, match="expected a CLIP of open_clip or transformers"):
        method_of("vit_clip", text, start={"weights": str(image)})
    absent = "nothing is ever downloaded.*hf download openai/clip-vit-base-patch32"
    with pytest.raises(MmsslError, match=absent):
        method_of("vit_clip", text, start={"weights": "openai/clip-vit-base-patch32"})
    assert "hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K --local-dir" in how_to_get(
        "ViT-B-32/laion2b_s34b_b79k"
    )


def test_a_vocabulary_of_a_published_bert(pieces, tmp_path):
    """Special tokens stand elsewhere, and the file asks for padding and truncation of its own."""
    content = json.loads((Path(pieces) / "tokenizer.json").read_text())
    size = len(content["model"]["vocab"])
    moved = {token: (number + 7) % size for token, number in content["model"]["vocab"].items()}
    content["model"]["vocab"] = moved
    for token in content["added_tokens"]:
        token["id"] = moved[token["content"]]
    content["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": moved["[PAD]"],
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    text = in_full({"kind": "clip"}, pieces)
    ours = method_of("vit_clip", text | {"tokenizer": pieces}).text.tokenizer(TEXTS, 16)
    method = trained("vit_clip", text | {"tokenizer": str(tmp_path)}, tmp_path / "stage")
    tokens = method.text.tokenizer(TEXTS, 16)
    assert torch.equal(tokens, (ours + 7) % size)
    assert (method.text.tokenizer.start, method.text.tokenizer.end) == (moved["[CLS]"], moved["[SEP]"])
    folder = export(tmp_path / "stage", tmp_path / "out", "transformers")
    read = AutoTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", truncation=True)
    assert read["input_ids"] == tokens.tolist()


def test_export_stages_and_the_command(pieces, tmp_path):
    trained("vit_clip", in_full({"kind": "clip", "tokenizer": "pieces"}, pieces), tmp_path / "clip")
    trained("vit", in_full({"kind": "bert", "tokenizer": "pieces"}, pieces), tmp_path / "bert")
    text = tmp_path / "bert" / "encoders" / "text"
    stages = {
        "open": {"kind": "export", "encoders": str(tmp_path / "clip"), "format": "open_clip"},
        "hub": {"kind": "export", "encoders": str(tmp_path / "clip"), "format": "transformers"},
        "words": {"kind": "export", "encoders": str(text), "format": "transformers"},
    }
    pipeline = parse_pipeline({"name": "given", "stages": stages}, "given.yaml")
    assert all(identity.inputs for identity in identities(pipeline).values())
    for name in stages:
        RUN["export"](pipeline.stages[name], Place(pipeline, tmp_path / "run", name, {}))
    assert (tmp_path / "run" / "open" / "model" / "open_clip_model.safetensors").is_file()
    assert type(AutoModel.from_pretrained(tmp_path / "run" / "hub" / "model")) is CLIPModel
    (words,) = (tmp_path / "run" / "words").iterdir()
    assert type(AutoModel.from_pretrained(words)).__name__ == "BertModel"
    command = ["export", str(tmp_path / "clip"), "--format", "open_clip", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(application(command), command).exit_code == 0
    weights = "open_clip_model.safetensors"
    staged = tmp_path / "run" / "open" / "model" / weights
    assert (tmp_path / "out" / weights).read_bytes() == staged.read_bytes()
