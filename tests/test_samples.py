"""Numbers become pixels as the file says, else as the caller says, else not at all."""

from __future__ import annotations

import re
import struct
import zlib
from base64 import b85decode

import cv2
import numpy as np
import pytest
from pictures import check_refused, gray, photograph, png, read, save, tiff
from PIL import Image

from cam.errors import ImageError, UsageError
from cam.images import read_image
from cam.images.samples import ReadOptions

# 18 x 20 pixels of 2 bands, 100 y + 7 x + 5000 band, in tiles of 16 x 16; LZW and differences of neighbors, and the
# same by 16 as floats with differences of bytes, in big-endian order; made with tifffile.
TILES_LZW = (
    "Nl7XI2mk;85C8xH1ONd5000yK000321ONd5000sI000630{{X5000mG5C8)K0{{U4000F5000I70{{U400031000#M0{{U400062000^"
    "R1pom6007Pa000{S1pom6007ni000~T0{{U400031001Zf0{{U400031002D!0{{U400062002S(1ONd5000mG002V)1ONd5000mG002"
    "Y*1ONm8007<q002b+0{{d7008a)002?}0{{U400000000000003100031000310003100001005i;004>t007<s005i-?f_H(QUCw|00"
    "00000000fB*mpfS4Qs282Q3P?%&c9Sw*>;!u+y0oetK#$qwJ)OHfc02Bg|$s~GBC4&n9D@h!lT_~4;5&#guR$(`o%pQOf<l1vToI^_hC"
    "j|O~K%_4KL_oD3ok)WS0BVYDLai`D0KtKJeRh860h}w9dn9m}1Zr68*10mk2sjK|E>X~+6*+OT-eISJC;&5az(kvXQzicOhl4;sfE)l1"
    "fS4Qs282Q3N4NXU)&Ph^Vo^AxRxK8401JUgOm-9(f1}~?c_fxh02}~V5y(_}46}a<<Z^kW)i?nX1!dCE0X_W3bxmkfKoTN#JdZlxraBD"
    "{ofa|xos@ap84mq_x@q;en;-;G3sqr4H|lP+T(k=SYfB9xc)xxP?DmS<Kn55K*r3I?<4w_Yt~~%}%gwqH_kEl1_zHPo2;joll5enHFBw"
    "B#0SJMM&;VZhQ@Qf=;Q$p;oWnwyZ=xQHM?yjYL4lm<o%G*xYv@jZDZ^>0g8<)0z0T@rOanDH_9Xk{FU8|Ypdf${0L*~M903M|LE%uCWG"
    ")>Ih(qE~l^_^c8i>YXak$iW8~~6=WKuaKmQ5#=N@Y^HWVT%|m`r9<Ii%KYH=IsqQ@P~!eLtX3XjD2S7L7-sz(9a30K<UL903M|LE%HU%"
    "FW6Eh(uyhIHXoB7778=kXTeE64!ha;qiGSmQ5#=N@Y^HWVT%|m`r9<Ii%KYH=IsqQ@P~!eLtX3XjD2S7H<In"
)
TILES_FLOAT = (
    "O-%qQ0000801*KI00aO40096102BcM00aO40096101^QL00RI300ICY03ZPa00RI3009690003700RI3009620003M00RI3009630003"
    "R00jU5009610NMc?00jU5009610OA2000RI3009620003f00RI3009620003!00RI3009640003(00aO40096101yE~00aO40096101y"
    "F000aO400aO40O|on00RI300aO40Qvz^00RI3009610003~00RI300IC500RI300000009610096100961009610T2KH0(<}f1Hk|Q1O"
    "@?Y0Yv~s08an_000000000000000c$}q_u}Z^G6o&tk6uXIoLx+MdAcBK(C#goz$w3qp6pJ7fR0Kh(2oi_VK7y0r;1f8QNrF$H;2=1dR"
    "l&XBQf_WS+uNIShMu3~WIEq}IQ&7d1cEN}wkzIE5MmvQW>M9mDyA^0MfyGW0L7{awrYXtZaUE3%UNY38tzXo0)Gc=EeBw$d|*?3l=MTU"
    "H@<9QXo;UM@wX5AtP*^(Iu^U3VpZYiOZ@iH0N>?fTHts2`I=vJdtFh(Cm$X>5InLvJo=dr6;xcTPq4Kj?Ei6+ax{-ThmW_7Sh0%u`4a!"
    "{EaQ{g$MdnkzvJgi{E2gmZ~3_I2z(*`5`X5x+&R1Vh>zBzz!&l_@l}&DS}LOSUuC|uE?*6&rji2j^CkY;b<V;7weREiJ5ikKLjEQG)(w"
    "WJwvYXPo}UQ$m-zMDoaOfMUJ>>mGykWp?A~zuSX~hIA2a_~ot)+N5p4?l3;FK>f%^&&c$~GAu}T9$6h-gb2*D<`b}4O@fCGZ;8bMG376"
    "D~J*h2gP8yj(YKVU5cgNPsq20;i&%pwQ|A+_b;R|sjs&P@51fd_kDF~uzox408`0e~<WgT>sn(4u9`Gw>8p_HG~|>AJVd-@k8C6HVkN;"
    "4$8R0TChp?PCK=Xdq2dfmZg8AtL0TJvsl{5qR3(uOMQ_`#&oDcqT-MFz;97aiQ$3Kt#yD`eOa`cL<)$`~M*#<llI8{%H?9+WUVYBIG}K"
    "BSaKoxDTFz_m3bV<Ububf4&Ev!uy5$5BV?Oi6RiLcEMu`rIk@exc`v<dQ$$5g!2Ry7*$>-+<(ZQf0Ff|ZS%QqJHM%E{|{fTf4T*p*!Qn"
    "#|HE(FpL&~ot~1}iru~n9Y=25R;L*N+P5YnDN;{#m&gXjI`wREK0IHXU0eGBqa%R8_+PWDS7#SED7#SI%G?Wh&(awKhffrWbH{XeX{ge"
    "7&c42qN{2u)FCqyuef>AIEM!_f;1)~5B002u4C;@n!b8=<?gME7$u!3tB85kHD85uP67_fr_4=f&7Jg`WZ!9W&pB4GccD~ybc42%rY+S"
    "uhA9zg7WP{A+?M!_f;1*2dTi~=G70Dkoo0R"
)
# 8 x 8 pixels of 12 bits: red 0, green 2048, blue 4095; made with OpenJPEG.
JPEG2000 = (
    "0000CYEU2`4GM<}0000KW^{RQYH%_j00000YH%_j0000jYH%`W0000MX=r3}000080000800RpL0000001sntY;pkr000005C8xG"
    "muhe_WB*V8Q2;Lh000002mk;82mk;800000000002mk;82mk;8000000009E0RamE0Sf^E|55-900001000C800IA800cl_|6~9q"
    "00BdCWnpw>WFTUBAWv{*Zc0!^M<8}(a&u{KZXhx)H7+#&kN^q*000009{>UWli%PJ5l~d4ae&X{6chkluZREH"
)
HIDDEN = "whose black and white are not known. Give --value-range LOW,HIGH, or --value-range minmax"


