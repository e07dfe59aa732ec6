"""Load a classifier: a network with its weights, its preprocessing and labels, on a device, its head proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cam.classifiers.activations import Activation, choose_activation
from cam.classifiers.checkpoints import training_arguments
from cam.classifiers.classifier import Classifier
from cam.classifiers.labels import Labels, name_classes
from cam.classifiers.preprocessing import Preprocessing
from cam.classifiers.sources.base import LoadedNetwork
from cam.classifiers.sources.cards import card_names, from_card, read_card
from cam.classifiers.sources.factory import from_factory
from cam.classifiers.sources.files import as_program, exists_as, from_file, preprocessing_of, unknown_model
from cam.classifiers.sources.huggingface import from_huggingface, labels_of, name_folder
from cam.classifiers.sources.program import find_batch
from cam.classifiers.sources.timm import declared_by_timm, from_timm
from cam.classifiers.sources.torchvision import from_torchvision, torchvision_names
from cam.classifiers.transforms import Transform, as_preprocessing
from cam.errors import UsageError
from cam.heads.examine import analyze_head, check_layer
from cam.heads.general import GeneralHead, Method
from cam.heads.outputs import SelectedOutput, unwrap
from cam.maps.geometry import Size
from cam.tensors import pick_device

# Arguments of training scripts, and the options that give the same.
_ARGUMENTS = {
    **dict.fromkeys(["img_size", "image_size", "input_size"], "--input-size"),
    **{"val_resize_size": "--resize", "val_crop_size": "--crop"},
    **{name: f"--{name}" for name in ("interpolation", "mean", "std")},
}


def load_classifier(
    model: str | Path = "resnet50",
    *,
    weights: str | Path | None = None,
    labels: Labels | None = None,
    device: str = "auto",
    preprocessing: Preprocessing | Transform | None = None,
    input_size: int | None = None,
    resize: int | Size | None = None,
    crop: int | Size | None = None,
    interpolation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels_in: int | None = None,
    activation: Activation | None = None,
    output: str | int | None = None,
    method: Method | None = None,
    layer: str | None = None,
    random_weights: bool = False,
    unsafe_pickle: bool = False,
) -> Classifier:
    """Load a classifier with the preprocessing and the labels that belong to it, and prove its head.

    Args:
        model: a card's name, a torchvision classification builder, a file with a network (exported, TorchScript, or
            pickled), `file.py:callable` or `package.module:callable`, which is also searched for in the working
            directory, after everything that is installed.
        weights: checkpoint to load, safetensors or torch; the model's own weights by default.
        labels: of the classes, in order, by index, or a file of them, instead of the model's own.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        preprocessing: from photograph to input, as for `wrap`, instead of the model's own.
        input_size: side of the square input, pixels, instead of the model's own.
        resize: shorter side after resizing, pixels, or (H, W) whatever the image's aspect, likewise.
        crop: of the center, pixels, a side or (H, W), likewise.
        interpolation: of the resizing, "bilinear", "bicubic", "nearest", ..., likewise.
        mean: of each channel, of values in [0, 1], likewise.
        std: of each channel, likewise.
        channels_in: that the network takes, if not the model's own: 1 for gray.
        activation: what makes probabilities of the class scores, "softmax", "sigmoid" (several classes at once) or
            "none" (values, as in regression), instead of the model's own.
        output: name or index of the class scores among several outputs.
        method: how maps are computed: "exact" (refused where there is no exact map), "integrated" or "shapley", which
            add up to the logit for any head, or, as references, "gradcam", "hirescam", "layercam" or "xgradcam". By
            default the exact map, else the better of the next two.
        layer: name of an earlier layer to take the features in, for finer maps; the last that will do by default.
        random_weights: True for random weights.
        unsafe_pickle: True to let the checkpoint run code while it is read.

    Raises:
        ModelError: there is no such model, or it cannot be built.
        WeightsError: its weights cannot be downloaded, read or loaded.
        HeadError: its class scores follow from no features with rows and columns, or not as `method` needs.
        UsageError: an argument is not valid.

    Example:
        >>> classifier = load_classifier("cifar-resnet20", random_weights=True)
        >>> classifier.head.weight.shape
        torch.Size([10, 64])
    """
    target = pick_device(device)
    loaded = load_network(
        model,
        weights=weights,
        random_weights=random_weights,
        unsafe_pickle=unsafe_pickle,
        output=output,
        preprocessing=preprocessing,
        input_size=input_size,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        mean=mean,
        std=std,
        channels_in=channels_in,
    )
    return make_classifier(str(model), loaded, labels, activation, method, layer).to(target)


def wrap(
    network: nn.Module,
    *,
    preprocessing: Preprocessing | Transform | None = None,
    labels: Labels | None = None,
    input_size: int | None = None,
    activation: Activation | None = None,
    output: str | int | None = None,
    method: Method | None = None,
    layer: str | None = None,
    name: str = "",
) -> Classifier:
    """Make a classifier of your own network, which stays unchanged on its device.

    Args:
        network: takes (N, 3, H, W); its map is exact if it ends in global average pooling and a linear layer.
        preprocessing: from photograph to input, a `Preprocessing` or the transform of your validation set: any callable
            from a Pillow image to a tensor (torchvision, timm, a Hugging Face processor), which is measured to find
            where the input lies in the image. By default what a timm network declares, else ImageNet's mean and
            standard deviation.
        labels: of the classes, in order, by index, or a file of them; "class 0" and so on by default.
        input_size: side of its square input, pixels, 224 by default.
        activation: what makes probabilities of the class scores, "softmax", "sigmoid" (several classes at once) or
            "none" (values, as in regression). By default softmax, sigmoid of one score, or what its `config` says.
        output: name or index of the class scores among several outputs.
        method: how maps are computed, as for `load_classifier`.
        layer: name of an earlier layer to take the features in, likewise.
        name: what to call it; the name of its class by default.

    Raises:
        HeadError: the class scores follow from no features with rows and columns, or not as `method` needs.
        ModelError: the network does not run on an input of that size.
        UsageError: an argument is wrong, or the number of labels is not the number of classes.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> wrap(network, labels=["cat", "dog"], input_size=32).head.kind
        'gap-linear'
    """
    name = name or getattr(network, "original_name", type(network).__name__)  # of TorchScript
    network = as_program(unwrap(network))
    if preprocessing is None:
        known, declared = declared_by_timm(network) or preprocessing_of(network)
    else:
        known, declared = as_preprocessing(preprocessing), "as given"
    if output is not None and isinstance(network, nn.Module):
        network = SelectedOutput(network, output)
    loaded = LoadedNetwork(network, known.adjusted(input_size), declared=declared)
    return make_classifier(name, loaded, labels, activation, method, layer)


def load_network(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    random_weights: bool = False,
    unsafe_pickle: bool = False,
    output: str | int | None = None,
    preprocessing: Preprocessing | Transform | None = None,
    **changes: Any,
) -> LoadedNetwork:
    """Build a network on the CPU, in evaluation mode and without gradients; arguments as for `load_classifier`."""
    model, file = name_folder(str(model)), None if weights is None else Path(weights)
    _check_one_source(file, random_weights)
    if model.startswith("timm:"):
        loaded = from_timm(model.removeprefix("timm:"), file, random_weights, unsafe_pickle, changes.get("channels_in"))
    elif model.startswith("hf:"):
        loaded = from_huggingface(model.removeprefix("hf:"), file, random_weights, unsafe_pickle)
    elif exists_as(Path.is_file, Path(model)) and not model.endswith(".py") and model not in card_names():
        if file or random_weights:
            problem = f"--model {model!r} is a file with a network, which has its weights"
            raise UsageError(problem, "Give it without --weights and --no-weights")
        loaded = from_file(Path(model), unsafe_pickle)
    elif ":" in model:
        loaded = from_factory(model, file, unsafe_pickle)
    elif model in card_names():
        loaded = from_card(model, file, random_weights, unsafe_pickle)
    elif model in torchvision_names():
        loaded = from_torchvision(model, file, random_weights, unsafe_pickle)
    else:
        raise unknown_model(model, [*card_names(), *torchvision_names()])
    changed, declared = loaded.preprocessing, loaded.declared
    if preprocessing is not None:
        changed, declared = as_preprocessing(preprocessing), "as given"
    if given := [name for name, value in changes.items() if value is not None]:
        changed = changed.adjusted(**changes)
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        declared = f"{declared.partition('; --')[0] or 'assumed'}, changed by {options}"
    network = loaded.network if output is None else SelectedOutput(loaded.network, output)
    network = network.eval().requires_grad_(False)
    return replace(loaded, network=network, preprocessing=changed, declared=declared, own_weights=file is None)


def _check_one_source(weights: Path | None, random_weights: bool) -> None:
    if weights and random_weights:
        raise UsageError(f"--weights {str(weights)!r} and --no-weights exclude each other", "Leave one of them out")


def make_classifier(
    name: str,
    loaded: LoadedNetwork,
    labels: Labels | None = None,
    activation: Activation | None = None,
    method: Method | None = None,
    layer: str | None = None,
) -> Classifier:
    """Make a classifier of a network: find its head, prove it and measure its grid."""
    network, preprocessing = loaded.network, loaded.preprocessing
    if note := find_batch(network, preprocessing.input_shape):
        loaded = replace(loaded, notes=(*loaded.notes, note))
    check_layer(network, method, layer)
    analysis = analyze_head(network, preprocessing.input_shape, method, layer)
    if isinstance(analysis.head, GeneralHead):
        loaded = replace(loaded, notes=(*loaded.notes, analysis.head.describe()))
    scores = describe_scores(name, loaded, analysis.head.classes, labels, activation)
    return Classifier(name, network, preprocessing, **scores, **vars(analysis), weights=loaded.weights)


def describe_scores(
    name: str, loaded: LoadedNetwork, classes: int, labels: Labels | None, activation: Activation | None
) -> dict[str, Any]:
    """What the class scores of a network are, as arguments of a classifier."""
    chosen, note = choose_activation(activation, loaded.network, loaded.activation, classes)
    binary = classes == 1 and chosen != "none"
    names = name_classes(labels, loaded.labels or labels_of(loaded.network), classes, binary=binary)
    if isinstance(labels, (str, Path)):
        loaded = replace(loaded, notes=(*loaded.notes, *_same_names(names)))
    declared = loaded.declared or "assumed; --resize, --crop, --mean and --std give others"
    if loaded.weights and not loaded.own_weights and declared.startswith("from"):
        declared = f"{declared}, assumed for {loaded.weights.name}"
    notes = [f"{loaded.preprocessing.describe()}: {declared}", *loaded.notes, *filter(None, [note])]
    if loaded.weights and not loaded.own_weights:  # somebody else's, perhaps of another task
        file = loaded.weights.name
        if differences := _trained_otherwise(training_arguments(loaded.weights), loaded.preprocessing):
            notes.append(f"input: {file} was trained with {differences}, not used here")
        if labels is None and names == loaded.labels:
            notes.append(f"labels: those of {name}, assumed for {file}; --labels gives others")
        if activation is None and not note and loaded.activation:
            notes.append(f"activation: {chosen}, that of {name}, assumed for {file}")
    return {"labels": names, "binary": binary, "activation": chosen, "notes": tuple(notes)}


def _same_names(labels: Sequence[str]) -> list[str]:
    """A note on labels that several classes have."""
    again = [label for label, count in Counter(labels).items() if count > 1]
    listed = ", ".join(map(repr, again[:3])) + ", ..." * (len(again) > 3)
    return [f"labels: several classes have the name {listed}"] if again else []


def _trained_otherwise(arguments: Mapping[str, Any], preprocessing: Preprocessing) -> str:
    """The arguments of a training that are not those of a preprocessing, and the options for them."""
    differences = []
    for name, option in _ARGUMENTS.items():
        value = np.array(arguments.get(name), object).ravel()  # one, a list, or (channels, H, W)
        used = np.ravel(getattr(preprocessing, option[2:], preprocessing.crop))
        used = used[-1:] if "size" in name else used
        if value.size and value[0] not in (None, "") and [*value[-used.size :]] != [*used]:
            differences.append(f"{name} {arguments[name]} ({option})")
    return ", ".join(differences)


def list_models() -> list[dict[str, str]]:
    """List every named model with its source and description: the cards, then torchvision's builders.

    Example:
        >>> list_models()[0]["name"]
        'cifar-resnet20'
    """
    cards = [{"name": name, "source": "card", "description": read_card(name)["description"]} for name in card_names()]
    return cards + [
        {"name": name, "source": "torchvision", "description": "ImageNet, 1000 classes"} for name in torchvision_names()
    ]
