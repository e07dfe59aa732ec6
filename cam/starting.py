"""Start quickly: most of a short command's time goes into importing what it needs."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import torch and what needs it, without a search for garbage among the many objects that stay.

    Such searches take a sixth of the time. What is there afterwards is left out of them until the process ends; where
    torch is there already, all is as usual.

    Example:
        >>> with importing():
        ...     import torch
        >>> torch.zeros(2).shape
        torch.Size([2])
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # the end of the process frees what it holds
        gc.enable()
