"""Exact heads: what lies between the pool and the class scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from odd_heads.registry import C, K, identity, odd, tokens_of

# --- between the pool and the class scores


def behind_batch_norm(net: Any) -> tuple[Tensor, Tensor]:
    gain = net.neck.weight / torch.sqrt(net.neck.running_var + net.neck.eps)
    return net.fc.weight * gain, net.fc.bias + net.fc.weight @ (net.neck.bias - gain * net.neck.running_mean)


@odd("gap-linear", known=behind_batch_norm, neck=lambda: nn.BatchNorm1d(K))
def batch_norm_neck(net, x):
    return net.fc(net.neck(F.relu(net.conv(x)).mean((2, 3))))


@odd("gap-linear", dropout=lambda: nn.Dropout(0.5))
def dropout(net, x):
    return net.fc(net.dropout(F.relu(net.conv(x)).mean((2, 3))))


def through_neck(net: Any) -> tuple[Tensor, Tensor]:
    return net.fc.weight @ net.neck.weight, net.fc.bias + net.fc.weight @ net.neck.bias


@odd("gap-linear", known=through_neck, neck=lambda: nn.Linear(K, K))
def two_linears(net, x):
    return net.fc(net.neck(F.relu(net.conv(x)).mean((2, 3))))


@odd(
    "gap-linear",
    known=lambda net: (net.classes.weight.flatten(1), net.classes.bias),
    classes=lambda: nn.Conv2d(K, C, 1),
)
def convolution_behind_the_pool(net, x):
    return net.classes(F.relu(net.conv(x)).mean((2, 3), keepdim=True))


@odd("conv-gap", known=identity, classes=lambda: nn.Conv2d(K, C, 1))
def network_in_network(net, x):
    return F.relu(net.classes(F.relu(net.conv(x)))).mean((2, 3))


@odd("conv-gap", known=identity, classes=lambda: nn.Conv2d(K, C, 1))
def network_in_network_without_relu(net, x):
    return F.adaptive_avg_pool2d(net.classes(F.relu(net.conv(x))), 1).flatten(1)


@odd("conv-gap", known=identity, norm=lambda: nn.LayerNorm(K))
def classes_of_every_token(net, x):
    return net.fc(tokens_of(net, x)).mean(1)


# --- normalizations behind the pool: weights are known up to a factor


def centerd(net: Any) -> tuple[Tensor, Tensor]:
    weight = net.fc.weight * net.norm.weight
    return weight - weight.mean(1, keepdim=True), net.fc.bias + net.fc.weight @ net.norm.bias


@odd("gap-norm-linear", known=centerd, norm=lambda: nn.LayerNorm(K))
def layer_norm(net, x):
    return net.fc(net.norm(F.relu(net.conv(x)).mean((2, 3))))


@odd("gap-norm-linear", known=centerd, norm=lambda: nn.LayerNorm(K))
def handwritten_layer_norm(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3), keepdim=True)
    centerd = pooled - pooled.mean(1, keepdim=True)
    normed = centerd / torch.sqrt(centerd.pow(2).mean(1, keepdim=True) + 1e-5)
    return net.fc(normed.flatten(1) * net.norm.weight + net.norm.bias)


def cosine(net: Any) -> tuple[Tensor, Tensor]:
    return F.normalize(net.fc.weight), torch.zeros(C)


@odd("gap-norm-linear", known=cosine)
def cosine_classifier(net, x):
    return 16 * F.linear(F.normalize(F.relu(net.conv(x)).mean((2, 3))), F.normalize(net.fc.weight))


@odd("gap-norm-linear", known=cosine)
def handwritten_cosine_classifier(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    weight = net.fc.weight / net.fc.weight.norm(dim=1, keepdim=True)
    return 16 * (pooled / pooled.norm(dim=1, keepdim=True)) @ weight.T


@odd("gap-norm-linear", known=cosine)
def cosine_similarity(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return F.cosine_similarity(pooled[:, None], net.fc.weight[None], dim=2)


@odd("gap-norm-linear")
def normalized_with_an_expanded_norm(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(torch.div(pooled, torch.norm(pooled, 2, 1, True).expand_as(pooled)))


@odd("gap-norm-linear")
def rms_norm(net, x):
    return net.fc(F.rms_norm(F.relu(net.conv(x)).mean((2, 3)), [K]))


@odd("gap-norm-linear")
def handwritten_rms_norm(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(pooled * torch.rsqrt(pooled.pow(2).mean(-1, keepdim=True) + 1e-6))


@odd("gap-norm-linear")
def scale_times_features(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(torch.rsqrt(pooled.pow(2).mean(-1, keepdim=True) + 1e-6) * pooled)