def row(*values: float, dtype: str) -> np.ndarray:
    return np.array([values, values], dtype)


# White is zero


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 1), ("u1", 4), ("u1", 8), ("u2", 12), ("u2", 16), ("u4", 32)])
@pytest.mark.parametrize("big", [False, True])
def test_zero_is_white_if_the_tag_says_so(tmp_path, order, dtype, bits, big):
    stored = row(0, 2**bits - 1, 0, dtype=order + dtype)
    black, white = (tiff(stored, bits=bits, photometric=kind, big=big) for kind in (1, 0))
    assert gray(tmp_path, black) == [0, 255, 0]
    assert gray(tmp_path, white) == [255, 0, 255]
    if bits in (8, 16):
        assert cv2.imdecode(np.frombuffer(white, np.uint8), cv2.IMREAD_GRAYSCALE)[0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("dtype", ["<u1", "<u2"])
def test_zero_is_black_in_a_gray_tiff_that_does_not_say(tmp_path, dtype):
    """As libtiff takes it; Pillow takes white."""
    top = np.iinfo(dtype).max
    data = tiff(row(0, top, dtype=dtype)).replace(
        struct.pack("<HHIHH", 262, 3, 1, 1, 0), struct.pack("<HHIHH", 263, 3, 1, 1, 0)
    )
    assert gray(tmp_path, data) == [0, 255]


def test_zero_is_white_behind_a_value_range_too(tmp_path):
    stored = row(-10, 0, 10, dtype="<f4")
    assert gray(tmp_path, tiff(stored, photometric=0), value_range=(-10, 10)) == [255, 127, 0]
    assert gray(tmp_path, tiff(stored, photometric=0), value_range="minmax") == [255, 127, 0]


# Numbers that do not say how bright they are


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("<u2", 0, 255),
        (">u2", 0, 4095),
        ("<u2", 3, 16383),
        ("<u2", 31000, 34000),  # 12 bits around the middle would be flat gray
        ("<u4", 0, 65535),
        (">u4", 0, 2**30 - 1),
        ("<u8", 0, 1000),
        ("<i1", -128, 127),
        ("<i2", -1000, 3000),
        (">i2", 0, 32767),
        ("<i4", -5, 70000),
        (">i4", 0, 2**31 - 1),
        ("<f2", 0, 1),
        (">f4", 0, 1),
        ("<f8", -0.5, 1e6),
    ],
)
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("squeeze", [False, True])
def test_the_range_is_asked_for(tmp_path, dtype, low, high, bands, squeeze):
    values = row(low, low + (high - low) * 0.25, high, dtype=dtype)
    stored = values[..., None].repeat(bands, 2)
    photometric = 2 if bands == 3 else 1
    data = tiff(stored, photometric=photometric, squeeze=squeeze and stored.dtype.kind != "f")
    check_refused(tmp_path, data, re.escape(f" values from {low:g} to {high:g}, ") + HIDDEN)
    quarter = round(255 * (float(values[0, 1]) - low) / (high - low))
    assert gray(tmp_path, data, value_range=(low, high)) == [0, quarter, 255]
    assert gray(tmp_path, data, value_range="minmax") == [0, quarter, 255]
    assert gray(tmp_path, data, value_range=(low - 2.0 * (high - low), low)) == [255, 255, 255]
    assert gray(tmp_path, data, value_range=(high, high + 2.0 * (high - low))) == [0, 0, 0]


