"""Texts of the classes: read from a file, looked up by what a user types."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from cam.errors import UsageError

NEAREST = 5


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read the label of every class, in the order of the class indices.

    Args:
        path: text with one label a line (UTF-8), or JSON: a list of labels, a map from index to label, or one
            from label to index. A list may stand for the label it ends in: `["n01440764", "tench"]`.

    Raises:
        UsageError: nothing readable at `path`, a blank label, or an index that is missing or comes twice.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "labels.json").write_text('{"1": "dog", "0": "cat"}')
        ...     read_labels(Path(folder, "labels.json")).index("dog")
        1
    """
    path = Path(path)
    name = repr(str(path))
    text = _read_text(path)
    if path.suffix.lower() == ".json" or text.startswith(("[", "{")):
        labels = _from_json(text, name)
    else:
        lines = text.split("\n") if text else []
        labels = [_label(line, f"Line {number} of {name}") for number, line in enumerate(lines, 1)]
    if not labels:
        raise UsageError(f"{name} holds no labels", "Write one label a line")
    return tuple(labels)


def _read_text(path: Path) -> str:
    """The text without byte order mark and without blank lines at the end."""
    name = repr(str(path))
    try:
        return path.read_text(encoding="utf-8-sig").rstrip()
    except FileNotFoundError:
        raise UsageError(f"There is no file {name}", "Check the path of the labels") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder", "Give the file of labels inside it") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8 (byte {error.start})", "Save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a path that no file system takes
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name} cannot be opened ({reason})", "Make it readable") from error


def _from_json(text: str, name: str) -> list[str]:
    try:
        # Objects as tuples of pairs: a dictionary would silently drop what comes twice.
        content = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} is named or starts like JSON but is none ({error})",
            "Mend it, or write one label a line into a .txt file",
        ) from error
    if isinstance(content, tuple):
        return _in_order(_indexed(content, name), name)
    if isinstance(content, list):
        return [_label(entry, f"Entry {i} of {name}") for i, entry in enumerate(content)]
    raise UsageError(
        f"{name} is JSON, but neither a list nor a map",
        "Write a JSON list of labels, or a map from index to label",
    )


def _indexed(pairs: Sequence[tuple[str, object]], name: str) -> list[tuple[int, str]]:
    """Index and label, whichever of the two the map goes from."""
    if all(type(value) is int for _, value in pairs):
        return [(value, _label(key, f"A key of {name}")) for key, value in pairs if isinstance(value, int)]
    for key, _ in pairs:
        if not (key.isdecimal() and len(key) < 10):
            raise UsageError(f"{name} has the key {key!r}, which is no class index", "Count classes from 0")
    return [(int(key), _label(value, f"Class {key} of {name}")) for key, value in pairs]


def _in_order(indexed: Iterable[tuple[int, str]], name: str) -> list[str]:
    labels: dict[int, str] = {}
    for class_idx, label in indexed:
        if class_idx in labels:
            raise UsageError(
                f"{name} has two labels for class {class_idx}, {labels[class_idx]!r} and {label!r}",
                "Give every class one label",
            )
        labels[class_idx] = label
    for class_idx in range(len(labels)):
        if class_idx not in labels:
            raise UsageError(
                f"{name} has {len(labels)} labels but none for class {class_idx}",
                "Number the classes from 0 without a gap",
            )
    return [labels[class_idx] for class_idx in range(len(labels))]


def _label(value: object, where: str) -> str:
    """The label in `value`: a text, or the last text of a list."""
    if isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, str):
        raise UsageError(f"{where} is {value!r}, not a text", "Write the label in quotation marks")
    if not value.strip():
        raise UsageError(f"{where} is blank", "Give every class a label")
    return value.strip()


def check_labels(labels: Sequence[str], classes: int) -> None:
    """Check that there is one label for each class.

    Raises:
        UsageError: there are more or fewer.

    Example:
        >>> check_labels(["cat", "dog"], 2)
    """
    if len(labels) != classes:
        raise UsageError(
            f"There are {len(labels)} labels for the {classes} classes of the model",
            "Give the labels this model was trained with",
        )


def find_class(labels: Sequence[str], text: str) -> int:
    """Find the class of a label, whatever the case of its letters.

    Returns:
        The class index, counted from 0.

    Raises:
        UsageError: no label is `text`, or several are; the nearest are listed with their indices.

    Example:
        >>> find_class(["cat", "dog"], "Dog")
        1
    """
    wanted = text.strip().casefold()
    found = [class_idx for class_idx, label in enumerate(labels) if label.casefold() == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{text!r} is the label of {len(found)} classes: {_listed(labels, found)}", "Give the class index"
        )
    near = _nearest(labels, wanted)
    nearest = f"; the nearest are {_listed(labels, near)}" if near else ""
    raise UsageError(f"No class has the label {text!r}{nearest}", "Give a whole label or a class index")


def _nearest(labels: Sequence[str], wanted: str) -> list[int]:
    """Classes whose label holds `wanted`, then those spelled much like it."""
    folded = [label.casefold() for label in labels]
    within = [i for i, label in enumerate(folded) if wanted in label]
    close = get_close_matches(wanted, dict.fromkeys(folded), n=NEAREST)
    alike = [i for match in close for i, label in enumerate(folded) if label == match]
    return list(dict.fromkeys(within + alike))[:NEAREST]


def _listed(labels: Sequence[str], indices: Iterable[int]) -> str:
    return ", ".join(f"{class_idx} {labels[class_idx]!r}" for class_idx in indices)


def name_classes(labels: Sequence[str] | None, own: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """Name the classes of a network: as the caller does, else as the model does if that fits, else by number.

    Args:
        labels: the caller's, in order; of one logit the class it speaks for, or the one against and the one for it.
        own: the model's.
        classes: number of logits.

    Raises:
        UsageError: the caller gave more or fewer labels than there are classes.

    Example:
        >>> name_classes(["dog"], None, 1), name_classes(None, ["cat", "dog"], 3)
        (('not dog', 'dog'), ('class 0', 'class 1', 'class 2'))
    """
    if labels is None and own is not None and len(own) == max(2, classes):
        labels = own
    if classes == 1 and labels is not None and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    if labels is not None:
        check_labels(labels, max(2, classes))
        return tuple(labels)
    return ("negative", "positive") if classes == 1 else tuple(f"class {index}" for index in range(classes))
