"""Heat in TensorBoard while a network is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import gap_linear, photo
from torch import nn

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import HeadError
from cam.training import lightning_callback, log_images

IMAGES = [photo(32, 32), photo(32, 32)[::-1].copy()]
PREPROCESSING = Preprocessing(32, (32, 32))
INPUTS = torch.stack([PREPROCESSING.prepare(image)[0] for image in IMAGES])


class Writer:
    def __init__(self):
        self.images = []

    def add_image(self, tag, image, step, *, dataformats):
        assert dataformats == "HWC"
        self.images.append((tag, step, image))


def test_overlays_are_those_of_the_network_at_that_step():
    writer, network = Writer(), gap_linear(3).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(2):
        explanations = log_images(writer, step, network, INPUTS, [0, "b"], labels=["a", "b", "c"])
        assert network.training
        classifier = cam.wrap(network, preprocessing=PREPROCESSING, labels=["a", "b", "c"])
        for explanation, image, target in zip(explanations, IMAGES, (0, 1), strict=True):
            expected = cam.explain(classifier, image, target)
            np.testing.assert_allclose(explanation.cam, expected.cam, atol=1e-5)
            _, logged_step, logged = writer.images[-2 + target]
            assert logged_step == step
            difference = np.abs(logged.astype(int) - expected.overlay(legend=True))
            assert difference.max() <= 4  # a step of the color map, where heat was rounded otherwise
        network(INPUTS).sum().backward()
        optimizer.step()
    assert [tag for tag, *_ in writer.images] == ["cam/0", "cam/1"] * 2
    assert (writer.images[0][2] != writer.images[2][2]).any()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_network_without_an_exact_map_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
    with pytest.raises(HeadError):
        log_images(Writer(), 0, network, INPUTS)


def test_the_images_can_be_read_back_from_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        log_images(writer, 7, gap_linear(3), INPUTS)
    events = EventAccumulator(str(tmp_path), {"images": 0}).Reload()
    assert events.Tags()["images"] == ["cam/0", "cam/1"]
    (event,) = events.Images("cam/0")
    drawn = cam.explain(cam.wrap(gap_linear(3), input_size=32), IMAGES[0]).overlay(legend=True)
    assert (event.step, event.width, event.height) == (7, drawn.shape[1], drawn.shape[0])


@pytest.mark.filterwarnings("ignore::FutureWarning:lightning")
def test_lightning_logs_after_each_validation(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = gap_linear(3)

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, _):
            return None

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(INPUTS, torch.tensor([0, 1])), batch_size=2)
    logger = TensorBoardLogger(tmp_path)
    written = []
    logger.experiment.add_image = lambda tag, image, step, **_: written.append((tag, step))
    trainer = lightning.Trainer(
        max_epochs=3,
        log_every_n_steps=1,
        logger=logger,
        callbacks=[lightning_callback(INPUTS, every_n_epochs=2)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
    )
    trainer.fit(Module(), loader, loader)
    assert written == [("cam/0", 1), ("cam/1", 1), ("cam/0", 3), ("cam/1", 3)]


def test_inputs_of_more_channels_are_drawn_on_the_first_three():
    network = nn.Sequential(nn.Conv2d(5, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    preprocessing = cam.Preprocessing(32, (32, 32), mean=(0.5,) * 5, std=(0.5,) * 5)
    writer = Writer()
    log_images(writer, 0, network, torch.zeros(1, 5, 32, 32), preprocessing=preprocessing)
    assert writer.images[0][2].shape[2] == 3
