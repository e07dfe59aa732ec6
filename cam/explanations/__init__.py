"""Images to explanations. The functions `explain` and `explain_all` are in `cam`."""

from cam.explanations.explanation import Explanation
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses

__all__ = ["ExplainOptions", "Explanation", "OneClass", "Target", "TopClasses"]
