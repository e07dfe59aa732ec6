"""What the user named -> the pictures meant, each with a name of its own for its results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePath, PurePosixPath

from cam.errors import ImageError, UsageError
from cam.images.archives import Member, is_archive, leads_out, list_members
from cam.images.content import Fingerprint, fingerprint
from cam.images.io import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file and the name its results go by.

    Attributes:
        path: the file as the user would write it, with the archive it is in before it; it may be missing, or no
            picture at all.
        name: relative, unique among the pictures found together, never leading upwards.
        member: where it lies in an archive; None for a file of its own.
        fingerprint: size and time of its file; None before it was read, and where it cannot be read.
    """

    path: Path
    name: PurePosixPath
    member: Member | None = None
    fingerprint: Fingerprint | None = None

    def fingerprinted(self) -> Picture:
        """Give it with the fingerprint that its file has now, or has in its archive."""
        return replace(self, fingerprint=self.member.fingerprint if self.member else fingerprint(self.path))

    @property
    def failing(self) -> Fingerprint | None:
        """What must be another before it is worth another try, if it failed: of what is in an archive the archive."""
        return self.member.listed if self.member else self.fingerprint


# Relative to the input, as the user would write it, in an archive.
_Found = tuple[str, Path, Member | None]


def find_pictures(
    inputs: Sequence[str | Path],
    exclude: Path | None = None,
    *,
    patterns: Sequence[str] = (),
    listed: Sequence[str | Path] = (),
) -> list[Picture]:
    """Find the pictures that files, folders, archives and globs stand for.

    A file is taken whatever its suffix, and even if it is missing, so that its failure can be told.
    Of a folder (with the folders below it, links followed once), of an archive (.zip, uncompressed .tar) and of a
    glob, what has the suffix of a picture is taken in natural order (2 before 10), hidden files and folders left out.
    An archive in a folder is not entered; one that cannot be read stands for itself, so that its failure can be told,
    and so does a folder below that cannot be listed.

    Args:
        inputs: paths of files, folders and archives, and globs (`*`, `?`, `[...]`, `**`).
        exclude: a folder whose pictures are results, not inputs; left out of folders and globs.
        patterns: which of the pictures in folders, archives and globs are meant; any by default. One with a slash is
            of a path relative to its input, another of a file name; `*` is any text, slashes too.
        listed: more inputs, none of them a glob; one that holds no picture stands for itself, so that its failure can
            be told: nobody looks at all the lines of a list.

    Returns:
        Every picture once, in the order of the inputs, named relative to their common folder. An archive counts as
        a folder.

    Raises:
        UsageError: an input holds no picture or cannot be listed, or no picture matches a pattern.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     [str(picture.name) for picture in find_pictures([folder])]
        ['2.png', '10.png']
    """
    excluded = os.path.realpath(exclude) if exclude else ""
    real = cache(os.path.realpath)  # of the same few folders again and again, where there is a list of files
    roots: set[str] = set()
    places: dict[str, tuple[Path, Member | None]] = {}
    left_out = 0
    if "-" in map(str, inputs) and not os.path.lexists("-"):
        raise UsageError("There is no file called '-'", "Give a list of pictures on standard input with --list -")
    for given, in_list in [*((given, False) for given in inputs), *((given, True) for given in listed)]:
        root, found = _expand(Path(given), excluded, listed=in_list)
        if not found:
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            raise UsageError(f"{str(given)!r} holds no picture", f"Name another input, or files with {known}")
        place = real(root)
        roots.add(place)
        meant = [each for each in found if each[1] == Path(given) or _fits(each, patterns)]
        left_out += len(found) - len(meant)
        for relative, path, member in meant:
            places.setdefault(os.path.join(place, relative), (path, member))  # noqa: PTH118
    if left_out and not places:
        found_ = f"None of {left_out} pictures matches {' or '.join(map(repr, patterns))}"
        raise UsageError(found_, "Write it as the shell does: '*.png', or 'val/*.png' from the input on")
    common = os.path.join(os.path.commonpath(roots), "") if roots else ""  # noqa: PTH118
    return [Picture(path, _name(place[len(common) :]), member) for place, (path, member) in places.items()]


