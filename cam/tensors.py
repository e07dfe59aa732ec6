"""Tensors between arrays, devices and precisions."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.errors import UsageError


class _Streams(threading.local):
    """Of each thread, a stream for each device."""

    def __init__(self) -> None:
        self.of: dict[torch.device, torch.cuda.Stream] = {}


_own = _Streams()


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Ask a GPU for what comes on a stream of this thread's own, behind what the stream before was asked for.

    Threads then do not wait for each other. The main thread goes on with the stream that it has: that is the user's.

    Example:
        >>> with own_stream(torch.device("cpu")):
        ...     put(np.zeros(2), torch.device("cpu")).device
        device(type='cpu')
    """
    if device.type != "cuda" or threading.current_thread() is threading.main_thread():
        yield
        return
    if device not in _own.of:
        _own.of[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream = _own.of[device]
    stream.wait_stream(torch.cuda.current_stream(device))  # that copied the weights
    with torch.cuda.stream(stream):
        yield


def put(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array to a device; on CUDA without waiting for it.

    Example:
        >>> put(np.zeros((2, 3), np.float32), torch.device("cpu")).shape
        torch.Size([2, 3])
    """
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fetch(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU; on CUDA without waiting for it, so that nobody may look before `wait`.

    Example:
        >>> fetch(torch.zeros(2, 3)).device
        device(type='cpu')
    """
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def wait(device: torch.device) -> None:
    """Wait for what this thread has asked of a device, and for nothing else.

    Example:
        >>> wait(torch.device("cpu"))
    """
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Let layers be initialized with the same random numbers each time, which leaves the caller's as they were.

    Example:
        >>> with fixed_seed():
        ...     weight = nn.Linear(2, 3).weight
        >>> with fixed_seed():
        ...     weight.equal(nn.Linear(2, 3).weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def device_and_dtype(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Give the device and the floating type a network's inputs must have.

    Example:
        >>> device_and_dtype(nn.Linear(2, 2).half())
        (device(type='cpu'), torch.float16)
    """
    for tensor in network.parameters():
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def pick_device(name: str) -> torch.device:
    """Find the device a name stands for.

    Raises:
        UsageError: there is no such device here.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device {name!r}", "Give auto, cpu, cuda, cuda:N or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise UsageError(f"The device {name!r} was asked for, and this machine has none", "Take --device auto or cpu")
    return device


@contextmanager
def no_tf32() -> Iterator[None]:
    """Let float32 be that: convolutions on CUDA would else round what they multiply to 10 bits (TF32).

    Example:
        >>> with no_tf32():
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of tensors, as 64 hexadecimal digits.

    Args:
        state: dense tensors of any dtype and shape; their order and device do not count.

    Example:
        >>> hash_tensors({"weight": torch.zeros(2)})[:8]
        '054346e3'
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # bytes: numpy has no bfloat16
    return digest.hexdigest()
