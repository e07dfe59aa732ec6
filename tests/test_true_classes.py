"""True classes of images, from folders and from tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from timm.data import ImageNetInfo
from torchvision.models import SqueezeNet1_0_Weights

from cam.classifiers.truth import class_of, describe_unmatched, labeled_pictures, read_truth
from cam.errors import UsageError

LABELS = ("tench", "great white shark", "T-shirt", "7", "Cardigan", "cardigan")
IMAGENET = SqueezeNet1_0_Weights.DEFAULT.meta["categories"]
INFO = ImageNetInfo("imagenet-1k")
HF = [INFO.index_to_description(class_idx) for class_idx in range(1000)]  # "tench, Tinca tinca"
TIMM = [name.partition(",")[0] for name in HF]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of empty files."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def classes(folder: Path, labels=LABELS, csv=None) -> dict[str, int]:
    return {str(picture.name): class_idx for picture, class_idx in labeled_pictures(folder, labels, csv)[0].items()}


@pytest.mark.parametrize(
    ("text", "class_idx"),
    [
        ("tench", 0),
        ("Great_White-Shark", 1),
        (" great  white shark ", 1),
        ("t_shirt", 2),
        ("n01440764_tench", 0),
        ("n01484850 great white shark", 1),
        ("7", 3),  # a label before an index
        ("4", 4),
        ("0", 0),
    ],
)
def test_a_text_means_a_class(text, class_idx):
    assert class_of(LABELS, text) == class_idx


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "is not among the labels") for text in ("6", "-1", "٣", "9" * 5000, "", "n01440764", "n01440764_")),
        ("white shark", "nearest is 1 'great white shark'"),
        ("Cardigan", "'cardigan' is the label of 2 classes: 4 'cardigan', 5 'cardigan'"),
    ],
)
def test_a_text_that_means_no_class_is_an_error(text, message):
    with pytest.raises(UsageError, match=message):
        class_of(LABELS, text)


@pytest.mark.parametrize("text", ["n01443537_goldfish", "n01443537"])
def test_labels_may_be_wordnet_ids(text):
    assert class_of(("n01440764", "n01443537"), text) == 1


@pytest.mark.parametrize("labels", [IMAGENET, TIMM, HF], ids=["torchvision", "timm", "hf"])
def test_wordnet_ids_are_classes_of_imagenet(labels):
    texts = ["n02012849_crane", "n03126707_crane", "n02113186_Cardigan", "n02963159_cardigan"]
    assert [class_of(labels, text) for text in texts] == [134, 517, 264, 474]
    assert [class_of(labels, text) for text in ("n03710637_maillot", "n03710721")] == [638, 639]
    assert [class_of(labels, INFO.index_to_label_name(class_idx)) for class_idx in range(1000)] == list(range(1000))


def test_one_of_several_names_means_a_class():
    assert [class_of(HF, text) for text in ("tench", "Tinca_tinca", "bathroom tissue")] == [0, 0, 999]
    with pytest.raises(UsageError, match=r"'crane' is the label of 2 classes: 134 'crane', 517 'crane'"):
        class_of(HF, "crane")


@pytest.mark.parametrize("labels", [IMAGENET[:999], ["trench", *IMAGENET[1:]], [*IMAGENET[:999], "bolete"]])
def test_wordnet_ids_alone_are_no_classes_of_other_labels(labels):
    with pytest.raises(UsageError, match="'n01443537' is not among the labels"):
        class_of(labels, "n01443537")
    assert class_of(labels, "n01443537_goldfish") == 1


def test_every_imagenet_file_name_finds_its_class(shared_data):
    names = sorted(path.stem for path in (shared_data / "imagenet" / "images").iterdir())
    assert [class_of(IMAGENET, name) for name in names] == list(range(0, 1000, 10))


def test_folders_are_classes(folder):
    root = folder("tench/10.jpg", "tench/2.jpg", "n01484850_great_white_shark/sub/a.png", "4/b.gif", "notes.txt")
    assert list(classes(root).items()) == [
        ("4/b.gif", 4),
        ("n01484850_great_white_shark/sub/a.png", 1),
        ("tench/2.jpg", 0),
        ("tench/10.jpg", 0),
    ]


def test_bare_wordnet_ids_of_all_classes_are_in_the_order_of_the_classes(folder):
    root = folder("n01443537/a.jpg", "n01440764/b.jpg")
    assert classes(root, ("tench", "goldfish")) == {"n01440764/b.jpg": 0, "n01443537/a.jpg": 1}
    with pytest.raises(UsageError, match=r"n01440764' matches no class"):
        classes(root, ("tench", "goldfish", "great white shark"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("n01440764_tench.JPEG", "must hold a folder .* class, got 'n01440764_tench.JPEG'. Give --truth"),
    ],
)
def test_an_image_outside_the_folders_of_classes_is_an_error(folder, name, message):
    with pytest.raises(UsageError, match=message):
        classes(folder("tench/a.jpg", name))


def test_a_label_that_means_no_class_costs_its_images_only(folder, tmp_path):
    root = folder("tench/a.jpg", "tenhc/b.jpg", "Cardigan/c.jpg", "Cardigan/d.jpg")
    found, failed = labeled_pictures(root, LABELS)
    assert [(str(picture.name), class_idx) for picture, class_idx in found.items()] == [("tench/a.jpg", 0)]
    assert [Path(path).name for path in failed] == ["c.jpg", "d.jpg", "b.jpg"]
    cardigan = "matches no class: 'cardigan' is the label of 2 classes: 4 'cardigan', 5 'cardigan'. Give the class"
    assert all(cardigan in failed[str(root / "Cardigan" / name)] for name in ("c.jpg", "d.jpg"))
    assert re.match("The folder '.*tenhc' .*nearest is 0 'tench'", failed[str(root / "tenhc" / "b.jpg")])
    pictures = [(str(root / name), name) for name in ("tenhc/b.jpg", "tench/a.jpg", "Cardigan/c.jpg", "Cardigan/d.jpg")]
    truth = read_truth("folder", pictures, LABELS)
    assert truth.classes == {str(root / "tench" / "a.jpg"): 0}
    assert list(truth.unmatched.items()) == [("Cardigan", 2), ("tenhc", 1)]
    (tmp_path / "labels.csv").write_text("a.jpg,tenhc\nb.jpg,1\nelsewhere.jpg,what\n")
    truth = read_truth(str(tmp_path / "labels.csv"), pictures, LABELS)
    assert (truth.classes, truth.unmatched) == ({pictures[0][0]: 1}, {"tenhc": 1})
    with pytest.raises(UsageError, match=r"The folder '.*Cardigan' matches no class: 'cardigan' is the label of 2"):
        read_truth("folder", pictures[2:], LABELS)


def test_labels_that_match_nothing_are_named_in_one_line():
    assert describe_unmatched({"a": 1}) == "1 image has no truth, as these labels mean no class or several: 'a' 1"
    line = describe_unmatched(dict.fromkeys("abcdefghi", 20))
    assert line.startswith("180 images have no truth")
    assert line.endswith("several: " + ", ".join(f"'{letter}' 20" for letter in "abcdefgh") + ", ...")


@pytest.mark.parametrize(
    "text",
    [
        "path,label\nb.jpg,tench\nsub/a.jpg,1\n",
        "b.jpg,tench\r\n\r\nsub/a.jpg, Great-white_shark\r\n",
        "\ufeffsize,Label,PATH\n3,tench,b.jpg\n4,n01484850_great_white_shark,sub/a.jpg\n",
        '"b.jpg","tench"\n"sub/a.jpg","1"\nmissing.jpg,tench',
    ],
)
def test_a_table_gives_the_classes_of_the_images_in_it(folder, tmp_path, text):
    csv = tmp_path / "labels.csv"
    csv.write_text(text, "utf-8", newline="")
    root = folder("b.jpg", "sub/a.jpg", "unlabeled.jpg")
    assert list(classes(root, csv=csv).items()) == [("b.jpg", 0), ("sub/a.jpg", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "holds no rows"),
        ("a.jpg,tench\nb.jpg\n", "Line 2 of '.*labels.csv' has 1 values, not 2"),
        ("a.jpg,tench\n\na.jpg,tench", "Line 3 of .* names the image 'a.jpg' again"),
        ("a.jpg,trench", "Line 1 of .* matches no class: 'trench' is not among the labels; the nearest is 0"),
        ("../a.jpg,tench", "names none of the images. Write paths or ends of them, such as 'a.jpg'"),
        ("a.jpg," + "x" * 200_000, "Line 1 of .* is not CSV"),
        ("a.jpg,\xff", "is not text in UTF-8"),
    ],
)
def test_a_bad_table_is_an_error(folder, tmp_path, text, message):
    csv = folder("a.jpg") / "labels.csv"
    csv.write_text(text, "latin-1")
    with pytest.raises(UsageError, match=message):
        labeled_pictures(tmp_path, LABELS, csv)
