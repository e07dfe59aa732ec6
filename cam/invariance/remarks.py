"""What to know before the numbers of a moved object are read."""

from __future__ import annotations

from cam.geometry import Frame, Size
from cam.invariance.cutout import hxw
from cam.invariance.moving import Scenes


def remarks(scenes: Scenes, natural: Size, whole: Frame | None = None) -> tuple[str, ...]:
    """Say what a user may not expect of the scenes, a sentence each.

    Args:
        scenes: the object at its places.
        natural: (h, w) of the object at the scale at which the model looks at pictures.
        whole: what the model looks at of the picture, where that is the object and there is heat.

    Example:
        >>> from cam.invariance.cutout import Cutout
        >>> import numpy as np
        >>> thing = Cutout.whole(np.zeros((2, 2, 3), np.uint8))
        >>> len(remarks(Scenes.over(np.zeros((4, 4, 3), np.uint8), thing, 2, "reflect"), (2, 2)))
        1
    """
    said = []
    if scenes.thing.size != natural:
        said.append(
            f"The object was made smaller, from {hxw(natural)} to {hxw(scenes.thing.size)} pixels (HxW), to have room "
            f"on the canvas."
        )
    if whole is not None:
        part = "whole picture" if whole.input == whole.resized else "centre crop of the picture that the model sees"
        said.append(
            f"The object is the {part}, and what shows the class need not be in its middle: what counts is how far "
            "the heat is from where it would be, not from the centre; --box or --mask moves an object alone."
        )
    if scenes.fill == "reflect":
        said.append(
            "The canvas is full of mirror images of the object (--fill reflect): all count in the score, and heat may "
            "peak in any of them, so how far it is from the object means little; --fill mean has no such copies."
        )
    return tuple(said)
