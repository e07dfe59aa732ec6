"""Checkpoints: read without running code, and loaded into a network key by key."""

from __future__ import annotations

import hashlib
import inspect
import re
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cam.errors import WeightsError, reason_of
from cam.heads.outputs import unwrap
from cam.tensors import hash_tensors

# What training scripts keep their settings and scores in: classes that hold data, whose code does nothing else.
_NUMPY: list[Any] = [np.dtype, *{type(np.dtype(kind)) for kind in ("float64", "float32", "int64")}]
_SCALAR: Any = np.float64().__reduce__()[0]
_DATA = [Namespace, SimpleNamespace, type(Path()), *_NUMPY, _SCALAR, (_SCALAR, "numpy.core.multiarray.scalar")]

# Names of what a training script keeps with a network, and of averaged weights, which are evaluated (EMA).
_LOSS = re.compile(r"(\w*_)?(criterion|loss|losses|metrics?|acc|accuracy)(_\w*)?\.", re.IGNORECASE)
AVERAGED = re.compile(r"(?<![a-z])(ema|average|averaged)(?![a-z])|[a-z]EMA", re.IGNORECASE)
_LIGHTNING_PLAIN = "current_model_state"  # where Lightning keeps the weights of the last step if it averages them
_TRAINING = re.compile(r"optim|sched|loop|scaler|rng", re.IGNORECASE)

# How torch names the code that it refused.
_CODE = re.compile(r"unsupported global:? (?:GLOBAL )?(\S+)", re.IGNORECASE)


def read_checkpoint(path: str | Path, *, unsafe_pickle: bool = False) -> dict[str, dict[str, Tensor]]:
    """Read a checkpoint's tensors on the CPU without running code unless unsafe, by the dictionary they are in.

    Dictionaries are named by their keys with dots between them, such as "model.state_dict", or "" for the whole file.
    """
    content = read_content(path, unsafe_pickle=unsafe_pickle)
    if states := dict(find_states(content)):
        return states
    keys = [repr(key) for key in content] if isinstance(content, Mapping) else [type(content).__name__]
    remedy = "Save network.state_dict() and give that file"
    raise WeightsError(f"--weights {str(path)!r} holds no weights, only {_listed(keys)}", remedy)


def read_content(path: str | Path, option: str = "--weights", *, unsafe_pickle: bool = False) -> object:
    """Read what a file of safetensors or `torch.save` holds, on the CPU, without running code unless unsafe."""
    path = Path(path)
    start = first_bytes(path, option)
    try:
        if start[8:9] == b"{" or path.suffix.lower() == ".safetensors":
            return load_file(path, device="cpu")
        if not start.startswith((b"PK\x03\x04", b"\x80")):
            raise ValueError("neither format")
        if start.startswith(b"PK") and not unsafe_pickle:
            if (kind := archive_kind(path)) != "pickle":
                problem = f"{option} {str(path)!r} holds a whole network ({kind})"
                raise WeightsError(problem, f"Give it as the model: --model {path}")
            check_stored(path, option)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_DATA):
            warnings.simplefilter("ignore")  # about pickle protocols
            return torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except WeightsError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise _read_error(f"{option} {str(path)!r}", error, unsafe_pickle) from error


def training_arguments(path: Path) -> Mapping[str, Any]:
    """Read what a training script was called with, which timm, torchvision and Lightning keep with the weights."""
    # Whatever is not there or not readable costs a note, not the classifier.
    with suppress(Exception), torch.serialization.safe_globals(_DATA):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        arguments = content.get("args") or content["hyper_parameters"]
        return arguments if isinstance(arguments, Mapping) else vars(arguments)
    return {}


def first_bytes(path: Path, option: str) -> bytes:
    """Read the start of a file, or raise a WeightsError that says why it cannot be read."""
    name = f"{option} {str(path)!r}"
    try:
        if not path.is_file():  # a pipe would block
            problem = "is a folder or a device, not a file" if path.exists() else "does not exist"
            raise WeightsError(f"{name} {problem}", "Check the path")
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise WeightsError(f"{name} cannot be opened ({reason_of(error)})", "Make it readable") from error


def archive_kind(path: Path) -> str:
    """What a zip file of torch holds: "export", "TorchScript" or "pickle"."""
    with ZipFile(path) as archive:
        members = {name.partition("/")[2] or name for name in archive.namelist()}
    if members & {"archive_format", "models/model.json", "serialized_exported_program.json"}:
        return "export"
    return "TorchScript" if "constants.pkl" in members else "pickle"


