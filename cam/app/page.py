"""The page of `cam app`: Gradio takes the pictures, and page.js calls `show` and `draw` with what the controls say."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder, is_in_or_equal
from numpy.typing import NDArray

from cam.app.view import View, names_of
from cam.classifiers.classifier import Classifier
from cam.errors import CamError, ImageError
from cam.explanations.compute import to_draw_on
from cam.explanations.explore import Exploration, explore
from cam.explanations.options import parse_class
from cam.images.find import Picture
from cam.images.io import shrink
from cam.images.read import Limits, read_picture
from cam.images.samples import ReadOptions
from cam.maps.evidence import Evidence

_HERE = Path(__file__).parent
_DIGITS = next(folder for folder in (_HERE.parent / "samples", _HERE.parents[1] / "samples") if folder.is_dir())
_FONTS: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none of the internet
STYLE: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="orange", neutral_hue="slate", **_FONTS).set(
        body_text_color_subdued="*neutral_500"  # the default is too faint to read
    ),
    "css_paths": _HERE / "app.css",
}
_SIDE = 1280  # longer side of the pictures shown, pixels
_CACHED = 8  # pictures in memory
_RADIO = '<label><input type="radio" name="evidence" value="{0}"> {0}</label>'
_SAMPLE = '<button type="button" data-sample="{0.name}" aria-label="Sample {0.stem}"><img alt="" src="{1}"></button>'


class Page:
    """The page, and what it answers."""

    def __init__(self, classifiers: Mapping[str, Classifier], limits: Limits, options: ReadOptions) -> None:
        self._classifiers, self._limits, self._options = classifiers, limits, options
        self._picture, self._explored = lru_cache(_CACHED)(self._read), lru_cache(_CACHED)(self._explore)
        has_digits = any({*"0123456789"} <= {*classifier.labels} for classifier in classifiers.values())
        samples = sorted(_DIGITS.glob("*.png") if has_digits else (_HERE / "photos").iterdir())

        # Gradio marks the functions that the page may call, and methods cannot be marked.
        def show(choice: Mapping[str, Any]) -> dict[str, Any]:
            return self.show(choice)

        def draw(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
            return self.draw(choice)

        with gr.Blocks(title="cam app", analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            with gr.HTML(
                html_template=(_HERE / "page.html").read_text("ascii"),
                js_on_load=(_HERE / "page.js").read_text("ascii"),
                server_functions=[show, draw],
                apply_default_css=False,
                elem_id="cam-page",
                models="".join(f"<option>{escape(name)}</option>" for name in classifiers),
                evidence="".join(map(_RADIO.format, get_args(Evidence))),
                samples="".join(_SAMPLE.format(path, _url_of(path)) for path in samples),
            ) as page:
                sources: Any = ["upload", "clipboard", "webcam"]
                picture = gr.Image(label="Picture", sources=sources, height=230, buttons=[], elem_id="cam-picture")
            picture.change(None, picture, None, js="(file) => camPictureChanged(file)")
            page.picture(None, None, picture, js="() => camPicture")

    def show(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """What the page shows of a choice, and what the controls then say; "error" if there is nothing to show."""
        try:
            first, *others = self._views(choice)
            (y, x), (height, width) = first.chosen.peak, first.chosen.frame.photo
            if None not in (choice["y"], choice["x"]):
                y, x = int(min(max(choice["y"], 0), height - 1)), int(min(max(choice["x"], 0), width - 1))
            sides = [view.to_dict(y, x) for view in (first, *others)]
        except CamError as error:
            return {"error": str(error).replace(f"{Path(choice['path']).parent}/", "")}
        names = names_of(first.first_labels)
        return {
            "sides": sides,
            "target": names[first.target],
            "rival": "runner-up" if first.rival is None else names[first.rival],
            "names": [] if choice["target"] else [names[c] for c in first.exploration.ranked],
        }

    def draw(self, choice: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the page need not wait for."""
        return [view.draw(Path(choice["path"]).name) for view in self._views(choice)]

    def _views(self, choice: Mapping[str, Any]) -> list[View]:
        """What each side shows; the second model the class with the same label, or else its first one."""
        views: list[View] = []
        for model in choice["models"]:
            exploration = self._explored(choice["path"], model)
            labels = exploration.classifier.labels
            if views:
                first_labels, pair = views[0].first_labels, (views[0].target, views[0].rival)
                names = (None if c is None else first_labels[c] for c in pair)
                target, rival = (labels.index(name) if name in labels else None for name in names)
            else:
                first_labels = labels
                target = parse_class(choice["target"], labels, "Class") if choice["target"] else None
                rival = None if choice["rival"] == "runner-up" else parse_class(choice["rival"], labels, "Rival")
            target = exploration.ranked[0] if target is None else target
            rival = None if rival == target or choice["evidence"] != "contrast" else rival
            look = choice["evidence"], float(choice["opacity"])
            views.append(View(model, exploration, self._picture(choice["path"])[1], target, rival, *look, first_labels))
        return views

    def _read(self, path: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """An uploaded picture, and what is shown of it."""
        if not is_in_or_equal(path, get_upload_folder()):
            raise ImageError(f"{path!r} was not uploaded to this page", "Drop the picture on the page")
        picture = Picture(Path(path), PurePosixPath(Path(path).name))
        image = read_picture(picture, self._limits, options=self._options).image
        return image, shrink(to_draw_on(image), _SIDE)

    def _explore(self, path: str, model: str) -> Exploration:
        return explore(self._classifiers[model], self._picture(path)[0])


def _url_of(path: Path) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    return f"data:image/{kind};base64,{b64encode(path.read_bytes()).decode()}"
