"""Images to explanations. The functions `explain` and `explain_all` are in `cam`."""

from cam.explanations.explain import ImageResult, explain_images
from cam.explanations.explanation import Explanation
from cam.explanations.options import ExplainOptions, OneClass, Target, TopClasses

__all__ = ["ExplainOptions", "Explanation", "ImageResult", "OneClass", "Target", "TopClasses", "explain_images"]
