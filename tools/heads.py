"""Find and prove the heads of many classifiers, and write a page about them.

    python tools/heads.py torchvision     all of torchvision's: docs/heads.md
    python tools/heads.py timm            a small network of every family of timm: docs/heads-timm.md
    python tools/heads.py transformers    every image classifier of Hugging Face: docs/heads-transformers.md

Networks have seeded random weights, non-zero biases and BatchNorm statistics of random inputs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from cam.errors import CamError
from cam.heads.copies import random_inputs
from cam.heads.examine import analyze_head
from cam.heads.find import HeadReport, find_head
from cam.heads.general import GeneralHead
from cam.heads.head import Site
from cam.heads.hooks import forward
from cam.heads.prove import Proof, prove_head

DOCS = Path(__file__).parents[1] / "docs"
EXPECTED = {"gap-linear": 57, "conv-gap": 2, "gap-norm-linear": 4, "nonlinear": 3, "one-token": 5, "not-gap": 9}
LARGE = 150e6  # parameters; larger networks are proved on fewer inputs, as float64 is slow
_MARKS = "test_ atto femto pico nano xxt xxs xx_small extra_tiny tiny 050 xs _xt mobile _t _ss small _s 18 b0 14"
SMALL = [*_MARKS.split(), ""]  # in names of networks, the smallest first
SIDE = 224  # pixels of an input, where nothing else is declared
INTRODUCTION = """\
# Heads of {title}

Written by `python tools/heads.py {source}`: {what}, with seeded random
weights, non-zero biases and BatchNorm statistics of random inputs. `find_head` runs each network and reports its head.
Where the map is exact, `prove_head` compares mean(map) + bias with the logit for every class on 4 fresh random inputs
(on 2 where the network has more than 150 million parameters): the errors are the largest abs(mean(map) + bias - logit)
over max(1, abs(logit)). The map of another head is complete: the error is that of the predicted classes of 4 inputs,
and a map of one class costs the forward passes of the last column but one, by multiplications, at 8 nodes of
integrated gradients. [models.md](models.md) describes the kinds.

