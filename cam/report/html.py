"""One page that needs nothing else: its parts put together, closed to the network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from cam.report.evidence import as_json

_PARTS = files("cam.report") / "page"

# Each may use those before it.
SCRIPTS = (
    *("data", "evidence", "geometry", "color", "drawing"),
    *("state", "format", "filter", "controls", "list", "classes", "place", "picture", "summary"),
    *("save", "keyboard", "start"),
)

STYLES = "base", "list", "picture", "summary"


def make_page(index: dict[str, Any], evidence: Iterable[str], *, shards: bool) -> str:
    """Put a page together.

    Args:
        index: what the page knows from the start, ready for JSON.
        evidence: JSON of the evidence of each picture in the index; none of those that lie in files beside the page.
        shards: whether it may load such files.

    Returns:
        HTML, ASCII. Its content security policy allows this script and this style, pictures in the page, and no
        connection.

    Example:
        >>> page = make_page({"title": "</script>"}, ["{}"], shards=False)
        >>> page.count("</script>")
        3
    """
    script = '"use strict";\n' + "".join(_read(f"{name}.js") for name in SCRIPTS)
    style = "".join(_read(f"{name}.css") for name in STYLES)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}{' file:' if shards else ''}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    pictures = "".join(
        f'<script type="application/json" id="evidence-{number}">{text}</script>\n'
        for number, text in enumerate(evidence)
    )
    return Template(_read("page.html")).substitute(
        title=escape(str(index["title"])).encode("ascii", "xmlcharrefreplace").decode(),
        policy=policy,
        style=style,
        script=script,
        index=as_json(index),
        pictures=pictures,
    )


def _read(name: str) -> str:
    return (_PARTS / name).read_text("ascii")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