def test_values_that_are_no_number_are_black_and_do_not_count(tmp_path):
    data = tiff(row(np.nan, 2, 4, -np.inf, np.inf, dtype="<f4"))
    check_refused(tmp_path, data, f"float32 values from 2 to 4, {HIDDEN}")
    assert gray(tmp_path, data, value_range="minmax") == [0, 0, 255, 0, 255]
    check_refused(tmp_path, tiff(row(np.nan, np.inf, dtype="<f4")), "values from 0 to 0, whose")


@pytest.mark.parametrize(
    ("low", "high", "known"),
    [(0, 16383, False), (0, 16384, True), (40000, 44095, False), (40000, 44096, True), (0, 1, False), (0, 0, True)],
)
def test_a_quarter_and_a_sixteenth_of_the_range_are_enough(tmp_path, low, high, known):
    data = tiff(row(low, high, dtype="<u2"))
    if known:
        assert gray(tmp_path, data) == [low >> 8, high >> 8]
    else:
        check_refused(tmp_path, data, HIDDEN)


def test_one_value_everywhere_has_no_range(tmp_path):
    check_refused(tmp_path, tiff(row(7, 7, dtype="<u2")), HIDDEN)
    check_refused(tmp_path, tiff(row(7, 7, dtype="<u2")), "has the value 7 everywhere", value_range="minmax")
    assert gray(tmp_path, tiff(row(0, 0, dtype="<u2"))) == [0, 0]
    assert gray(tmp_path, tiff(row(40000, 40000, dtype="<u2"))) == [156, 156]  # 40000 / 256


def test_color_of_twelve_bits_in_sixteen_is_not_black(tmp_path):
    """Of 16 bits a color Pillow takes the upper 8."""
    color = np.array([[[0, 2048, 4095]]], ">u2")
    rows = zlib.compress(b"\0" + color.tobytes())
    files = png(1, 1, 16, 2, rows), b"P6 1 1 65535\n" + color.tobytes(), tiff(color.repeat(2, 0), photometric=2)
    for data in files:
        check_refused(tmp_path, data, f"uint16 values from 0 to 4095, {HIDDEN}")
        assert read(tmp_path, data, value_range=(0, 4095))[0, 0].tolist() == [0, 128, 255]


