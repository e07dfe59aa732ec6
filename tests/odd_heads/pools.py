"""Exact heads: what lies before the pool, how the pool is spelled, how the dimensions are ordered."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from odd_heads.registry import GRID, PLACES, K, odd, tokens_of

# --- the activation before the pool


@odd("gap-linear")
def no_relu(net, x):
    return net.fc(net.conv(x).mean((2, 3)))


@odd("gap-linear")
def functional_relu(net, x):
    return net.fc(F.relu(net.conv(x)).mean((2, 3)))


@odd("gap-linear")
def in_place_relu(net, x):
    return net.fc(F.relu(net.conv(x), inplace=True).mean((2, 3)))


@odd("gap-linear", relu=lambda: nn.ReLU(inplace=True))
def in_place_relu_whose_result_is_ignored(net, x):
    features = net.conv(x)
    net.relu(features)
    return net.fc(features.mean((2, 3)))


@odd("gap-linear", relu=nn.ReLU, second=lambda: nn.Conv2d(K, K, 3, padding=1))
def reused_relu(net, x):
    features = net.relu(net.second(net.relu(net.conv(x))))
    return net.fc(features.mean((2, 3)))


@odd("gap-linear", known=lambda net: (2 * net.fc.weight, net.fc.bias))
def tokens_scaled_in_place(net, x):
    tokens = net.conv(x).flatten(2)
    tokens.mul_(2)
    return net.fc(tokens.mean(2))


@odd("gap-linear", norm=lambda: nn.GroupNorm(2, K))
def group_norm_before_the_pool(net, x):
    return net.fc(net.norm(net.conv(x)).mean((2, 3)))


@odd("gap-linear", squeeze=lambda: nn.Linear(K, 2), excite=lambda: nn.Linear(2, K))
def squeeze_and_excitation(net, x):
    features = F.relu(net.conv(x))
    gate = torch.sigmoid(net.excite(F.relu(net.squeeze(features.mean((2, 3))))))
    return net.fc((features * gate[:, :, None, None]).mean((2, 3)))


# --- the spellings of global average pooling


@odd("gap-linear", dropout=nn.Dropout)
def a_row_of_tokens_far_behind_the_grid(net, x):
    features = F.relu(net.conv(x)).flatten(2)
    for _ in range(3):
        features = net.dropout(features.transpose(1, 2)).transpose(1, 2)
    return net.fc(features.mean(2))


@odd("gap-linear", pool=lambda: nn.AvgPool2d(GRID))
def avg_pool_layer(net, x):
    return net.fc(net.pool(F.relu(net.conv(x))).flatten(1))


@odd("gap-linear")
def avg_pool_function(net, x):
    features = F.relu(net.conv(x))
    return net.fc(F.avg_pool2d(features, features.shape[2:]).view(len(x), -1))


@odd("gap-linear", pool=lambda: nn.AdaptiveAvgPool2d(1))
def adaptive_avg_pool_layer(net, x):
    return net.fc(net.pool(F.relu(net.conv(x))).squeeze(-1).squeeze(-1))


@odd("gap-linear")
def adaptive_avg_pool_function(net, x):
    return net.fc(torch.flatten(F.adaptive_avg_pool2d(F.relu(net.conv(x)), 1), 1))


@odd("gap-linear")
def mean_of_rows_then_of_columns(net, x):
    return net.fc(F.relu(net.conv(x)).mean(3).mean(2))


@odd("gap-linear")
def mean_of_a_flattened_view(net, x):
    return net.fc(torch.mean(F.relu(net.conv(x)).view(len(x), K, -1), 2))


@odd("gap-linear")
def sum_over_area(net, x):
    features = F.relu(net.conv(x))
    return net.fc(features.sum((-2, -1)) / (features.shape[-2] * features.shape[-1]))


@odd("gap-linear", known=lambda net: (net.fc.weight * PLACES, net.fc.bias))
def sum_without_area(net, x):
    return net.fc(F.relu(net.conv(x)).sum((2, 3)))


@odd("gap-linear")
def einsum(net, x):
    features = F.relu(net.conv(x))
    return torch.einsum("nkhw,ck->nc", features, net.fc.weight) / PLACES + net.fc.bias


@odd("gap-linear")
def einsum_of_the_pool_alone(net, x):
    return net.fc(torch.einsum("nkhw->nk", F.relu(net.conv(x))) / PLACES)


@odd("gap-linear")
def two_stage_pooling(net, x):
    return net.fc(F.avg_pool2d(F.avg_pool2d(F.relu(net.conv(x)), 4), (2, 3)).flatten(1))


@odd("gap-linear")
def matmul_with_ones(net, x):
    features = F.relu(net.conv(x)).flatten(2)
    return net.fc((features @ features.new_full((PLACES, 1), 1 / PLACES)).squeeze(2))


# --- the order of the dimensions


@odd("gap-linear", change=lambda net: net.to(memory_format=torch.channels_last))
def channels_last_memory(net, x):
    return net.fc(F.relu(net.conv(x.contiguous(memory_format=torch.channels_last))).mean((2, 3)))


@odd("gap-linear", mix=lambda: nn.Linear(K, K))
def channels_last_layout(net, x):
    return net.fc(F.gelu(net.mix(net.conv(x).permute(0, 2, 3, 1))).mean((1, 2)))


@odd("gap-linear", norm=lambda: nn.LayerNorm(K))
def tokens(net, x):
    return net.fc(tokens_of(net, x).mean(1))


@odd("gap-linear", norm=lambda: nn.LayerNorm(K), attention=lambda: nn.MultiheadAttention(K, 2, batch_first=True))
def class_token_left_out_of_the_mean(net, x):
    tokens = torch.cat([x.new_ones(len(x), 1, K), tokens_of(net, x)], 1)
    tokens = tokens + net.attention(tokens, tokens, tokens)[0]
    return net.fc(tokens[:, 1:].mean(1))


@odd("gap-linear", norm=lambda: nn.LayerNorm(K), attention=lambda: nn.MultiheadAttention(K, 2, batch_first=True))
def register_tokens(net, x):
    registers = x.new_ones(len(x), 2, K)
    tokens = torch.cat([registers, tokens_of(net, x), registers], 1)
    tokens = tokens + net.attention(tokens, tokens, tokens)[0]
    return net.fc(tokens[:, 2:-2].mean(1))


@odd(
    "gap-linear",
    norm=lambda: nn.LayerNorm(K),
    encoder=lambda: nn.TransformerEncoderLayer(K, 2, 8, batch_first=True),
)
def transformer_encoder(net, x):
    return net.fc(net.encoder(tokens_of(net, x)).mean(1))


@odd("gap-linear", known=lambda net: (net.fc.weight * PLACES, net.fc.bias), score=lambda: nn.Linear(K, 1))
def attention_pooling_of_weighted_tokens(net, x):
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    weighted = tokens * torch.softmax(net.score(tokens), 1)
    return net.fc(weighted.sum(1))
