"""What the library takes as image and target, and what an explanation gives back."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from small import gap_linear, photo, three_classes
from torch import nn

import cam
from cam.errors import ImageError, UsageError
from cam.explanations.explanation import ExplanationList

SIDE = 32
IMAGE = photo(SIDE, SIDE)


@pytest.fixture(scope="module")
def classifier():
    labels = ["cat", "dog", "fox", "<b>owl</b>", "truthful"]
    return cam.wrap(gap_linear(5).eval(), labels=labels, input_size=SIDE)


@pytest.mark.parametrize("make", [three_classes, lambda: three_classes().append(nn.ReLU()).append(nn.Linear(3, 2))])
def test_the_default_dtype_of_the_program_changes_nothing(make):
    """float64 first: the second time the results of the examination are known."""
    network, maps = make(), []
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        try:
            found = cam.explain(cam.wrap(network, input_size=SIDE), IMAGE)
        finally:
            torch.set_default_dtype(torch.float32)
        assert found.cam.dtype == np.float32
        maps.append(found.cam)
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        logits = network(cam.wrap(network, input_size=SIDE).preprocessing.prepare(IMAGE)[0][None])
    assert found.logit == pytest.approx(float(logits.max()), rel=1e-4)


@pytest.fixture(scope="module")
def expected(classifier):
    """The map of class 1, by hand: features of the network, times the weights."""
    network = classifier.network
    with torch.inference_mode():
        inputs = classifier.preprocessing.prepare(IMAGE)[0][None]
        _, features, head = classifier.forward(inputs)
        np.testing.assert_allclose(network(inputs)[0], features[0].mean((1, 2)) @ head.weight.T + head.bias, atol=1e-5)
        return (head.weight[1][:, None, None] * features[0]).sum(0).numpy()


def png(image):
    Image.fromarray(image).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def forms(tmp_path):
    (tmp_path / "a.png").write_bytes(png(IMAGE))
    turned = Image.fromarray(np.rot90(IMAGE).copy())
    turned.getexif()[0x0112] = 6  # a quarter turn clockwise makes it upright
    transparent = Image.fromarray(np.dstack((IMAGE, np.full((SIDE, SIDE), 255, np.uint8))))
    return {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "bytes": png(IMAGE),
        "Pillow": Image.fromarray(IMAGE),
        "Pillow on its side": turned,
        "Pillow with transparency": transparent,
        "floats": ((IMAGE - 0.4) / 255).clip(0),  # to be rounded
        "bytes of a tensor": torch.from_numpy(IMAGE).permute(2, 0, 1),
    }


def test_an_image_may_be_held_in_any_way(classifier, expected, tmp_path):
    for name, image in forms(tmp_path).items():
        explanation = cam.explain(classifier, image, 1)
        np.testing.assert_array_equal(explanation.image, IMAGE, name)
        np.testing.assert_allclose(explanation.cam, expected, atol=1e-4)


def test_gray_arrays_are_gray_images(classifier):
    gray = IMAGE[..., 0]
    threefold = cam.explain(classifier, np.dstack([gray] * 3), 1)
    for image in (gray, gray / 255, Image.fromarray(gray)):
        np.testing.assert_array_equal(cam.explain(classifier, image, 1).cam, threefold.cam)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.full((4, 4, 3), 2.0), UsageError, "floats in .0, 1., got 2 to 2"),
        (np.full((4, 4, 3), np.nan), UsageError, "floats in .0, 1., got nan to nan"),
        (np.zeros((4, 4, 3), np.int32), UsageError, "got .4, 4, 3. int32"),
        (np.zeros((4, 4, 4), np.uint8), UsageError, "got .4, 4, 4. uint8"),
        ([[1, 2]], UsageError, "must be a file or an array, got list"),
        (b"text", ImageError, "is not an image"),
        (Image.new("I;16", (4, 4)), ImageError, "does not say which values are black and white"),
        (torch.zeros(2, 4, 4), UsageError, r"must be \(N, 3, H, W\) floats, got \(1, 2, 4, 4\) torch.float32"),
    ],
)
def test_other_images_are_refused(classifier, image, error, message):
    with pytest.raises(error, match=message):
        cam.explain(classifier, image)


def test_a_target_may_be_named_in_any_way(classifier, expected, tmp_path):
    for target in (1, "dog", "DOG", np.int64(1), torch.tensor(1)):
        explanation = cam.explain(classifier, IMAGE, target)
        assert (explanation.class_idx, explanation.label) == (1, "dog")
        np.testing.assert_allclose(explanation.cam, expected, atol=1e-4)
    logits = [cam.explain(classifier, IMAGE, index).logit for index in range(5)]
    ranked = np.argsort(logits)[::-1].tolist()
    assert cam.explain(classifier, IMAGE).class_idx == ranked[0]
    assert [e.class_idx for e in cam.explain(classifier, IMAGE, "top3")] == ranked[:3]
    for targets in ([2, "dog"], (2, 1), np.array([2, 1]), torch.tensor([2, 1])):
        explanations = cam.explain(classifier, IMAGE, targets)
        assert isinstance(explanations, ExplanationList)
        assert [e.class_idx for e in explanations] == [2, 1]
    assert [e.class_idx for e in cam.explain(classifier, IMAGE, ["top2", ranked[0], ranked[0]])] == [
        *ranked[:2],
        *ranked[:1] * 2,
    ]
    pairs = list(cam.explain_all(classifier, [IMAGE, IMAGE[::-1]], ["cat", "fox"]))
    assert [[e.label for e in pair] for pair in pairs] == [["cat", "fox"]] * 2


def test_truth_is_the_folder_of_the_file(classifier, tmp_path):
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "a.png").write_bytes(png(IMAGE))
    assert cam.explain(classifier, tmp_path / "fox" / "a.png", "truth").label == "fox"
    with pytest.raises(UsageError, match='target "truth" needs a file'):
        cam.explain(classifier, IMAGE, "truth")
    (tmp_path / "owls").mkdir()
    (tmp_path / "owls" / "a.png").write_bytes(png(IMAGE))
    with pytest.raises(UsageError, match="The folder 'owls' is not among the labels"):
        cam.explain(classifier, tmp_path / "owls" / "a.png", "truth")


def test_prepared_tensors_are_explained_on_the_input(classifier, expected):
    prepared = classifier.preprocessing.prepare(IMAGE)[0]
    explanation = cam.explain(classifier, prepared, 1)
    np.testing.assert_allclose(explanation.cam, expected, atol=1e-4)
    assert explanation.heat().shape == (SIDE, SIDE)
    assert np.unique(explanation.image).tolist() == [128]
    reference = cam.explain(classifier, IMAGE, 1)
    np.testing.assert_array_equal(explanation.overlay(image=IMAGE), reference.overlay())
    assert explanation.overlay(image=photo(64, 96)).shape == (64, 96, 3)
    batch = cam.explain(classifier, torch.stack([prepared, prepared.flip(2)]), ["cat", "dog"])
    assert [[e.label for e in pair] for pair in batch] == [["cat", "dog"]] * 2
    with pytest.raises(UsageError, match="fit, resolution and tta are for photographs"):
        cam.explain(classifier, prepared, tta=True)


def test_batches_of_a_loader_are_explained(classifier, expected):
    prepared = classifier.preprocessing.prepare(IMAGE)[0]
    inputs = torch.stack([prepared.flip(2), prepared]).requires_grad_()
    explanations = cam.explain_batch(classifier, inputs, torch.tensor([0, 1]))
    assert [e.label for e in explanations] == ["cat", "dog"]
    np.testing.assert_allclose(explanations[1].cam, expected, atol=1e-4)
    for explanation in explanations:
        assert explanation.cam.mean() + explanation.bias == pytest.approx(explanation.logit, abs=1e-4)
    predicted = cam.explain_batch(classifier, inputs, evidence="margin")
    assert predicted[1].class_idx == cam.explain(classifier, IMAGE).class_idx
    with pytest.raises(UsageError, match="targets must be 2, one for each input, got 1"):
        cam.explain_batch(classifier, inputs, [0])


def test_a_module_is_wrapped_with_a_warning(classifier):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    with pytest.warns(UserWarning, match="Wrap it once: classifier = cam.wrap.module."):
        explanation = cam.explain(network, IMAGE)
    assert explanation.cam.mean() + explanation.bias == pytest.approx(explanation.logit, abs=1e-4)
    with pytest.raises(UsageError, match=r"classifier must be a cam\.Classifier, got str"):
        cam.explain("resnet50", IMAGE)


def test_heatmap_is_the_positive_evidence_over_its_largest_value(classifier):
    explanation = cam.explain(classifier, photo(40, 60), 1)
    heat = explanation.heat()
    expected = np.where(np.isnan(heat), 0, heat).clip(0)
    np.testing.assert_allclose(explanation.heatmap(), expected / expected.max(), atol=1e-6)
    np.testing.assert_array_equal(explanation.heatmap(normalize=False), heat)


def test_numbers_are_ready_for_json(classifier):
    explanation = cam.explain(classifier, IMAGE, 1, evidence="contrast", against="fox")
    facts = json.loads(json.dumps(explanation.to_dict()))
    assert (facts["label"], facts["against"]["label"]) == ("dog", "fox")
    assert facts["margin"] == pytest.approx(facts["logit"] - facts["against"]["logit"])
    assert facts["completeness_error"] < 1e-5


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.sources = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name == "src"]

    def handle_data(self, data):
        self.texts.append(data)


def test_a_notebook_shows_picture_class_and_numbers_and_no_markup_of_labels(classifier):
    explanation = cam.explain(classifier, IMAGE, 3)
    parsed = Tags(explanation._repr_html_())
    assert parsed.tags == ["figure", "img", "figcaption"]
    caption = f"<b>owl</b>: {100 * explanation.probability:.1f} %, logit {explanation.logit:.2f}"
    assert parsed.texts == [caption]
    (source,) = parsed.sources
    assert source.startswith("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(explanation._repr_png_())).size[0] <= 512
    grid = Tags(cam.explain(classifier, IMAGE, "top5")._repr_html_())
    assert grid.tags.count("img") == 5


def test_save_show_and_plot(classifier, tmp_path, monkeypatch):
    explanation = cam.explain(classifier, photo(300, 400), 1)
    explanation.save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), explanation.overlay(legend=True))
    explanation.save(tmp_path / "b.png", legend=False, opacity=0.5)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), explanation.overlay(opacity=0.5))
    with pytest.raises(UsageError, match=r"'\.gif' is not a format"):
        explanation.save(tmp_path / "a.gif")
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image, title: shown.append((np.asarray(image), title)))
    explanation.show()
    assert shown[0][1] == "dog"
    np.testing.assert_array_equal(shown[0][0], explanation.overlay(legend=True))
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    axes = plt.figure().subplots()
    assert explanation.plot(axes) is axes
    np.testing.assert_array_equal(axes.images[0].get_array(), explanation.overlay())
    assert axes.get_title().startswith("dog: ")
    plt.close("all")


def test_no_class_and_a_batch_of_photographs_are_refused():
    classifier = cam.wrap(gap_linear(), input_size=16)
    with pytest.raises(UsageError, match=r"target must name a class, got an empty list"):
        cam.explain(classifier, photo(20, 30), [])
    with pytest.raises(UsageError, match=r"The image must be \(H, W, 3\) uint8, got \(2, 3, 20, 30\)"):
        cam.explain(classifier, torch.zeros(2, 3, 20, 30, dtype=torch.uint8))
