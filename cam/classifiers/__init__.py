"""From a name, a checkpoint or a module to a classifier with a proved head, its preprocessing and its labels."""

from cam.classifiers.classifier import Classifier
from cam.classifiers.inspection import Inspection, inspect_model
from cam.classifiers.labels import read_labels
from cam.classifiers.load import list_models, load_classifier, wrap
from cam.classifiers.preprocessing import Preprocessing

__all__ = [
    "Classifier",
    "Inspection",
    "Preprocessing",
    "inspect_model",
    "list_models",
    "load_classifier",
    "read_labels",
    "wrap",
]
