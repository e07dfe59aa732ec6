"""Networks with several outputs: the class scores are not guessed at, and may be chosen by name or index."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from small import photo
from torch import nn

import cam
from cam.classifiers.inspection import inspect_model
from cam.engines.checked import make_engine
from cam.errors import ModelError, UsageError
from cam.images.io import write_image

MODULE = """
import torch
from torch import nn

class Tasks(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.age, self.sex = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        pooled = self.body(x)
        return {"age": self.age(pooled), "sex": self.sex(pooled), "both": (pooled, self.age(pooled))}
"""
BATCH = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32).sin()


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> nn.Module:
    (tmp_path / "tasks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    return __import__("tasks").Tasks()


def test_several_outputs_are_refused_with_their_names(tasks):
    listed = r"0 'age' \(\d, 3\), 1 'sex' \(\d, 3\), 2 'both' \(\d, 6\), 3 'both' \(\d, 3\)"
    with pytest.raises(ModelError, match=rf"The network returns {listed}.*Choose one by name or index with --output"):
        cam.wrap(tasks, input_size=32)


@pytest.mark.parametrize(("output", "layer"), [("age", "age"), ("sex", "sex"), (0, "age"), ("1", "sex"), (3, "age")])
def test_an_output_is_chosen_by_name_or_index(tasks, output, layer):
    classifier = cam.wrap(tasks, input_size=32, output=output)
    linear = tasks.get_submodule(layer)
    assert torch.allclose(classifier.head.weight, linear.weight, atol=1e-5)
    assert torch.allclose(classifier.head.bias, linear.bias, atol=1e-5)
    logits, features, _ = classifier.forward(BATCH)
    expected = linear(tasks.body(BATCH)).detach()
    assert torch.allclose(logits, expected, atol=1e-5)
    assert classifier.name == "Tasks"
    assert tasks.training  # unchanged
    for name in ("eager", "onnxruntime"):
        engine = make_engine(name, classifier.network, classifier.head, (3, 32, 32))
        fast, same = engine(BATCH)
        assert (engine.name, engine.reason) == (name, "")
        assert torch.allclose(fast, expected, atol=1e-5)
        assert torch.allclose(same, features, atol=1e-5)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("height", "--output height names none of the network's outputs: 0 'age'"),
        (4, "--output 4 names none of the network's outputs"),
        ("both", "--output both names 2 of the network's outputs"),
    ],
)
def test_an_output_that_is_not_there_is_an_error_with_the_others(tasks, output, message):
    with pytest.raises(UsageError, match=message):
        cam.wrap(tasks, input_size=32, output=output)


def test_what_is_no_row_of_scores_is_no_output(tasks):
    with pytest.raises(ModelError, match=r"The network returns 0 \(\d, 6, 8, 8\)"):
        cam.wrap(nn.Sequential(tasks.body[:2]), input_size=32, output=0)
    with pytest.raises(UsageError, match=r"network must be a torch\.nn\.Module, got 'tasks'"):
        cam.wrap("tasks", output=0)


def test_the_command_explains_the_chosen_output(run, tasks, tmp_path):
    write_image(tmp_path / "a.png", photo(32, 32))
    command = "explain", tmp_path / "a.png", "-m", "tasks:Tasks", "--input-size", 32, "-o", tmp_path / "out", "--output"
    assert run(*command, "sex").exit_code == 0
    run_info = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run_info["output"], run_info["settings"]["output"]) == ("sex", "sex")
    result = run(*command, "age")
    assert result.exit_code == 2
    assert "--output sex" in result.output
    result = run(*command, "nose")
    assert result.exit_code == 2
    assert "--output nose names none of the network's outputs: 0 'age' (1, 3)" in result.output
    assert inspect_model("tasks:Tasks", input_size=32, output="sex").classifier.head.classes == 3
    assert run("inspect", "tasks:Tasks", "--input-size", 32, "--output", "sex").exit_code == 0
