"""What is found out about a network by running it: its head, how well that is proved, and where its cells lie.

Finding it takes seconds, so it is remembered. What is remembered is never trusted: the maps of a random input must add
up to the class scores that the network gives it now, and these must be the scores of the time it was remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cam.errors import OutputError
from cam.files import write_whole
from cam.heads.copies import eval_copy
from cam.heads.criteria import tolerance_of
from cam.heads.find import find_head
from cam.heads.head import Head, Site
from cam.heads.prove import Proof, prove_head, proved_scores
from cam.heads.receptive_field import measure_receptive_field
from cam.maps.geometry import Grid
from cam.tensors import device_and_dtype, hash_tensors
from cam.version import VERSION

_VERSION = 1  # of the way these findings are made


@dataclass(frozen=True)
class Findings:
    """What a network turned out to be.

    Attributes:
        head: weight and bias, on the network's device.
        proof: how well the maps of random inputs added up.
        grid: where the cells of a map lie in an input.
        tensors_sha256: of the network's tensors, as `hash_tensors` gives it.
    """

    head: Head
    proof: Proof
    grid: Grid
    tensors_sha256: str


@torch.inference_mode(False)  # gradients, and tensors that may be used anywhere, also where they are switched off
def examine(
    network: nn.Module, input_shape: tuple[int, int, int], head: Head | None = None, *, in_float64: bool = False
) -> Findings:
    """Find a network's head, prove it and measure its grid, or remember all that and prove it again.

    Args:
        network: a classifier, not wrapped.
        input_shape: (channels, H, W) that it was made for.
        head: where it has just been found; then it is proved from the start.
        in_float64: whether to prove a copy of the network in float64 too.

    Raises:
        HeadError: the network has no exact map, or its maps do not add up.
        ModelError: the network does not run on such an input.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> findings = examine(network, (3, 16, 16))
        >>> findings.head.weight.shape, findings.grid.stride
        (torch.Size([2, 4]), (1.0, 1.0))
    """
    if any(is_lazy(parameter) for parameter in network.parameters()):
        eval_copy(network, input_shape)  # its first pass gives them their shapes
    sha256 = hash_tensors(network.state_dict())
    key = _key(network, input_shape, sha256)
    known = _recall(network, input_shape, sha256, key)
    if known and head is None:
        head, proof = known.head, known.proof
    else:
        head = head or find_head(network, input_shape).exact()
        proof = prove_head(network, head, input_shape, in_float64=in_float64)
    head = head.to(device_and_dtype(network)[0])
    if known and known.grid.method == "measured":  # else it may have been for want of memory, which passes
        return Findings(head, proof, known.grid, sha256)
    grid = measure_receptive_field(
        eval_copy(network, input_shape), head, input_shape
    )  # in evaluation mode while it is measured
    findings = Findings(head, proof, grid, sha256)
    remember(_to_bytes(findings, proved_scores(network, head, input_shape)), *key)
    return findings


def _key(network: nn.Module, input_shape: tuple[int, int, int], sha256: str) -> tuple[object, ...]:
    """All that findings depend on, except for code that is not torch's: the scores tell when that has changed."""
    versions = _VERSION, VERSION, torch.__version__, version("torchvision")
    return *versions, sha256, repr(network), input_shape, device_and_dtype(network)[0].type


def _recall(
    network: nn.Module, input_shape: tuple[int, int, int], sha256: str, key: tuple[object, ...]
) -> Findings | None:
    """Remember findings if they are true of the network: maps that add up to its scores, the same as they were."""
    data = recall(*key)
    if data is None:
        return None
    try:
        findings, scores = _from_bytes(data, sha256)
        now = proved_scores(network, findings.head, input_shape)
        limit = tolerance_of(device_and_dtype(network)[1]) * max(1.0, float(scores.abs().max()))
        return findings if float((now - scores).abs().max()) <= limit else None
    except Exception:  # whatever a stranger's network may raise: then all is found anew
        return None


def _to_bytes(findings: Findings, scores: Tensor) -> bytes:
    head = findings.head
    proof = replace(findings.proof, error64=None)  # that is for those who ask for it
    facts = {"kind": head.kind, "site": asdict(head.site), "proof": asdict(proof), "grid": asdict(findings.grid)}
    tensors = {"weight": head.weight.cpu().contiguous(), "bias": head.bias.cpu(), "scores": scores}
    return json.dumps(facts).encode() + b"\n" + save(tensors)


def _from_bytes(data: bytes, sha256: str) -> tuple[Findings, Tensor]:
    line, _, content = data.partition(b"\n")
    facts, tensors = json.loads(line), load(content)
    head = Head(facts["kind"], Site(**_tuples(facts["site"])), tensors["weight"], tensors["bias"])
    return Findings(head, Proof(**facts["proof"]), Grid(**_tuples(facts["grid"])), sha256), tensors["scores"]


def _tuples(facts: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}


_ENTRIES, _BYTES = 64, 2**28  # of the entries used last, so many are kept, and of these so much

_SEAL = 32  # bytes in front of an entry, the SHA-256 of its name and content


def recall(*key: object) -> bytes | None:
    """Give what is remembered under a key; None where that is nothing, damaged, or another key's.

    Args:
        *key: anything whose `repr` says all that the answer depends on.

    Example:
        >>> recall("never remembered") is None
        True
    """
    file = _file(key)
    try:
        content = file.read_bytes()
        os.utime(file)
    except OSError:
        return None
    seal, data = content[:_SEAL], content[_SEAL:]
    return data if seal == _seal(file, data) else None


def remember(data: bytes, *key: object) -> None:
    """Remember something under a key, and forget what was not used for long; without a cache, nothing is remembered.

    Args:
        data: what to remember.
        *key: as for `recall`.
    """
    file = _file(key)
    with suppress(OutputError, OSError):
        write_whole(file, _seal(file, data) + data)
        _forget(file.parent)


def _forget(folder: Path) -> None:
    """Keep what was used last, and always the entry just written."""
    size = 0
    found = [(path.stat(), path) for path in folder.iterdir()]
    for rank, (about, path) in enumerate(sorted(found, key=lambda entry: -entry[0].st_mtime_ns)):
        size += about.st_size
        if rank >= _ENTRIES or (rank and size > _BYTES):
            path.unlink(missing_ok=True)


def _file(key: tuple[object, ...]) -> Path:
    name = hashlib.sha256(repr(key).encode("utf-8", "surrogatepass")).hexdigest()
    return Path(platformdirs.user_cache_dir("gapcam"), "networks", name)


def _seal(file: Path, data: bytes) -> bytes:
    return hashlib.sha256(file.name.encode() + data).digest()
