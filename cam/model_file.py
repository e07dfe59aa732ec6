"""What a report needs to know of a model, once for all pictures."""

from __future__ import annotations

import json
from base64 import b64encode

import torch

from cam.all_classes import few_channels
from cam.classifiers import Classifier

MODEL = "report/model.json"
"""Where it lies in the folder of a run."""


def model_file(classifier: Classifier) -> bytes:
    """Write down what turns kept evidence into class scores, as JSON.

    Returns:
        `labels`, `bias` (C,), `logistic` (whether one logit decides between two classes), and where features are kept
        `weight`, base64 of (C, K) float32 with the lowest byte first, logits a feature.

    Example:
        >>> import cam
        >>> len(json.loads(model_file(cam.load_classifier("digits")))["bias"])
        10
    """
    weight, bias = classifier.head.weight.cpu(), classifier.head.bias.cpu()
    if classifier.binary:
        weight, bias = torch.cat((-weight, weight)), torch.cat((-bias, bias))
    model = {
        "labels": classifier.labels,
        "bias": bias.tolist(),
        "logistic": classifier.binary,
        "weight": b64encode(weight.numpy().astype("<f4").tobytes()).decode() if few_channels(weight) else None,
    }
    return json.dumps(model).encode()
