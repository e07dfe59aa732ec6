"""Copies of a network to experiment on, and random inputs to experiment with."""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cam.errors import ModelError, UsageError, reason_of
from cam.heads.hooks import eval_mode
from cam.tensors import device_and_dtype


def random_inputs(number: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Network inputs (number, channels, H, W), float32, that differ in color, contrast and texture.

    Their mean is about zero and their variance about one, as after normalization. Give at least 2 if they must differ.
    """
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    float32 = torch.float32  # whatever the default of the program is
    rows, columns = torch.fft.fftfreq(height, dtype=float32), torch.fft.rfftfreq(width, dtype=float32)
    frequency = torch.hypot(rows[:, None], columns[None])
    frequency = frequency.clamp(min=1 / max(height, width))
    # A slope of 1 is the spectrum of photographs, 0 white noise.
    slope = torch.linspace(1.3, 0.3, number, dtype=float32).view(-1, 1, 1, 1)
    noise = torch.fft.rfft2(torch.randn(number, *shape, generator=generator, dtype=float32))
    texture = torch.fft.irfft2(noise / frequency**slope, (height, width))
    texture = texture / texture.std((1, 2, 3), keepdim=True)
    contrast = torch.linspace(0.5, 1.5, number, dtype=float32).view(-1, 1, 1, 1)
    tint = 0.5 * torch.randn(number, channels, 1, 1, generator=generator, dtype=float32)
    return torch.addcmul(tint, texture, contrast)


_FLOAT = "Give the network that it was made from, with ordinary tensors of floating point"


def check_network(network: object) -> None:
    """Raise a ModelError if a network is of a kind that cannot be copied, watched or differentiated."""
    if not isinstance(network, nn.Module):
        got = repr(network) if isinstance(network, str) else type(network).__name__
        remedy = "Give the Python module, not its name (for cam.load_classifier), its weights or an export"
        raise UsageError(f"network must be a torch.nn.Module, got {got}", remedy)
    for name, module in network.named_modules():
        if unsupported := _unsupported(module):
            problem, remedy = unsupported
            raise ModelError(f"{f'Layer {name!r}' if name else 'The network'} {problem}", remedy)
    try:
        network.state_dict()
    except Exception as error:  # a user's get_extra_state may raise anything
        problem = f"The network's state_dict() fails: {type(error).__name__}: {reason_of(error)}"
        raise ModelError(problem, "Correct it, such as in a get_extra_state") from error
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            continue
        if tensor.is_meta:
            problem = f"{name!r} is on the device meta, which holds no values"
            raise ModelError(problem, 'Build the network without torch.device("meta"), or load its weights first')
        is_special = tensor.is_quantized or type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
        is_int8 = isinstance(tensor, nn.Parameter) and tensor.dtype.itemsize == 1 and tensor.dtype != torch.bool
        if is_special or is_int8:
            kind = f"{type(tensor).__name__} of {str(tensor.dtype).removeprefix('torch.')}"
            raise ModelError(f"{name!r} is quantized, or of a special kind ({kind})", _FLOAT)


def _unsupported(module: nn.Module) -> tuple[str, str] | None:
    """Why a layer is not supported, and what to do about it."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule) and (module.state_dict() or not hasattr(module, "training")):
        # Without weights, also as constants of a frozen one, it would be like a scripted function.
        problem = f"is a {kind.__name__} (TorchScript), whose calls cannot be watched"
        return problem, "Give the Python module that it was scripted from"
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
        problem = "comes from torch.export and cannot be put in evaluation mode"
        return problem, "Give the Python module that it was exported from"
    is_quantized = "quantized" in kind.__module__ or "FakeQuantize" in kind.__name__
    if kind.__module__.startswith("torch.ao.") and is_quantized and "FloatFunctional" not in kind.__name__:
        return f"is a quantized {kind.__name__}", _FLOAT
    parameters = inspect.signature(kind.train).parameters.values()
    if not any(p.name == "mode" or p.kind is p.VAR_POSITIONAL for p in parameters):  # as eval() calls it
        problem = f"is a {kind.__name__}, whose train() trains it instead of setting the training mode"
        return problem, "Give the network inside it, such as its .model"
    return None


def run_once(network: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Run a network on one random input, which initializes its lazy layers and fills its caches.

    Raises:
        ModelError: the network does not run on an input of that shape, or is of a kind that is not supported.
    """
    check_network(network)
    inputs = random_inputs(1, input_shape).to(*device_and_dtype(network))
    try:
        with eval_mode(network):
            network(inputs)
    except UsageError:
        raise
    except Exception as error:  # a user's network may raise anything
        raise run_error(network, inputs, error) from error


def run_error(network: nn.Module, inputs: Tensor, error: Exception) -> ModelError:
    """Say why a network does not run on inputs (N, channels, H, W)."""
    reason = ": ".join(dict.fromkeys([type(error).__name__, reason_of(error)]))  # an assertion may say nothing
    if any(p.ndim == 5 for p in network.parameters() if not is_lazy(p)) or re.search(r"3d\b|\b5-?D", str(error)):
        return ModelError(
            f"The network seems to take volumes or video, not images of shape {tuple(inputs.shape)}: {reason}",
            "Only 2D images (N, channels, H, W) can be explained; give a network for them",
        )
    if len(inputs) == 1:
        with suppress(Exception), eval_mode(network):
            network(inputs.repeat(2, 1, 1, 1))
            return ModelError(
                f"The network runs on two images, but not on one alone: {reason}",
                "Let it keep the batch dimension, such as with flatten(1) instead of squeeze()",
            )
    return ModelError(
        f"The network does not run on an input of shape {tuple(inputs.shape)}: {reason}",
        "Give the size it was made for (--input-size), one --mean and --std if it takes gray images, or fix it",
    )


def copy_network(network: nn.Module, shared: Mapping[int, object] | None = None) -> nn.Module:
    """Copy a network, except for objects to share, by id, and for locks and the like, which cannot be copied."""
    try:
        return copy.deepcopy(network, dict(shared) if shared else None)
    except Exception:  # copying runs the code of whatever the modules hold
        memo = dict(shared or {})
    for name, module in network.named_modules():
        for key, value in vars(module).items():
            try:
                if key != "_modules":
                    _share_uncopyable(value, memo)
            except Exception as error:
                problem = f"The attribute {'.'.join(filter(None, (name, key)))!r} of the network cannot be copied"
                remedy = "Remove it, or let its class define __deepcopy__"
                raise ModelError(f"{problem}: {type(error).__name__}: {reason_of(error)}", remedy) from error
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:
        problem = f"The network cannot be copied: {type(error).__name__}: {reason_of(error)}"
        raise ModelError(problem, "Let copy.deepcopy copy it, or let its class define __deepcopy__") from error


def _share_uncopyable(value: object, memo: dict[int, object]) -> None:
    """Add the parts of a value that cannot be copied to what copies share, or raise why if that is not safe."""
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:
        if isinstance(value, Tensor):  # computed, so it has a history
            memo[id(value)] = value.detach().clone()
        elif isinstance(value, (dict, list, tuple, set, deque)):
            for part in value.values() if isinstance(value, dict) else value:
                _share_uncopyable(part, memo)
        elif type(value).__module__ in sys.stdlib_module_names:  # a lock, an iterator, a file
            memo[id(value)] = value
        else:
            raise


def eval_copy(network: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """Copy an unwrapped network in evaluation mode, without gradients, on a device that supports float64."""
    run_once(network, input_shape)  # also replaces tensors that cannot be copied
    network_copy = copy_network(network).eval().requires_grad_(False)
    return network_copy.cpu() if device_and_dtype(network)[0].type == "mps" else network_copy
