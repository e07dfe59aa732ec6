"""Checkpoints: read without running code, and loaded into a network key by key."""

from __future__ import annotations

import hashlib
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cam.errors import WeightsError, reason_of
from cam.heads.outputs import unwrap

NESTS = ("state_dict", "model", "model_state_dict", "ema")
PREFIXES = ("module.", "model.", "_orig_mod.")

# How torch names the code that it refused; a TorchScript archive is code as a whole.
_CODE = re.compile(r"unsupported global:? (?:GLOBAL )?(\S+)|TorchScript", re.IGNORECASE)


def read_checkpoint(path: str | Path, *, unsafe_pickle: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint on the CPU, taken out of its nesting, without running code unless unsafe."""
    path = Path(path)
    start = _first_bytes(path)
    try:
        if start[8:9] == b"{" or path.suffix.lower() == ".safetensors":
            content: object = load_file(path, device="cpu")
        elif start.startswith((b"PK\x03\x04", b"\x80")):
            if start.startswith(b"PK") and not unsafe_pickle:
                _check_stored(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols
                content = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
        else:
            raise ValueError("neither format")
    except WeightsError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise _read_error(repr(str(path)), error, unsafe_pickle) from error
    state = _unnest(content)
    if not state:
        keys = [repr(key) for key in content] if isinstance(content, Mapping) else [type(content).__name__]
        remedy = "Save network.state_dict() and give that file"
        raise WeightsError(f"{str(path)!r} holds no weights, only {_listed(keys)}", remedy)
    return state


def _first_bytes(path: Path) -> bytes:
    name = repr(str(path))
    try:
        if not path.is_file():  # a pipe would block
            problem = "is a folder or a device, not a file" if path.exists() else "does not exist"
            raise WeightsError(f"--weights {name} {problem}", "Check the path of the weights")
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise WeightsError(f"{name} cannot be opened ({reason_of(error)})", "Make it readable") from error


def _check_stored(path: Path) -> None:
    """Refuse a zip file that is larger in memory than on the disk: a few megabytes could take any amount."""
    with ZipFile(path) as archive:
        members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > path.stat().st_size or any(member.compress_type != ZIP_STORED for member in members):
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise ValueError("TorchScript")  # which compresses its code
        problem = (
            f"{str(path)!r} is compressed: its contents take {size:,} bytes, and torch.save stores them as they are"
        )
        raise WeightsError(problem, "Unpack it and load it with torch, and save it again with torch.save")


def _read_error(name: str, error: Exception, unsafe_pickle: bool) -> WeightsError:
    code = _CODE.search(str(error))
    if code and not unsafe_pickle:
        remedy = "Convert it to safetensors, or pass --unsafe-pickle if you trust the file"
        return WeightsError(f"{name} runs code when it is read: it needs {code[1] or code[0]!r}", remedy)
    if unsafe_pickle and isinstance(error, ImportError | AttributeError):
        remedy = "Add the folder that holds that code to PYTHONPATH, or convert the file to safetensors"
        return WeightsError(f"{name} needs Python code that cannot be imported ({error})", remedy)
    remedy = "Copy or download it again, or save it again as safetensors"
    return WeightsError(f"{name} is empty, damaged, or not in the format of torch.save or safetensors", remedy)


def _unnest(content: object, depth: int = 3) -> dict[str, Tensor]:
    """The innermost tensors by key; the depth is limited because a pickle can contain itself."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping):
        return {}
    for nest in NESTS if depth else ():
        if nest in content and (state := _unnest(content[nest], depth - 1)):
            return state
    return {key: value.detach() for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def fill_weights(
    network: nn.Module, factory: Callable[..., nn.Module], arguments: dict[str, Any], file: Path, unsafe_pickle: bool
) -> nn.Module:
    """Load a checkpoint into a network, built again if the checkpoint has another number of classes."""
    expected = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
    state = strip_prefixes(read_checkpoint(file, unsafe_pickle=unsafe_pickle), expected.keys())
    counts = class_count(expected, state)
    if counts is not None:
        parameters = inspect.signature(factory).parameters
        if "num_classes" not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            problem = f"--weights {str(file)!r} has {counts[1]} classes, and the network {counts[0]}"
            raise WeightsError(problem, "Let its factory take `num_classes` and build a network of that many")
        network = unwrap(factory(**{**arguments, "num_classes": counts[1]}))
    load_weights(network, state, str(file))
    return network


def strip_prefixes(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Strip the prefixes that wrappers put before every key, until most keys are those of the network.

    Keys without a dot (the `n_averaged` of an averaged model) have no prefix.
    """
    best = state = dict(state)
    while True:
        dotted = [key for key in state if "." in key]
        prefix = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in dotted)), "")
        shorter = {key.removeprefix(prefix): value for key, value in state.items()}
        # If two keys become one, the prefix is part of a name.
        if shorter.keys() == state.keys() or len(shorter) < len(state):
            return best
        state = shorter
        if len(state.keys() & set(expected)) > len(best.keys() & set(expected)):
            best = state


def class_count(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Numbers of classes of a network and of a checkpoint, if they differ and nothing else does; else None.

    All tensors of another shape (the classifier's and those of auxiliary heads) must differ in the first dimension
    only, from the same number to the same.
    """
    pairs = [(expected[key].shape, state[key].shape) for key in expected.keys() & state.keys()]
    pairs = [(old, new) for old, new in pairs if old != new]
    if any(len(old) != len(new) or old[1:] != new[1:] for old, new in pairs):
        return None
    counts = {(old[0], new[0]) for old, new in pairs}
    return counts.pop() if len(counts) == 1 else None


def load_weights(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load every tensor of a checkpoint into a network, or raise a WeightsError and load none.

    `num_batches_tracked` may be missing: old checkpoints lack it, and evaluation does not use it.
    """
    merged = network.state_dict()
    expected = {key: value for key, value in merged.items() if isinstance(value, Tensor)}
    problems = {
        "missing": [repr(key) for key in expected if key not in state and not key.endswith("num_batches_tracked")],
        "unexpected": [repr(key) for key in state if key not in expected],
        "of another shape or dtype": [
            f"{key!r} {_form(state[key])} for {_form(old)}"
            for key, old in expected.items()
            if key in state and not _fits(state[key], old)
        ],
    }
    if any(problems.values()):
        problem = "; ".join(f"{kind} {_listed(keys)}" for kind, keys in problems.items() if keys)
        remedy = "Check that they belong to this model and were saved from the unwrapped network"
        raise WeightsError(f"The weights of {source!r} do not fit the network: {problem}", remedy)
    # Into the network's own dictionary, because it holds the versions by which modules convert old weights.
    merged.update(state)
    network.load_state_dict(merged)


def _fits(new: Tensor, old: Tensor) -> bool:
    # Integers for floats would be a quantized checkpoint without its scales.
    kind = new.is_floating_point() or not old.is_floating_point()
    return kind and new.layout == old.layout and new.shape == old.shape


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _listed(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
