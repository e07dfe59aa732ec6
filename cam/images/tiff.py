"""Read the samples of a TIFF as numbers, of any depth and in any number of bands, decompressed by libtiff."""

from __future__ import annotations

import struct
from io import BytesIO
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import Base as Tag

from cam.images.content import unsupported
from cam.images.samples import Samples

TIFF_HEADERS = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"  # those with + are BigTIFF
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3}  # bands by PhotometricInterpretation
_WHITE_IS_ZERO, _RGB, _CMYK = 0, 2, 5
_ALPHA = {1: "associated", 2: "unassociated"}  # in ExtraSamples
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # of NumPy, by SampleFormat
_NUMBERS = "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "f32", "f64"
_LOSSY = 2, 3, 4, 6, 7, 32771, 32809  # or of one bit: fax, JPEG and ThunderScan
_LOSSLESS = 1, 5, 8, 32773, 32946, 34925, 50000  # none, LZW, Deflate, PackBits, LZMA and Zstandard


class Tiff:
    """The tags of the first image in a TIFF file."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name = content, name
        # Pillow knows BigTIFF in little-endian order only, but reads the tags of the other if told its order.
        self.is_odd_big = content.startswith(b"MM\0+")
        header = b"II+\0" + content[4:16] if self.is_odd_big else content[: 16 if content[2] == 43 else 8]
        self.tags = TiffImagePlugin.ImageFileDirectory_v2(header, content[:2])
        file = BytesIO(content)
        file.seek(self.tags.next)
        self.tags.load(file)
        self.width, self.height = self.tag(Tag.ImageWidth, 0), self.tag(Tag.ImageLength, 0)
        self.tile = self.tag(Tag.TileWidth, 0), self.tag(Tag.TileLength, 0)  # width and height; 0 for strips
        self.compression = self.tag(Tag.Compression, 1)
        missing = _WHITE_IS_ZERO if self.compression in (2, 3, 4) else 1  # of fax or not, as libtiff
        self.photometric = self.tag(Tag.PhotometricInterpretation, missing)
        self.colors = _COLORS.get(self.photometric, 0)
        if self.compression not in (*_LOSSLESS, *_LOSSY):
            raise unsupported(name, f"compression {self.compression}")
        self.bands = self.tag(Tag.SamplesPerPixel, self.colors if self.compression in (6, 7) else 1)
        self.bits, self.format = self.same_tag(Tag.BitsPerSample, 1), self.same_tag(Tag.SampleFormat, 1)
        extra = self.values(Tag.ExtraSamples, ())
        self.alpha = _ALPHA.get(extra[0], "") if len(extra) == 1 and self.bands == self.colors + 1 else ""

    def values(self, tag: int, default: tuple[Any, ...]) -> tuple[Any, ...]:
        """All values of a tag."""
        values = self.tags.get(tag, default)
        return values if isinstance(values, tuple) else (values,)

    def tag(self, tag: int, default: Any) -> Any:
        """The first value of a tag."""
        return self.values(tag, (default,))[0]

    def same_tag(self, tag: int, default: int) -> int:
        """The value of a tag that must be the same for all bands."""
        values = set(self.values(tag, (default,)))
        if len(values) != 1:
            raise unsupported(self.name, "bands of different depths")
        return int(values.pop())

    @property
    def more_bands_than_colors(self) -> bool:
        """True if it has bands that are neither color nor declared as opacity."""
        return bool(self.colors) and self.bands > self.colors + bool(self.alpha)

    @property
    def is_deep(self) -> bool:
        """True if its numbers are not bytes, or Pillow does not read their layout."""
        known_colors = self.photometric in (0, 1, 2, _CMYK)
        gray = self.photometric == _WHITE_IS_ZERO or (self.photometric < _RGB and self.alpha == "associated")
        odd_alpha = bool(self.alpha) and (gray or self.tag(Tag.PlanarConfiguration, 1) == 2)
        odd = odd_alpha or self.is_odd_big or Tag.PhotometricInterpretation not in self.tags
        return known_colors and (self.bits > 8 or self.format != 1 or odd)

    def repair_palette(self, opened: Image.Image) -> None:
        """Put the palette of a file that stores 8 bits a color where 16 belong, as libtiff does."""
        colors = self.values(Tag.ColorMap, ())
        if colors and max(colors) < 256:
            opened.putpalette(np.reshape(colors, (3, -1)).T.astype(np.uint8).tobytes())

    def samples(self) -> Samples:
        """Read all samples."""
        return Samples(
            self._read_values(),
            colors=min(self.colors, self.bands),
            alpha=self.alpha,
            white_is_zero=self.photometric == _WHITE_IS_ZERO,
            known=self._known(),
        )

    def _known(self) -> tuple[float, float] | None:
        """Black and white, if the file says so."""
        top = 2**self.bits - 1
        if self.format in (1, 4) and self.bits % 8:
            return 0, top
        if (highest := self.tag(Tag.SMaxSampleValue, None)) is not None:
            return float(self.tag(Tag.SMinSampleValue, 0)), float(highest)
        # MaxSampleValue counts for bits in use only: the largest value of a picture does not say which is white.
        highest = self.tag(Tag.MaxSampleValue, 0)
        return (0, highest) if highest and highest & (highest + 1) == 0 and self.format in (1, 4) else None

    def _read_values(self) -> NDArray[Any]:
        """Read all samples: (H, W, bands), native numbers."""
        kind = _KINDS.get(self.format, "")
        if self.compression not in _LOSSLESS:
            raise unsupported(self.name, f"{self.bands} x {self.bits} bits in compression {self.compression}")
        if not (f"{kind}{self.bits}" in _NUMBERS or (kind == "u" and self.bits < 16)):
            raise unsupported(self.name, f"samples of {self.bits} bits in format {self.format}")
        is_tiled = Tag.TileOffsets in self.tags
        offsets = self.values(Tag.TileOffsets if is_tiled else Tag.StripOffsets, ())
        counts = self.values(Tag.TileByteCounts if is_tiled else Tag.StripByteCounts, ())
        if self.tag(Tag.PlanarConfiguration, 1) == 1 or self.bands == 1:
            return self._read_together(offsets, counts, self.bands)
        size = len(offsets) // self.bands  # each band is stored apart
        parts = [slice(size * band, size * (band + 1)) for band in range(self.bands)]
        return np.concatenate([self._read_together(offsets[part], counts[part], 1) for part in parts], 2)

    def _read_together(self, offsets: tuple[int, ...], counts: tuple[int, ...], bands: int) -> NDArray[Any]:
        """Read bands that are stored together: (H, W, bands)."""
        tile = self.tile[0] if Tag.TileOffsets in self.tags else self.width
        row = ceil(self.width / tile)  # in tiles
        stride = ceil(tile * bands * self.bits / 8)
        data = self._decompress(offsets, counts, stride, row).reshape(self.height, row, stride)
        order = "<" if self.content[:2] == b"II" else ">"
        if self.bits % 8:
            numbers = _unpack(data, self.bits, tile * bands)
        elif (predictor := self.tag(Tag.Predictor, 1)) == 3:
            data = np.cumsum(data.reshape(*data.shape[:2], -1, bands), 2, np.uint8)
            planes = data.reshape(self.height, row, self.bits // 8, -1)  # the first bytes of all numbers are first
            numbers = np.ascontiguousarray(np.moveaxis(planes, 2, -1)).view(f">f{self.bits // 8}")
        else:
            numbers = data.view(f"{order}u{self.bits // 8}")
            if predictor == 2:
                numbers = numbers.reshape(self.height, row, tile, bands)
                numbers = np.cumsum(numbers, 2, numbers.dtype.newbyteorder("="))
            numbers = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
            numbers = numbers.view(f"{_KINDS[self.format]}{self.bits // 8}")
        numbers = numbers.reshape(self.height, row * tile, bands)[:, : self.width]
        return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)

    def _decompress(
        self, offsets: tuple[int, ...], counts: tuple[int, ...], stride: int, row: int
    ) -> NDArray[np.uint8]:
        """Return the bytes of the samples, (H, row * stride), by giving them out as a gray image of 8 bits."""
        shorts = {
            Tag.BitsPerSample: 8,
            Tag.Compression: self.compression,
            Tag.PhotometricInterpretation: 1,
            Tag.FillOrder: self.tag(Tag.FillOrder, 1),
            Tag.SamplesPerPixel: 1,
        }
        longs: dict[Tag, tuple[int, ...]] = {Tag.ImageWidth: (stride * row,), Tag.ImageLength: (self.height,)}
        if Tag.TileOffsets in self.tags:
            longs |= {Tag.TileWidth: (stride,), Tag.TileLength: (self.tile[1],)}
            longs |= {Tag.TileOffsets: offsets, Tag.TileByteCounts: counts}
        else:
            longs[Tag.RowsPerStrip] = (self.tag(Tag.RowsPerStrip, self.height),)
            longs |= {Tag.StripOffsets: offsets, Tag.StripByteCounts: counts}
        order = "<" if self.content[:2] == b"II" else ">"
        packed = {tag: (3, 1, struct.pack(f"{order}H", value)) for tag, value in shorts.items()}
        packed |= {
            tag: (4, len(values), struct.pack(f"{order}{len(values)}I", *values)) for tag, values in longs.items()
        }
        start = len(self.content) + len(self.content) % 2
        after = start + 2 + 12 * len(packed) + 4
        entries, data = struct.pack(f"{order}H", len(packed)), b""
        for tag, (kind, count, value) in sorted(packed.items()):
            if len(value) > 4:
                value, data = struct.pack(f"{order}I", after + len(data)), data + value
            entries += struct.pack(f"{order}HHI4s", tag, kind, count, value)
        header = self.content[:2] + struct.pack(f"{order}HI", 42, start)
        file = header + self.content[8:].ljust(start - 8, b"\0") + entries + bytes(4) + data
        with Image.open(BytesIO(file), formats=["TIFF"]) as image:
            return np.asarray(image)


def _unpack(data: NDArray[np.uint8], bits: int, count: int) -> NDArray[Any]:
    """Unpack rows of samples that are not whole bytes, the highest bit first."""
    weights = 1 << np.arange(bits, dtype=np.uint16)[::-1]
    numbers = np.empty((*data.shape[:2], count), np.uint16)
    for line, into in zip(data, numbers, strict=True):
        into[:] = np.unpackbits(line, axis=1)[:, : count * bits].reshape(-1, count, bits) @ weights
    return numbers
