"""Everything found by running a network: its head, the proof of it, and where the cells of its maps are.

Finding it takes seconds, so it is cached. A cache entry is proved again: the maps of a random input must add up to the
class scores that the network gives now; these and the features must be the cached ones, cell by cell, because the same
cells in another order have the same scores.
"""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import cast, get_args

import platformdirs
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cam.errors import HeadError, OutputError, UsageError, reason_of
from cam.files import write_whole
from cam.heads.choose import make_head
from cam.heads.copies import check_network, eval_copy, run_once
from cam.heads.criteria import NOT_FINITE, SIGMOID, SOFTMAX, tolerance_of
from cam.heads.cut import Cut, find_cut
from cam.heads.find import HeadReport, find_head_in_copy
from cam.heads.general import GeneralHead, Method, Tapes
from cam.heads.head import Head, Site
from cam.heads.prove import Proof, check_maps, proof_inputs
from cam.heads.receptive_field import measure_grid
from cam.maps.geometry import Grid, stretched
from cam.tensors import device_and_dtype, hash_tensors
from cam.version import VERSION

_CACHE_VERSION = 11
_MAX_ENTRIES = 32  # of the cache; of ResNet-50's head one takes 8 MB


@dataclass(frozen=True)
class HeadAnalysis:
    """A network's head on the network's device, its proof, the grid of its maps, and the hash of its tensors."""

    head: Head | GeneralHead
    proof: Proof
    grid: Grid
    tensors_sha256: str


@torch.inference_mode(False)  # gradients, and tensors that may be used anywhere, even if the caller has disabled them
def analyze_head(
    network: nn.Module, input_shape: tuple[int, int, int], method: Method | None = None, layer: str | None = None
) -> HeadAnalysis:
    """Find an unwrapped network's head, prove it and measure its grid, or read them from the cache and prove them.

    Args:
        network: a classifier.
        input_shape: (channels, H, W) that it was made for.
        method: how maps are computed; None for the exact one, else the better complete one.
        layer: name of the module to take the features in; None for the last that will do.

    Raises:
        HeadError: the network has no such map, or its maps do not add up.
        ModelError: the network does not run on an input of that size.
    """
    check_network(network)
    if any(is_lazy(parameter) for parameter in network.parameters()):
        run_once(network, input_shape)  # gives them their shapes
    device, _ = device_and_dtype(network)
    sha256 = hash_tensors(network.state_dict())
    file = _cache_file(network, input_shape, sha256, method, layer)
    cached = _read_cache(file, network, input_shape, sha256)
    if cached:
        return cached
    network_copy = eval_copy(network, input_shape)
    report = find_head_in_copy(network_copy, input_shape)
    head: Head | GeneralHead
    if method == "exact" or (method is None and layer is None and report.head):
        head, grid = report.exact().to(device), cast(Grid, report.grid)  # an exact head has a grid
    else:
        try:
            cut, grid = _find_general(network_copy, report, input_shape, layer)
            if layer is not None and report.head:  # the head that was found starts later
                report = replace(report, kind="nonlinear", reason=f"more than the head follows layer {layer!r}")
            head = make_head(network, input_shape, cut, report.kind, method, report.reason)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as failure:  # of the network's code, run again
            problem = f"The network cannot be run again from its features: {reason_of(failure)}"
            raise HeadError(problem, "Let autograd differentiate what follows them in evaluation mode") from failure
    images = proof_inputs(input_shape)
    error, logits, features = check_maps(network, head, images)
    analysis = HeadAnalysis(head, Proof(len(images), error), grid, sha256)
    stored = {name: value for name, value in vars(head).items() if name != "tapes"}
    parts = {"head": {**stored, "site": asdict(head.site)}, "proof": asdict(analysis.proof), "grid": asdict(grid)}
    _write_cache(file, {**parts, **_first_results(logits, features)})
    return analysis