def check_stored(path: Path, option: str, compressed: int = 0) -> None:
    """Refuse a zip file that is larger in memory than on the disk: a little one could take any amount.

    Members may be compressed that take so many bytes together.
    """
    with ZipFile(path) as archive:
        members = archive.infolist()
    packed = sum(member.file_size for member in members if member.compress_type != ZIP_STORED)
    size = sum(member.file_size for member in members)
    if size - packed > path.stat().st_size or packed > compressed:
        problem = f"{option} {str(path)!r} is compressed: its contents take {size:,} bytes; torch compresses nothing"
        raise WeightsError(problem, "Unpack it and load it with torch, and save it again with torch.save")


def _read_error(name: str, error: Exception, unsafe_pickle: bool) -> WeightsError:
    code = _CODE.search(str(error))
    if code and not unsafe_pickle:
        save = "torch.save(content.state_dict(), 'weights.pt') of a network, or of content['state_dict']"
        remedy = "If you trust it, pass --unsafe-pickle, or keep its weights alone: "
        remedy += f"content = torch.load(FILE, weights_only=False), then {save}"
        return WeightsError(f"{name} runs code when it is read: it needs {code[1]!r}", remedy)
    if unsafe_pickle and isinstance(error, ImportError | AttributeError):
        remedy = "Add the folder that holds that code to PYTHONPATH, or convert the file to safetensors"
        return WeightsError(f"{name} needs Python code that cannot be imported ({error})", remedy)
    remedy = "Copy or download it again, or save it again as safetensors"
    return WeightsError(f"{name} is empty, damaged, or not in the format of torch.save or safetensors", remedy)


def find_states(content: object, place: str = "", depth: int = 4) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every dictionary of tensors by its place; the depth is limited because a pickle can contain itself."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or not depth:
        return
    items = [(key, value) for key, value in content.items() if isinstance(key, str)]
    if tensors := {key: value.detach() for key, value in items if isinstance(value, Tensor)}:
        yield place, tensors
    for key, value in items:
        yield from find_states(value, f"{place}.{key}" if place else key, depth - 1)


