"""The programs that compare.py compares `cam explain` with, each as its users would write it.

    python benchmarks/programs.py torchcam-readme squeezenet1_0 squeezenet1_0.pth build/out photos/*.jpg

Each draws the evidence for the predicted class on each image, and saves it as a JPEG file of quality 92; the floors and
`codecs` save the unchanged image. Each program imports what it needs itself, so that only its own memory counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from cam.engines.checked import EngineName

_QUALITY = 92


def torchcam_readme(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """`CAM` of torchcam, used as in its README: one image at a time."""
    from torchcam.methods import CAM

    network = build(model, weights)
    with CAM(network, *layers(network)) as extractor:
        _with_torchcam(network, extractor, transform(model), out, files)


def torchcam(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """`CAM` of torchcam in inference mode."""
    import torch

    with torch.inference_mode():
        torchcam_readme(model, weights, out, files)


def layercam(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """`LayerCAM` of torchcam, the method in its README."""
    from torchcam.methods import LayerCAM

    network = build(model, weights)
    with LayerCAM(network, layers(network)[0]) as extractor:
        _with_torchcam(network, extractor, transform(model), out, files)


def gradcam(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """`GradCAM` of pytorch-grad-cam, used as in its README: one image at a time."""
    from pytorch_grad_cam import GradCAM

    _with_grad_cam(GradCAM, model, weights, out, files)


def hirescam(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """`HiResCAM` of pytorch-grad-cam, which equals class activation maps."""
    from pytorch_grad_cam import HiResCAM

    _with_grad_cam(HiResCAM, model, weights, out, files)


def floor(model: str, weights: Path, out: Path, files: Sequence[Path], engine: EngineName | None = None) -> None:
    """Decode, preprocess, run the network and encode the image: `cam explain` without maps and drawing.

    The network runs unchanged, or on an engine.
    """
    import numpy as np
    import torch

    import cam
    from cam.cli.process import keep_memory
    from cam.engines.checked import make_engine

    keep_memory()
    classifier = cam.load_classifier(model, weights=weights, device="cpu")
    network, shape = classifier.network, classifier.preprocessing.input_shape
    run = make_engine(engine, network, classifier.head, shape) if engine else network

    def work(batch: Sequence[Path]) -> None:
        photos = [_read(file) for file in batch]
        pixels = np.stack([classifier.preprocessing.resize_and_crop(photo)[0] for photo in photos])
        inputs = classifier.preprocessing.normalize(torch.from_numpy(pixels))
        with torch.inference_mode():
            run(inputs if engine else inputs.contiguous())
        _write(photos, batch, out)

    _on_all_cores(work, files)


def codecs(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """Decode and encode, with no network."""
    from cam.cli.process import keep_memory

    keep_memory()
    _on_all_cores(lambda batch: _write([_read(file) for file in batch], batch, out), files)


def library(model: str, weights: Path, out: Path, files: Sequence[Path]) -> None:
    """The library in one thread: `cam.explain_all`, then `overlay`."""
    import cam
    from cam.images.io import write_image

    classifier = cam.load_classifier(model, weights=weights, device="cpu")
    for file, explanation in zip(files, cam.explain_all(classifier, files), strict=True):
        write_image(out / f"{file.stem}.jpg", explanation.overlay(legend=True))


PROGRAMS: dict[str, Callable[[str, Path, Path, Sequence[Path]], None]] = {
    "torchcam-readme": torchcam_readme,
    "torchcam": torchcam,
    "layercam": layercam,
    "gradcam": gradcam,
    "hirescam": hirescam,
    "library": library,
    "floor": floor,
    "floor-eager": partial(floor, engine="eager"),
    "floor-compile": partial(floor, engine="compile"),
    "floor-onnxruntime": partial(floor, engine="onnxruntime"),
    "codecs": codecs,
}


def build(model: str, weights: Path) -> nn.Module:
    """Build a network of torchvision, as its users do."""
    import torch
    from torchvision.models import get_model

    network: nn.Module = get_model(model, weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def transform(model: str) -> Any:
    """The preprocessing of the published weights."""
    from torchvision.models import get_model_weights

    return get_model_weights(model).DEFAULT.transforms()


def layers(network: nn.Module) -> tuple[str, str]:
    """Names of the layers of the last features and of the class scores, for ResNet and SqueezeNet."""
    return ("layer4", "fc") if hasattr(network, "layer4") else ("features", "classifier.1")


def save_weights(model: str, path: Path) -> None:
    """Save the weights for all programs: the published ones if they are on this machine, else random ones.

    Batch norm statistics come from random inputs; without them the features of a deep random network explode.
    """
    import torch
    from torchvision.models import get_model, get_model_weights

    from cam.heads.copies import random_inputs

    published = get_model_weights(model).DEFAULT
    if Path(torch.hub.get_dir(), "checkpoints", Path(published.url).name).exists():
        network = get_model(model, weights=published)
    else:
        torch.manual_seed(0)
        network = get_model(model, weights=None)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            network.train()(random_inputs(4, (3, 224, 224)))
    torch.save(network.state_dict(), path)


def _with_torchcam(network: nn.Module, extractor: Any, preprocess: Any, out: Path, files: Iterable[Path]) -> None:
    from torchcam.utils import overlay_mask
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import to_pil_image

    for file in files:
        photo = decode_image(str(file), ImageReadMode.RGB)
        scores = network(preprocess(photo).unsqueeze(0))
        (activation_map,) = extractor(scores.squeeze(0).argmax().item(), scores)
        heat = to_pil_image(activation_map.squeeze(0), mode="F")
        overlay_mask(to_pil_image(photo), heat, alpha=0.5).save(out / f"{file.stem}.jpg", quality=_QUALITY)


def _with_grad_cam(method: Any, model: str, weights: Path, out: Path, files: Iterable[Path]) -> None:
    import cv2
    import numpy as np
    from PIL import Image
    from pytorch_grad_cam.utils.image import show_cam_on_image

    network, preprocess = build(model, weights), transform(model)
    target = list(network.get_submodule(layers(network)[0]).children())[-1]
    with method(model=network, target_layers=[target]) as explain:
        for file in files:
            photo = Image.open(file).convert("RGB")
            (heat,) = explain(input_tensor=preprocess(photo).unsqueeze(0), targets=None)
            pixels = np.asarray(photo, np.float32) / 255
            shown = show_cam_on_image(pixels, cv2.resize(heat, photo.size), use_rgb=True)
            Image.fromarray(shown).save(out / f"{file.stem}.jpg", quality=_QUALITY)


def _read(file: Path) -> Any:
    from pathlib import PurePosixPath

    from cam.images.find import Picture
    from cam.images.read import Limits, read_picture

    return read_picture(Picture(file, PurePosixPath(file.name)), Limits()).image


def _write(photos: Iterable[Any], files: Iterable[Path], out: Path) -> None:
    from cam.images.io import write_image

    for photo, file in zip(photos, files, strict=True):
        write_image(out / f"{file.stem}.jpg", photo)


def _on_all_cores(work: Callable[[Sequence[Path]], None], files: Sequence[Path]) -> None:
    """Process batches as `cam explain` does, with a worker per core."""
    from cam.runs.workers import in_order

    for _ in in_order(work, (files[start : start + 4] for start in range(0, len(files), 4))):
        pass


def main() -> None:
    """Run one program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("model", help="a ResNet or SqueezeNet of torchvision")
    parser.add_argument("weights", type=Path, help="from save_weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    PROGRAMS[arguments.program](arguments.model, arguments.weights, arguments.out, arguments.files)


if __name__ == "__main__":
    main()
