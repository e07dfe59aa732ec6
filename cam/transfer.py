"""Tensors to a GPU and back, without waiting for it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
