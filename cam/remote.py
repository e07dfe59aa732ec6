"""Files at addresses such as s3://bucket/photos, by fsspec."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PosixPath
from typing import Any

from cam.errors import UsageError, hide_passwords, reason_of

_PROTOCOL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


class Address(PosixPath):
    """A file or folder at an address: a `Path` whose methods that this package calls go through fsspec.

    As text it has no password; `__fspath__` is the whole address.
    """

    def __str__(self) -> str:
        return hide_passwords(self.__fspath__())

    def __fspath__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def _system(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        with os_errors():
            system, path = url_to_fs(self.__fspath__())
        return system, path

    def check(self) -> None:
        """Raise UsageError if no package that is installed knows its protocol."""
        try:
            self._system()
        except OSError as error:
            problem = f"{str(self)!r} cannot be opened ({reason_of(error)})"
            raise UsageError(problem, "Install the package of its store, or check the address") from error

    def is_absolute(self) -> bool:
        """True: an address is the same wherever the command runs."""
        return True

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return kind, size and time, in whole seconds; 0 where the file system knows no time."""
        system, path = self._system()
        with os_errors():
            info = system.info(path)
            kind = stat.S_IFDIR if info["type"] == "directory" else stat.S_IFREG
            modified = 0
            if kind == stat.S_IFREG:
                with suppress(NotImplementedError, KeyError):
                    modified = int(system.modified(path).timestamp())
        return os.stat_result((kind, 0, 0, 1, 0, 0, info["size"] or 0, modified, modified, modified))

    def is_dir(self) -> bool:
        """True if there are files below it."""
        try:
            return stat.S_ISDIR(self.stat().st_mode)
        except OSError:
            return False

    def open(self, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        """Open it for reading bytes."""
        system, path = self._system()
        with os_errors():
            return system.open(path, "rb")

    def find(self) -> list[str]:
        """Name all files below, relative to it."""
        system, path = self._system()
        with os_errors():
            system.invalidate_cache()
            return sorted(found.removeprefix(path).lstrip("/") for found in system.find(path))

    def glob(self, pattern: str) -> Generator[Address]:
        """Find the files and folders that match a pattern."""
        system, path = self._system()
        with os_errors():
            names = [found.removeprefix(path).lstrip("/") for found in sorted(system.glob(f"{path}/{pattern}"))]
        yield from (self / name for name in names)

    def upload(self, file: Path) -> None:
        """Replace it by a file of this machine; it appears whole, as far as the file system can do that."""
        system, path = self._system()
        with os_errors():
            try:
                system.put_file(str(file), path)
            except FileNotFoundError:  # of the folder: object stores need none
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
                system.put_file(str(file), path)


def as_path(text: str | Path) -> Path:
    """Make an `Address` of text with a protocol, else a `Path`; UsageError for an address with an empty part.

    Example:
        >>> as_path("s3://bucket/photos/a.jpg").parent, as_path("file:///photos/a.jpg").name
        (Address('s3://bucket/photos'), 'a.jpg')
    """
    if isinstance(text, Path):
        return text
    if not (match := _PROTOCOL.match(text)):
        return Path(text)
    rest = text[match.end() :]
    if match[1].lower() == "file":
        return Path(rest)
    if {"", "."} & set(rest.removesuffix("/").split("/")):
        raise UsageError(
            f"{text!r} has an empty part (// or /./)", "Rename the file or folder, or write the address without"
        )
    return Address(text)


@contextmanager
def os_errors() -> Iterator[None]:
    """Turn the errors of a file system's library into what files of this machine raise."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(reason_of(error)) from error
