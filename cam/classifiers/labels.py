"""Labels of the classes: read from a file, and found by what a user types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

from cam.errors import UsageError, reason_of

Labels: TypeAlias = Sequence[str] | Mapping[int, str] | str | Path  # in order, by index, or a file
_NEAREST, _FEW = 5, 12  # labels that an error lists
_ALIKE = 0.75  # ratio of difflib: "tenhc" and "tench" have 0.8, "giraffe" and "pirate" 0.62
_MAX_CHARACTERS = 4_000_000  # of a file; the names of 21,841 classes take half a million
_NUMBERED = re.compile(r"([0-9]{1,9})(?:\s*[:,;=]\s*|[.)]\s+|\s+-\s+|\s+)(\S.*)")  # index and label
_INDEX_LAST = re.compile(r"(.*\S)(?:\s*[:,;=]\s*|\s+)([0-9]{1,9})")


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read the label of every class, in the order of the class indices.

    Args:
        path: text with one label a line (UTF-8), or with an index from 0 before or after it, in any order; or JSON: a
            list of labels, a map from index to label, or one from label to index. A list may stand for the label it
            ends in: `["n01440764", "tench"]`.

    Raises:
        UsageError: the file cannot be read or is too large, a label is blank, or an index is missing or comes twice.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     size = Path(folder, "labels.json").write_text('{"1": "dog", "0": "cat"}')
        ...     read_labels(Path(folder, "labels.json")).index("dog")
        1
    """
    path = Path(path)
    name = f"--labels {str(path)!r}"
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null character in the path
        problem = f"{name} cannot be read ({reason_of(error)})"
        raise UsageError(problem, "Give a text file in UTF-8 with one label a line") from error
    if len(text) > _MAX_CHARACTERS:
        problem = f"{name} holds more than {_MAX_CHARACTERS:,} characters"
        raise UsageError(problem, "Give a text file with one label a line")
    text = text.rstrip()
    if path.suffix.lower() == ".json" or text.startswith(("[", "{")):
        labels = _from_json(text, name)
    else:
        lines = text.split("\n") if text else []
        labels = _numbered(lines, name)
        labels = labels or [_label(line, f"{name}, line {number},") for number, line in enumerate(lines, 1)]
    if not labels:
        raise UsageError(f"{name} holds no labels", "Write one label a line")
    return tuple(labels)


def _numbered(lines: Sequence[str], name: str) -> list[str]:
    """Labels in order of lines that all have an index and a label; empty where the numbers belong to the labels."""
    matches = [match for line in lines if (match := _NUMBERED.fullmatch(line.strip()))]
    numbers = [int(match[1]) for match in matches]
    if len(matches) < len(lines):
        return _index_last(lines)
    if 0 in numbers:
        return _from_map([(str(number), match[2]) for number, match in zip(numbers, matches, strict=True)], name)
    if numbers != sorted(numbers) and sorted(numbers) == list(range(1, len(lines) + 1)):
        problem = f"{name} numbers its {len(lines)} labels from 1, and not in order"
        raise UsageError(problem, "Number the classes from 0, or write the labels alone, in order")
    return []


def _index_last(lines: Sequence[str]) -> list[str]:
    """Labels of lines that end in their index, each once; empty if the number is part of a label, as in "digit 0"."""
    matches = [match for line in lines if (match := _INDEX_LAST.fullmatch(line.strip()))]
    labels = {int(match[2]): match[1] for match in matches}
    is_index = sorted(labels) == list(range(len(lines))) and len(set(labels.values())) == len(lines) > 1
    return [labels[index] for index in range(len(lines))] if is_index else []


def _from_json(text: str, name: str) -> list[str]:
    try:
        # Objects as tuples of pairs: a dictionary would silently drop duplicate keys.
        content = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        problem = f"{name} must be JSON, by its name or first character, but is not ({error})"
        raise UsageError(problem, "Correct it, or write one label a line into a .txt file") from error
    if isinstance(content, tuple):
        return _from_map(content, name)
    if isinstance(content, list):
        return [_label(entry, f"{name}, entry {index},") for index, entry in enumerate(content)]
    problem = f"{name} must be a JSON list or map, got {type(content).__name__}"
    raise UsageError(problem, "Write a JSON list of labels, or a map from index to label")


