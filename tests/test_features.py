"""Features are taken during a forward pass, and the network is unchanged afterwards."""

from __future__ import annotations

import itertools
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from odd_heads import EXACT, GRID, SHAPE, Network
from torch import Tensor, nn
from torch.nn import functional as F

from cam.errors import ModelError
from cam.heads.copies import eval_copy, random_inputs
from cam.heads.find import find_head
from cam.heads.head import Site, token_grid
from cam.heads.hooks import eval_mode, forward
from cam.heads.outputs import find_logits, unwrap
from cam.heads.prove import prove_head

LOGITS = torch.arange(10.0).view(2, 5)
MAPS = torch.zeros(2, 8, 7, 7)


@dataclass
class Output:
    loss: None
    embedding: Tensor
    out: Tensor


Named = namedtuple("Named", ["hidden", "logits"])


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        LOGITS[:, :, None, None],
        (LOGITS, LOGITS.clone()),
        [MAPS, LOGITS],
        {"aux": torch.zeros(2, 5), "out": LOGITS},
        {"embedding": torch.zeros(2, 3), "logits": LOGITS},
        Output(None, torch.zeros(2, 3), LOGITS),
        Named(torch.zeros(2, 3), LOGITS),
        (torch.zeros(2, 3, dtype=torch.long), (MAPS, {"logits": LOGITS})),
        (torch.zeros(2, 3), {"logits": LOGITS}),
        {"out": torch.zeros(2, 5), "logits": LOGITS},
        {"last_hidden_state": LOGITS, "hidden_states": (MAPS,)},
        (LOGITS.softmax(1), LOGITS),
        ((LOGITS / 7).softmax(1), LOGITS),
        {"probabilities": LOGITS.sigmoid(), "scores": LOGITS},
        {"a": LOGITS.log_softmax(1), "b": LOGITS.softmax(1), "c": LOGITS},
        {"loss": torch.tensor(0.5), "out": (LOGITS, LOGITS.softmax(1)), "embedding": torch.zeros(2, 3)},
    ],
)
def test_class_scores_are_found_in_any_output(output):
    assert find_logits(output, 2).tolist() == LOGITS.tolist()


def test_a_score_without_a_class_dimension_is_one_class():
    assert find_logits(torch.tensor([1.0, 2.0]), 2).tolist() == [[1.0], [2.0]]


def test_the_squeezed_scores_of_one_image_are_its_classes():
    assert find_logits(torch.tensor([1.0, 2.0]), 1).tolist() == [[1.0, 2.0]]
    assert find_logits(torch.tensor(3.0), 1).tolist() == [[3.0]]


def test_small_scores_are_not_taken_for_the_probabilities_of_others():
    one, other = torch.full((2, 1000), 2e-3), torch.linspace(-1e-3, 1e-3, 2000).view(2, 1000)
    with pytest.raises(ModelError, match=r"0 \(2, 1000\), 1 \(2, 1000\)"):
        find_logits((one, other), 2)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (MAPS, r"0 \(2, 8, 7, 7\)"),
        (None, "NoneType"),
        ([{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}], r"\(0, 4\)"),
        ({"last_hidden_state": MAPS, "pooler_output": torch.zeros(2, 8, 1, 1)}, r"\(2, 8, 1, 1\)"),
        ((torch.zeros(2, 512), LOGITS), r"0 \(2, 512\), 1 \(2, 5\)"),
        ((LOGITS, torch.zeros(2, 5)), r"0 \(2, 5\), 1 \(2, 5\)"),
        ({"age": LOGITS, "sex": torch.zeros(2, 5, 1, 1)}, r"0 'age' \(2, 5\), 1 'sex' \(2, 5, 1, 1\)"),
        ({"score": LOGITS, "confidence": torch.zeros(2)}, r"0 'score' \(2, 5\), 1 'confidence' \(2,\)"),
        (
            {"logits": [LOGITS, torch.zeros(2, 7)], "out": LOGITS},
            r"0 'logits' \(2, 5\), 1 'logits' \(2, 7\), 2 'out' \(2, 5\)",
        ),
    ],
)
def test_an_output_without_class_scores_or_with_several_is_an_error(output, message):
    with pytest.raises(
        ModelError, match=message + ".*(Choose one by name or index with --output|Return the logits alone)"
    ):
        find_logits(output, 2)


@pytest.mark.parametrize(
    ("count", "size", "grid"),
    [
        (49, (224, 224), (7, 7)),
        (96, (16, 24), (8, 12)),
        (12, (48, 64), (3, 4)),
        (12, (64, 48), (4, 3)),
        (1, (8, 8), (1, 1)),
    ],
)
def test_tokens_stand_in_rows_with_the_aspect_of_the_input(count, size, grid):
    assert token_grid(count, size) == grid


def test_class_and_register_tokens_are_left_out_at_any_input_size():
    site = Site("", "add", 0, channel=2, tokens=(1, 2))
    for height, width in ((2, 3), (4, 6)):
        grid = torch.arange(float(height * width)).view(1, height * width, 1)
        tokens = torch.cat([torch.full((1, 1, 1), -1.0), grid, torch.full((1, 2, 1), -1.0)], 1)
        features = site.to_grid(tokens, (16 * height, 16 * width))
        assert features.tolist() == grid.view(1, 1, height, width).tolist()


