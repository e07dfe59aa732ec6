"""Heads without an exact map."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from odd_heads.registry import GRID, PLACES, C, K, odd, on_features, on_pooled, tokens_of

for name, pool in (
    ("global_max", lambda f: f.amax((2, 3))),
    ("average_plus_max", lambda f: f.mean((2, 3)) + f.amax((2, 3))),
    ("corner_of_a_coarse_average", lambda f: F.avg_pool2d(f, 4)[:, :, 0, 0]),
):
    on_features(name, "not-gap", lambda net, f, pool=pool: net.fc(pool(f)))

on_features(
    "average_beside_max",
    "not-gap",
    lambda net, f: net.fc(torch.cat([f.mean((2, 3)), F.adaptive_max_pool2d(f, 1).flatten(1)], 1)),
    fc=lambda: nn.Linear(2 * K, C),
)
on_features("generalized_mean", "nonlinear", lambda net, f: net.fc(f.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)))

for name, run in (
    ("capped_at_six", lambda net, p: net.fc(F.relu6(p))),
    ("square_root_of_the_pool", lambda net, p: net.fc(torch.sqrt(p + 1e-6))),
    ("softmax", lambda net, p: net.fc(p).softmax(1)),
    ("log_softmax", lambda net, p: F.log_softmax(net.fc(p), 1)),
    ("distance_to_prototypes", lambda net, p: -torch.cdist(p, net.fc.weight)),
):
    on_pooled(name, "nonlinear", run)

for name, activation in (("mlp_with_relu", F.relu), ("mlp_with_gelu", F.gelu)):
    on_pooled(
        name,
        "nonlinear",
        lambda net, p, activation=activation: net.fc(activation(net.neck(p))),
        neck=lambda: nn.Linear(K, K),
    )

on_pooled(
    "untrained_mlp_with_hardswish",
    "nonlinear",
    lambda net, p: net.fc(F.hardswish(net.neck(p))),
    change=lambda net: nn.init.normal_(net.neck.weight, std=1e-4),
    neck=lambda: nn.Linear(K, K),
)
on_pooled(
    "mlp_behind_layer_norm",
    "nonlinear",
    lambda net, p: net.fc(F.relu(net.neck(net.norm(p)))),
    neck=lambda: nn.Linear(K, K),
    norm=lambda: nn.LayerNorm(K),
)
on_pooled(
    "gated_behind_the_pool",
    "nonlinear",
    lambda net, p: net.fc(p * torch.sigmoid(net.gate(p))),
    gate=lambda: nn.Linear(K, K),
)
on_pooled(
    "class_scores_gated_by_one_number",
    "nonlinear",
    lambda net, p: net.fc(p) * torch.sigmoid(net.gate(p)),
    gate=lambda: nn.Linear(K, 1),
)
on_pooled("leaky_relu_of_one_class", "nonlinear", lambda net, p: F.leaky_relu(net.fc(p)), fc=lambda: nn.Linear(K, 1))
on_pooled("sigmoid_of_one_class", "nonlinear", lambda net, p: torch.sigmoid(net.fc(p)), fc=lambda: nn.Linear(K, 1))


@odd("not-gap")
def log_sum_exp(net, x):
    return net.fc(torch.logsumexp(net.conv(x), (2, 3)))


@odd("nonlinear")
def sigmoid_of_the_pool(net, x):
    return net.fc(torch.sigmoid(net.conv(x).mean((2, 3))))


@odd("not-gap", fc=lambda: nn.Linear(K * PLACES, C))
def flatten_linear(net, x):
    return net.fc(F.relu(net.conv(x)).flatten(1))


@odd("not-gap", last=lambda: nn.Conv2d(K, K, GRID))
def a_map_of_one_place(net, x):
    return net.fc(F.adaptive_avg_pool2d(F.relu(net.last(F.relu(net.conv(x)))), 1).flatten(1))


@odd("not-gap", fc=lambda: nn.Linear(2 * K, C), second=lambda: nn.Conv2d(K, K, 3, padding=1))
def two_levels(net, x):
    first = F.relu(net.conv(x))
    second = F.relu(net.second(first))
    return net.fc(torch.cat([first.mean((2, 3)), second.mean((2, 3))], 1))


@odd("not-gap", second=lambda: nn.Conv2d(K, K, 3, padding=1), other=lambda: nn.Linear(3, C))
def color_beside_the_features(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3))) + net.other(x.mean((2, 3)))


@odd("not-gap", fc=lambda: nn.Linear(K * K, C))
def bilinear_pooling(net, x):
    features = F.relu(net.conv(x)).flatten(2)
    return net.fc((features @ features.transpose(1, 2) / PLACES).flatten(1))


@odd("not-gap")
def weighted_by_distance_from_the_center(net, x):
    window = torch.outer(torch.hann_window(GRID[0]), torch.hann_window(GRID[1])).to(x)
    return net.fc(torch.einsum("nkhw,hw->nk", F.relu(net.conv(x)), window))


@odd("not-gap", score=lambda: nn.Linear(K, 1))
def attention_pooling_in_one_product(net, x):
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    return net.fc((torch.softmax(net.score(tokens), 1).transpose(1, 2) @ tokens).squeeze(1))


@odd("one-token", norm=lambda: nn.LayerNorm(K), attention=lambda: nn.MultiheadAttention(K, 2, batch_first=True))
def class_token(net, x):
    tokens = torch.cat([x.new_ones(len(x), 1, K), tokens_of(net, x)], 1)
    tokens = tokens + net.attention(tokens, tokens, tokens)[0]
    return net.fc(tokens[:, 0])


@odd("not-gap", norm=lambda: nn.LayerNorm(K), attention=lambda: nn.MultiheadAttention(K, 2, batch_first=True))
def class_token_inside_the_mean(net, x):
    tokens = torch.cat([x.new_ones(len(x), 1, K), tokens_of(net, x)], 1)
    tokens = tokens + net.attention(tokens, tokens, tokens)[0]
    return net.fc(tokens.mean(1))


@odd(
    "not-gap",
    fc=lambda: nn.Linear(2 * K, C),
    norm=lambda: nn.LayerNorm(K),
    attention=lambda: nn.MultiheadAttention(K, 2, batch_first=True),
)
def class_token_beside_the_mean(net, x):
    tokens = torch.cat([x.new_ones(len(x), 1, K), tokens_of(net, x)], 1)
    tokens = tokens + net.attention(tokens, tokens, tokens)[0]
    return net.fc(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))


class Shifted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@odd("not-gap")
def maximum_behind_an_autograd_function(net, x):
    return net.fc(Shifted.apply(net.conv(x)).amax((2, 3)))


@odd("not-gap", other=lambda: nn.Linear(K, C))
def autograd_function_pooled_in_two_ways(net, x):
    features = Shifted.apply(net.conv(x))
    return net.fc(features.mean((2, 3))) + net.other(features.amax((2, 3)))


@odd("nonlinear", neck=lambda: nn.Linear(K, K), other=lambda: nn.Linear(3, K))
def color_beside_the_features_under_one_norm(net, x):
    return net.fc(F.normalize(net.neck(F.relu(net.conv(x)).mean((2, 3))) + net.other(x.mean((2, 3)))))


@odd("nonlinear", neck=lambda: nn.Linear(K, K), second=lambda: nn.Linear(K, K))
def two_norms(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(F.normalize(net.neck(pooled))) + net.fc(F.normalize(net.second(pooled)))
