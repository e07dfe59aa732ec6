"""Where in a network the last spatial features are, and how to take them during one forward pass."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cam.errors import ModelError


@dataclass(frozen=True)
class Site:
    """One call inside a network whose result are the features; sites are equal when the call is the same.

    Attributes:
        layer: name of the innermost module that makes the call, "" for the network itself.
        operation: name of the function called, such as `relu_`.
        occurrence: which of the calls of that operation made while the layer runs, from 0, in one forward pass.
        channel: dimension of the tensor that holds the channels.
        tokens: how many tokens in front and at the end are no places (class and register tokens), where the places
            are a row of tokens; else None.
    """

    layer: str
    operation: str
    occurrence: int
    channel: int = field(default=1, compare=False)
    tokens: tuple[int, int] | None = field(default=None, compare=False)

    def to_grid(self, tensor: Tensor, input_size: tuple[int, int]) -> Tensor:
        """Lay the tensor taken at this site out as features (N, K, h, w).

        Args:
            tensor: what the call returned, (N, ...), channels and places in this site's own order.
            input_size: (H, W) of the network's input, whose aspect tells how tokens stand in rows.

        Example:
            >>> Site("", "relu", 0, channel=2, tokens=(1, 0)).to_grid(torch.zeros(1, 7, 16), (64, 96)).shape
            torch.Size([1, 16, 2, 3])
        """
        tensor = tensor.movedim(self.channel, 1)
        if self.tokens is None:
            return tensor
        front, end = self.tokens
        tokens = tensor[:, :, front : tensor.shape[2] - end]
        return tokens.reshape(*tokens.shape[:2], *grid_of(tokens.shape[2], input_size))


def grid_of(places: int, input_size: tuple[int, int]) -> tuple[int, int]:
    """Arrange a number of places in rows and columns with the aspect of the input.

    Example:
        >>> grid_of(6, (64, 96))
        (2, 3)
    """
    height, width = input_size
    pairs = [(rows, places // rows) for rows in range(1, places + 1) if places % rows == 0]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] * width / (pair[1] * height))))


def find_logits(output: object) -> Tensor:
    """Find the class scores (N, C) in whatever a network returns: a tensor, tuple, mapping or dataclass.

    Those named "logits" come first, then those named "out"; without a name the first counts if all have one shape, as
    the scores of auxiliary heads have. (N,) counts as one class, (N, C, 1, 1) as (N, C).

    Raises:
        ModelError: nothing in the output has the shape of class scores, or nothing tells which of several they are.

    Example:
        >>> find_logits({"embedding": torch.zeros(2, 512), "logits": torch.zeros(2, 10)}).shape
        torch.Size([2, 10])
    """
    candidates = _score_tensors(output)
    shapes = [tuple(each.shape) for each in candidates]
    if len(set(shapes)) == 1:
        return candidates[0]
    if candidates:
        raise ModelError(
            f"The network returns tensors of the shapes {shapes}, and nothing tells which are the class scores",
            'Let it return the logits alone, or in a dictionary under the name "logits"',
        )
    found = [tuple(tensor.shape) for _, tensor in _tensors(output)] or type(output).__name__
    raise ModelError(
        f"The network's output {found} holds no class scores of shape (N, classes)",
        "Wrap the network so that its forward pass returns the logits of a classifier",
    )


def _score_tensors(output: object) -> list[Tensor]:
    """The tensors of an output that have the shape of class scores, as (N, C); those with the best name only."""
    scores = [
        (name, tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(1))
        for name, tensor in _tensors(output)
        if tensor.is_floating_point() and tensor.ndim >= 1 and math.prod(tensor.shape[2:]) == 1
    ]
    named = ([tensor for name, tensor in scores if name == wanted] for wanted in ("logits", "out"))
    return next(filter(None, named), [tensor for _, tensor in scores])


def _tensors(output: object, name: object = None) -> Iterator[tuple[object, Tensor]]:
    """Every tensor of an output, with the innermost name it goes by."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, part in output.items():
            yield from _tensors(part, key)
    elif is_dataclass(output):
        yield from _tensors({field.name: getattr(output, field.name) for field in fields(output)})
    elif isinstance(output, tuple) and hasattr(output, "_asdict"):
        yield from _tensors(output._asdict())
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part, name)


def unwrap(network: nn.Module) -> nn.Module:
    """Take a network out of `torch.compile`, `DataParallel` and `DistributedDataParallel`.

    Example:
        >>> unwrap(nn.DataParallel(nn.Linear(2, 3))).out_features
        3
    """
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


class _Taker(TorchFunctionMode):
    """Keep the result of the wanted call."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.seen = 0
        self.taken: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = operation_name(func)
        if name == self.site.operation:
            if self.seen == self.site.occurrence and isinstance(out, Tensor):
                self.taken = out.clone()  # the network may change it in place later
            self.seen += 1
        return out


def operation_name(func: Callable[..., Any]) -> str:
    """Name a torch function the way a person would: `relu_`, `conv2d`, `add`."""
    return str(getattr(func, "__name__", func))


def uncompiled() -> AbstractContextManager[object]:
    """Run what `torch.compile` and `nn.Module.compile` have compiled as it was written, so that its calls are seen."""
    context: AbstractContextManager[object] = nullcontext()
    if "torch._dynamo" in sys.modules:  # else nothing is compiled, and it takes a second to import
        context = torch.compiler.set_stance("force_eager")
    return context


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation without gradients, and put every module's training flag back afterwards."""
    flags = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad(), uncompiled():
            yield
    finally:
        for module, training in flags:
            module.training = training


def forward(network: nn.Module, site: Site, inputs: Tensor, *, gradients: bool = False) -> tuple[Tensor, Tensor]:
    """Run a network once and take its class scores and the features on the way.

    The only thing added to the bare forward pass is one pair of hooks around the layer of the site; they are
    gone afterwards, also after an exception.

    Args:
        network: a classifier, not wrapped.
        site: where the features are.
        inputs: (N, 3, H, W), in the network's own dtype and on its device.
        gradients: whether to record them.

    Returns:
        Logits (N, C) and features (N, K, h, w), in the network's dtype.

    Raises:
        ModelError: the call of the site was not made in this pass.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> logits, features = forward(network, Site("0", "conv2d", 0), torch.zeros(1, 3, 8, 8))
        >>> features.shape
        torch.Size([1, 4, 6, 6])
    """
    taker = _Taker(site)
    layer = network.get_submodule(site.layer)
    with evaluating(network), torch.set_grad_enabled(gradients), ExitStack() as stack:
        entered = ExitStack()
        stack.push(entered)
        enter = layer.register_forward_pre_hook(lambda *_: entered.enter_context(taker) and None, prepend=True)
        leave = layer.register_forward_hook(lambda *_: entered.pop_all().close(), always_call=True)
        stack.callback(enter.remove)
        stack.callback(leave.remove)
        logits = find_logits(network(inputs))
    if taker.taken is None:
        raise ModelError(
            f"The call {site.operation!r} in layer {site.layer!r} that gives the features was not made this time",
            "Give inputs of the size the network was made for, or report the network",
        )
    height, width = inputs.shape[-2:]
    return logits, site.to_grid(taker.taken, (height, width))
