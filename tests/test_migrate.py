"""The pairs of docs/migrate.md give the same maps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "migrate.md"
BLOCKS = re.findall(r"```py ?([\w-]*)\n(.+?)```", PAGE.read_text("utf-8"), re.DOTALL)
PACKAGES = {"grad-cam": "pytorch_grad_cam", "torchcam": "torchcam", "captum": "captum"}


def run(names: dict[str, Any], block: str) -> dict[str, Any]:
    exec(compile(block, PAGE.name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def shared():
    """The names of the first block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PAGE.parents[1])
        torch.manual_seed(0)
        names = run({}, BLOCKS[0][1])
    return {name: names[name] for name in ("model", "photo", "input_tensor", "np", "torch")}


@pytest.fixture(params=range(1, len(BLOCKS), 2), ids=lambda index: f"{BLOCKS[index][0]}-{index}")
def pair(request, shared):
    """The names of the other tool, then ours; the network is as it was between them."""
    tool, theirs = BLOCKS[request.param]
    ours = run(dict(shared), BLOCKS[request.param + 1][1])
    pytest.importorskip(PACKAGES[tool])
    before = [parameter.clone() for parameter in shared["model"].parameters()]
    other = run(dict(shared), theirs)
    assert all(map(torch.equal, before, shared["model"].parameters()))
    for parameter in shared["model"].parameters():
        parameter.grad = None  # which other tools leave behind
    return other, ours


def normalized(cam):
    return cam.clip(0) / cam.clip(0).max()


@pytest.mark.filterwarnings("ignore")  # of other tools
def test_pairs_give_the_same(pair):
    other, ours = pair
    if "grayscale_cam" in other:
        cells = ours["explanation"].cam
        stretched = normalized(cv2.resize(cells.clip(0), (224, 224)))
        np.testing.assert_allclose(other["grayscale_cam"], stretched, atol=1e-4)
        assert ours["visualization"].shape == other["visualization"].shape
        assert ours["heat"].shape == (224, 224)
    elif "answer" in other:
        answer, predicted, expected = other["answer"], ours["predicted"], ours["expected"]
        assert answer.predicted_class_idx == predicted.class_idx
        assert expected.class_idx == 5
        why = ours["why"]
        margin = why.evidence_map.mean() + why.bias - why.against.bias
        assert margin == pytest.approx(predicted.logit - expected.logit, abs=1e-4)
    elif "activation_map" in other:
        theirs, cells = other["activation_map"][0].numpy(), ours["explanation"].cam
        np.testing.assert_allclose(theirs, (cells - cells.min()) / np.ptp(cells), atol=1e-4)  # without its zero
        assert ours["result"].shape[:2] == other["result"].size[::-1]
    else:
        theirs, cells = other["attribution"][0, 0].detach().numpy(), ours["explanation"].cam
        np.testing.assert_allclose(theirs * cells.size, cells, atol=1e-4)
        np.testing.assert_allclose(other["upsampled"].shape[2:], ours["upsampled"].shape)


def test_every_block_of_the_page_is_run():
    assert [tool for tool, _ in BLOCKS] == ["", "grad-cam", "", "torchcam", "", "torchcam", "", "captum", ""]
