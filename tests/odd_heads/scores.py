"""Exact heads: what lies between the pool and the class scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from odd_heads.registry import C, K, identity, odd, on_features, on_pooled, tokens_of


def behind_batch_norm(net: Any) -> tuple[Tensor, Tensor]:
    gain = net.neck.weight / torch.sqrt(net.neck.running_var + net.neck.eps)
    return net.fc.weight * gain, net.fc.bias + net.fc.weight @ (net.neck.bias - gain * net.neck.running_mean)


def through_neck(net: Any) -> tuple[Tensor, Tensor]:
    return net.fc.weight @ net.neck.weight, net.fc.bias + net.fc.weight @ net.neck.bias


def neck(net, pooled):
    return net.fc(net.neck(pooled))


on_pooled("batch_norm_neck", "gap-linear", neck, known=behind_batch_norm, neck=lambda: nn.BatchNorm1d(K))
on_pooled("two_linears", "gap-linear", neck, known=through_neck, neck=lambda: nn.Linear(K, K))
on_pooled("dropout", "gap-linear", neck, neck=lambda: nn.Dropout(0.5))
on_features(
    "convolution_behind_the_pool",
    "gap-linear",
    lambda net, features: net.classes(features.mean((2, 3), keepdim=True)),
    known=lambda net: (net.classes.weight.flatten(1), net.classes.bias),
    classes=lambda: nn.Conv2d(K, C, 1),
)
on_features(
    "network_in_network",
    "conv-gap",
    lambda net, features: F.relu(net.classes(features)).mean((2, 3)),
    known=identity,
    classes=lambda: nn.Conv2d(K, C, 1),
)
on_features(
    "network_in_network_without_relu",
    "conv-gap",
    lambda net, features: F.adaptive_avg_pool2d(net.classes(features), 1).flatten(1),
    known=identity,
    classes=lambda: nn.Conv2d(K, C, 1),
)


@odd("conv-gap", known=identity, norm=lambda: nn.LayerNorm(K))
def classes_of_every_token(net, x):
    return net.fc(tokens_of(net, x)).mean(1)


# --- normalizations behind the pool: weights are known up to a factor


def centered(net: Any) -> tuple[Tensor, Tensor]:
    weight = net.fc.weight * net.norm.weight
    return weight - weight.mean(1, keepdim=True), net.fc.bias + net.fc.weight @ net.norm.bias


def cosine(net: Any) -> tuple[Tensor, Tensor]:
    return F.normalize(net.fc.weight), torch.zeros(C)


@odd("gap-norm-linear", known=centered, norm=lambda: nn.GroupNorm(1, K))
def group_norm_behind_the_pool(net, x):
    return net.fc(net.norm(F.relu(net.conv(x)).mean((2, 3))))


@odd("gap-norm-linear", known=centered, norm=lambda: nn.LayerNorm(K))
def handwritten_layer_norm(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3), keepdim=True)
    difference = pooled - pooled.mean(1, keepdim=True)
    normed = difference / torch.sqrt(difference.pow(2).mean(1, keepdim=True) + 1e-5)
    return net.fc(normed.flatten(1) * net.norm.weight + net.norm.bias)


def handwritten_cosine(net, pooled):
    weight = net.fc.weight / net.fc.weight.norm(dim=1, keepdim=True)
    return 16 * (pooled / pooled.norm(dim=1, keepdim=True)) @ weight.T


def inverse_norm(pooled):
    return torch.rsqrt(pooled.pow(2).mean(-1, keepdim=True) + 1e-6)


for name, known, run in (
    ("cosine_classifier", cosine, lambda net, p: 16 * F.linear(F.normalize(p), F.normalize(net.fc.weight))),
    ("handwritten_cosine_classifier", cosine, handwritten_cosine),
    ("cosine_similarity", cosine, lambda net, p: F.cosine_similarity(p[:, None], net.fc.weight[None], dim=2)),
):
    on_pooled(name, "gap-norm-linear", run, known=known)

on_pooled(
    "layer_norm", "gap-norm-linear", lambda net, p: net.fc(net.norm(p)), known=centered, norm=lambda: nn.LayerNorm(K)
)

for name, normalize in (
    ("normalized_with_an_expanded_norm", lambda p: torch.div(p, torch.norm(p, 2, 1, True).expand_as(p))),
    ("rms_norm", lambda p: F.rms_norm(p, [K])),
    ("handwritten_rms_norm", lambda p: p * inverse_norm(p)),
    ("scale_times_features", lambda p: inverse_norm(p) * p),
):
    on_pooled(name, "gap-norm-linear", lambda net, p, normalize=normalize: net.fc(normalize(p)))


# --- normalizations behind a projection with a bias: the bias is the weight of a channel of ones


def projected(net: Any, p: torch.Tensor) -> torch.Tensor:
    """As zero-shot CLIP."""
    image = net.neck(p)
    image, text = (t / t.norm(dim=-1, keepdim=True) for t in (image, net.fc.weight))
    return 3 * image @ text.T


def through_projection(net: Any) -> tuple[Tensor, Tensor]:
    text = F.normalize(net.fc.weight)
    return torch.cat([text @ net.neck.weight, (text @ net.neck.bias)[:, None]], 1), torch.zeros(C)


def layer_norm_behind_a_neck(net: Any) -> tuple[Tensor, Tensor]:
    gained = net.fc.weight * net.norm.weight
    gained = gained - gained.mean(1, keepdim=True)
    weight = torch.cat([gained @ net.neck.weight, (gained @ net.neck.bias)[:, None]], 1)
    return weight, net.fc.bias + net.fc.weight @ net.norm.bias


on_pooled("zero_shot", "gap-norm-linear", projected, known=through_projection, neck=lambda: nn.Linear(K, K))
on_pooled(
    "zero_shot_with_a_bias",
    "gap-norm-linear",
    lambda net, p: projected(net, p) + net.fc.bias,
    known=lambda net: (through_projection(net)[0], net.fc.bias),
    neck=lambda: nn.Linear(K, K),
)
on_pooled(
    "layer_norm_behind_a_neck",
    "gap-norm-linear",
    lambda net, p: net.fc(net.norm(net.neck(p))),
    known=layer_norm_behind_a_neck,
    neck=lambda: nn.Linear(K, K),
    norm=lambda: nn.LayerNorm(K),
)