def shard(pictures: Sequence[Picture], index: int, count: int) -> list[Picture]:
    """Take the share of one of several machines, by a hash of the names: the same whatever else is in the folder.

    Args:
        pictures: from `find_pictures`, of the same inputs on all machines.
        index: which share, from 1 on.
        count: of how many.

    Raises:
        UsageError: there is no such share.

    Example:
        >>> pictures = [Picture(Path(f"{n}.jpg"), PurePosixPath(f"{n}.jpg")) for n in range(100)]
        >>> [len(shard(pictures, index, 3)) for index in (1, 2, 3)]
        [39, 29, 32]
    """
    if not 1 <= index <= count:
        raise UsageError(f"There is no share {index}/{count}", "Give 1/3, 2/3 and 3/3 to share among three")
    return [picture for picture in pictures if _hash(picture.name) % count == index - 1]


def check_output(inputs: Sequence[str | Path], out: Path) -> None:
    """Refuse an output folder whose results a second run would take for inputs.

    Args:
        inputs: as given to `find_pictures`.
        out: the output folder; it need not exist.

    Raises:
        UsageError: it is an input folder or lies in one.

    Example:
        >>> check_output(["photos"], Path("photos-explained"))
    """
    place = Path(os.path.realpath(out))
    for folder in map(Path, inputs):
        if is_folder(folder) and place.is_relative_to(os.path.realpath(folder)):
            found = f"the output folder {str(out)!r} lies in the input folder {str(folder)!r}"
            raise UsageError(found, "Choose an output folder outside it")


def _expand(path: Path, excluded: str, *, listed: bool = False) -> tuple[Path, list[_Found]]:
    """A folder or an archive, and the pictures meant; of a list, itself where there are none."""
    itself: tuple[Path, list[_Found]] = path.parent, [(path.name, path, None)]
    if is_folder(path):
        files = _files(path, below(path, excluded))
        # An empty folder that is called like a picture is a bad picture, not a wrong command.
        return (path, files) if files or not (is_picture(path.name) or (listed and path.name)) else itself
    if path.name == "..":  # of a folder that is not there
        return path, []
    magic = [re.search(r"[*?[]", part) is not None for part in path.parts]
    if listed or not any(magic) or os.path.lexists(path):
        if not is_archive(path.name):
            return itself
        try:
            return path, list(_members(path))
        except ImageError:
            return itself
    first = magic.index(True)
    root = Path(*path.parts[:first])
    return root, list(_matches(root, str(Path(*path.parts[first:])), excluded))


def _files(folder: Path, names: Iterable[str]) -> list[_Found]:
    return [(name, folder / name, None) for name in names]


def _matches(root: Path, pattern: str, excluded: str) -> Iterator[_Found]:
    for match in matches(root, pattern):
        path = root / match
        if is_picture(path.name):
            if not excluded or not Path(os.path.realpath(path)).is_relative_to(excluded):
                yield match, path, None
        elif is_folder(path) or is_archive(path.name):
            base, found = _expand(path, excluded)
            prefix = PurePath(match) if base == path else PurePath(match).parent
            yield from ((str(prefix / relative), place, member) for relative, place, member in found)


def _members(archive: Path) -> list[_Found]:
    """The pictures in an archive; of several of one name the last one, which is what unpacking leaves."""
    found: dict[str, tuple[str, Member]] = {}
    outside: dict[str, tuple[str, Member]] = {}
    for called, member in list_members(archive):
        *folders, name = re.split(r"[/\\]", called)
        if is_picture(name) and not any(re.match(r"\.(?!\.?$)", folder) for folder in folders):  # none is hidden
            (outside if leads_out(called) else found)[str(PurePosixPath(called))] = called, member
    for name, entry in outside.items():  # never read; it needs a name of its own to be told of
        safe = re.sub(r"[/\\:]|\.\.", "_", name)
        while safe in found:
            safe = f"_{safe}"
        found[safe] = entry
    return [(name, Path(f"{archive}/{found[name][0]}"), found[name][1]) for name in sorted(found, key=natural_sort_key)]