def test_sites_are_equal_when_they_are_the_same_call():
    assert Site("layer4", "relu_", 1, channel=2, tokens=(1, 0)) == Site("layer4", "relu_", 1)
    assert Site("layer4", "relu_", 1) != Site("layer4", "relu_", 0)


def test_features_are_the_tensor_the_call_gave(device):
    network = EXACT["reused_relu"].build().to(device)
    inputs = random_inputs(2, SHAPE).to(device)
    logits, features = forward(network, Site("relu", "relu", 1), inputs)
    with torch.no_grad():
        expected = F.relu(network.second(F.relu(network.conv(inputs))))
        torch.testing.assert_close(features, expected, rtol=0, atol=0)
        torch.testing.assert_close(logits, network(inputs), rtol=0, atol=0)
    assert features.shape == (2, 6, *GRID)


def test_features_are_those_before_the_network_changes_them_in_place(device):
    network = EXACT["tokens_scaled_in_place"].build().to(device)
    inputs = random_inputs(2, SHAPE).to(device)
    features = forward(network, Site("conv", "conv2d", 0), inputs)[1]
    with torch.no_grad():
        torch.testing.assert_close(features, network.conv(inputs), rtol=0, atol=0)


def test_a_missing_call_is_an_error():
    with pytest.raises(ModelError, match=r"did not make the call 'relu' in layer 'conv'"):
        forward(EXACT["functional_relu"].build(), Site("conv", "relu", 0), random_inputs(1, SHAPE))


def test_nested_wrappers_are_removed():
    network = nn.Linear(2, 3)
    assert unwrap(torch.compile(nn.DataParallel(nn.DataParallel(network)), backend="eager")) is network


def test_a_network_that_does_not_run_is_one_sentence():
    with pytest.raises(ModelError, match=r"does not run on an input of shape \(1, 3, 16, 24\): RuntimeError"):
        eval_copy(nn.Conv2d(5, 2, 3), SHAPE)


# --- the network is unchanged afterwards


def state_of(network: nn.Module) -> list[object]:
    """Everything that an analysis could change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        [(name, m.training, *(len(getattr(m, kind)) for kind in hooks)) for name, m in network.named_modules()],
        [(p.requires_grad, p.dtype, p._version, p.grad_fn, id(p.grad)) for p in network.parameters()],
        [p.grad.tolist() for p in network.parameters() if p.grad is not None],
        {name: (tensor.tolist(), tensor.dtype) for name, tensor in network.state_dict().items()},
        [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()],
        len(torch.overrides._get_current_function_mode_stack()),
        torch.get_rng_state().tolist(),
    ]


def mixed_network(device: torch.device, calls: Iterator[int] | None = None, failing: int = 0) -> Network:
    """A network with mixed training flags, frozen and live parameters, gradients and buffers.

    Its call with the number `failing` raises; copies share the count.
    """
    torch.manual_seed(0)

    def run(net: Network, x: Tensor) -> Tensor:
        features = F.relu(net.norm(net.conv(x)))
        if calls and next(calls) == failing:
            raise ValueError("fails on purpose")
        return net.fc(net.dropout(features.mean((2, 3))))

    layers = {"conv": nn.Conv2d(3, 6, 3), "norm": nn.BatchNorm2d(6), "dropout": nn.Dropout(), "fc": nn.Linear(6, 5)}
    network = Network(run, **layers).to(device)
    network.conv.requires_grad_(False)
    nn.init.zeros_(network.fc.bias)
    network.fc.weight.grad = torch.ones(5, 6, device=device)
    network.train()
    network.norm.eval()
    network.fc.register_forward_hook(lambda *_: None)
    return network


INPUTS = random_inputs(2, SHAPE)
ANALYSES = {
    "forward": lambda network, head: forward(network, head.site, INPUTS.to(head.weight.device)),
    "find_head": lambda network, head: find_head(network, SHAPE),
    "prove_head": lambda network, head: prove_head(network, head, SHAPE, in_float64=True),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ANALYSES)
def test_the_network_is_unchanged(name, mode, device):
    network = mixed_network(device)
    head = find_head(network, SHAPE).exact().to(device)
    inputs = INPUTS.clone()
    with mode():
        before = state_of(network)
        ANALYSES[name](network, head)
        assert state_of(network) == before
    assert torch.equal(INPUTS, inputs)


@pytest.mark.parametrize("name", ANALYSES)
def test_the_network_is_unchanged_if_any_of_its_calls_fails(name, device):
    head = find_head(mixed_network(device), SHAPE).exact().to(device)
    for call in range(1, 100):
        network = mixed_network(device, itertools.count(1), call)
        before = state_of(network)
        try:
            ANALYSES[name](network, head)
        except (ModelError, ValueError):
            assert state_of(network) == before
        else:
            break
    assert 1 + {"forward": 1, "find_head": 3, "prove_head": 3}[name] <= call < 99


def test_training_flags_are_restored_if_a_module_is_used_twice():
    shared = nn.Dropout()
    network = nn.Sequential(shared, nn.Sequential(shared, nn.ReLU()).eval()).train(False)
    network[1].train()
    with eval_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [False, True, True, True]
