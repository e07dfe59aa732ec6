"""Exact heads: what lies before the pool, how the pool is spelled, how the dimensions are ordered."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from odd_heads.registry import GRID, PLACES, K, odd, on_features, tokens_of

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


@odd("gap-linear")
def in_place_sum_whose_result_is_ignored(net, x):
    features = net.conv(x)
    features.add_(torch.arange(GRID[1]).to(x))
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

for name, pool in (
    ("avg_pool_function", lambda f: F.avg_pool2d(f, f.shape[2:]).view(len(f), -1)),
    ("adaptive_avg_pool_function", lambda f: torch.flatten(F.adaptive_avg_pool2d(f, 1), 1)),
    ("mean_of_rows_then_of_columns", lambda f: f.mean(3).mean(2)),
    ("mean_of_a_flattened_view", lambda f: torch.mean(f.view(len(f), K, -1), 2)),
    ("sum_over_area", lambda f: f.sum((-2, -1)) / (f.shape[-2] * f.shape[-1])),
    ("einsum_of_the_pool_alone", lambda f: torch.einsum("nkhw->nk", f) / PLACES),
    ("two_stage_pooling", lambda f: F.avg_pool2d(F.avg_pool2d(f, 4), (2, 3)).flatten(1)),
    ("matmul_with_ones", lambda f: (f.flatten(2) @ f.new_full((PLACES, 1), 1 / PLACES)).squeeze(2)),
):
    on_features(name, "gap-linear", lambda net, f, pool=pool: net.fc(pool(f)))

on_features("einsum", "gap-linear", lambda net, f: torch.einsum("nkhw,ck->nc", f, net.fc.weight) / PLACES + net.fc.bias)
on_features(
    "sum_without_area",
    "gap-linear",
    lambda net, f: net.fc(f.sum((2, 3))),
    known=lambda net: (net.fc.weight * PLACES, net.fc.bias),
)
for name, layer in (
    ("avg_pool_layer", lambda: nn.AvgPool2d(GRID)),
    ("adaptive_avg_pool_layer", lambda: nn.AdaptiveAvgPool2d(1)),
):
    on_features(name, "gap-linear", lambda net, f: net.fc(net.pool(f).squeeze(-1).squeeze(-1)), pool=layer)


@odd("gap-linear", dropout=nn.Dropout)
def a_row_of_tokens_far_behind_the_grid(net, x):
    features = F.relu(net.conv(x)).flatten(2)
    for _ in range(3):
        features = net.dropout(features.transpose(1, 2)).transpose(1, 2)
    return net.fc(features.mean(2))


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


@odd("gap-linear", norm=lambda: nn.LayerNorm(K), encoder=lambda: nn.TransformerEncoderLayer(K, 2, 8, batch_first=True))
def transformer_encoder(net, x):
    return net.fc(net.encoder(tokens_of(net, x)).mean(1))


@odd("gap-linear", known=lambda net: (net.fc.weight * PLACES, net.fc.bias), score=lambda: nn.Linear(K, 1))
def attention_pooling_of_weighted_tokens(net, x):
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    weighted = tokens * torch.softmax(net.score(tokens), 1)
    return net.fc(weighted.sum(1))