def check_layer(network: nn.Module, method: str | None, layer: str | None) -> None:
    """Raise UsageError unless there is such a method, and such a layer in the network."""
    methods = get_args(Method)
    names = [name for part in methods for name in get_args(part) or (part,)]
    if method not in (None, *names):
        raise UsageError(f"--method must be one of {', '.join(names)}, got {method!r}", "Leave it out for the best")
    if layer is None:
        return
    layers = [name for name, _ in network.named_modules() if name]
    if layer not in layers:
        near = get_close_matches(layer, layers) or [name for name, _ in network.named_children()][:20]
        raise UsageError(
            f"--layer must be a layer of the network, got {layer!r}", f"Layers are, for example, {', '.join(near)}"
        )
    if method == "exact":
        raise UsageError("--method exact takes the features of the last layer, not of --layer", "Give one of the two")


def _find_general(
    network: nn.Module, report: HeadReport, input_shape: tuple[int, int, int], layer: str | None
) -> tuple[Cut, Grid]:
    """Find where to cut a network from `eval_copy`, and where the cells of its maps lie; or raise a HeadError."""
    if report.reason in (NOT_FINITE, SOFTMAX, SIGMOID):
        report.exact()
    if report.head and layer is None:
        return Cut(report.head.site, report.head.weight.norm(dim=0)), cast(Grid, report.grid)
    if (cut := find_cut(network, input_shape, layer)) is None:
        if layer is None:
            report.exact()
        problem = f"--layer {layer!r} has no features with rows and columns from which alone the class scores follow"
        raise HeadError(problem, "Name the layer that ends a stage, such as layer3 of a ResNet, not a branch of it")
    unturned = replace(cut.site, transposed=False, flipped=(False, False))
    site, grid = measure_grid(network, unturned, cut.weights, input_shape) or (cut.site, None)
    return replace(cut, site=site), grid or stretched(cut.cells, (input_shape[1], input_shape[2]))


def _cache_file(
    network: nn.Module, input_shape: tuple[int, int, int], sha256: str, method: Method | None, layer: str | None
) -> Path:
    """Named by everything the analysis depends on, except for the network's code: the scores show if that changed."""
    versions = _CACHE_VERSION, VERSION, torch.__version__, version("torchvision")
    key = repr((*versions, sha256, repr(network), input_shape, device_and_dtype(network)[0].type, method, layer))
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return Path(platformdirs.user_cache_dir("gapcam"), "networks", name)


def _read_cache(file: Path, network: nn.Module, input_shape: tuple[int, int, int], sha256: str) -> HeadAnalysis | None:
    """Read an entry if it is true of the network; None if there is none, or if it is damaged or outdated."""
    try:
        entry = torch.load(file, map_location="cpu", weights_only=True)
        device, dtype = device_and_dtype(network)
        fields = {**entry["head"], "site": Site(**entry["head"]["site"])}
        head: Head | GeneralHead
        if "method" in fields:
            head = GeneralHead(**fields, tapes=Tapes(network, fields["site"], input_shape[0]))
        else:
            head = Head(**fields).to(device)
        _, logits, features = check_maps(network, head, proof_inputs(input_shape)[:1])
        now = _first_results(logits, features)
        sizes = {"scores": max(1.0, float(entry["scores"].abs().max())), "cells": float(entry["cells"].abs().max())}
        if not all((now[key] - entry[key]).abs().max() <= tolerance_of(dtype) * size for key, size in sizes.items()):
            return None
        os.utime(file)
        return HeadAnalysis(head, Proof(**entry["proof"]), Grid(**entry["grid"]), sha256)
    except Exception:  # a damaged file or a user's network may raise anything
        return None


def _first_results(logits: Tensor, features: Tensor) -> dict[str, Tensor]:
    """Class scores (C,) of the first input, and a mixture of its features' channels, less its mean (h, w)."""
    mixture = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(5), dtype=torch.float32)
    cells = torch.tensordot(mixture, features[0].float().cpu(), 1)
    return {"scores": logits[0].float().cpu(), "cells": cells - cells.mean()}


def _write_cache(file: Path, entry: dict[str, object]) -> None:
    """Write an entry and delete those not used for the longest time; do nothing if the cache cannot be written."""
    buffer = io.BytesIO()
    torch.save(entry, buffer)
    with suppress(OutputError, OSError):
        write_whole(file, buffer.getvalue())
        entries = sorted(file.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in entries[_MAX_ENTRIES:]:
            old.unlink(missing_ok=True)
