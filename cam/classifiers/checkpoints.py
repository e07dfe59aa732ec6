"""Checkpoints: read without running code, fitted to a network key by key, and hashed."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cam.errors import WeightsError

NESTS = ("state_dict", "model", "model_state_dict", "ema")

PREFIXES = ("module.", "model.", "_orig_mod.")

# Where torch says what code it refused; a TorchScript archive is code as a whole.
CODE = re.compile(r"unsupported global:? (?:GLOBAL )?(\S+)|TorchScript", re.IGNORECASE)


def read_checkpoint(path: str | Path, *, unsafe_pickle: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, taken out of its nesting, without running any code in it.

    Args:
        path: a safetensors file, or one written by `torch.save` in its zip or its older format.
        unsafe_pickle: let the file run its own code while it is read; only for files you trust.

    Returns:
        Tensors by key, on the CPU, with the shapes and dtypes they were saved with.

    Raises:
        WeightsError: no readable file, no checkpoint, no tensors in it, or code that it wants to run.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 3, "model": {"fc.weight": torch.ones(2, 4)}}, Path(folder, "net.pt"))
        ...     read_checkpoint(Path(folder, "net.pt"))["fc.weight"].shape
        torch.Size([2, 4])
    """
    content = _read(Path(path), unsafe_pickle)
    if not (state := _unnest(content)):
        kind = [repr(key) for key in content] if isinstance(content, Mapping) else [type(content).__name__]
        remedy = "Save network.state_dict() and give that file"
        raise WeightsError(f"{str(path)!r} holds no weights, only {_some(kind)}", remedy)
    return state


def _read(path: Path, unsafe_pickle: bool) -> object:
    """What the file holds; the format is known by its first bytes."""
    head = _head(path)
    try:
        if head[8:9] == b"{" or path.suffix.lower() == ".safetensors":
            return load_file(path, device="cpu")
        if head.startswith((b"PK\x03\x04", b"\x80")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols: either it reads or we say why not
                return torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except Exception as error:  # a damaged file makes the readers stumble in any way
        raise _refusal(repr(str(path)), error, unsafe_pickle) from error
    remedy = "Give a safetensors file, or one written by torch.save"
    raise WeightsError(f"{str(path)!r} is not a checkpoint", remedy)


def _head(path: Path) -> bytes:
    name = repr(str(path))
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise WeightsError(f"{name} is a folder or a device, not a file", "Give the checkpoint itself")
        with path.open("rb") as file:
            head = file.read(9)
    except FileNotFoundError:
        raise WeightsError(f"There is no file {name}", "Check the path of the weights") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{name} cannot be opened ({reason})", "Make it readable") from error
    if not head:
        raise WeightsError(f"{name} is empty", "Copy or download the weights again")
    return head


def _refusal(name: str, error: Exception, unsafe_pickle: bool) -> WeightsError:
    """Why a file that starts like a checkpoint was not read."""
    code = CODE.search(str(error))
    if code and not unsafe_pickle:
        remedy = "Convert it to safetensors, or pass --unsafe-pickle if you trust the file"
        return WeightsError(f"{name} runs code when it is read: it wants {code[1] or code[0]!r}", remedy)
    if unsafe_pickle and isinstance(error, ImportError | AttributeError):
        remedy = "Run from the folder that holds that code, or convert the file to safetensors"
        return WeightsError(f"{name} needs Python code that is not here ({error})", remedy)
    remedy = "Copy or download it again, or save it again as safetensors"
    return WeightsError(f"{name} is damaged, or not written as torch.save and safetensors do", remedy)


def _unnest(content: object, depth: int = 3) -> dict[str, Tensor]:
    """The innermost tensors by key, or none; the depth has a limit because a pickle can hold itself."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping):
        return {}
    for nest in NESTS if depth else ():
        if nest in content and (state := _unnest(content[nest], depth - 1)):
            return state
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return {key: value.detach() for key, value in tensors.items() if isinstance(key, str)}


def strip_prefixes(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Take off the prefixes that wrappers put before every key, as far as the network's own keys ask for.

    Only `module.`, `model.` and `_orig_mod.` go, in any order and number. Keys without a dot (the
    `n_averaged` of an averaged model) carry none and stay.

    Args:
        state: tensors by key.
        expected: the keys of the network that the tensors are for.

    Returns:
        The same tensors under the keys of which most are expected; the fewest prefixes go.

    Example:
        >>> state = {"module.model.fc.weight": torch.zeros(2, 4)}
        >>> list(strip_prefixes(state, ["model.fc.weight"])), list(strip_prefixes(state, ["fc.weight"]))
        (['model.fc.weight'], ['fc.weight'])
    """
    expected = set(expected)
    return max(_stripped(dict(state)), key=lambda candidate: len(expected & candidate.keys()))


def _stripped(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """`state`, then with one shared prefix off, then with two, ..."""
    while True:
        yield state
        dotted = [key for key in state if "." in key]
        prefix = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in dotted)), "")
        shorter = {key.removeprefix(prefix): value for key, value in state.items()}
        # Two keys that would become one: there the prefix is part of a name.
        if shorter.keys() == state.keys() or len(shorter) < len(state):
            return
        state = shorter


