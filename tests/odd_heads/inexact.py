"""Heads without an exact map."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from odd_heads.registry import GRID, PLACES, C, K, odd, tokens_of


@odd("not-gap")
def global_max(net, x):
    return net.fc(F.relu(net.conv(x)).amax((2, 3)))


@odd("not-gap")
def average_plus_max(net, x):
    features = F.relu(net.conv(x))
    return net.fc(features.mean((2, 3)) + features.amax((2, 3)))


@odd("not-gap", fc=lambda: nn.Linear(2 * K, C))
def average_beside_max(net, x):
    features = F.relu(net.conv(x))
    return net.fc(torch.cat([features.mean((2, 3)), F.adaptive_max_pool2d(features, 1).flatten(1)], 1))


@odd("nonlinear")
def generalized_mean(net, x):
    return net.fc(F.relu(net.conv(x)).clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3))


@odd("nonlinear")
def capped_at_six(net, x):
    return net.fc(F.relu6(F.relu(net.conv(x)).mean((2, 3))))


@odd("not-gap")
def log_sum_exp(net, x):
    return net.fc(torch.logsumexp(net.conv(x), (2, 3)))


@odd("nonlinear", neck=lambda: nn.Linear(K, K))
def mlp_with_relu(net, x):
    return net.fc(F.relu(net.neck(F.relu(net.conv(x)).mean((2, 3)))))


@odd("nonlinear", neck=lambda: nn.Linear(K, K))
def mlp_with_gelu(net, x):
    return net.fc(F.gelu(net.neck(F.relu(net.conv(x)).mean((2, 3)))))


@odd("nonlinear", neck=lambda: nn.Linear(K, K), change=lambda net: nn.init.normal_(net.neck.weight, std=1e-4))
def untrained_mlp_with_hardswish(net, x):
    return net.fc(F.hardswish(net.neck(F.relu(net.conv(x)).mean((2, 3)))))


@odd("nonlinear", neck=lambda: nn.Linear(K, K), norm=lambda: nn.LayerNorm(K))
def mlp_behind_layer_norm(net, x):
    return net.fc(F.relu(net.neck(net.norm(F.relu(net.conv(x)).mean((2, 3))))))


@odd("nonlinear", gate=lambda: nn.Linear(K, K))
def gated_behind_the_pool(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(pooled * torch.sigmoid(net.gate(pooled)))


@odd("nonlinear", gate=lambda: nn.Linear(K, 1))
def class_scores_gated_by_one_number(net, x):
    pooled = F.relu(net.conv(x)).mean((2, 3))
    return net.fc(pooled) * torch.sigmoid(net.gate(pooled))


@odd("nonlinear")
def softmax(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3))).softmax(1)


@odd("nonlinear")
def log_softmax(net, x):
    return F.log_softmax(net.fc(F.relu(net.conv(x)).mean((2, 3))), 1)


@odd("nonlinear", fc=lambda: nn.Linear(K, 1))
def sigmoid_of_one_class(net, x):
    return torch.sigmoid(net.fc(F.relu(net.conv(x)).mean((2, 3))))


@odd("nonlinear")
def square_root_of_the_pool(net, x):
    return net.fc(torch.sqrt(F.relu(net.conv(x)).mean((2, 3)) + 1e-6))


@odd("nonlinear")
def sigmoid_of_the_pool(net, x):
    return net.fc(torch.sigmoid(net.conv(x).mean((2, 3))))


@odd("nonlinear")
def distance_to_prototypes(net, x):
    return -torch.cdist(F.relu(net.conv(x)).mean((2, 3)), net.fc.weight)


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


@odd("not-gap")
def corner_of_a_coarse_average(net, x):
    return net.fc(F.avg_pool2d(F.relu(net.conv(x)), 4)[:, :, 0, 0])


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
