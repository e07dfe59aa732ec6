from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cam.drawing.colormaps import lookup
from cam.drawing.legend import _bar, _number, _ticks, clean, make_legend, shorten, text_length
from cam.explanations.explanation import Explanation, OtherClass
from cam.maps.geometry import Frame, stretched

SIZES = [(32, 32), (300, 1000), (1000, 300), (375, 500), (1, 1), (2000, 3000)]


def legend(height: int, width: int, **options: object) -> np.ndarray:
    given = {
        "title": "golden retriever",
        "details": "probability 97.3 %   logit 21.4",
        "vmax": 12.0,
        **options,
    }
    return make_legend((height, width), **given)  # type: ignore[arg-type]


def ink(strip: np.ndarray) -> np.ndarray:
    return np.asarray((strip != 250).any(-1))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_legend_is_as_wide_as_the_image_and_keeps_its_margins(height: int, width: int) -> None:
    strip = legend(height, width, title="W" * 300, details="j" * 300, notes=["(" * 300])
    assert (strip.shape[1], strip.dtype) == (max(width, 280), np.uint8)
    margin = 6
    inside = ink(strip)[margin:-margin, margin:-margin]
    assert inside.sum() == ink(strip).sum() > 100


def on_gray(index: int, colormap: str = "signed") -> list[int]:
    """A color of the bar: 0.85 of its opacity over the gray 140."""
    red, green, blue, opacity = lookup(colormap)[index].astype(float)
    share = 0.85 * opacity / 255
    return [round(share * value + round(255 * (1 - share)) * 140 / 255) for value in (red, green, blue)]


def has_color(strip: np.ndarray, index: int, colormap: str = "signed") -> np.ndarray:
    return np.asarray((np.abs(strip.astype(int) - on_gray(index, colormap)) <= 1).all(-1))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_bar_runs_from_minus_to_plus_with_gray_in_the_middle(height: int, width: int) -> None:
    strip = legend(height, width)
    left, right = (np.argwhere(has_color(strip, index)) for index in (1, 255))
    row, start, end = left[:, 0].min(), left[:, 1].min(), right[:, 1].max()
    bar = strip[row, start : end + 1].astype(int)
    middle = len(bar) // 2
    assert np.abs(bar[middle] - 140).max() <= 12
    assert (np.diff(bar[:, 0] - bar[:, 2]) >= -2).all()  # from cold to warm


