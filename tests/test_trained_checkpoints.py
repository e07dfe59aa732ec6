"""Checkpoints that training libraries write themselves are loaded as they are, and what is left out is said."""

from __future__ import annotations

import warnings
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import same
from torch import nn

import cam
from cam.classifiers.load import load_network
from cam.errors import WeightsError

FACTORY = """
from torch import nn

def make(num_classes=2):
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), pool, nn.Flatten(), nn.Linear(4, num_classes))
"""


def make(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def loaded(file: Path, **options: Any) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    (file.parent / "net.py").write_text(FACTORY)
    result = load_network(f"{file.parent}/net.py:make", weights=file, **options)
    return result.network.state_dict(), result.notes


def trained(folder: Path, *callbacks: Any, **hyper_parameters: Any) -> tuple[Path, nn.Module]:
    """A checkpoint that Lightning writes after two steps of training, and the network inside the module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning.pytorch")

        class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
            def __init__(self, **hyper_parameters: Any) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.net = make()
                self.criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
                self.register_buffer("confusion", torch.zeros(2, 2, dtype=torch.long))

            def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
                return self.criterion(self.net(batch[0]), batch[1])

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.AdamW(self.parameters(), 0.1)

        module = Module(**hyper_parameters)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            max_steps=2, accelerator="cpu", enable_checkpointing=bool(callbacks), callbacks=[*callbacks], **quiet
        )
        trainer.fit(module, torch.utils.data.DataLoader([(torch.randn(3, 8, 8), n) for n in (0, 1)] * 2, 2))
        trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt", module.net


def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    file, network = trained(
        tmp_path, lr=0.1, widths=[4, 8], args=Namespace(root=Path("data")), more=SimpleNamespace(best=np.float64(0.5))
    )
    state, notes = loaded(file)
    assert same(state, network.state_dict())
    assert notes == ("weights: left out of last.ckpt: 'confusion', 'criterion.weight'",)


@pytest.mark.parametrize("value", [nn.ReLU, torch.optim.AdamW, print, Fraction(1, 2)])
def test_hyper_parameters_that_need_code_are_refused_with_what_to_do(tmp_path: Path, value: object) -> None:
    file, network = trained(tmp_path, value=value)
    with pytest.raises(WeightsError) as caught:
        loaded(file)
    assert "runs code when it is read: it needs" in caught.value.problem
    remedy = "If you trust it, pass --unsafe-pickle, or keep its weights alone: "
    remedy += "content = torch.load(FILE, weights_only=False), then "
    remedy += "torch.save(content.state_dict(), 'weights.pt') of a network, or of content['state_dict']"
    assert caught.value.remedy == remedy
    assert same(loaded(file, unsafe_pickle=True)[0], network.state_dict())
    torch.save(torch.load(file, weights_only=False)["state_dict"], tmp_path / "weights.pt")
    assert same(loaded(tmp_path / "weights.pt")[0], network.state_dict())


def test_lightning_saves_the_average_as_the_state(tmp_path: Path) -> None:
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    keep = callbacks.ModelCheckpoint(tmp_path, "second", every_n_train_steps=2)  # the end makes both the same
    trained(tmp_path, callbacks.EMAWeightAveraging(decay=0.5), keep)
    file = tmp_path / "second.ckpt"
    content = torch.load(file)
    average, last = (
        {key[4:]: value for key, value in content[place].items() if key.startswith("net.")}
        for place in ("state_dict", "current_model_state")
    )
    assert not same(average, last)
    state, notes = loaded(file)
    assert same(state, average)
    assert (
        notes[0] == "weights: 'state_dict.net' of second.ckpt, the averaged ones (EMA), not 'current_model_state.net'"
    )


def test_a_checkpoint_of_timm_with_averaged_weights(tmp_path: Path) -> None:
    utils = pytest.importorskip("timm.utils")
    network = make()
    ema = utils.ModelEmaV3(network, decay=0.9)
    network.load_state_dict(make(1).state_dict())
    ema.update(network, step=9)
    saver = utils.CheckpointSaver(
        network, torch.optim.SGD(network.parameters()), Namespace(model="n"), ema, checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(1, 0.5)
    file = tmp_path / "last.pth.tar"
    state, notes = loaded(file)
    assert same(state, ema.module.state_dict())
    assert not same(state, network.state_dict())
    assert notes == ("weights: 'state_dict_ema' of last.pth.tar, the averaged ones (EMA), not 'state_dict'",)


@pytest.mark.parametrize(
    ("arguments", "differences"),
    [
        ({"args": Namespace(img_size=112, input_size=None, mean=None)}, "img_size 112 (--input-size)"),
        ({"args": Namespace(input_size=(3, 48, 48))}, "input_size (3, 48, 48) (--input-size)"),
        (
            {"args": Namespace(input_size=[3, 64, 64], interpolation="", mean=[0.5] * 3)},
            "mean [0.5, 0.5, 0.5] (--mean)",
        ),
        ({"args": Namespace(val_resize_size=80, val_crop_size=64)}, "val_resize_size 80 (--resize)"),
        ({"hyper_parameters": {"interpolation": "bicubic"}}, "interpolation bicubic (--interpolation)"),
        ({"hyper_parameters": {"image_size": [64, 64], "std": (0.229, 0.224, 0.225)}}, ""),
        ({"args": "train.py"}, ""),
    ],
)
def test_a_checkpoint_that_says_that_it_was_trained_otherwise(
    tmp_path: Path, arguments: dict[str, Any], differences: str
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    torch.save({"state_dict": make().state_dict(), **arguments}, tmp_path / "best.pth")
    classifier = cam.load_classifier(f"{tmp_path}/net.py:make", weights=tmp_path / "best.pth", input_size=64)
    notes = [note for note in classifier.notes if "trained with" in note]
    assert notes == ([f"input: best.pth was trained with {differences}, not used here"] if differences else [])
