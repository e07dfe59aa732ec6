"""Classifiers of timm and Hugging Face have the logits of their own inference code, and name their preprocessing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from runs import lines
from small import photo
from torch import nn

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import ModelError, UsageError

IMAGE = photo(300, 400)


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def own_logits(network, tensor):
    with torch.inference_mode():
        output = network(tensor)
    return getattr(output, "logits", output)[0].numpy()


def explained_logits(classifier, image=IMAGE):
    """All logits of an image, by the library."""
    return np.array([cam.explain(classifier, image, index).logit for index in range(len(classifier.labels))])


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "regnety_002"])
def test_timm_networks_have_timms_own_logits(timm, name):
    network = timm.create_model(name, num_classes=4).eval()
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    classifier = cam.wrap(network)
    np.testing.assert_allclose(
        explained_logits(classifier), own_logits(network, transform(Image.fromarray(IMAGE))[None]), atol=1e-4
    )
    assert classifier.preprocessing.mean == tuple(config["mean"])
    assert classifier.preprocessing.interpolation == config["interpolation"]
    assert classifier.preprocessing.resize == int(config["input_size"][1] / config["crop_pct"])
    assert classifier.notes[0].endswith(": from timm's pretrained_cfg")
    given = cam.wrap(network, preprocessing=Preprocessing(73, (64, 64)))
    assert given.notes[0].startswith("input 64x64, center crop of the image resized to shorter side 73, bilinear")


def test_timm_names_are_models(timm):
    classifier = cam.load_classifier("timm:resnet10t", random_weights=True)
    assert classifier.labels[2:4] == ("great white shark", "tiger shark")
    assert len(set(classifier.labels)) >= 999  # two classes are "crane"
    gray = cam.load_classifier("timm:resnet10t", random_weights=True, channels_in=1, labels=["a"] * 1000)
    assert gray.preprocessing.input_shape == (1, 176, 176)
    with pytest.raises(
        ModelError, match="--model 'timm:resnet0' cannot be built or downloaded: RuntimeError: Unknown model"
    ):
        cam.load_classifier("timm:resnet0")


def test_a_timm_checkpoint_brings_its_number_of_classes(timm, tmp_path):
    network = timm.create_model("resnet10t", num_classes=3).eval()
    torch.save({"state_dict": network.state_dict(), "arch": "resnet10t"}, tmp_path / "best.pth.tar")
    labels = ["cat", "dog", "fox"]
    classifier = cam.load_classifier("timm:resnet10t", weights=tmp_path / "best.pth.tar", labels=labels)
    np.testing.assert_allclose(explained_logits(classifier), explained_logits(cam.wrap(network)), atol=1e-5)


def test_a_folder_of_timm_is_a_model(timm, tmp_path):
    network = timm.create_model("resnet10t", num_classes=3).eval()
    timm.models.save_for_hf(network, str(tmp_path), model_config={"label_names": ["cat", "dog", "fox"]})
    classifier = cam.load_classifier(str(tmp_path))
    np.testing.assert_allclose(explained_logits(classifier), explained_logits(cam.wrap(network)), atol=1e-5)
    assert classifier.notes[0].endswith(": from timm's pretrained_cfg")
    assert classifier.labels == ("cat", "dog", "fox")


def hugging_face_folder(transformers, folder, processor, **config):
    sizes = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic"}
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes, **config))
    network.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return network.eval()


@pytest.mark.parametrize("name", ["ConvNext", "ViT", "MobileNetV2", "Levit", "MobileViT"])
def test_hugging_face_folders_have_their_own_logits(transformers, tmp_path, name):
    processor = getattr(transformers, f"{name}ImageProcessor")()
    network = hugging_face_folder(transformers, tmp_path, processor, id2label={0: "cat", 1: "dog", 2: "fox"})
    for model in (str(tmp_path), f"hf:{tmp_path}"):
        classifier = cam.load_classifier(model)
        assert classifier.labels == ("cat", "dog", "fox")
        assert classifier.notes[0].endswith(": from its image processor")
        pixels = processor(Image.fromarray(IMAGE), return_tensors="pt")["pixel_values"]
        np.testing.assert_allclose(explained_logits(classifier), own_logits(network, pixels), atol=1e-4)


def test_a_hugging_face_folder_says_its_problem_and_what_it_lacks(transformers, tmp_path):
    hugging_face_folder(transformers, tmp_path, None, num_labels=3, problem_type="multi_label_classification")
    classifier = cam.load_classifier(str(tmp_path))
    assert classifier.activation == "sigmoid"
    assert classifier.labels == ("class 0", "class 1", "class 2")  # not LABEL_0
    assert classifier.notes[0].endswith(": assumed; --resize, --crop, --mean and --std give others")
    with pytest.raises(ModelError, match=r"--model 'hf:.*nothing' cannot be loaded"):
        cam.load_classifier(f"hf:{tmp_path}/nothing")


def test_the_command_prints_what_is_used_and_takes_other_sizes(timm, run, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    torch.save(timm.create_model("resnet10t", num_classes=2).state_dict(), tmp_path / "w.pth")
    model = "-m", "timm:resnet10t", "--weights", tmp_path / "w.pth"
    sizes = "--resize", "128x96", "--interpolation", "lanczos", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"
    result = run("explain", tmp_path / "a.png", *model, *sizes, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == (
        "input 128x96, whole image squashed, lanczos, mean 0.5,0.5,0.5, std 0.25,0.25,0.25: "
        "from timm's pretrained_cfg, changed by --resize, --interpolation, --mean, --std, assumed for w.pth"
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["preprocessing"]["resize"] == [96, 128]
    assert lines(tmp_path / "out")[0]["status"] == "ok"
    result = run("explain", tmp_path / "a.png", *model, "--resize", "0", "-o", tmp_path / "no")
    assert "--resize must be a side such as 256, or width and height such as 320x256, got '0'" in result.stderr


def factory(tmp_path, returned):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from torchvision import transforms\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
        f"    return network, {returned}\n"
    )
    return f"{tmp_path}/net.py:make"


def test_a_factory_may_return_the_preprocessing_too(tmp_path):
    squash = "transforms.Compose([transforms.Resize((40, 40)), transforms.ToTensor()])"
    classifier = cam.load_classifier(factory(tmp_path, squash))
    assert classifier.preprocessing == Preprocessing((40, 40), (40, 40), (0.0,) * 3, (1.0,) * 3, backend="pillow")
    assert classifier.notes[0] == "input 40x40, whole image squashed, bilinear, mean 0,0,0, std 1,1,1: from the factory"


def test_a_factory_with_a_transform_of_training_is_refused(tmp_path):
    flip = "transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()])"
    with pytest.raises(UsageError, match="preprocessing is random"):
        cam.load_classifier(factory(tmp_path, flip))


def test_stretching_shows_the_whole_image_at_the_size_of_the_crop():
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    classifier = cam.wrap(network, input_size=64)
    explanation = cam.explain(classifier, IMAGE, fit="stretch")
    assert explanation.heat().shape == IMAGE.shape[:2]
    assert not np.isnan(explanation.heat()).any()
    assert np.isnan(cam.explain(classifier, IMAGE).heat()).any()  # the center crop leaves the sides unseen
    stretched = cam.explain(cam.wrap(network, preprocessing=Preprocessing((64, 64), (64, 64))), IMAGE)
    np.testing.assert_array_equal(explanation.cam, stretched.cam)