def test_the_legend_grows_with_the_picture_within_bounds() -> None:
    heights = [legend(width * 2 // 3, width).shape[0] for width in (600, 1200, 2400)]
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.1)
    assert heights[2] / heights[1] == pytest.approx(2, abs=0.1)
    assert legend(20, 9000).shape[0] < 120  # a ribbon does not get a banner
    assert all(legend(h, w).shape[0] < 0.5 * h for h, w in ((375, 500), (300, 1000), (1000, 300)))


def test_every_text_changes_the_legend() -> None:
    first = legend(375, 500)
    assert np.array_equal(first, legend(375, 500))
    for change in ({"title": "poodle"}, {"details": "logit 3"}, {"vmax": 13.0}):
        other = legend(375, 500, **change)
        assert other.shape == first.shape
        assert not np.array_equal(other, first)
    assert legend(32, 32, notes=["a note"]).shape[0] > legend(32, 32).shape[0]
    assert ink(legend(32, 32, title="中文")).sum() > ink(legend(32, 32, title="")).sum() + 50  # not in the font
    viridis = legend(375, 500, colormap="viridis")
    assert has_color(viridis, 255, "viridis").any()
    assert not has_color(viridis, 255).any()


def test_the_bar_of_a_zero_scale_is_gray() -> None:
    strip = legend(32, 32, vmax=0.0)
    assert not has_color(strip, 255).any()
    assert (strip == 140).all(-1).sum() > 252 * 9  # the bar


@pytest.mark.parametrize(("signed", "shares"), [(True, (0.25, 0.75)), (False, (0.5,))])
def test_the_bar_has_a_line_where_the_contours_are(signed: bool, shares: tuple[float, ...]) -> None:
    plain, lined = (legend(375, 500, signed=signed, contours=contours) for contours in (False, True))
    rows, columns = (plain != lined).any(-1).nonzero()
    row = rows[len(rows) // 2]
    light = np.flatnonzero((lined[row] == 255).all(-1))
    bar = slice(292, 487)  # 15 letters of 13 pixels, a letter from the right
    assert light.tolist() == [round(bar.start + share * (bar.stop - bar.start - 1)) for share in shares]
    assert sorted({*columns}) == sorted(column + step for column in light for step in (-1, 0, 1))
    assert (lined[row, light - 1] == lined[row, light + 1]).all()
    assert (lined[row, light - 1] < 50).all()


def test_the_bar_of_a_sequential_scale_begins_with_gray() -> None:
    strip = legend(375, 500, signed=False)
    row, column = np.argwhere(has_color(strip, 255))[-1]
    assert column == 486
    bar = strip[row, 292:487].astype(int)
    assert np.abs(bar[0] - 140).max() <= 1
    assert (np.diff(bar[:, 0] - bar[:, 2]) >= -2).all()  # to warm


@pytest.mark.parametrize("vmax", [0.002, 0.003])
def test_of_numbers_that_do_not_fit_the_zero_and_every_other_one_are_written(vmax: float, monkeypatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr("cam.drawing.legend.write_text", lambda gray, corner, text, *_: texts.append(text))
    _bar.cache_clear()
    legend(375, 500, vmax=vmax)
    _bar.cache_clear()
    assert [text for text in texts if "0" in text and "%" not in text] == ["-0.002", "0", "+0.002"]


def test_the_ends_of_a_contrast_are_named() -> None:
    plain, named = legend(375, 500), legend(375, 500, ends=("for garter snake", "for thunder snake"))
    bar = np.argwhere(has_color(plain, 255))
    above = slice(bar[:, 0].min() - 16, bar[:, 0].min() - 1)
    middle = (plain.shape[1] + bar[:, 1].max()) // 2
    assert ink(named[above, bar[:, 1].max() - 60 :]).sum() > ink(plain[above, bar[:, 1].max() - 60 :]).sum() + 50
    assert named.shape == plain.shape
    assert middle


@settings(max_examples=60)
@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
@example("中文 🐕", "العربية עברית हिन्दी")
@example("\ud800\udcff", "a\0b\nc\u202ed\x1b[31m")
@example("a" + "\u0301" * 500, "x" * 5000)
@example("\ufdfa" * 1000, "")
def test_any_text_can_be_drawn(title: str, details: str) -> None:
    assert legend(32, 32, title=title, details=details, notes=[details]).shape[1] == 280


def test_texts_are_cleaned() -> None:
    assert clean("a\x00b\x1b[31m\u202e c") == "ab[31m c"
    assert clean(" two\nlines\tand\u00a0more ") == "two lines and more"
    assert clean("café Überraschung") == "cafe Uberraschung"
    assert clean("caf\udce9") == "caf?"


@given(st.text("abc WiI", max_size=60), st.integers(0, 300))
@settings(max_examples=60)
def test_long_texts_are_shortened_as_little_as_needed(text: str, width: int) -> None:
    short = shorten(text, 13, width)
    if text_length(text, 13) <= width:
        assert short == text
        return
    assert short.endswith("…")
    prefix = short.removesuffix("…")
    assert text.startswith(prefix)
    assert text_length(short, 13) <= width or prefix == ""
    longer = text[: len(prefix) + 1]
    assert text_length(longer.rstrip() + "…", 13) > width or longer.isspace() or longer[-1] == " "


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "+12"),
        (-8.25, "-8.25"),
        (4.125, "+4.125"),
        (1234.5, "+1234"),
        (-1.5e-9, "-1.5e-09"),
        (1e12, "+1e+12"),
        (0, "0"),
        (-0.0, "0"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, text: str) -> None:
    assert _number(value, signed=True) == text


@pytest.mark.parametrize(
    ("vmax", "numbers"),
    [
        (281.0, ["-200", "-100", "0", "+100", "+200"]),
        (23.1, ["-20", "-10", "0", "+10", "+20"]),
        (2.0, ["-2", "-1", "0", "+1", "+2"]),
        (0.0199, ["-0.015", "-0.01", "-0.005", "0", "+0.005", "+0.01", "+0.015"]),
    ],
)
def test_the_numbers_of_the_bar_are_round(vmax: float, numbers: list[str]) -> None:
    ticks = _ticks(vmax, signed=True)
    assert [text for _, text in ticks] == numbers
    for share, text in ticks:
        assert (2 * share - 1) * vmax == pytest.approx(float(text))
    assert _ticks(1.0, signed=False) == [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        (
            {"evidence": "contrast", "against": OtherClass(1, "dog", 1.5, -0.5, 0.25)},
            ["cat over dog", "margin +1.50 = logit 3.00 - 1.50", "2 x 2 input"],
        ),
        (
            {},
            [
                "cat",
                "probability 87.5 %   logit 3.00",
                "at other inputs: logit 4.25 = mean of the map 4.00 + bias 0.25",
                "2 x 2 input",
            ],
        ),
        (
            {"map_logit": 3.0},
            ["cat", "probability 87.5 %   logit 3.00", "logit 3.00 = mean of the map 2.75 + bias 0.25"],
        ),
        ({"probability": None, "bias": 0.0, "map_logit": 3.0}, ["cat", "value 3.00", "value 3.00 = mean of the map"]),
        (
            {"probability": None, "bias": -0.001, "map_logit": 3.0},
            ["cat", "value 3.00", "value 3.00 = mean of the map"],
        ),
    ],
)
def test_the_numbers_below_an_overlay_are_each_its_own(changes: dict, texts: list[str], monkeypatch) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("cam.explanations.explanation.make_legend", lambda *size, **more: drawn.update(more) or strip)
    cam, strip = np.full((1, 1), 4, np.float32), np.zeros((20, 280, 3), np.uint8)
    frame = Frame((2, 2), (2, 2), (0, 0), (2, 2))
    numbers = {"class_idx": 0, "label": "cat", "logit": 3.0, "probability": 0.875, "bias": 0.25, "map_logit": 4.25}
    parts = {"cam": cam, "evidence_map": cam, "evidence": "logit", "image": np.zeros((2, 2, 3), np.uint8)}
    place = {"grid": stretched((1, 1), (2, 2)), "frame": frame}
    Explanation(**{**numbers, **parts, **place, **changes}).overlay(legend=True)
    assert [text.strip() for text in (drawn["title"], drawn["details"], *drawn["notes"]) if text] == texts
