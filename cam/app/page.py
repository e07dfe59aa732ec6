"""The page of `cam app`: Gradio's controls around the results of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, get_args

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from cam.app.result import ModelResult, read_upload, run_model
from cam.app.view import View, to_button
from cam.classifiers.classifier import Classifier
from cam.errors import CamError, UsageError
from cam.images.io import read_image, shrink
from cam.images.read import Limits
from cam.images.samples import ReadOptions
from cam.maps.evidence import Evidence

_HERE = Path(__file__).parent
_SAMPLES = next(folder for folder in (_HERE.parent / "samples", _HERE.parents[1] / "samples") if folder.is_dir())
_FONTS: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none of the internet
SETTINGS: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="orange", neutral_hue="slate", **_FONTS).set(
        body_text_color_subdued="*neutral_500"
    ),
    "css_paths": _HERE / "page" / "app.css",
    "allowed_paths": [str(_SAMPLES)],
}
_SCRIPT = (_HERE / "page" / "app.js").read_text("ascii")
_RUNNER_UP = -1  # the choice of no other rival
_HINT = "Drop, paste or photograph a picture, or click a sample."


class _Session(NamedTuple):
    """The picture of one user."""

    name: str
    image: NDArray[np.uint8]
    results: dict[str, ModelResult]  # of the models that ran


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
        with gr.Blocks(title="cam app", analytics_enabled=False, delete_cache=(600, 3600)) as self.blocks:
            self.session = gr.State()
            gr.Markdown("# Where did the model look, and why this class?")
            with gr.Row():
                with gr.Column(scale=1, min_width=280, elem_id="cam-left"):
                    self._build_controls(list(classifiers))
                with gr.Column(scale=3, min_width=280):
                    self.status = gr.HTML(_status(_HINT), elem_id="cam-status", padding=False)
                    with gr.Row():
                        self.strips, self.sides, self.files = zip(self._build_side(), self._build_side(), strict=True)
            self._connect()

    def _build_controls(self, names: list[str]) -> None:
        sources: Any = ["upload", "clipboard", "webcam"]
        self.picture = gr.Image(label="Picture", sources=sources, height=230, buttons=[])
        self.picture.async_move_resource_to_block_cache = partial(_move, self.picture)  # type: ignore[method-assign]
        samples = sorted(_SAMPLES.glob("*.png"))
        buttons = [
            to_button(number, shrink(read_image(path), 160), "", f'aria-label="Sample {path.stem}"')
            for number, path in enumerate(samples)
        ]
        shown = gr.HTML(
            f'<p>Samples</p><div class="cam-strip">{"".join(buttons)}</div>', js_on_load=_SCRIPT, padding=False
        )

        def choose(event: gr.EventData) -> str:
            return str(samples[event.number])

        shown.select(choose, None, self.picture, queue=False, api_visibility="private")
        several, others = len(names) > 1, [("none", ""), *((name, name) for name in names)]
        with gr.Column(elem_id="cam-controls"):
            model = gr.Dropdown(names, value=names[0], label="Model", visible=several)
            other = gr.Dropdown(others, value=[*names, ""][1], label="Second model", visible=several)
            target = gr.Dropdown([], label="Class")
            rival = gr.Dropdown([("runner-up", _RUNNER_UP)], value=_RUNNER_UP, label="Rival, for contrast")
            evidence = gr.Radio(list(get_args(Evidence)), value="logit", label="Evidence")
            opacity = gr.Slider(0, 1, 0.85, step=0.05, label="Opacity", buttons=[])
            with gr.Row():
                x, y = (gr.Number(label=f"Place: {axis}, pixels", precision=0, min_width=100) for axis in "xy")
        self.controls: tuple[Any, ...] = model, other, target, rival, evidence, opacity, x, y  # as in _Choice

    def _build_side(self) -> tuple[gr.HTML, gr.HTML, gr.HTML]:
        """Build the places of what is shown of a model: the first classes, the chosen one, links to its files."""
        with gr.Column(min_width=280, elem_classes="cam-side"):
            strip, side = (gr.HTML(js_on_load=_SCRIPT, padding=False) for _ in range(2))
            return strip, side, gr.HTML(padding=False)

    def _connect(self) -> None:
        model, other, target, rival, evidence, opacity, x, y = self.controls
        inputs, later = [self.session, *self.controls], [*self.strips, *self.files]

        def listen(event: Any, change: _Change, *outputs: Any, busy: str = "hidden") -> None:
            style: dict[str, Any] = {"queue": False, "show_progress": busy, "api_visibility": "private"}
            fn, shown = self._respond(change, outputs), [self.status, *self.sides, *outputs]
            event(fn, inputs, shown, trigger_mode="always_last", **style).then(self._complete, inputs, later, **style)

        style: dict[str, Any] = {"queue": False, "api_visibility": "private"}
        new = [*self.strips, *self.controls[2:]]
        # Not preprocessed: Gradio would open the file before our limits hold.
        shown = [self.session, self.status, *self.sides, *new]
        dropped = self.picture.change(self._drop, [self.picture, *self.controls], shown, preprocess=False, **style)
        dropped.then(self._complete, inputs, later, **style)
        listen(model.input, lambda _, choice, event: _anew(choice), target, rival, *self.strips, busy="full")
        listen(other.input, _same, *self.strips, busy="full")
        listen(rival.input, lambda _, choice, event: choice._replace(evidence="contrast"), evidence)
        for control in (target, evidence, opacity, x, y):
            listen(control.input, _same)
        for number, (strip, side) in enumerate(zip(self.strips, self.sides, strict=True)):
            listen(strip.select, partial(self._pick, number), target)
            listen(side.click, _point, x, y)

    def _drop(self, file: dict[str, Any] | None, *values: Any) -> dict[Any, Any]:
        """Show a new picture; the one before is gone also if this one cannot be read."""
        gone: dict[Any, Any] = {self.session: None, **dict.fromkeys((*self.strips, *self.sides), "")}
        if file is None:
            return {**gone, self.status: _status(_HINT)}
        try:
            path = Path(file["path"])
            session = _Session(path.name, read_upload(path, self.limits, self.options), {})
            choice = _anew(_Choice(*values))._replace(x=None, y=None)
            return {self.session: session, **self._show(session, choice, [*self.strips, *self.controls[2:]])}
        except CamError as error:
            return {**gone, self.status: _status(str(error), "alert")}

    def _respond(self, change: _Change, outputs: Sequence[Any]) -> Callable[..., dict[Any, Any]]:
        """Make the function that shows the picture after a change of the choice."""

        def respond(event: gr.EventData, session: _Session | None, *values: Any) -> dict[Any, Any]:
            if session is None:
                return {self.status: _status(_HINT)}
            try:
                return self._show(session, change(session, _Choice(*values), event), outputs)
            except CamError as error:
                return {self.status: _status(str(error), "alert")}

        return respond

    def _show(self, session: _Session, choice: _Choice, outputs: Sequence[Any]) -> dict[Any, Any]:
        """The updates of the page that show a choice; `outputs` are what to set of controls and strips."""
        views = self._views(session, choice)
        result, chosen = views[0].result, views[0].chosen
        y, x = chosen.peak if choice.x is None or choice.y is None else (choice.y, choice.x)
        values = choice._replace(target=chosen.class_idx, x=x, y=y)
        updates: dict[Any, Any] = {self.status: "", **dict.fromkeys(self.sides, "")}
        updates |= {side: view.to_html(x, y) for side, view in zip(self.sides, views, strict=False)}
        if self.strips[0] in outputs:  # another picture or model
            updates[self.strips[1]] = ""
            updates |= {strip: view.to_strip(drawn=False) for strip, view in zip(self.strips, views, strict=False)}
        updates |= {control: value for control, value in zip(self.controls, values, strict=True) if control in outputs}
        if choice.target is None:  # a new picture or model
            names = [(f"{result.labels[c]} ({result.scores[c]})", c) for c in result.ranked]
            updates[self.controls[2]] = gr.update(choices=names, value=values.target)
            updates[self.controls[3]] = gr.update(choices=[("runner-up", _RUNNER_UP), *names], value=values.rival)
        return updates

    def _views(self, session: _Session, choice: _Choice) -> list[View]:
        """What each side shows; the other model the class with the same label, or else its first one."""
        views: list[View] = []
        for name in filter(None, (choice.model, choice.other)):
            if name not in session.results:
                session.results[name] = run_model(self.classifiers[name], session.image)
            result, classes = session.results[name], [choice.target, choice.rival]
            if views:
                labels = [None if c is None else views[0].result.labels[c] for c in (views[0].target, views[0].rival)]
                classes = [result.labels.index(label) if label in result.labels else None for label in labels]
            target, rival = (None if c == _RUNNER_UP else c for c in classes)
            target = result.ranked[0] if target is None else target
            views.append(View(result, target, rival, choice.evidence, choice.opacity))
        return views

    def _pick(self, number: int, session: _Session, choice: _Choice, event: Any) -> _Choice:
        """Choose one of the first classes of a side."""
        if number == 0:
            return choice._replace(target=event.number)
        label, labels = self.classifiers[choice.other].labels[event.number], self.classifiers[choice.model].labels
        if label not in labels:
            raise UsageError(f"{choice.model} has no class {label!r}", "Choose one of its classes")
        return choice._replace(target=labels.index(label))

    def _complete(self, session: _Session | None, *values: Any) -> list[str]:
        """Draw the first classes and offer files, once the picture is shown, which need not wait for them."""
        try:
            views = self._views(session, _Choice(*values)) if session else []
            strips = [view.to_strip(drawn=True) for view in views]
            links = [view.to_links(session.name) for view in views if session]
        except CamError:  # said when the picture was to be shown
            return [gr.skip()] * 4
        return [*strips, "", ""][:2] + [*links, "", ""][:2]


def _anew(choice: _Choice) -> _Choice:
    """Choose the predicted class, of a new picture or model."""
    return choice._replace(target=None, rival=_RUNNER_UP)


def _same(session: _Session, choice: _Choice, event: Any) -> _Choice:
    return choice


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