def test_photographs_of_eight_bits_are_as_they_are(tmp_path):
    undefined: dict[int, tuple[str, float]] = {339: ("H", 4)}  # SampleFormat
    assert gray(tmp_path, tiff(row(0, 77, dtype="<u1"), tags=undefined)) == [0, 77]
    assert gray(tmp_path, tiff(row(0, 65535, dtype="<u2"), tags=undefined)) == [0, 255]
    dark = np.full((4, 4, 3), 3, np.uint8)
    for name in ("a.png", "a.tiff", "a.ppm", "a.bmp"):
        assert np.array_equal(read_image(save(tmp_path / name, dark), value_range="minmax"), dark)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.ppm"])
def test_full_range_color_is_as_opencv_reads_it(tmp_path, name):
    image = (photograph(40, 60).astype(np.uint16) << 8) + 77
    cv2.imwrite(str(tmp_path / name), image[..., ::-1])
    assert np.array_equal(read_image(tmp_path / name), photograph(40, 60))
    assert np.abs(cv2.imread(str(tmp_path / name))[..., ::-1].astype(int) - photograph(40, 60)).max() <= 1


# What files say


@pytest.mark.parametrize(
    ("dtype", "values", "tags", "expected"),
    [
        ("<u2", (0, 2048, 4095), {281: ("H", 4095)}, [0, 128, 255]),
        ("<u2", (0, 600, 800), {281: ("H", 1023)}, [0, 150, 199]),
        ("<u2", (0, 600, 800), {281: ("H", 800)}, None),  # the largest value of this picture
        ("<u2", (0, 600, 800), {281: ("H", 65535)}, [0, 2, 3]),
        (">u2", (0, 2048, 4095), {341: ("H", 4095)}, [0, 128, 255]),
        ("<u2", (0, 16384, 32767), {341: ("H", 32767)}, [0, 128, 255]),
        ("<i2", (-1000, 0, 3000), {340: ("h", -1000), 341: ("h", 3000)}, [0, 64, 255]),
        ("<i2", (-1000, 0, 3000), {341: ("h", 3000)}, None),  # some values are below
        ("<f4", (0.0, 0.25, 1.0), {340: ("f", 0.0), 341: ("f", 1.0)}, [0, 64, 255]),
        ("<f8", (0.0, 0.5, 4.0), {340: ("d", 0.0), 341: ("d", 1.0)}, None),
    ],
)
def test_tags_that_say_the_range(tmp_path, dtype, values, tags, expected):
    data = tiff(row(*values, dtype=dtype), tags=tags)
    if expected is None:
        check_refused(tmp_path, data, HIDDEN)
    else:
        assert gray(tmp_path, data) == expected
    low, high = values[0], values[-1] + 1
    assert gray(tmp_path, data, value_range=(low, high))[-1] == round(255 * (values[-1] - low) / (high - low))


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
@pytest.mark.parametrize("width", [3, 8])
def test_bits_that_are_packed_are_the_range(tmp_path, bits, width):
    """Dark values, too: who packs 12 bits means 12 bits."""
    stored = np.random.default_rng(0).integers(0, 2**bits // 5, (4, width)).astype("<u2")
    expected = np.rint(255 * stored.astype(float) / (2**bits - 1))
    assert np.array_equal(read(tmp_path, tiff(stored, bits=bits))[..., 1], expected)


@pytest.mark.parametrize("color", [0, 2, 4, 6])
def test_significant_bits_of_a_png(tmp_path, color):
    """The standard wants them in the upper bits; who stores them in the lower ones is understood, too."""
    bands = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    chunk = b"sBIT", bytes([12] * bands)
    for shift in (0, 4):
        stored = np.array([[0] * bands, [2048 << shift] * bands, [4095 << shift] * bands], ">u2")
        if color > 3:
            stored[:, -1] = 65535  # opaque
        data = zlib.compress(b"\0" + stored.tobytes())
        assert gray(tmp_path, png(3, 1, 16, color, data, chunk)) == [0, 128, 255]
        if shift == 0:
            check_refused(tmp_path, png(3, 1, 16, color, data), f"from 0 to 4095, {HIDDEN}")
    dark = zlib.compress(b"\0" + np.array([[0] * bands, [4096] * bands], ">u2").tobytes())
    assert len(read(tmp_path, png(2, 1, 16, color, dark, chunk))) == 1  # more than 12 bits: the upper ones


@pytest.mark.parametrize("top", [300, 4095, 65535])
def test_the_largest_value_of_a_pnm(tmp_path, top):
    values = [0, round(top / 3), top]
    binary = np.array(values, ">u2").tobytes()
    expected = [round(255 * value / top) for value in values]
    assert gray(tmp_path, b"P5\n# a comment 7\n3 1 %d\n" % top + binary) == expected
    assert gray(tmp_path, b"P2 3 1 %d\n%d %d %d\n" % (top, *values)) == expected
    assert read(tmp_path, b"P6 1 1 %d\n" % top + binary).ravel().tolist() == expected
    assert read(tmp_path, b"P3 1 1 %d\n%d %d %d\n" % (top, *values)).ravel().tolist() == expected
    if top < 65535:
        assert gray(tmp_path, b"P5 2 1 %d\n" % top + bytes([0, 1, 0, 0])) == [1 if top == 300 else 0, 0]  # dark is dark


@pytest.mark.parametrize("compression", ["packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "lzma"])
def test_lossless_compressions(tmp_path, compression):
    stored = np.arange(0, 65536, 256, np.uint16).reshape(16, 16)
    image = read_image(save(tmp_path / "a.tiff", stored, compression=compression))
    assert np.array_equal(image[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "jpeg"])
def test_other_compressions(tmp_path, compression):
    white = np.zeros((16, 16), np.uint8) + 255
    white[4:8] = 0
    mode = "L" if compression == "jpeg" else "1"
    Image.fromarray(white).convert(mode).save(tmp_path / "a.tiff", compression=compression)
    assert np.abs(read_image(tmp_path / "a.tiff")[..., 0].astype(int) - white).max() <= 9


@pytest.mark.parametrize("band", [1, 2])
def test_tiles_and_their_differences(tmp_path, band):
    y, x = np.mgrid[:18, :20]
    expected = np.rint((100.0 * y + 7 * x + 5000 * (band - 1)) / 8190 * 255)
    for data, high in ((TILES_LZW, 8190), (TILES_FLOAT, 8190 / 16)):
        image = read(tmp_path, b85decode(data), bands=(band,), value_range=(0, high))
        assert np.array_equal(image[..., 0], expected)


def test_floats_of_a_pfm_say_nothing(tmp_path):
    data = b"Pf\n2 2\n-1.0\n" + np.array([1, 1, 0, 0.5], "<f4").tobytes()  # from the bottom up
    check_refused(tmp_path, data, f"float32 values from 0 to 1, {HIDDEN}")
    assert gray(tmp_path, data, value_range=(0, 1)) == [0, 128]


def test_the_depth_of_a_jpeg_2000(tmp_path):
    """Pillow rounds the largest value up, to 0."""
    assert read(tmp_path, b85decode(JPEG2000))[4, 4].tolist() == [0, 128, 255]
    assert read(tmp_path, b85decode(JPEG2000), value_range=(0, 8190))[4, 4].tolist() == [0, 64, 128]


# Colors


def test_a_palette_of_eight_bits_is_read_as_libtiff_reads_it(tmp_path):
    """Old writers put 8 bits where 16 belong: all would be black. The palette is inverted, too."""
    palette = Image.new("P", (4, 4))
    palette.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    palette.putpixel((1, 0), 200)
    palette.save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff")[0, :2].tolist() == [[255, 0, 7], [55, 200, 7]]
    data = (tmp_path / "a.tiff").read_bytes()
    wide = b"".join(struct.pack("<H", value * 256) for value in range(255, -1, -1))
    narrow = b"".join(struct.pack("<H", value) for value in range(255, -1, -1))
    start = data.index(wide)
    table = np.frombuffer(data[start : start + 1536], "<u2") >> 8
    data = data[:start] + table.astype("<u2").tobytes() + data[start + 1536 :]
    assert narrow in data
    assert read(tmp_path, data)[0, :2].tolist() == [[255, 0, 7], [55, 200, 7]]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0, :2, ::-1].tolist() == [
        [255, 0, 7],
        [55, 200, 7],
    ]


def test_lab_and_cmyk_of_a_tiff(tmp_path):
    """The red of sRGB has L* 54.29, a* 80.81 and b* 69.89 under D50 (ICC)."""
    lab = np.array([[[round(54.29 * 2.55), 81, 70], [255, 0, 0]]] * 2, "u1")
    red, white = read(tmp_path, tiff(lab, photometric=8))[0].astype(int)
    assert np.abs(red - [255, 0, 0]).max() <= 8
    assert np.abs(white - 255).max() <= 1
    cmyk = np.array([[[255, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 0]]] * 2, "u1")
    for stored in (cmyk, (cmyk * 257.0).astype("<u2")):
        assert read(tmp_path, tiff(stored, photometric=5))[0].tolist() == [[0, 255, 255], [0, 0, 0], [255, 255, 255]]
    deep = tiff((cmyk * 16.0).astype("<u2"), photometric=5)
    check_refused(tmp_path, deep, f"uint16 values from 0 to 4080, {HIDDEN}")  # would be white
    half = np.array([[[128 * 16, 0, 0, 64 * 16]]] * 2, "<u2")  # 127 / 255 and 191 / 255 are left
    pixel = read(tmp_path, tiff(half, photometric=5), value_range=(0, 4080))[0, 0]
    assert pixel.tolist() == [round(127 * 191 / 255), 191, 191]


# Kinds that are not supported, and limits


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tiff(row(1, 2, dtype="<u1"), tags={259: ("H", 50002)}), "compression 50002"),
        (tiff(row(1, 2, dtype="<u2"), tags={259: ("H", 7)}), "1 x 16 bits in compression 7"),
        (tiff(row(1, 2, dtype="<f8"), tags={339: ("H", 6)}), "samples of 64 bits in format 6"),
        (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 86, 0, 0, 54, 40, 2, 2, 1, 64, 0, 0, 0, 0, 0, 0) + bytes(32), "64"),
    ],
)
def test_sound_files_of_other_kinds_are_not_called_damaged(tmp_path, data, kind):
    check_refused(tmp_path, data, rf"is of a kind that is not supported \(.*{kind}.*\)\. Convert it, images to JPEG")


