"""The page of `cam app`: Gradio's controls around what the library says of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias, get_args

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from cam.app.view import View, to_button
from cam.classifiers.classifier import Classifier
from cam.errors import CamError, UsageError
from cam.explanations.compute import to_draw_on
from cam.explanations.explore import Exploration, explore
from cam.images.find import Picture
from cam.images.io import read_image, shrink
from cam.images.read import Limits, read_picture
from cam.images.samples import ReadOptions
from cam.maps.evidence import Evidence

_HERE = Path(__file__).parent
_PHOTOS = _HERE / "photos"
_DIGITS = next(folder for folder in (_HERE.parent / "samples", _HERE.parents[1] / "samples") if folder.is_dir())
_FONTS: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none of the internet
SETTINGS: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="orange", neutral_hue="slate", **_FONTS).set(
        body_text_color_subdued="*neutral_500"
    ),
    "css_paths": _HERE / "app.css",
    "js": (_HERE / "page.js").read_text("ascii"),
    "allowed_paths": [str(_PHOTOS), str(_DIGITS)],
}
_SIDE = 1280  # longer side of the pictures shown, pixels
_RUNNER_UP = -1  # the choice of no other rival
_HINT = "Drop, paste or photograph a picture, or click a sample."
_KINDS = "For the class, over its rival, over the best other class at each place, or the probability at each place."
_HTML: dict[str, Any] = {"js_on_load": (_HERE / "app.js").read_text("ascii"), "padding": False}
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class _Session(NamedTuple):
    """The picture of one user."""

    name: str
    image: NDArray[np.uint8]
    shown: NDArray[np.uint8]  # to draw on
    explored: dict[str, Exploration]  # under the models that ran


class _Choice(NamedTuple):
    """What the controls say."""

    model: str
    other: str  # the second model, "" for none
    target: int | None  # None for the predicted class
    rival: int
    evidence: Evidence
    opacity: float
    x: int | None  # None for the place with the most evidence
    y: int | None


_Change: TypeAlias = Callable[[_Session, _Choice, Any], _Choice]  # of the choice, by an event


class Page:
    """The page, and what its controls do."""

    def __init__(self, classifiers: Mapping[str, Classifier], limits: Limits, options: ReadOptions) -> None:
        self.classifiers, self.limits, self.options = classifiers, limits, options
        has_digits = any({*"0123456789"} <= {*classifier.labels} for classifier in classifiers.values())
        self.samples = sorted(_DIGITS.glob("*.png") if has_digits else _PHOTOS.iterdir())
        with gr.Blocks(title="cam app", analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            self.session = gr.State()
            gr.Markdown("# Where did the model look, and why this class?")
            with gr.Row(elem_id="cam-page"):
                with gr.Column(scale=1, min_width=280, elem_id="cam-left"):
                    self._build_controls(list(classifiers))
                with gr.Column(scale=3, min_width=280, elem_id="cam-right"):
                    self.status = gr.HTML(_status(_HINT), elem_id="cam-status", padding=False)
                    with gr.Row(elem_id="cam-sides"):
                        self.strips, self.heats = zip(self._build_side(), self._build_side(), strict=True)
            self._connect()

    def _build_controls(self, names: list[str]) -> None:
        sources: Any = ["upload", "clipboard", "webcam"]
        self.picture = gr.Image(label="Picture", sources=sources, height=230, buttons=[], elem_id="cam-picture")
        self.picture.async_move_resource_to_block_cache = partial(_move, self.picture)  # type: ignore[method-assign]
        images = [shrink(read_image(path), 160) for path in self.samples]
        labels = [f'aria-label="Sample {path.stem}"' for path in self.samples]
        buttons = [to_button(n, image, "", label) for n, (image, label) in enumerate(zip(images, labels, strict=True))]
        self.sample_strip = gr.HTML(f'<p>Samples</p><div class="cam-strip">{"".join(buttons)}</div>', **_HTML)
        several = len(names) > 1
        with gr.Column(elem_id="cam-controls"):
            model = gr.Dropdown(names, value=names[0], label="Model", visible=several)
            other = gr.Dropdown([("none", ""), *names], value=[*names, ""][1], label="Second model", visible=several)
            target = gr.Dropdown([], label="Class")
            rival = gr.Dropdown([("runner-up", _RUNNER_UP)], value=_RUNNER_UP, label="Rival, for contrast")
            evidence = gr.Radio(list(get_args(Evidence)), value="logit", label="Evidence", info=_KINDS)
            opacity = gr.Slider(0, 1, 0.85, step=0.05, label="Opacity", buttons=[])
            with gr.Row():
                x, y = (gr.Number(label=f"Place: {axis}, pixels", precision=0, min_width=100) for axis in "xy")
        self.controls: tuple[Any, ...] = model, other, target, rival, evidence, opacity, x, y  # as in _Choice

    def _build_side(self) -> tuple[gr.HTML, gr.HTML]:
        with gr.Column(min_width=280, elem_classes="cam-side"):
            return gr.HTML(**_HTML), gr.HTML(**_HTML)

    def _connect(self) -> None:
        def choose(event: gr.EventData) -> str:
            return str(self.samples[event.number])

        self.sample_strip.select(choose, None, self.picture, **_QUIET)
        model, other, target, rival, evidence, opacity, x, y = self.controls
        everything = [self.session, *self.strips, *self.controls]
        # Not preprocessed: Gradio would open the file before our limits hold.
        self._listen(self.picture.change, self.drop, everything, self.picture, preprocess=False)
        self._listen(model.input, partial(self._respond, _anew), everything)
        self._listen(rival.input, partial(self._respond, _to_contrast), [rival, evidence])
        for control in (other, target, evidence, opacity, x, y):
            self._listen(control.input, partial(self._respond, _same), [rival])
        for number, (strip, heat) in enumerate(zip(self.strips, self.heats, strict=True)):
            self._listen(strip.select, partial(self._respond, partial(self._pick, number)), [target, rival])
            self._listen(heat.click, partial(self._respond, _point), [x, y])

    def _listen(
        self, event: Any, fn: Callable[..., Any], changed: Sequence[Any], source: Any = None, **style: Any
    ) -> None:
        """Call a function on an event, and then draw what the page need not wait for.

        Of the controls only those that can change are outputs: the browser takes milliseconds for each.
        """
        inputs, outputs = [source or self.session, *self.controls], [self.status, *self.heats, *changed]

        def respond(event: gr.EventData, *values: Any) -> dict[Any, Any]:
            return {shown: update for shown, update in fn(event, *values).items() if shown in outputs}

        drawn = event(respond, inputs, outputs, trigger_mode="always_last", **style, **_QUIET)
        drawn.then(self._draw_strips, [self.session, *self.controls], list(self.strips), **_QUIET)

    def drop(self, event: Any, file: dict[str, Any] | None, *values: Any) -> dict[Any, Any]:
        """Show a new picture; the one before is gone also if this one cannot be read."""
        gone: dict[Any, Any] = {self.session: None, **dict.fromkeys((*self.strips, *self.heats), "")}
        target, x, y = self.controls[2], *self.controls[-2:]
        empty: dict[Any, Any] = {target: gr.update(choices=[], value=None), x: None, y: None}
        if file is None:
            return {**gone, **empty, self.status: _status(_HINT)}
        path = Path(file["path"])
        try:
            image = read_picture(Picture(path, PurePosixPath(path.name)), self.limits, options=self.options).image
            session = _Session(path.name, image, shrink(to_draw_on(image), _SIDE), {})
            return {**gone, self.session: session, **self._show(session, _anew(session, _Choice(*values)), values)}
        except CamError as error:
            return {**gone, **empty, self.status: _status(str(error).replace(f"{path.parent}/", ""), "alert")}

    def _respond(self, change: _Change, event: Any, session: _Session | None, *values: Any) -> dict[Any, Any]:
        """Show the picture after a change of the choice."""
        if session is None:
            return {self.status: _status(_HINT)}
        try:
            return self._show(session, change(session, _Choice(*values), event), values)
        except CamError as error:
            return {self.status: _status(str(error), "alert")}

    def _show(self, session: _Session, choice: _Choice, values: Sequence[Any]) -> dict[Any, Any]:
        """The updates of the page that show a choice, where the controls have these values."""
        views = self._views(session, choice)
        exploration, chosen = views[0].exploration, views[0].chosen
        y, x = chosen.peak if choice.x is None or choice.y is None else (choice.y, choice.x)
        updates: dict[Any, Any] = {self.status: "", **dict.fromkeys(self.heats, "")}
        updates |= {heat: view.to_html(y, x) for heat, view in zip(self.heats, views, strict=False)}
        is_used = choice.evidence == "contrast" and choice.rival != chosen.class_idx
        rival = choice.rival if is_used else _RUNNER_UP
        shown = choice._replace(target=chosen.class_idx, rival=rival, y=y, x=x)
        updates |= {c: new for c, new, old in zip(self.controls, shown, values, strict=True) if new != old}
        if choice.target is None:  # a new picture or model
            updates |= {strip: view.to_strip(None) for strip, view in zip(self.strips, views, strict=False)}
            names = [(exploration.classifier.labels[c], c) for c in exploration.ranked]
            updates[self.controls[2]] = gr.update(choices=names, value=shown.target)
            updates[self.controls[3]] = gr.update(choices=[("runner-up", _RUNNER_UP), *names], value=shown.rival)
        return updates

    def _views(self, session: _Session, choice: _Choice) -> list[View]:
        """What each side shows; the other model the class with the same label, or else its first one."""
        views: list[View] = []
        for name in filter(None, (choice.model, choice.other)):
            if name not in session.explored:
                session.explored[name] = explore(self.classifiers[name], session.image)
            exploration, target = session.explored[name], choice.target
            rival = None if choice.rival == _RUNNER_UP else choice.rival
            if views:
                labels, first = exploration.classifier.labels, views[0].exploration.classifier.labels
                target, rival = (
                    labels.index(first[c]) if c is not None and first[c] in labels else None
                    for c in (views[0].target, rival)
                )
            target = exploration.ranked[0] if target is None else target
            against = None if rival == target else rival
            views.append(View(exploration, session.shown, target, against, choice.evidence, choice.opacity))
        return views

    def _pick(self, number: int, session: _Session, choice: _Choice, event: Any) -> _Choice:
        """Choose one of the first classes of a side."""
        model, labels = (choice.model, choice.other)[number], self.classifiers[choice.model].labels
        label = self.classifiers[model].labels[event.number]
        if label not in labels:
            raise UsageError(f"{choice.model} has no class {label!r}", "Choose one of its classes")
        return choice._replace(target=event.number if number == 0 else labels.index(label))

    def _draw_strips(self, session: _Session | None, *values: Any) -> list[str]:
        """Draw the first classes and offer files, once the picture is shown, which need not wait for them."""
        try:
            views = self._views(session, _Choice(*values)) if session else []
            return [*(view.to_strip(session.name) for view in views if session), "", ""][:2]
        except CamError:  # said when the picture was to be shown
            return [gr.skip(), gr.skip()]


def _same(session: _Session, choice: _Choice, event: Any) -> _Choice:
    return choice


def _anew(session: _Session, choice: _Choice, event: Any = None) -> _Choice:
    """Choose the predicted class of a new picture or model, and its place with the most evidence."""
    other = choice.other if choice.other != choice.model else ""
    return choice._replace(other=other, target=None, rival=_RUNNER_UP, x=None, y=None)


def _to_contrast(session: _Session, choice: _Choice, event: Any) -> _Choice:
    """Contrast with a rival that was chosen; a list has an input also when the focus leaves it."""
    return choice if choice.rival == _RUNNER_UP else choice._replace(evidence="contrast")


def _point(session: _Session, choice: _Choice, event: Any) -> _Choice:
    """Choose the place of a click, which comes in shares of the picture's sides."""
    height, width = session.image.shape[:2]
    return choice._replace(x=int(event.x * width), y=int(event.y * height))


async def _move(picture: gr.Image, file: str | Path | None) -> str | None:
    """Refuse addresses, from which Gradio's server would download."""
    if str(file).lower().startswith(("http:", "https:")):
        raise gr.Error("A picture must be a file, not an address.", print_exception=False)
    return await gr.Image.async_move_resource_to_block_cache(picture, file)


def _status(text: str, role: str = "status") -> str:
    return f'<p role="{role}" class="cam-{role}">{escape(text)}</p>'
