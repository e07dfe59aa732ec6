"""Exact heads: what the network returns and how it runs."""

from __future__ import annotations

import warnings
from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from odd_heads.registry import EXACT, GRID, C, K, Network, fc, odd

# --- what the network returns


@odd("gap-linear", auxiliary=lambda: nn.Linear(K, C))
def tuple_with_auxiliary_head(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(pooled), net.auxiliary(pooled)


@odd("gap-linear")
def tuple_with_features(net, x):
    features = F.relu(net.conv(x))
    return features, net.fc(features.mean((2, 3)))


@odd("gap-linear")
def dictionary(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return {"embedding": pooled, "logits": net.fc(pooled)}


@dataclass
class Output:
    loss: None
    embedding: Tensor
    logits: Tensor


@odd("gap-linear")
def dataclass_output(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return Output(None, pooled, net.fc(pooled))


Named = namedtuple("Named", ["embedding", "logits"])


@odd("gap-linear")
def named_tuple(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return Named(pooled, net.fc(pooled))


@odd("gap-linear", fc=lambda: nn.Linear(K, 1))
def one_class(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd("gap-linear", fc=lambda: nn.Linear(K, 1))
def one_class_without_its_dimension(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3))).squeeze(1)


@odd("gap-norm-linear", fc=lambda: nn.Linear(K, 1))
def one_class_behind_a_normalization(net, x):
    return net.fc(F.normalize(F.relu(net.conv(x)).mean((2, 3))))


# --- how the network runs


@odd("gap-linear", norm=lambda: nn.BatchNorm2d(K), change=nn.Module.train, dropout=nn.Dropout)
def in_training_mode(net, x):
    return net.fc(net.dropout(F.relu(net.norm(net.conv(x))).mean((2, 3))))


@odd("gap-linear", change=lambda net: net.requires_grad_(False))
def frozen_parameters(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd("gap-linear")
def no_grad_backbone(net, x):
    with torch.no_grad():
        features = F.relu(net.conv(x))
    return net.fc(features.mean((2, 3)))


@odd("gap-linear")
@torch.no_grad()
def no_grad_throughout(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd("gap-norm-linear")
@torch.no_grad()
def norm_divided_away_in_place(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    pooled.div_(pooled.norm(dim=1, keepdim=True))  # autograd has kept what is overwritten here
    return net.fc(pooled)


@odd("gap-linear", block=lambda: nn.Sequential(nn.Conv2d(K, K, 3, padding=1), nn.BatchNorm2d(K), nn.ReLU()))
def checkpointed_last_block(net, x):
    return net.fc(checkpoint(net.block, F.relu(net.conv(x)), use_reentrant=False).mean((2, 3)))


@odd("gap-linear")
def checkpointed_throughout(net, x):
    return checkpoint(lambda x: net.fc(F.relu(net.conv(x)).mean((2, 3))), x, use_reentrant=False)


@odd("gap-linear")
@torch.inference_mode()
def inference_mode_throughout(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd("gap-linear", other=lambda: nn.Conv2d(3, K, 3, stride=2, padding=1))
def dynamic_control_flow(net, x):
    features = net.conv(x) if x.mean() > 0 else net.other(x)
    for _ in range(x.shape[-1] // 8):
        features = F.relu(features + 0.1)
    return net.fc(features.mean((2, 3)))


@odd("gap-linear", change=lambda net: setattr(net, "cache", None))
def cache_filled_in_the_first_pass(net, x):
    features = F.relu(net.conv(x))
    if net.cache is None:
        net.cache = F.relu(torch.linspace(-1, 1, features[0, 0].numel()).view(1, 1, *GRID)).to(x)
    return net.fc(F.relu(features + net.cache.to(x)).mean((2, 3)))


@odd("gap-linear", change=lambda net: nn.init.zeros_(net.fc.weight))
def zero_initialized_last_layer(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd(
    "gap-linear",
    known=lambda net: fc(net.inner.model),
    inner=lambda: Network(lambda net, x: net.model(x), model=EXACT["functional_relu"].build()),
)
def wrapper_module(net, x):
    return net.inner(x)


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


@odd("gap-linear", fc=lambda: old_weight_norm(nn.Linear(K, C)))
def weight_norm(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd("gap-linear", fc=lambda: parametrizations.weight_norm(nn.Linear(K, C)))
def parametrized_weight_norm(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))
