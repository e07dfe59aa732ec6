"""Networks from a file, whatever it is: exported, TorchScript or a pickled module; and what to do with other files."""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from torch import fx, nn

from cam.classifiers.checkpoints import AVERAGED, archive_kind, find_states, first_bytes, read_content
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork
from cam.classifiers.sources.exported import from_graph_module, read_exported
from cam.classifiers.sources.onnx import read_onnx
from cam.classifiers.sources.program import Program
from cam.classifiers.sources.torchscript import from_script_module, read_torchscript
from cam.errors import CamError, ModelError, reason_of
from cam.heads.copies import check_network
from cam.heads.outputs import unwrap

_SUFFIXES = (".pt", ".pth", ".pt2", ".ckpt", ".bin", ".safetensors", ".onnx", ".tar", ".py")
_SOURCES = ("timm", "hf")  # that may be written with a slash for a colon


def from_file(path: Path, unsafe_pickle: bool) -> LoadedNetwork:
    """Load the network in a file; ModelError that says how to go on if the file has none."""
    notes, kind = tuple[str, ...](), path.suffix.removeprefix(".")
    network: nn.Module
    start = first_bytes(path, "--model")
    try:
        if start.startswith(b"PK"):
            kind = archive_kind(path)
        if kind == "export":
            network = read_exported(path, unsafe_pickle=unsafe_pickle)
        elif kind == "onnx":
            network = read_onnx(path)
        elif kind == "TorchScript":
            network = read_torchscript(path, unsafe_pickle=unsafe_pickle)
        else:
            network, notes = _pickled_module(path, unsafe_pickle)
    except CamError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = f"{type(error).__name__}: {reason_of(error)}"
        problem = f"--model {str(path)!r} cannot be read as a network ({kind}): {reason}"
        raise ModelError(problem, "Copy it again, or save it again with the installed torch") from error
    preprocessing, declared = preprocessing_of(network)
    return LoadedNetwork(network, preprocessing, weights=path, declared=declared, notes=notes)


def exists_as(kind: Callable[[Path], bool], path: Path) -> bool:
    """True if a path is a file or a folder, whichever `kind` checks; False if no path can be so long."""
    with suppress(OSError):
        return kind(path)
    return False


def as_program(network: nn.Module) -> nn.Module:
    """Make a program of a module of TorchScript, or of torch.export, whose calls cannot be watched; return others."""
    if isinstance(network, torch.jit.ScriptModule):
        return from_script_module(network)
    if isinstance(network, fx.GraphModule) and "eval" in vars(network):
        return from_graph_module(network)
    return network


def preprocessing_of(network: nn.Module) -> tuple[Preprocessing, str]:
    """The preprocessing with the size that a network was recorded with, if it was, and where that comes from."""
    preprocessing = Preprocessing()
    if not (isinstance(network, Program) and len(network.shape) == 4):
        return preprocessing, ""
    _, channels, height, width = network.shape
    preprocessing = preprocessing.adjusted(channels_in=channels)
    if not (height and width):
        return preprocessing, ""
    declared = "size as recorded; the rest is assumed; --resize, --crop, --mean and --std give others"
    return preprocessing.adjusted(resize=max(height, width), crop=(height, width)), declared


