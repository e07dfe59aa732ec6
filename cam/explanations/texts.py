"""What the legend of an explanation says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cam.explanations.explanation import Channel, Explanation

_UNITS = {
    "logit": "evidence (logit)",
    "contrast": "one over the other (logit)",
    "margin": "lead over the others (logit)",
    "posterior": "probability at each position",
}

RUNS = {"integrated": "nodes", "shapley": "permutations"}
METHODS = {
    "integrated": "integrated gradients",
    "shapley": "Shapley values",
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "xgradcam": "XGrad-CAM",
}


def legend_texts(explanation: Explanation, vmax: float, channel: Channel | None = None) -> dict[str, Any]:
    """The texts of `make_legend`, for the class or for one of its channels, on a color scale that ends at `vmax`."""
    other_input = channel is None and explanation.map_logit != explanation.logit
    title, sum_of_map = explanation.title, ""
    score, logit, bias = explanation.score, explanation.logit, explanation.bias
    evidence = "logit" if channel else explanation.evidence
    details = f"{score} {logit:.2f}"
    if explanation.probability is not None:
        details = f"probability {100 * explanation.probability:.1f} %   {details}"
    if channel:
        title = f"{explanation.label}: channel {channel.index}"
        details = f"adds {channel.share:+.2f} to the {score}, {explanation.map_logit:.2f}"
    elif explanation.against:
        details = f"margin {explanation.margin:+.2f} = {score} {logit:.2f} - {explanation.against.logit:.2f}"
    elif evidence == "logit" and explanation.exactness != "reference":
        source = f"at other inputs: {score}" if other_input else score
        base = "bias" if explanation.exactness == "exact" else "base"
        terms = f"{explanation.map_logit - bias:.2f} + {base} {bias:.2f}" if round(bias, 2) else ""
        sum_of_map = f"{source} {explanation.map_logit:.2f} = mean of the map {terms}"
    values = channel.cam if channel else explanation.evidence_map
    extreme, frame = values.flat[np.abs(values).argmax()], explanation.frame
    facts = (
        "" if channel else explanation.note,
        f"{frame.input[0]} x {frame.input[1]} input" if other_input else "",
        f"the largest value, {extreme:+.3g}, is beyond the scale" if abs(extreme) > vmax else "",
        f"the largest value, {extreme:+.3g}, is below a tenth of the scale" if 0 < abs(extreme) < vmax / 10 else "",
        "pale: not seen" if frame.seen != (0, 0, frame.photo[1], frame.photo[0]) else "",
    )
    notes = [sum_of_map, *filter(None, (how_computed(explanation), *facts))]
    against = None if channel else explanation.against
    ends = (against.label, explanation.label) if against else ("", "")
    unit = _UNITS[evidence].replace("logit", score)
    return {"title": title, "details": details, "notes": notes, "unit": unit, "ends": ends}


def how_computed(explanation: Explanation) -> str:
    """How a map that is not exact was computed, and how well it adds up."""
    method, count = explanation.method, explanation.runs
    if explanation.exactness == "exact":
        return ""
    if explanation.exactness == "reference":
        return f"{METHODS[method]} (not complete)"
    runs = f"{count} {RUNS[method].removesuffix('s' * (count == 1))}"
    sampling_error = explanation.sampling_error
    noise = f", sampling error {_percent(sampling_error)}" if sampling_error else ""
    return f"complete to {_percent(_missing(explanation))}, {METHODS[method]}, {runs}{noise}"


def _missing(explanation: Explanation) -> float:
    """What the map misses of logit - base, as a share of it."""
    other = explanation.against
    expected = explanation.map_logit - explanation.bias - (other.map_logit - other.bias if other else 0)
    mean = float((explanation.evidence_map if other else explanation.cam).mean())
    return abs(mean - expected) / max(abs(expected), 1e-30)


def _percent(error: float) -> str:
    percent = 100 * max(error, 1e-4)
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1g} %"
