"""Tensors between arrays, devices and precisions."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cam.errors import OutOfMemoryError, UsageError


@cache
def _stream(device: torch.device, thread: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Run GPU work on a stream of this thread, so that threads do not wait for each other.

    The main thread keeps its current stream, which is the user's.
    """
    if device.type != "cuda" or threading.current_thread() is threading.main_thread():
        yield
        return
    stream = _stream(device, threading.get_ident())
    stream.wait_stream(torch.cuda.current_stream(device))  # which copied the weights
    with torch.cuda.stream(stream):
        yield


@contextmanager
def room_for_model(device: torch.device) -> Iterator[None]:
    """Raise OutOfMemoryError where the memory of a GPU is too small for a network."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        remedy = "Use fewer --processes, end what else uses it, or choose another --device"
        raise OutOfMemoryError(f"Out of memory for the model on --device {device}", remedy) from error


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array to a device; on CUDA without waiting for the copy."""
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_cpu(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU; on CUDA without waiting, so that it must not be read before `synchronize`."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def synchronize(device: torch.device) -> None:
    """Wait for the GPU work that this thread has started, and for nothing else."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Initialize layers with the same random numbers each time, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def device_and_dtype(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and the floating dtype that a network's inputs must have."""
    for tensor in network.parameters():
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def pick_device(name: str) -> torch.device:
    """Return the device with a name: auto, cpu, cuda, cuda:N or mps; raise UsageError if this machine lacks it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {name!r}", "Use auto") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise UsageError(f"--device is {name!r}, which this machine does not have", "Use --device auto or cpu")
    return device


@contextmanager
def no_tf32() -> Iterator[None]:
    """Compute float32 convolutions on CUDA in full: TF32 would round the factors to 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to; -1 if torch does not count."""
    return -1 if tensor.is_inference() else tensor._version


def hash_tensors(state: Mapping[str, object]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of the tensors of a state, in any order.

    The tensors may be on any device. What is no tensor, such as a module's extra state, does not count.
    """
    digest = hashlib.sha256()
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu()
        tensor = (tensor if tensor.layout == torch.strided else tensor.to_dense()).contiguous()
        digest.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # bytes: numpy has no bfloat16
    return digest.hexdigest()