def _pickled_module(path: Path, unsafe_pickle: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """The module that a file of torch.save is or has, and a note which; ModelError if it has tensors only."""
    if not unsafe_pickle and (kind := _pickled_class(path)):
        problem = f"--model {str(path)!r} is a pickled {kind}, which runs code when it is read"
        remedy = "Pass --unsafe-pickle if you trust it, or save network.state_dict() and name the network with --model"
        raise ModelError(problem, remedy)
    content = read_content(path, "--model", unsafe_pickle=unsafe_pickle)
    modules = {".": content} if isinstance(content, nn.Module) else {}
    if isinstance(content, Mapping):
        modules = {key: value for key, value in content.items() if isinstance(value, nn.Module) and value.state_dict()}
    chosen = [key for key in modules if AVERAGED.search(str(key))] or [*modules]
    if not chosen:
        raise _no_network(path, content)
    if len(chosen) > 1:
        names = ", ".join(map(repr, chosen))
        raise ModelError(f"--model {str(path)!r} holds several networks: {names}", "Save the one you mean alone")
    rest = ", ".join(repr(key) for key in modules if key not in chosen)
    note = f"network: {chosen[0]!r} of {path.name}, the averaged one (EMA), not {rest}"
    network = unwrap(modules[chosen[0]]).float()
    check_network(network)
    return network, (note,) if rest else ()


def _pickled_class(path: Path) -> str:
    """Name of the class of the object that is pickled, "" if it is a dictionary, without reading the pickle."""
    with suppress(BadZipFile, StopIteration), ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(member) as file:
            start = file.read(1000)
        if start[2:3] == b"c":
            module, name = start[3:].split(b"\n")[:2]
            return "" if name == b"OrderedDict" else f"{name.decode()} ({module.decode()})"
    return ""


def _no_network(path: Path, content: object) -> ModelError:
    states = [state for _, state in find_states(content)]
    if not states:
        kind = type(content).__name__
        problem = f"--model {str(path)!r} holds a {kind}, and no network or weights"
        return ModelError(problem, "Save network.state_dict()")
    state = max(states, key=len)
    key, weight = [*(item for item in state.items() if item[1].ndim == 2), *state.items()][-1 - len(state)]
    tensors = f"{len(state)} tensors with {key!r} {tuple(weight.shape)}"
    problem = f"--model {str(path)!r} holds weights, {tensors}, but no network"
    options = f"--weights {path}"
    remedy = (
        f"Name the network they belong to, as -m resnet18 {options}, or give your own with -m net.py:make {options}"
    )
    lines = "from my_project import Network", f"def make(num_classes={len(weight)}):", "    return Network(num_classes)"
    return ModelError(problem, remedy, "# net.py\n" + "\n".join(lines))


def unknown_model(model: str, names: Sequence[str]) -> ModelError:
    """Say what a name may mean that is no model's and no file's."""
    path = Path(model)
    file = Path(model.removesuffix(".py") + ".py")
    source, _, rest = model.partition("/")
    if exists_as(Path.is_file, file):
        problem, remedy = f"names {str(file)!r}, but not what builds the network", f"Give {_builders(file)}"
    elif exists_as(Path.is_dir, path):
        inside = sorted(str(found) for found in path.iterdir() if found.suffix in _SUFFIXES)
        problem, remedy = "is a folder", f"Give a file in it{f', such as {inside[0]}' if inside else ''}"
    elif path.suffix in _SUFFIXES or model.startswith((".", "/", "~")):
        problem, remedy = "does not exist", "Check the path"
    elif source in _SOURCES:
        problem, remedy = "is not known", f"Write {source}:{rest}"
    elif model.count("/") == 1:
        problem, remedy = "is not known", f"Write hf:{model} if it is a repository of Hugging Face"
    else:
        similar = difflib.get_close_matches(model, names, 4, 0.7)
        if find_spec("timm") and model in importlib.import_module("timm").list_models():
            similar = [f"timm:{model}", *similar]
        near = f"one of {', '.join(similar)}" if similar else "a name that cam models lists, timm:NAME, hf:REPO"
        problem, remedy = "is not known", f"Give {near}, or file.py:callable or a file for your own"
    return ModelError(f"--model {model!r} {problem}", remedy)


def _builders(file: Path) -> str:
    """What in a file may build a network: functions without needed arguments, then classes."""
    found: dict[type, list[str]] = {ast.FunctionDef: [], ast.ClassDef: []}
    with suppress(SyntaxError, ValueError):
        for node in ast.parse(file.read_bytes()).body:
            is_needy = isinstance(node, ast.FunctionDef) and len(node.args.args) > len(node.args.defaults)
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not (is_needy or node.name.startswith("_")):
                found[type(node)].append(f"{file}:{node.name}")
    return " or ".join((found[ast.FunctionDef] + found[ast.ClassDef])[:3]) or f"{file}:callable"
