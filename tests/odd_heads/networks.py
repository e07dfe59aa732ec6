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

from odd_heads.registry import EXACT, GRID, C, K, Network, fc, odd, on_features, on_pooled

# --- what the network returns


@dataclass
class Output:
    loss: None
    embedding: Tensor
    logits: Tensor


Named = namedtuple("Named", ["embedding", "logits"])

for name, run in (
    ("dictionary", lambda net, p: {"embedding": p, "logits": net.fc(p)}),
    ("dataclass_output", lambda net, p: Output(None, p, net.fc(p))),
    ("named_tuple", lambda net, p: Named(p, net.fc(p))),
):
    on_pooled(name, "gap-linear", run)

on_pooled(
    "auxiliary_head",
    "gap-linear",
    lambda net, p: {"auxiliary": net.auxiliary(p), "out": net.fc(p)},
    auxiliary=lambda: nn.Linear(K, C),
)
on_features("tuple_with_features", "gap-linear", lambda net, f: (f, net.fc(f.mean((2, 3)))))

for name, kind, run in (
    ("one_class", "gap-linear", lambda net, p: net.fc(p)),
    ("one_class_without_its_dimension", "gap-linear", lambda net, p: net.fc(p).squeeze(1)),
    ("one_class_behind_a_normalization", "gap-norm-linear", lambda net, p: net.fc(F.normalize(p))),
):
    on_pooled(name, kind, run, fc=lambda: nn.Linear(K, 1))


# --- results that no function call announces


class Swish(torch.autograd.Function):
    """As in networks that save memory."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * gate * (1 + x * (1 - gate))


def scripted_swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scripted_swish = torch.jit.script(scripted_swish)


@odd("gap-linear")
def autograd_function(net, x):
    return net.fc(Swish.apply(net.conv(x)).mean((2, 3)))


@odd("gap-linear")
def autograd_function_in_no_grad(net, x):
    with torch.no_grad():
        return net.fc(F.adaptive_avg_pool2d(input=Swish.apply(net.conv(x)), output_size=1).flatten(1))


@odd(
    "gap-linear",
    other=lambda: nn.Linear(K, C),
    known=lambda net: (net.fc.weight + net.other.weight, net.fc.bias + net.other.bias),
)
def autograd_function_read_twice(net, x):
    features = Swish.apply(net.conv(x))
    return net.fc(features.mean((2, 3))) + net.other(features.flatten(2).mean(2))


class InPlaceSwish(Swish):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.clone())
        ctx.mark_dirty(x)
        return x.mul_(torch.sigmoid(x))


@odd("gap-linear")
def autograd_function_in_place(net, x):
    features = net.conv(x)
    InPlaceSwish.apply(features)
    return net.fc(features.mean((2, 3)))


@odd("gap-linear")
def written_into_a_part(net, x):
    features = net.conv(x)
    features[:, :3] = F.relu(features[:, :3])
    return net.fc(features.mean((2, 3)))


@odd("gap-linear")
def scripted_function(net, x):
    return net.fc(scripted_swish(net.conv(x)).mean((2, 3)))


@odd("gap-linear", second=lambda: nn.Conv2d(3, K, 3, stride=2, padding=1))
def larger_of_two(net, x):
    features, _ = torch.stack([net.conv(x), net.second(x)]).max(0)
    return net.fc(features.mean((2, 3)))


@odd("gap-linear", block=lambda: nn.Sequential(nn.Conv2d(K, K, 3, padding=1), nn.ReLU()))
def reentrant_checkpoint(net, x):
    features = net.conv(x)
    features = features if features.requires_grad else features.detach().requires_grad_()
    return net.fc(checkpoint(net.block, features, use_reentrant=True).mean((2, 3)))


# --- how the network runs


@odd("gap-linear", norm=lambda: nn.BatchNorm2d(K), change=nn.Module.train, dropout=nn.Dropout)
def in_training_mode(net, x):
    return net.fc(net.dropout(F.relu(net.norm(net.conv(x))).mean((2, 3))))


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
    features = net.conv(x) if x.isfinite().all() else net.other(x)
    for _ in range(x.shape[-1] // 8):
        features = F.relu(features + 0.1)
    return net.fc(features.mean((2, 3)))


@odd("gap-linear", change=lambda net: setattr(net, "cache", None))
def cache_filled_in_the_first_pass(net, x):
    features = F.relu(net.conv(x))
    if net.cache is None:
        net.cache = F.relu(torch.linspace(-1, 1, features[0, 0].numel()).view(1, 1, *GRID)).to(x)
    return net.fc(F.relu(features + net.cache.to(x)).mean((2, 3)))


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


for name, options in {
    "frozen_parameters": {"change": lambda net: net.requires_grad_(False)},
    "zero_initialized_last_layer": {"change": lambda net: nn.init.zeros_(net.fc.weight)},
    "weight_norm": {"fc": lambda: old_weight_norm(nn.Linear(K, C))},
    "parametrized_weight_norm": {"fc": lambda: parametrizations.weight_norm(nn.Linear(K, C))},
}.items():
    on_pooled(name, "gap-linear", lambda net, p: net.fc(p), **options)
