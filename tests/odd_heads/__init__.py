"""Small classifiers whose heads are written in every way we could think of, with the weight and bias they must have.

Each function is the forward pass of one network with the layers `conv` (3 -> 6 channels, stride 2), `fc` (6 -> 5) and
those named in the decorator. `EXACT` holds those with an exact map, `INEXACT` those that must never pass for one.
"""

from odd_heads import inexact, networks, pools, scores
from odd_heads.registry import EXACT, GRID, INEXACT, SHAPE, C, K, Network, fc

__all__ = ["EXACT", "GRID", "INEXACT", "SHAPE", "C", "K", "Network", "fc", "inexact", "networks", "pools", "scores"]