def class_count(shapes: Mapping[str, Sequence[int]], state: Mapping[str, Tensor]) -> int | None:
    """How many classes a checkpoint has, if the number of classes is all that sets it apart from a network.

    Args:
        shapes: shape of every tensor of the network, built with some other number of classes.
        state: tensors of the checkpoint by key.

    Returns:
        The new first dimension, if all tensors of another shape (weight and bias of the classifier, and of
        auxiliary heads) differ in the first dimension only, from the same number to the same; else None.

    Example:
        >>> network = {"conv.weight": (8, 3, 3, 3), "fc.weight": (1000, 8), "fc.bias": (1000,)}
        >>> class_count(network, {"fc.weight": torch.zeros(10, 8), "fc.bias": torch.zeros(10)})
        10
    """
    pairs = [(tuple(shape), tuple(state[key].shape)) for key, shape in shapes.items() if key in state]
    pairs = [(old, new) for old, new in pairs if old != new]
    if any(len(old) != len(new) or old[1:] != new[1:] for old, new in pairs):
        return None
    counts = {(old[0], new[0]) for old, new in pairs}
    return counts.pop()[1] if len(counts) == 1 else None


def load_weights(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put a checkpoint into a network: every tensor, or on an error none.

    `num_batches_tracked` may be missing: old checkpoints lack it, and evaluation does not read it.

    Args:
        network: receives the tensors, on its own device and in its own dtypes.
        state: tensors by the network's own keys.
        source: where they come from, for the error message.

    Raises:
        WeightsError: keys that are missing, left over, of another shape, or integers in place of floats.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> load_weights(network, {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.zeros(1)}, "doc.pt")
        >>> network(torch.ones(1, 2)).item()
        7.0
    """
    merged = network.state_dict()
    own = {key: value for key, value in merged.items() if isinstance(value, Tensor)}
    pairs = [(key, state[key], own[key]) for key in own if key in state]
    missing = [repr(key) for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [repr(key) for key in state if key not in own]
    unlike = [f"{key!r} {_form(new)} for {_form(old)}" for key, new, old in pairs if not _fits(new, old)]
    faults = {"missing": missing, "left over": extra, "of another form": unlike}
    if said := [f"{fault} {_some(keys)}" for fault, keys in faults.items() if keys]:
        remedy = "Check that they belong to this very model and were saved from the bare network"
        raise WeightsError(f"The weights of {source!r} do not fit the network: {'; '.join(said)}", remedy)
    # Into the network's own dictionary, because it carries the versions by which modules convert old weights.
    merged.update(state)
    network.load_state_dict(merged)


def _fits(new: Tensor, old: Tensor) -> bool:
    # Integers for floats would be a quantized checkpoint without its scales.
    kind = new.is_floating_point() or not old.is_floating_point()
    return kind and new.layout == old.layout and new.shape == old.shape


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _some(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        WeightsError: nothing readable at `path`, or nothing in it.

    Example:
        >>> hash_file(__file__) == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        True
    """
    _head(Path(path))
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
