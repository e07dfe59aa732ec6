"""Find and prove the head of every torchvision classifier, and write docs/heads.md: `python tools/heads.py`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision import models

from cam.heads.copies import random_inputs
from cam.heads.find import find_head
from cam.heads.hooks import forward
from cam.heads.prove import Proof, prove_head

PAGE = Path(__file__).parents[1] / "docs" / "heads.md"
EXPECTED = {"gap-linear": 57, "conv-gap": 2, "gap-norm-linear": 4, "nonlinear": 3, "one-token": 5, "not-gap": 9}
LARGE = 150e6  # parameters; larger networks are proved on fewer inputs, as float64 is slow
INTRODUCTION = """\
# Heads of the torchvision classifiers

Written by `python tools/heads.py`: all {networks} classification builders of torchvision, at the input size of their
default weights, with seeded random weights, non-zero biases and BatchNorm statistics of random inputs. `find_head` runs
each network and reports its head. Where the map is exact, `prove_head` compares mean(map) + bias with the logit for
every class on 4 fresh random inputs (on 2 where the network has more than 150 million parameters): the errors are the
largest abs(mean(map) + bias - logit) / max(1, abs(logit)). [models.md](models.md) describes the kinds.

Made with torch {torch} in {minutes:.0f} minutes.
"""


@dataclass(frozen=True)
class Row:
    network: str
    kind: str
    features: str
    grid: str = ""
    proof: Proof | None = None
    reason: str = ""

    def __str__(self) -> str:
        errors = ("", "") if self.proof is None else (f"{self.proof.error:.1e}", f"{self.proof.error64:.1e}")
        return "| " + " | ".join((self.network, self.kind, self.features, self.grid, *errors, self.reason)) + " |"


def main() -> int:
    started = time.monotonic()
    rows = []
    for name in models.list_models(module=models):
        rows.append(survey(name))
        print(f"{time.monotonic() - started:6.0f} s  {rows[-1]}", file=sys.stderr, flush=True)
    PAGE.write_text(page(rows, (time.monotonic() - started) / 60), encoding="utf-8")
    kinds = Counter(row.kind for row in rows)
    if kinds != EXPECTED:
        print(f"kinds found: {dict(kinds)}; expected: {EXPECTED}", file=sys.stderr)
        return 1
    return 0


def survey(name: str) -> Row:
    """Find and prove the head of one network."""
    network, size = build(name)
    shape = (3, size, size)
    head_report = find_head(network, shape)
    site = head_report.site
    features = f"`{site.layer or '(network)'}` {site.operation}" if site else ""
    if head_report.head is None:
        return Row(name, head_report.kind, features, reason=head_report.reason)
    inputs = 2 if sum(parameter.numel() for parameter in network.parameters()) > LARGE else 4
    proof = prove_head(network, head_report.head, shape, inputs, in_float64=True)
    height, width = forward(network, head_report.head.site, random_inputs(1, shape))[1].shape[2:]
    return Row(name, head_report.kind, features, f"{height} x {width}", proof)


def build(name: str) -> tuple[nn.Module, int]:
    """Build a network with seeded random weights, and give the input size of its default weights."""
    torch.manual_seed(0)
    size = models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    options: dict[str, object] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit"):  # the position embedding has one size
        options["image_size"] = size
    network = models.get_model(name, weights=None, **options).eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # a bias of zero would prove nothing
                nn.init.normal_(parameter, std=0.1)
        for norm in norms:
            norm.momentum = None
            norm.train()
        if norms:  # or the features of untrained deep networks explode or vanish
            network(random_inputs(2, (3, size, size)))
    return network.eval(), size


def page(rows: list[Row], minutes: float) -> str:
    introduction = INTRODUCTION.format(networks=len(rows), torch=torch.__version__.split("+")[0], minutes=minutes)
    kinds = Counter(row.kind for row in rows)
    counts = ["| kind | networks |", "|---|---|", *(f"| {kind} | {kinds[kind]} |" for kind in EXPECTED)]
    titles = ["network", "kind", "features: layer, operation", "grid", "error float32", "error float64", "reason"]
    table = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|", *map(str, rows)]
    return "\n".join([introduction, *counts, "", *table, ""])


if __name__ == "__main__":
    sys.exit(main())
