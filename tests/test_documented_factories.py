"""The factories of docs/models.md for other packages, on tiny networks that the packages build themselves."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import cam

PHOTO = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
TEXT = Path(__file__).parents[1].joinpath("docs", "models.md").read_text("utf-8")
FACTORIES = dict(zip(("yolo", "xray"), re.findall(r"```py\n(.+?)```", TEXT, re.DOTALL), strict=True))

TINY = """
nc: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""


@pytest.fixture
def yolo(tmp_path, monkeypatch):
    """A checkpoint of a tiny classifier in the working directory, as Ultralytics saves it, and its model."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("tiny-cls.yaml").write_text(TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ultralytics = pytest.importorskip("ultralytics")
        torch.manual_seed(0)
        model = ultralytics.YOLO("tiny-cls.yaml", task="classify")
        model.save("best.pt")
        return ultralytics.YOLO("best.pt")


def test_yolo(yolo):
    Path("yolo.py").write_text(FACTORIES["yolo"])
    classifier = cam.load_classifier("yolo.py:make", labels=yolo.names, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (result,) = yolo.predict(PHOTO[..., ::-1], imgsz=224, verbose=False, device="cpu")  # takes BGR
    explanations = [cam.explain(classifier, PHOTO, class_idx) for class_idx in range(3)]
    assert [e.probability for e in explanations] == pytest.approx(result.probs.data.tolist(), abs=1e-3)
    assert [e.label for e in explanations] == list(result.names.values())


def test_a_checkpoint_of_yolo_is_a_model_itself(yolo):
    classifier = cam.load_classifier("best.pt", unsafe_pickle=True, mean=(0, 0, 0), std=(1, 1, 1), device="cpu")
    inputs = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(classifier.forward(inputs)[0], yolo.model.float().eval()(inputs)[1])


def test_torchxrayvision(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xrv = pytest.importorskip("torchxrayvision")
    torch.manual_seed(0)
    network = xrv.models.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8)
    network.op_threshs, network.input_resolution = torch.rand(18), 224  # as with weights, which are downloaded
    monkeypatch.setattr(xrv.models, "DenseNet", lambda weights: network)
    monkeypatch.chdir(tmp_path)
    Path("xray.py").write_text(FACTORIES["xray"])
    gray = np.repeat(PHOTO[..., :1], 3, 2)
    classifier = cam.load_classifier("xray.py:make", labels=network.targets, activation="sigmoid", device="cpu")
    square = xrv.datasets.XRayCenterCrop()(xrv.datasets.normalize(gray[..., 0], 255)[None])
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(square)[None], (224, 224), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        expected = network.eval()(resized)[0]
    explanations = [cam.explain(classifier, gray, class_idx) for class_idx in range(18)]
    assert [e.logit for e in explanations] == pytest.approx(
        expected.tolist(), abs=5e-3 * float(expected.abs().max())
    )  # pixels are bytes
    assert explanations[0].label == "Atelectasis"