def fill_weights(
    network: nn.Module, factory: Callable[..., nn.Module], arguments: dict[str, Any], file: Path, unsafe_pickle: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    """Load a checkpoint into a network, built again if the checkpoint has another number of classes.

    Returns the network, and notes on what was assumed of the checkpoint.
    """
    expected = {key: value for key, value in network.state_dict().items() if isinstance(value, Tensor)}
    state, notes = choose_state(read_checkpoint(file, unsafe_pickle=unsafe_pickle), expected, str(file))
    counts = class_count(expected, state)
    if counts is not None:
        parameters = inspect.signature(factory).parameters
        if "num_classes" not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
            problem = f"--weights {str(file)!r} has {counts[1]} classes, and the network {counts[0]}"
            raise WeightsError(problem, "Let its factory take `num_classes` and build a network of that many")
        network = unwrap(factory(**{**arguments, "num_classes": counts[1]}))
    load_weights(network, state, str(file))
    return network, notes


class _Part(NamedTuple):
    """Tensors of a checkpoint that may be a network's: those in one place, with one prefix."""

    place: str
    prefix: str
    fit: tuple[int, int]  # number of keys that are the network's, and of those the shape but for the first dimension

    @property
    def name(self) -> str:
        """Keys that lead to the tensors, with dots between them."""
        return ".".join(filter(None, (self.place, self.prefix.rstrip(".")))) or "."


def choose_state(
    states: Mapping[str, Mapping[str, Tensor]], expected: Mapping[str, Tensor], source: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Choose the tensors of a checkpoint that are a network's, under its keys, with notes on what was assumed.

    Raises WeightsError if several sets of tensors fit it equally well.
    """
    usable = {place: state for place, state in states.items() if not _TRAINING.search(place)} or states
    parts = [part for place, state in usable.items() for part in _parts(place, state, expected)]
    best = max(part.fit for part in parts)
    chosen, notes = _choose([part for part in parts if part.fit == best], usable, source)
    file = Path(source).name
    state, left_out = _take(usable[chosen.place], chosen, expected, [part for part in parts if part.fit == best])
    tied = {part.place for part in parts if part.fit == best}
    left_out += [
        place for place in usable if place and place not in tied and any(map(_is_layer, usable[place].values()))
    ]
    if left_out:
        notes.append(f"weights: left out of {file}: {_listed([repr(key) for key in left_out])}")
    if moved := _moved_layer(expected.keys() - state.keys(), state.keys() - expected.keys()):
        old, new = (f"{layer}." for layer in moved)
        state = {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in state.items()}
        notes.append(f"weights: layer {moved[0]!r} of {file} is taken for {moved[1]!r}")
    return state, tuple(notes)


def _take(
    tensors: Mapping[str, Tensor], chosen: _Part, expected: Collection[str], tied: Sequence[_Part]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a part without its prefix, with those next to it that may be a layer's, and the keys of the rest."""
    others = tuple(part.prefix for part in tied if part.place == chosen.place and part != chosen and part.prefix)
    state: dict[str, Tensor] = {}
    left_out: list[str] = []
    for key, value in tensors.items():
        inner = key.removeprefix(chosen.prefix)
        is_inside = key.startswith(chosen.prefix)
        if others and key.startswith(others):
            continue
        if inner in expected and (is_inside or chosen.prefix + key not in tensors):
            state[inner] = value
        elif _LOSS.match(inner) or (not is_inside and (key in expected or not _is_layer(value))):
            left_out.append(key)
        else:
            state[inner if is_inside else key] = value
    return state, left_out


def _is_layer(tensor: Tensor) -> bool:
    """True if a tensor may be the weight of a layer, and not a counter, a metric or a loss's weights of classes."""
    return tensor.ndim > 1 and tensor.is_floating_point()


def _parts(place: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[_Part]:
    """Count for every prefix of the keys how many keys of the network follow it."""
    keys: Counter[str] = Counter({"": 0})
    shapes: Counter[str] = Counter()
    for key, value in state.items():
        starts = [0, *(index + 1 for index, character in enumerate(key) if character == ".")]
        for prefix, inner in ((key[:start], key[start:]) for start in starts):
            if inner in expected:
                keys[prefix] += 1
                shapes[prefix] += expected[inner].shape[1:] == value.shape[1:]  # with any number of classes
    return [_Part(place, prefix, (count, shapes[prefix])) for prefix, count in keys.items()]


def _choose(parts: Sequence[_Part], states: Mapping[str, Mapping[str, Tensor]], source: str) -> tuple[_Part, list[str]]:
    """Choose among tensors that fit equally well: averages (EMA), as when a model is evaluated, or the same twice."""
    if not parts[0].fit[0]:
        if len(states) == 1:
            return parts[0], []
        found = _listed([f"{place!r} ({len(state)} tensors)" for place, state in states.items()])
        problem = f"--weights {source!r} has no tensor of the network: it holds {found}"
        raise WeightsError(problem, "Check that they belong to this model")
    tied = [part for part in parts if part.place != _LIGHTNING_PLAIN] or parts
    tied = [part for part in tied if AVERAGED.search(part.name)] or tied
    first, *others = (
        {
            key.removeprefix(part.prefix): value
            for key, value in states[part.place].items()
            if key.startswith(part.prefix)
        }
        for part in tied
    )
    for other in others:
        if hash_tensors(other) != hash_tensors(first):
            names = _listed([repr(part.name) for part in tied])
            remedy = "Save those you mean alone: torch.save(torch.load(FILE)[NAME], 'weights.pt')"
            problem = f"--weights {source!r} holds several sets of weights that fit the network: {names}"
            raise WeightsError(problem, remedy)
    rest = [repr(part.name) for part in parts if part not in tied]
    chosen = f"{tied[0].name!r} of {Path(source).name}"
    return tied[0], [f"weights: {chosen}, the averaged ones (EMA), not {_listed(rest)}"] if rest else []


def _moved_layer(missing: Collection[str], unexpected: Collection[str]) -> tuple[str, str] | None:
    """The layer whose index in a `Sequential` is all that differs, as `fc.1` for `fc`, and its name in the network."""
    keys = [{key for key in side if not key.endswith("num_batches_tracked")} for side in (unexpected, missing)]
    layers = [{key.rpartition(".")[0] for key in side} for side in keys]
    if [len(names) for names in layers] != [1, 1]:
        return None
    (old,), (new,) = layers
    same = {key.removeprefix(old) for key in keys[0]} == {key.removeprefix(new) for key in keys[1]}
    shorter, longer = sorted((old, new), key=len)
    return (old, new) if same and re.fullmatch(rf"{re.escape(shorter)}\.\d+", longer) else None


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
        remedy = "Check that they belong to this model"
        raise WeightsError(f"--weights {source!r} does not fit the network: {problem}", remedy)
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
