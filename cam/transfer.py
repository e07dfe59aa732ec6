"""Tensors to a GPU and back, without waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
