"""Three networks small enough to be worked by hand: two channels, a map of 2 x 2, two classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cam.heads.find import find_head
from cam.heads.hooks import forward
from cam.maps.activation import class_activation_maps, completeness_error, image_scales

FEATURES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [2.0, -3.0]]]])  # means 2.5 and -0.5
WEIGHT = torch.tensor([[2.0, 1.0], [-1.0, 3.0]])
BIAS = torch.tensor([0.5, -1.0])


def with_weights(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.copy_(bias)
    return layer


def pass_through() -> nn.Module:
    """A 1 x 1 convolution whose output is its input, so that the test chooses the features."""
    return with_weights(nn.Conv2d(2, 2, 1), torch.eye(2), torch.zeros(2))


def explained(network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    network = network.to(device)
    head = find_head(network, (2, 2, 2)).exact()
    logits, features = forward(network, head.site, FEATURES.to(device))
    scales = head.scales(features, logits)
    cams = class_activation_maps(features, scales[:, None, None] * head.weight)
    result = {"cams": cams, "bias": head.bias, "logits": logits, "scales": scales, "weight": head.weight}
    return {"kind": head.kind, "error": completeness_error(cams, head.bias, logits)} | {
        name: tensor.cpu() for name, tensor in result.items()
    }


def test_linear_head(device):
    linear = with_weights(nn.Linear(2, 2), WEIGHT, BIAS)
    result = explained(nn.Sequential(pass_through(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear), device)
    assert result["kind"] == "gap-linear"
    assert result["weight"].tolist() == [[2.0, 1.0], [-1.0, 3.0]]
    assert result["bias"].tolist() == [0.5, -1.0]
    assert result["scales"].tolist() == [1.0]
    # 2 f0 + f1 and -f0 + 3 f1
    assert result["cams"].tolist() == [[[[2.0, 3.0], [8.0, 5.0]], [[-1.0, -5.0], [3.0, -13.0]]]]
    assert result["logits"].tolist() == [[5.0, -5.0]]  # 18/4 + 0.5 and -16/4 - 1
    assert result["error"].tolist() == [[0.0, 0.0]]


def test_convolution_to_classes_with_relu(device):
    classes = with_weights(nn.Conv2d(2, 2, 1), WEIGHT, BIAS)
    network = nn.Sequential(pass_through(), classes, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    result = explained(network, device)
    assert result["kind"] == "conv-gap"
    assert result["weight"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert result["bias"].abs().max() <= 1e-12
    # relu(2 f0 + f1 + 0.5) and relu(-f0 + 3 f1 - 1) of (-2, -6, 2, -14)
    assert result["cams"].tolist() == [[[[2.5, 3.5], [8.5, 5.5]], [[0.0, 0.0], [2.0, 0.0]]]]
    assert result["logits"].tolist() == [[5.0, 0.5]]
    assert result["error"].max() <= 1e-12


def test_layer_norm_between_pool_and_linear(device):
    # pooled (2.5, -0.5): mean 1, variance 2.25, so that eps 4 makes the deviation 2.5 and the scale 0.4
    norm = with_weights(nn.LayerNorm(2, eps=4.0), torch.tensor([2.0, 0.5]), torch.tensor([1.0, -1.0]))
    linear = with_weights(nn.Linear(2, 2), WEIGHT, BIAS)
    result = explained(nn.Sequential(pass_through(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm, linear), device)
    assert result["kind"] == "gap-norm-linear"
    # weight times gain (4, 0.5; -2, 1.5), less the mean of each row (2.25; -0.25), times 0.4
    scaled = result["scales"][:, None, None] * result["weight"]
    torch.testing.assert_close(scaled, torch.tensor([[[0.7, -0.7], [-0.7, 0.7]]]), rtol=1e-6, atol=0)
    # weight times (1, -1), plus bias
    torch.testing.assert_close(result["bias"], torch.tensor([1.5, -5.0]), rtol=1e-6, atol=0)
    # 0.7 (f0 - f1) and its opposite
    cams = torch.tensor([[[[0.7, 2.1], [0.7, 4.9]], [[-0.7, -2.1], [-0.7, -4.9]]]])
    torch.testing.assert_close(result["cams"], cams, rtol=1e-6, atol=0)
    # weight times (2 * 0.6 + 1, 0.5 * -0.6 - 1) = (2.2, -1.3), plus bias; also 2.1 + 1.5 and -2.1 - 5
    torch.testing.assert_close(result["logits"], torch.tensor([[3.6, -7.1]]), rtol=1e-6, atol=0)
    assert result["error"].max() <= 1e-6


def test_maps_with_a_weight_for_each_picture():
    features = torch.cat([FEATURES, 2 * FEATURES]).bfloat16()
    cams = class_activation_maps(features, torch.stack([WEIGHT[:1], -WEIGHT[:1]]))
    assert cams.dtype == torch.float32
    assert cams.tolist() == [[[[2.0, 3.0], [8.0, 5.0]]], [[[-4.0, -6.0], [-16.0, -10.0]]]]


def test_maps_in_float64_stay_in_float64():
    cams = class_activation_maps(FEATURES, WEIGHT.double() / 3)
    assert cams.dtype == torch.float64
    assert cams[0, 0, 0, 1].item() == pytest.approx(1.0, abs=1e-15)


def test_the_scale_is_one_if_every_class_score_is_its_bias():
    scales = image_scales(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), WEIGHT, BIAS, torch.tensor([[0.5, -1.0], [2.5, 1.5]]))
    assert scales.tolist() == [1.0, 0.5]  # weight @ (1, 2) is (4, 5); (2.5, 1.5) - bias is (2, 2.5)


def test_completeness_error_is_relative_to_large_logits_only():
    cams = torch.tensor([[[3.0]], [[30.0]]])
    errors = completeness_error(cams, torch.tensor([1.0, 10.0]), torch.tensor([0.5, 50.0]))
    torch.testing.assert_close(errors, torch.tensor([3.5, 0.2]))
