"""Finding and proving the head of a classifier: where its features are, and what turns them into logits."""

from cam.heads.find import HeadReport, find_head
from cam.heads.head import Head, Site
from cam.heads.prove import Proof, prove_head

__all__ = ["Head", "HeadReport", "Proof", "Site", "find_head", "prove_head"]