def test_deep_files_have_the_limit_of_their_memory(tmp_path):
    data = tiff(np.zeros((10, 10, 16), "<u2"))
    check_refused(tmp_path, data, "10 x 10 pixels of 256 bits, over the limit of 533", bands=(1,), max_pixels=533)
    assert read(tmp_path, data, bands=(1,), max_pixels=534).shape == (10, 10, 3)


def test_hostile_tiles_and_chunks_take_no_memory(tmp_path):
    tags: dict[int, tuple[str, float]] = {322: ("H", 30000), 323: ("H", 30000)}
    check_refused(tmp_path, tiff(row(1, 2, dtype="<f4"), tags=tags), "has 30000 x 30000 pixels, over the limit")
    data = png(1, 1, 16, 2, zlib.compress(b"\0" + bytes([200] * 6)))
    data = data[:-12] + struct.pack(">I4s", 2**31 - 1, b"IEND")  # OpenCV would allocate its length
    assert read(tmp_path, data).tolist() == [[[200, 200, 200]]]


@pytest.mark.parametrize("squeeze", [False, True])
def test_cut_and_spoiled_samples_are_errors(tmp_path, squeeze):
    rng = np.random.default_rng(0)
    data = tiff(rng.integers(0, 65536, (8, 9, 5)).astype("<u2"), squeeze=squeeze)
    for _ in range(200):
        spoiled = bytearray(data[: rng.integers(8, len(data))])
        spoiled[rng.integers(len(spoiled))] ^= 1 << rng.integers(8)
        try:
            image = read(tmp_path, bytes(spoiled), bands=(1, 2, 3), max_pixels=10_000)
        except ImageError:
            continue
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value_range": (5, 5)}, r"--value-range must be LOW,HIGH or minmax, got \(5, 5\)"),
        ({"value_range": (0, float("nan"))}, "--value-range must be"),
        ({"value_range": "max"}, "--value-range must be LOW,HIGH or minmax, got max"),
        ({"bands": (0, 1, 2)}, r"--bands must be numbers of bands, counted from 1, got \(0, 1, 2\)"),
        ({"bands": ()}, "--bands must be"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        ReadOptions(**options)  # type: ignore[arg-type]


def test_strips_join(tmp_path):
    stored = np.random.default_rng(0).integers(0, 65536, (300, 901, 3)).astype("<u2")
    assert np.array_equal(read(tmp_path, tiff(stored, photometric=2)), stored >> 8)
