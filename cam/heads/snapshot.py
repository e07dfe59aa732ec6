"""Whether a network is still the one whose head was proved."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cam.tensors import hash_tensors, version_of

_NUMBERS = 256  # of each tensor that are compared
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Snapshot:
    """Which layers and tensors a network has, and when they were last written.

    Writing to a tensor counts up its version, except by fused optimizers, BatchNorm, `.data` and numpy: so some of its
    numbers are compared, too, and the sum of all if it has a row for each class. It takes 0.2 ms
    (SqueezeNet) to 2 ms (DenseNet-121).
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self.network, self._classes = network, classes
        self._modules = list(network.modules())
        self._tensors = _tensors_of(self._modules)  # held, so that no other tensor takes the place of one
        self._versions = _versions_of(self._tensors)
        self._rows: list[Tensor] = []  # of the classes
        self._views: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in self._tensors:
            if tensor.is_floating_point() and tensor.numel() and _is_dense(tensor):
                step = -(-tensor.numel() // _NUMBERS)
                flat = tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
                view = flat.as_strided((tensor.numel() // step,), (step,), tensor.storage_offset())
                if tensor.shape[:1] == (classes,) and tensor.element_size() in _INTEGERS:
                    self._rows.append(flat.view(_INTEGERS[tensor.element_size()]))
                self._views.setdefault((tensor.device, tensor.dtype), []).append(view)
        self._numbers = self._read_numbers()
        self._not_in_state = self._hash_not_in_state()

    def __reduce__(self) -> tuple[type[Snapshot], tuple[nn.Module, int]]:
        return type(self), (self.network, self._classes)  # the views would be copied apart from the tensors

    def has_same_layers(self) -> bool:
        """True if no layer was replaced, added or removed."""
        modules = list(self.network.modules())
        return len(modules) == len(self._modules) and all(map(operator.is_, modules, self._modules))

    def has_same_numbers(self) -> bool:
        """True if no tensor seems to have been written, moved or replaced."""
        return not self.was_written() and self._read_numbers() == self._numbers

    def has_same_values(self, tensors_sha256: str) -> bool:
        """True if the tensors of `state_dict` have this SHA-256, and the others their values: slow, but certain."""
        same_state = hash_tensors(self.network.state_dict()) == tensors_sha256
        return same_state and self._hash_not_in_state() == self._not_in_state

    def was_written(self) -> bool:
        """True if the version of a tensor was counted up, or if it was moved or replaced."""
        return _versions_of(_tensors_of(self._modules)) != self._versions

    def _hash_not_in_state(self) -> str:
        state = self.network.state_dict()
        return hash_tensors({name: tensor for name, tensor in self.network.named_buffers() if name not in state})

    def _read_numbers(self) -> list[object]:
        joined = [torch.cat(views).contiguous().view(torch.uint8) for views in self._views.values()]
        sums = [int(rows.sum(dtype=rows.dtype)) for rows in self._rows]  # of integers: no rounding hides a change
        return [*sums, *(numbers.cpu().numpy().tobytes() for numbers in joined)]


def _tensors_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    dictionaries = [tensors for module in modules for tensors in (module._parameters, module._buffers)]
    return [tensor for tensors in dictionaries for tensor in tensors.values() if tensor is not None]


def _versions_of(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(tensor.data_ptr() if tensor.layout == torch.strided else 0, version_of(tensor)) for tensor in tensors]


def _is_dense(tensor: Tensor) -> bool:
    """True if the tensor's numbers fill a piece of memory, in some order."""
    if tensor.layout != torch.strided:
        return False
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
