"""The parts of a run are measured where they are, beside those of the floor, and the page has the commands."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from cam.classifiers.load import load_classifier

ROOT = Path(__file__).parents[1]


def test_parts_are_measured_where_the_programs_call_them(bench, squeezenet):
    parts = bench("parts")
    places = [place for some in parts.PARTS.values() for place in some]
    before = [getattr(*place) for place in places]
    files = sorted((ROOT / "samples").glob("*.png"))
    ours = parts.measure(partial(parts.explain, load_classifier("digits", device="cpu"), files))
    bare = parts.measure(partial(parts.floor, "squeezenet1_1", squeezenet, files=files, engine="eager"))
    assert [getattr(*place) for place in places] == before
    assert set(ours.wall) == {*parts.PARTS, parts.ALL}
    assert set(bare.wall) == {"decode", "prepare", "network", "encode", "write", parts.ALL}
    for clock in (ours, bare):
        assert all(seconds > 0 for seconds in clock.wall.values())
        assert sum(clock.wall[name] for name in ("decode", "prepare", "network", "encode")) < clock.wall[parts.ALL]
        assert sum(clock.cpu[name] for name in ("decode", "prepare", "network", "encode")) < clock.cpu[parts.ALL]


def test_make_bench_gives_the_commands_of_the_page():
    page, makefile = ((ROOT / name).read_text("utf-8") for name in ("docs/performance.md", "Makefile"))
    given = {line.removeprefix("\t.venv-bench/bin/") for line in makefile.splitlines() if "benchmarks/" in line}
    marks = set(re.findall("<!-- ([a-z0-9]+) -->", page))
    assert {line.partition(" --table ")[2] for line in given if line.startswith("python")} == marks
    assert set(re.findall("^`(python benchmarks/.*?)`", page, re.MULTILINE)) <= given


def test_a_table_of_parts_has_medians_and_ratios(bench):
    parts = bench("parts")

    def clock(seconds: float) -> object:
        made = parts.Clock()
        made.wall["network"] = made.cpu["network"] = seconds
        made.wall[parts.ALL], made.cpu[parts.ALL] = 2 * seconds, 3 * seconds
        return made

    rows = {row[1]: row[2:] for row in parts.rows("small", 10, [(clock(3), clock(2)), (clock(4), clock(2))])}
    assert rows["network"] == ["350.0", "350.0", "200.0", "200.0"]
    assert rows["legend"] == ["-"] * 4
    assert rows["all of it"] == ["700.0", "1050.0", "400.0", "600.0"]
    assert rows["all of it, over the floor"] == ["1.75 (1.62 to 1.88)", "1.75 (1.62 to 1.88)", "1", "1"]