def _fits(found: _Found, patterns: Sequence[str]) -> bool:
    """Tell whether it matches a pattern; nobody knows whether what lies in what cannot be listed does."""
    relative, path = found[0].replace(os.sep, "/"), found[1]
    name = relative.rpartition("/")[2]
    if any(fnmatchcase(relative if "/" in pattern else name, pattern) for pattern in patterns):
        return True
    return not patterns or (not found[2] and not is_picture(name) and (is_archive(name) or is_folder(path)))


def _name(relative: str) -> PurePosixPath:
    return PurePosixPath(relative.replace(os.sep, "/"))


def _hash(name: PurePosixPath) -> int:
    return int.from_bytes(blake2b(str(name).encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


Key = tuple[list[list[str | int]], str]


def is_picture(name: str) -> bool:
    """Tell by its name whether a file is a picture, and not hidden.

    Example:
        >>> [is_picture(name) for name in ("a.JPG", ".a.jpg", "a.txt")]
        [True, False, False]
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def is_folder(path: str | Path) -> bool:
    """Tell whether it is a folder; one that may not be entered is none.

    Example:
        >>> is_folder("a folder that does not exist")
        False
    """
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above may not be read


def natural_sort_key(path: str) -> Key:
    """Sort 2 before 10 and A beside a; ties by the path itself, so that the order is one.

    Example:
        >>> sorted(["a10.jpg", "A2.jpg", "a/1.jpg"], key=natural_sort_key)
        ['a/1.jpg', 'A2.jpg', 'a10.jpg']
    """
    parts = [re.split(r"([0-9]+)", part) for part in path.casefold().replace(os.sep, "/").split("/")]
    return [[int(p) if index % 2 else p for index, p in enumerate(part)] for part in parts], path


def below(folder: Path, excluded: str) -> list[str]:
    """List the pictures in a folder and the folders below it, links followed once, in natural order.

    Args:
        folder: where to look.
        excluded: real path of a folder that is not entered; "" for none.

    Returns:
        Their paths relative to the folder; of a folder below it that cannot be listed its own, to be told of.

    Raises:
        UsageError: the folder itself cannot be listed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     below(Path(folder), "")
        ['2.png', '10.png']
    """
    seen = {excluded}
    found: list[str] = []
    unlisted: list[OSError] = []
    for base, folders, files in os.walk(folder, followlinks=True, onerror=unlisted.append):
        place = os.path.realpath(base)
        if place in seen:  # a link back, or the folder of results
            folders.clear()
            continue
        seen.add(place)
        inner = os.path.relpath(base, folder)
        prefix = "" if inner == os.curdir else inner + os.sep
        # A folder called like a picture is kept as one, to be told of, and not entered.
        found += [prefix + name for name in folders + files if is_picture(name)]
        folders[:] = sorted(name for name in folders if not (is_picture(name) or name.startswith(".")))
    for error in unlisted:
        if error.filename == str(folder):
            what = f"the folder {str(folder)!r} cannot be listed ({error.strerror})"
            raise UsageError(what, "Change its permissions, or name the files to read") from error
        found.append(os.path.relpath(error.filename, folder))
    return sorted(found, key=natural_sort_key)


def matches(root: Path, pattern: str) -> Iterator[str]:
    """List what a glob matches below a folder, hidden files and folders left out, in natural order.

    Args:
        root: where to look.
        pattern: the glob, relative to it.

    Raises:
        UsageError: it is not a glob.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("10.png", "2.png", "notes.txt"):
        ...         Path(folder, name).touch()
        ...     list(matches(Path(folder), "*.png"))
        ['2.png', '10.png']
    """
    try:
        found = sorted((str(match.relative_to(root)) for match in root.glob(pattern)), key=natural_sort_key)
    except ValueError as error:
        raise UsageError(f"{pattern!r} is not a glob ({error})", "Write ** as a whole part of the path") from error
    # The root itself is ".", which is not hidden.
    return (match for match in found if not any(part.startswith(".") and part != "." for part in Path(match).parts))