Made with {versions}.
"""
Build = Callable[[], tuple[nn.Module, tuple[int, int, int]]]


@dataclass(frozen=True)
class Row:
    network: str
    kind: str
    features: str = ""
    grid: str = ""
    proof: Proof | None = None
    map: str = ""
    cost: str = ""
    reason: str = ""

    def __str__(self) -> str:
        found = (self.proof.error, self.proof.error64) if self.proof else (None, None)
        errors = ("" if error is None else f"{error:.1e}" for error in found)
        cells = (self.network, self.kind, self.map, self.features, self.grid, *errors, self.cost, self.reason)
        return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=["torchvision", "timm", "transformers"])
    parser.add_argument("names", nargs="*", help="networks to measure again; the page keeps the rows of the others")
    source, only = (arguments := parser.parse_args()).source, arguments.names
    title, what, page, networks = {
        "torchvision": (
            "the torchvision classifiers",
            "all classification builders of torchvision, at the input size of their default weights (ViTs: 224)",
            "heads.md",
            torchvision_networks,
        ),
        "timm": (
            "timm's families",
            "a small network of each module of timm, at its own input size",
            "heads-timm.md",
            timm_networks,
        ),
        "transformers": (
            "the Hugging Face classifiers",
            "every architecture of `AutoModelForImageClassification`, with a small configuration where it takes one",
            "heads-transformers.md",
            transformers_networks,
        ),
    }[source]
    started, rows = time.monotonic(), read_rows(DOCS / page) if only else {}
    for name, build in networks():
        if not only or name in only:
            rows[name] = str(survey(name, build))
            print(f"{time.monotonic() - started:6.0f} s  {rows[name]}", file=sys.stderr, flush=True)
    versions = f"torch {torch.__version__.split('+')[0]}"
    if source != "torchvision":
        versions += f", {source} {sys.modules[source].__version__}"
    introduction = INTRODUCTION.format(title=title, source=source, what=what, versions=versions)
    (DOCS / page).write_text(format_page(introduction, rows), encoding="utf-8")
    kinds = count_kinds(rows)
    if source == "torchvision" and kinds != EXPECTED:
        print(f"kinds found: {dict(kinds)}; expected: {EXPECTED}", file=sys.stderr)
        return 1
    return 0


def survey(name: str, build: Build) -> Row:
    """Find and prove the head of one network."""
    try:
        network, shape = build()
    except Exception as error:  # a library may not be able to build its own network
        return Row(name, "not built", reason=f"{type(error).__name__}: {first_line(error)}")
    try:
        head_report = find_head(network, shape)
    except CamError as error:
        return Row(name, "refused", reason=first_line(error))
    if head_report.head is None:
        return survey_inexact(name, network, shape, head_report)
    inputs = 2 if sum(parameter.numel() for parameter in network.parameters()) > LARGE else 4
    proof = prove_head(network, head_report.head, shape, inputs, in_float64=True)
    height, width = forward(network, head_report.head.site, random_inputs(1, shape))[1].shape[2:]
    return Row(name, head_report.kind, features_of(head_report.head.site), f"{height} x {width}", proof, "exact")


def survey_inexact(name: str, network: nn.Module, shape: tuple[int, int, int], head_report: HeadReport) -> Row:
    """Find where a network without an exact map is cut, and how complete its maps are."""
    try:
        analysis = analyze_head(network, shape)
    except CamError as error:
        return Row(name, head_report.kind, map="refused", reason=first_line(error))
    head = analysis.head
    if not isinstance(head, GeneralHead):
        raise TypeError(f"{name}: the head was not exact, and now it is")
    features = forward(network, head.site, random_inputs(1, shape))[1]
    height, width = head.to_grid(features, shape[1:]).shape[2:]
    cost = f"{head.cost_of_map:.2g}"
    return Row(name, head.kind, features_of(head.site), f"{height} x {width}", analysis.proof, head.method, cost)


def features_of(site: Site) -> str:
    """Where features are taken, as one cell of a table."""
    return f"`{site.layer or '(network)'}` {site.operation}"


def first_line(error: Exception) -> str:
    """The first line of a message, as one cell of a table."""
    return str(error).strip().partition("\n")[0].replace("|", "/")[:160]


def torchvision_networks() -> Iterator[tuple[str, Build]]:
    """All classification builders, at the input sizes of their default weights; ViTs at that of their builders."""
    for name in models.list_models(module=models):

        def build(name: str = name) -> tuple[nn.Module, tuple[int, int, int]]:
            torch.manual_seed(0)
            is_vit = name.startswith("vit")  # the position embedding has one size
            size = SIDE if is_vit else models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
            options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            return prepared(models.get_model(name, weights=None, **options), (3, size, size))

        yield name, build


def timm_networks() -> Iterator[tuple[str, Build]]:
    """A small network of each module, at its own input size."""
    import timm

    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if not names:
            continue
        names = [name for name in names if timm.get_pretrained_cfg_value(name, "num_classes")] or names
        small = min(names, key=lambda name: ([mark in name for mark in SMALL].index(True), len(name), name))

        def build(name: str = small) -> tuple[nn.Module, tuple[int, int, int]]:
            torch.manual_seed(0)
            network: Any = timm.create_model(name)
            channels, height, width = network.pretrained_cfg["input_size"]
            return prepared(network, (channels, height, width))

        yield f"{module}: {small}", build


def transformers_networks() -> Iterator[tuple[str, Build]]:
    """Every architecture that AutoModelForImageClassification knows, smaller than its default configuration."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as ARCHITECTURES

    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    for kind, classes in sorted(ARCHITECTURES.items()):
        known = [classes] if isinstance(classes, str) else list(classes)

        def build(kind: str = kind, known: list[str] = known) -> tuple[nn.Module, tuple[int, int, int]]:
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(kind)
            if config.to_dict().keys() >= small.keys():
                config = transformers.AutoConfig.for_model(kind, **small)
            config.architectures = known
            network: Any = transformers.AutoModelForImageClassification.from_config(config)  # type: ignore[no-untyped-call]
            size = getattr(config, "image_size", None) or SIDE
            height, width = size if isinstance(size, (list, tuple)) else (size, size)
            return prepared(network, (getattr(config, "num_channels", 3), height, width))

        yield kind, build


def prepared(network: nn.Module, shape: tuple[int, int, int]) -> tuple[nn.Module, tuple[int, int, int]]:
    """Give a network biases that prove something, and features that neither explode nor vanish."""
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # a bias of zero would prove nothing
                nn.init.normal_(parameter, std=0.1)
        for norm in norms:
            norm.momentum = None
            norm.train()
        if norms:
            network(random_inputs(2, shape))
    return network.eval(), shape


def read_rows(page: Path) -> dict[str, str]:
    """Rows of the last table of a page, by their networks."""
    lines = page.read_text(encoding="utf-8").rpartition("|---|")[2].splitlines()[1:]
    return {line.split("|")[1].strip(): line for line in lines}


def count_kinds(rows: Mapping[str, str]) -> Counter[str]:
    return Counter(row.split("|")[2].strip() for row in rows.values())


def format_page(introduction: str, rows: Mapping[str, str]) -> str:
    kinds = count_kinds(rows).most_common()
    counts = ["| kind | networks |", "|---|---|", *(f"| {kind} | {count} |" for kind, count in kinds)]
    titles = ["network", "kind", "map", "features: layer, operation", "grid", "error float32", "error float64"]
    titles += ["forward passes a map", "reason"]
    table = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|", *rows.values()]
    return "\n".join([introduction, *counts, "", *table, ""])


if __name__ == "__main__":
    sys.exit(main())