def _from_map(pairs: Sequence[tuple[str, object]], name: str) -> list[str]:
    """Labels in order of a map from index to label, or from label to index."""
    if all(type(value) is int for _, value in pairs):
        pairs = [(str(value), key) for key, value in pairs]
    values = dict(pairs)
    for class_idx in range(len(pairs)):  # a key that is missing, twice or no index leaves one class without a label
        if str(class_idx) not in values:
            problem = f"{name} has {len(pairs)} labels but none for class {class_idx}"
            raise UsageError(problem, "Number the classes from 0, each once")
    return [_label(values[str(class_idx)], f"{name}, class {class_idx},") for class_idx in range(len(pairs))]


def _label(value: object, source: str) -> str:
    """The label in a value: a text, or the last text of a list."""
    if isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{source} must be a label, got {value!r}", "Give every class a label")
    return value.strip()


def find_class(labels: Sequence[str], text: str, option: str = "") -> int:
    """Index of the class with a label, in any case, or with it among its names: "tench, Tinca tinca".

    The error names the option and the nearest labels: those with the text in them, or with words spelled like it.
    """
    folded = [label.casefold() for label in labels]
    text_folded = text.strip().casefold()
    whole = [class_idx for class_idx, label in enumerate(folded) if label == text_folded]
    matches = whole or [class_idx for class_idx, label in enumerate(folded) if text_folded in label.split(", ")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        problem = f"{option}{text!r} is the label of {len(matches)} classes: {_listed(labels, matches)}"
        raise UsageError(problem, "Give the class index")
    containing = [class_idx for class_idx, label in enumerate(folded) if text_folded in label]
    names = [{label, *re.findall(r"\w+", label)} for label in folded]
    close = get_close_matches(text_folded, dict.fromkeys(sorted(set().union(*names))), n=_NEAREST, cutoff=_ALIKE)
    similar = [class_idx for match in close for class_idx, parts in enumerate(names) if match in parts]
    near = list(dict.fromkeys(containing + similar))[:_NEAREST]
    known = f"; the nearest {'are' if len(near) > 1 else 'is'} {_listed(labels, near)}" if near else ""
    if not near and len(labels) <= _FEW:
        known = f"; they are {_listed(labels, range(len(labels)))}"
    remedy = "Give a whole label or a class index"
    remedy += "" if known else "; cam inspect MODEL --json lists the labels of a model"
    raise UsageError(f"{option}{text!r} is not among the labels{known}", remedy)


def _listed(labels: Sequence[str], indices: Iterable[int]) -> str:
    return ", ".join(f"{class_idx} {labels[class_idx]!r}" for class_idx in indices)


def name_classes(
    labels: Labels | None, model_labels: Sequence[str] | None, classes: int, *, binary: bool
) -> tuple[str, ...]:
    """Name the classes of a network with that many logits: by the caller's labels, else by the model's if they fit.

    One logit that decides between two classes (`binary`) needs the label of the class it scores, or the one against and
    the one for it. Without labels, classes are named by their numbers.
    """
    count = 2 if binary else classes
    if isinstance(labels, (str, Path)):
        labels = read_labels(labels)
    elif isinstance(labels, Mapping):
        labels = _from_map([(str(key), value) for key, value in labels.items()], "labels")
    if labels is None and model_labels is not None and len(model_labels) == count:
        labels = model_labels
    if labels is None:
        names = ("negative", "positive") if binary else ("output",)
        return names if classes == 1 else tuple(f"class {index}" for index in range(classes))
    if binary and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    if len(labels) != count:
        problem = f"--labels must name every class, got {len(labels)} labels for the {count} classes of the model"
        raise UsageError(problem, "Give the labels this model was trained with")
    return tuple(map(str, labels))
