"""Activations: what makes probabilities of class scores, and who says which one a network was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from cam.errors import UsageError

Activation: TypeAlias = Literal["softmax", "sigmoid", "none"]  # none: the scores are values, as in regression
_PROBLEM_TYPES: dict[object, Activation] = {  # of Hugging Face
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Turn logits (N, C) into probabilities (N, C), from 0 to 1; NaN without an activation.

    Example:
        >>> activate(torch.zeros(1, 2), "sigmoid").tolist(), activate(torch.zeros(1, 4), "softmax").tolist()
        ([[0.5, 0.5]], [[0.25, 0.25, 0.25, 0.25]])
    """
    if activation == "none":
        return torch.full_like(logits, torch.nan)
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)


def choose_activation(
    given: Activation | None, network: nn.Module, own: Activation | None, classes: int
) -> tuple[Activation, str]:
    """Choose the activation of a network with that many class scores, and say in a note where it comes from.

    The caller's goes before the problem type in the network's `config`, then comes the model's `own`; without any,
    softmax is assumed, or sigmoid of one class score. The note is "" for the caller's and the model's own.
    """
    if given not in (None, *get_args(Activation)):
        raise UsageError(f"--activation must be softmax, sigmoid or none, got {given!r}", "Leave it out")
    if given == "softmax" and classes == 1:
        problem = "--activation softmax of one class score is always 1"
        raise UsageError(problem, "Use sigmoid for two classes, or none for a value (regression)")
    if given:
        return given, ""
    usual: Activation = "sigmoid" if classes == 1 else "softmax"
    for module in network.modules():
        problem_type = _problem_type(getattr(module, "config", None))
        if activation := _PROBLEM_TYPES.get(problem_type):
            activation = usual if activation == "softmax" else activation
            return activation, f"activation: {activation}, by the network's problem_type {problem_type!r}"
    if own and (own, classes) != ("softmax", 1):
        return own, ""
    scores = "one class score" if classes == 1 else f"{classes} class scores"
    return usual, f"activation: {usual}, assumed for {scores}; --activation says another"


def _problem_type(config: object) -> str | None:
    found = config.get("problem_type") if isinstance(config, Mapping) else getattr(config, "problem_type", None)
    return found if isinstance(found, str) else None
