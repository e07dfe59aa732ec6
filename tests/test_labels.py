"""Labels are read from every usual form, and invalid files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cam.classifiers.labels import find_class, name_classes, read_labels
from cam.errors import UsageError


def write(folder: Path, content: str | bytes, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_labels(path)
    assert caught.value.problem.startswith(f"--labels {str(path)!r}")
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\nBär\n",
        "cat\ndog\nBär",
        "\ufeffcat\ndog\nBär\n",
        "cat\r\ndog\r\nBär\r\n\r\n",
        " cat\t\ndog \nBär\n \n\n",
        "2 Bär\n0 cat\n1 dog\n",
        "0: cat\n1: dog\n2: Bär",
        "02\tBär\n 00\tcat\n01\tdog",
        "1,dog\n2,Bär\n0,cat",
        '["cat", "dog", "Bär"]',
        '\ufeff["cat", "dog", "Bär"]\n',
        '[["n1", "cat"], ["n2", "dog"], ["n3", "Bär"]]',
        '{"0": "cat", "1": "dog", "2": "Bär"}',
        '{"2": "Bär", "0": "cat", "1": "dog"}',
        '{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "Bär"]}',
        '{"cat": 0, "dog": 1, "Bär": 2}',
        '{"Bär": 2, "dog": 1, "cat": 0}',
    ],
)
@pytest.mark.parametrize("name", ["labels.txt", "labels"])
def test_every_form_gives_the_same_labels(tmp_path: Path, content: str, name: str) -> None:
    assert read_labels(write(tmp_path, content, name)) == ("cat", "dog", "Bär")
    assert read_labels(str(tmp_path / name)) == ("cat", "dog", "Bär")


def test_labels_that_are_digits(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, '{"1": 0, "0": 1}')) == ("1", "0")
    assert read_labels(write(tmp_path, '{"1": "0", "0": "1"}')) == ("1", "0")
    assert read_labels(write(tmp_path, "1\n0\n")) == ("1", "0")


def test_numbers_that_are_no_indices_belong_to_the_labels(tmp_path: Path) -> None:
    for content in ("5 euro\n10 euro\n20 euro", "10 euro\n20 euro\n5 euro", "1 euro\n2 euro", "0 stars\nstars"):
        assert read_labels(write(tmp_path, content)) == tuple(content.split("\n"))


def test_a_file_without_end_costs_no_memory() -> None:
    assert "holds more than 4,000,000 characters" in error_of(Path("/dev/zero")).problem


def test_two_classes_may_share_a_label(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, '{"crane": 0, "cat": 1, "crane": 2}')) == ("crane", "cat", "crane")


label_texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(
    lambda text: text == text.strip() and text[:1] not in ("", "[", "{", "\ufeff", *"0123456789")
)


@given(labels=st.lists(label_texts, min_size=1, max_size=6))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, labels: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    for content in ("\n".join(labels), json.dumps(labels), json.dumps(dict(enumerate(labels)))):
        assert read_labels(write(folder, content)) == tuple(labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\n\ndog\n", ", line 2, must be a label, got ''"),
        ("\ncat\n", ", line 1, must be a label, got ''"),
        (" \n\n", "holds no labels"),
        ("[]", "holds no labels"),
        ("0 cat\n2 dog\n", "has 2 labels but none for class 1"),
        ("1 dog\n0 cat\n1 bird\n", "has 3 labels but none for class 2"),
        ("3 bird\n1 cat\n2 dog\n", "numbers its 3 labels from 1, and not in order"),
        ("{}", "holds no labels"),
        ('["cat", "", "dog"]', ", entry 1, must be a label, got ''"),
        ('["cat", 7]', "must be a label, got 7"),
        ('["cat", []]', "must be a label, got []"),
        ('{"0": "cat", "2": "dog"}', "has 2 labels but none for class 1"),
        ('{"1": "cat", "2": "dog"}', "none for class 0"),
        ('{"cat": -1, "dog": 0}', "has 2 labels but none for class 1"),
        ('{"0": "cat", "0": "dog"}', "has 2 labels but none for class 1"),
        ('{"cat": 0, "dog": 0}', "has 2 labels but none for class 1"),
        ('{"cat": "dog"}', "has 1 labels but none for class 0"),
        ('{"cat": true}', "has 1 labels but none for class 0"),
        ('{"0": null}', "must be a label, got None"),
        ('{"' + "9" * 5000 + '": "cat"}', "has 1 labels but none for class 0"),
        ("{0: 'tench', 1: 'goldfish'}", "must be JSON"),
        ('["cat",\n"dog"', "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        (b"\xff\xfec\x00a\x00t\x00", "'utf-8' codec can't decode byte 0xff in position 0"),
    ],
)
def test_invalid_labels_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in error_of(write(tmp_path, content)).problem


@pytest.mark.parametrize(
    ("content", "message"), [("cat\ndog\n", "must be JSON"), ('"cat"', "map, got str"), ("3", "map, got int")]
)
def test_a_json_file_must_be_json_with_labels(tmp_path: Path, content: str, message: str) -> None:
    assert message in error_of(write(tmp_path, content, "labels.json")).problem


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read (No such file" in error_of(tmp_path / "labels.txt").problem
    assert "cannot be read (Is a directory)" in error_of(tmp_path).problem
    assert "cannot be read" in error_of(Path("a\0b")).problem

    def deny(self: Path, encoding: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)  # permissions do not bind root, who may run the tests
    assert "cannot be read (Permission denied)" in error_of(tmp_path / "labels.txt").problem


@pytest.mark.parametrize(
    ("labels", "model_labels", "classes", "names"),
    [
        (["a", "b"], ["cat", "dog"], 2, ("a", "b")),
        (None, ["cat", "dog"], 2, ("cat", "dog")),
        (None, ["cat", "dog"], 3, ("class 0", "class 1", "class 2")),
        (["dog"], None, 1, ("not dog", "dog")),
        (["cat", "dog"], None, 1, ("cat", "dog")),
        (None, None, 1, ("negative", "positive")),
    ],
)
def test_classes_are_named_by_the_caller_else_by_the_model_else_by_number(labels, model_labels, classes, names):
    assert name_classes(labels, model_labels, classes, binary=classes == 1) == names


LABELS = ["tench, Tinca tinca", "crane", "tabby cat", "Tiger Cat", "Straße", "crane", "catamaran", "hot dog"]


@pytest.mark.parametrize(
    ("text", "class_idx"),
    [("tabby cat", 2), ("TIGER CAT", 3), (" tiger cat ", 3), ("STRASSE", 4), ("Tench, tinca tinca", 0)],
)
def test_a_whole_label_is_found_in_any_case(text: str, class_idx: int) -> None:
    assert find_class(LABELS, text) == class_idx


@given(labels=st.lists(label_texts, min_size=1, max_size=8, unique_by=str.casefold), data=st.data())
def test_every_label_finds_its_class(labels: list[str], data: st.DataObject) -> None:
    class_idx = data.draw(st.integers(0, len(labels) - 1))
    assert find_class(labels, labels[class_idx]) == class_idx


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("cat", "; the nearest are 2 'tabby cat', 3 'Tiger Cat', 6 'catamaran'"),
        ("tinca", "; the nearest is 0 'tench, Tinca tinca'"),
        ("tigercat", "; the nearest is 3 'Tiger Cat'"),
        ("cranes", "; the nearest are 1 'crane', 5 'crane'"),
        ("xylophone", f"; they are {', '.join(f'{index} {label!r}' for index, label in enumerate(LABELS))}"),
        ("", "; the nearest are 0 'tench, Tinca tinca', 1 'crane', 2 'tabby cat', 3 'Tiger Cat', 4 'Straße'"),
    ],
)
def test_an_unknown_label_lists_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_class(LABELS, text)
    assert caught.value.problem == f"{text!r} is not among the labels{nearest}"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("retreiver", "; the nearest are 3 'golden retriever', 7 'flat-coated retriever'", ""),
        ("shephard", "; the nearest is 5 'German shepherd'", ""),
        ("zzz", "", "; cam inspect MODEL --json lists the labels of a model"),
        ("giraffe", "", "; cam inspect MODEL --json lists the labels of a model"),  # and not the pirate
    ],
)
def test_of_many_labels_only_those_that_are_near_are_named(text: str, problem: str, remedy: str) -> None:
    labels = [f"thing {index}" for index in range(20)]
    labels[3], labels[5], labels[7], labels[9] = (
        "golden retriever",
        "German shepherd",
        "flat-coated retriever",
        "pirate",
    )
    with pytest.raises(UsageError) as caught:
        find_class(labels, text)
    assert caught.value.problem == f"{text!r} is not among the labels{problem}"
    assert caught.value.remedy == f"Give a whole label or a class index{remedy}"


def test_labels_that_hold_the_text_come_before_those_spelled_like_it() -> None:
    with pytest.raises(UsageError, match="nearest are 1 'tabby cat', 0 'cart'"):
        find_class(["cart", "tabby cat", "dog"], "cat")


def test_an_ambiguous_label_lists_its_classes() -> None:
    with pytest.raises(UsageError) as caught:
        find_class(LABELS, "Crane")
    assert caught.value.problem == "'Crane' is the label of 2 classes: 1 'crane', 5 'crane'"
    assert caught.value.remedy == "Give the class index"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("bird 2\ncat 0\ndog 1\n", ("cat", "dog", "bird")),
        ("bird,1\ncat,0\n", ("cat", "bird")),
        ("1. bird\n0. cat\n", ("cat", "bird")),
        ("1) bird\n0) cat\n", ("cat", "bird")),
        ("1 - bird\n0 - cat\n", ("cat", "bird")),
        ("digit 1\ndigit 0\n", ("digit 1", "digit 0")),
        ("1.5 mm\n0.5 mm\n", ("1.5 mm", "0.5 mm")),
        ("cat 0\n", ("cat 0",)),
    ],
)
def test_an_index_may_stand_before_or_after_a_label(text, labels, tmp_path):
    (tmp_path / "labels.txt").write_text(text)
    assert read_labels(tmp_path / "labels.txt") == labels
