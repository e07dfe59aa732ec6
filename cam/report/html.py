"""The page: its parts joined into one file that may not connect to anything."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from cam.report.evidence import script_json

# A script may use the ones before it.
_SCRIPTS = (
    *("data", "evidence", "geometry", "color", "drawing"),
    *("state", "format", "selection", "notes", "filter", "controls", "scroller", "list", "grid", "classes"),
    *("cell", "answer", "legend", "picture", "roving", "counts", "confusions", "audit", "scatter", "summary"),
    *("save", "keyboard", "start"),
)

_STYLES = "base", "list", "grid", "picture", "summary", "audit", "media"


def make_page(index: dict[str, Any], evidence: Iterable[str], *, loads_files: bool) -> str:
    """Join the parts of the page into ASCII HTML.

    `evidence` is the JSON of each image, none if the page loads it from files.
    """
    pictures = (
        f'<script type="application/json" id="evidence-{number}">{text}</script>\n'
        for number, text in enumerate(evidence)
    )
    script = "".join(read_part(f"{name}.js") for name in _SCRIPTS)
    style = "".join(read_part(f"{name}.css") for name in _STYLES)
    template = read_part("page.html").replace("$help", read_part("help.html"))
    return join_page(template, script, style, index, "".join(pictures), loads_files=loads_files)


def join_page(
    template: str, script: str, style: str, index: dict[str, Any], pictures: str = "", *, loads_files: bool = False
) -> str:
    """Fill a template with a script, a style and the index, whose `title` is that of the page, as ASCII HTML.

    The content security policy allows this script, this style, images in the page and, if needed, scripts from files,
    but no connection.
    """
    script = f'"use strict";\n{script}'
    policy = (
        f"default-src 'none'; script-src {_hash(script)}{' file:' if loads_files else ''}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return Template(template).substitute(
        title=escape(str(index["title"])).encode("ascii", "xmlcharrefreplace").decode(),
        policy=policy,
        style=style,
        script=script,
        index=script_json(index),
        pictures=pictures,
    )


def read_part(name: str, package: str = "cam.report") -> str:
    """Read a file of the page of a package."""
    return (files(package) / "page" / name).read_text("ascii")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
