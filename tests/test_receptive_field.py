"""Where the cells of a map lie in the input: networks whose geometry is known, and cells that are no places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cam
from cam.classifiers.preprocessing import Preprocessing
from cam.errors import HeadError
from cam.heads.find import find_head
from cam.heads.head import Site
from cam.heads.hooks import forward
from cam.heads.pasting import orient
from cam.maps.geometry import Grid


def linear(channels: int = 16) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]


def grid_of(network: nn.Module, size: tuple[int, int], device: torch.device) -> Grid:
    report = find_head(network.to(device), (3, *size))
    assert report.grid, report.reason
    return report.grid


def patches(*strides: int) -> nn.Module:
    """Windows that do not overlap: cell i sees the pixels from stride * i to stride * (i + 1) - 1 exactly."""
    torch.manual_seed(0)
    layers, channels = [], 3
    for stride in strides:
        layers += [nn.Conv2d(channels, 16, stride, stride), nn.ReLU()]
        channels = 16
    return nn.Sequential(*layers, *linear())


def averaging(padding: tuple[int, int, int, int], kernel: int = 5, stride: int = 4) -> nn.Module:
    """Windows that average, behind a padding (left, right, top, bottom): their centers are known."""
    convolution = nn.Conv2d(3, 3, kernel, stride, bias=False)
    nn.init.constant_(convolution.weight, 1 / (3 * kernel**2))
    return nn.Sequential(nn.ZeroPad2d(padding), convolution, *linear(3))


@pytest.mark.parametrize(
    ("strides", "size"),
    [
        *[
            ((3, 3, 3), (54, 54)),
            ((3, 3, 3), (81, 54)),
            ((6, 6), (72, 72)),
            ((6, 6), (108, 150)),
            ((2, 3, 5), (120, 90)),
        ],
        *[((2, 3, 5), (90, 90)), ((7, 2, 2), (56, 84)), ((31,), (62, 93)), ((31,), (31, 93)), ((3, 3, 3), (60, 70))],
    ],
)
def test_strides_are_exact_and_centers_within_a_tenth_of_a_cell(strides, size, device):
    grid, stride = grid_of(patches(*strides), size, device), int(np.prod(strides))
    assert (grid.method, grid.stride) == ("measured", (stride, stride))
    assert grid.offset == pytest.approx(((stride - 1) / 2,) * 2, abs=stride / 10)


@pytest.mark.parametrize(
    ("padding", "offset"),
    [((0, 0, 0, 0), (2, 2)), ((2, 2, 2, 2), (0, 0)), ((3, 0, 1, 0), (1, -1)), ((0, 3, 0, 3), (2, 2))],
)
def test_centers_of_averages_are_exact(padding, offset, device):
    torch.manual_seed(0)
    grid = grid_of(averaging(padding), (48, 64), device)
    assert (grid.method, grid.stride) == ("measured", (4, 4))
    assert grid.offset == pytest.approx(offset, abs=0.02)


class Same(nn.Module):
    """TensorFlow's SAME padding: so much that the map has ceil(size / stride) cells, the odd pixel at the end."""

    def __init__(self, kernel: int, stride: int, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 16, kernel, stride)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size in (x.shape[3], x.shape[2]):
            total = max(0, (-(-size // self.stride) - 1) * self.stride + self.kernel - size)
            padding += [total // 2, total - total // 2]
        return self.convolution(F.pad(x, padding)).relu()


@pytest.mark.parametrize("size", [224, 260, 299, 300, 380])
def test_padding_may_depend_on_the_size(size, device):
    torch.manual_seed(0)
    layers = [Same(3, 2, 3), Same(3, 2, 16), Same(5, 2, 16), Same(3, 2, 16), Same(5, 2, 16)]
    offset, stride, length = 0.0, 1, size
    for layer in layers:  # convolution arithmetic: the first window starts before the input by half of its padding
        cells = -(-length // 2)
        padding = max(0, (cells - 1) * 2 + layer.kernel - length) // 2
        offset, stride, length = offset + stride * ((layer.kernel - 1) / 2 - padding), 2 * stride, cells
    grid = grid_of(nn.Sequential(*layers, *linear()), (size, size), device)
    assert grid.stride == (32, 32)
    assert grid.offset == pytest.approx((offset, offset), abs=3)


class Turned(nn.Module):
    def __init__(self, turn: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.turn, self.network = turn, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.turn(x))


TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "unchanged": lambda x: x,
    "mirrored": lambda x: x.flip(3),
    "upside down": lambda x: x.flip(2),
    "by 180 degrees": lambda x: x.flip(2, 3),
    "transposed": lambda x: x.mT,
    "by 90 degrees": lambda x: x.rot90(1, (2, 3)),
    "by 270 degrees": lambda x: x.rot90(3, (2, 3)),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_heat_lies_on_the_object_however_the_network_turns_its_input(turn, size, device):
    network = Turned(TURNS[turn], patches(2, 4)).to(device)
    classifier = cam.wrap(network, preprocessing=Preprocessing(64, size, (0.5,) * 3, (0.5,) * 3))
    gray, image = (np.full((*size, 3), 128, np.uint8) for _ in range(2))
    image[8:16, 40:56] = 255, 0, 0
    explanation = cam.explain(classifier, image)
    change = np.abs(explanation.heat() - cam.explain(classifier, gray, explanation.class_idx).heat())
    y, x = (float((change * positions).sum() / change.sum()) for positions in np.indices(change.shape))
    assert (y, x) == pytest.approx((11.5, 47.5), abs=1)


@pytest.mark.parametrize("tokens", [lambda x: x.flatten(2), lambda x: x.mT.flatten(2)], ids=["rows", "columns"])
@pytest.mark.parametrize("size", [(48, 48), (48, 72)])
def test_tokens_run_along_rows_or_columns(tokens, size, device):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix, self.linear = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x):
            return self.linear(self.mix(tokens(self.embed(x)).mT).relu().mean(1))

    torch.manual_seed(0)
    network = Tokens().to(device)
    report = find_head(network, (3, *size))
    assert report.head
    assert report.grid
    assert report.grid.stride == (8, 8)
    image = torch.zeros(1, 3, *size, device=device)
    image[..., 16:24, 32:40] = 3  # the cell in row 2, column 4
    _, features = forward(network, report.head.site, torch.cat((image, torch.zeros_like(image))))
    changed = (features[0] - features[1]).abs().sum(0)
    assert divmod(int(changed.argmax()), changed.shape[1]) == (2, 4)
    assert (changed > 1e-5).sum() == 1


def test_fixed_and_adaptive_pools_have_the_same_centers(device):
    grids = []
    for pool in (nn.AvgPool2d(7), nn.AdaptiveAvgPool2d(1)):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()]
        network = nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(16, 4))
        grids.append(grid_of(network, (28, 28), device))
    assert grids[0].method == "measured"
    assert grids[0] == grids[1]


def test_a_fixed_pool_over_two_cells_that_see_everything(device):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(12, 12, 3, 2, 1), nn.ReLU()]
    grid = grid_of(nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)), (32, 32), device)
    assert grid.stride == (16, 16)
    assert max(map(abs, grid.offset)) <= 4  # by convolution arithmetic: 0


class Multiples(nn.Module):
    """Takes multiples of its stride only, as an HRNet does, whose levels would not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.network = patches(8)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 8 == x.shape[3] % 8 == 0
        return self.network(x)


def test_a_network_that_takes_multiples_of_its_stride_is_measured(device):
    grid = grid_of(Multiples(), (48, 64), device)
    assert (grid.method, grid.stride) == ("measured", (8, 8))
    np.testing.assert_allclose(grid.offset, 3.5, atol=0.8)


def test_a_network_that_resizes_its_input_is_stretched(device):
    torch.manual_seed(0)
    grid = grid_of(nn.Sequential(nn.AdaptiveAvgPool2d(16), *patches(4)), (48, 48), device)
    assert grid == Grid((5.5, 5.5), (12, 12), "stretched")


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)


def test_pastes_place_a_network_without_gradients(device):
    network = Turned(NoGradient.apply, patches(4, 4))
    grid = grid_of(network, (96, 96), device)
    assert grid.stride == (16, 16)
    assert grid.offset == pytest.approx((7.5, 7.5), abs=2)


class Stacked(nn.Module):
    """The average of several networks, which has even weights."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(patches(4) for _ in range(number))
        for seed, network in enumerate(self.networks):
            torch.manual_seed(seed)
            nn.init.normal_(network[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self.networks], 1).mean(1)


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = patches(4)

    def forward(self, x: Tensor) -> Tensor:
        body, head = self.network[:2], self.network[2:]
        return head(body(x) + body(x.flip(3)))


class Queries(nn.Module):
    """Learned queries attend to the image, and are averaged."""

    def __init__(self, queries: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.linear = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 4)
        self.queries = nn.Parameter(torch.randn(queries, 16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT
        attention = (self.queries @ tokens.mT / 4).softmax(-1)
        return self.linear((attention @ tokens).relu().mean(1))


class Shuffled(nn.Module):
    """Tokens in another order, such as window by window."""

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix, self.linear = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 16), nn.Linear(16, 4)
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT[:, self.order]
        return self.linear(self.mix(tokens).relu().mean(1))


def windows(side: int, window: int) -> Tensor:
    grid = torch.arange(side**2).view(side // window, window, side // window, window)
    return grid.transpose(1, 2).flatten()


NO_PLACES = {
    "ensemble of four": lambda: Stacked(4),
    "ensemble of nine": lambda: Stacked(9),
    "queries": lambda: Queries(9),
    "many queries": lambda: Queries(36),
    "shuffled": lambda: Shuffled(torch.randperm(64, generator=torch.Generator().manual_seed(1))),
    "views": Views,
    "windows of 4": lambda: Shuffled(windows(8, 4)),
    "windows of 2": lambda: Shuffled(windows(8, 2)),
}


@pytest.mark.parametrize("name", NO_PLACES)
def test_cells_that_are_no_places_are_refused(name, device):
    report = find_head(NO_PLACES[name]().to(device), (3, 64, 64))
    assert report.kind == "no-places"
    with pytest.raises(HeadError, match="not places in the image"):
        report.exact()


class Gated(nn.Module):
    """Squeeze and excitation: a gate that depends on the whole image changes every cell more than a patch does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.gate, self.linear = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 16), nn.Linear(16, 4)
        with torch.no_grad():
            self.embed.bias += 20
            self.gate.weight *= 40
            self.gate.bias -= 20 * self.gate.weight.sum(1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.embed(x).relu()
        gates = self.gate(features.mean((2, 3))).sigmoid()
        return self.linear((features * gates[..., None, None]).mean((2, 3)))


def test_cells_behind_a_gate_of_the_whole_image_are_places(device, monkeypatch):
    assert grid_of(Gated(), (64, 64), device).stride == (8, 8)
    monkeypatch.setattr("cam.heads.receptive_field._oriented_without_gates", lambda *_: None)
    assert find_head(Gated().to(device), (3, 64, 64)).kind == "no-places"


def test_weights_that_are_not_numbers_are_named_as_the_reason(device):
    network = patches(4, 2).to(device)
    torch.nn.init.constant_(network[0].weight[:1], float("nan"))
    assert "not finite" in find_head(network, (3, 32, 32)).reason


def test_an_ensemble_of_three_is_called_one(device):
    report = find_head(Stacked(3).to(device), (3, 64, 64))
    assert (report.kind, report.head) == ("not-gap", None)
    assert "ensemble: explain its members one by one" in report.reason


def test_measuring_in_inference_mode_gives_the_same(device):
    network = averaging((1, 1, 1, 1))
    with torch.inference_mode():
        grid = grid_of(network, (32, 32), device)
    assert grid == grid_of(network, (32, 32), device)
    assert grid.method == "measured"


def test_the_same_weights_with_another_stride_are_measured_again(device):
    grids = []
    for stride in (4, 2):
        network = averaging((0, 0, 0, 0), stride=stride)
        network.load_state_dict({name: torch.full_like(value, 0.1) for name, value in network.state_dict().items()})
        grids.append(cam.wrap(network.to(device), input_size=48).grid)
    assert [grid.stride for grid in grids] == [(4, 4), (2, 2)]


def test_faint_answers_everywhere_do_not_hide_the_order_of_the_strong_ones():
    cells = np.indices((3, 3)).reshape(2, -1).T
    strong, faint = torch.eye(9, dtype=torch.float64).view(9, 3, 3), torch.ones(4, 3, 3, dtype=torch.float64)
    faint[:, 1, 1] = 2
    centers = 8.0 * np.concatenate((cells, [[0, 0], [2, 2], [0, 2], [2, 0]]))
    site, correlations = orient(Site("", "relu", 0), torch.cat((1000 * strong.mT, faint)), centers)
    assert (site.transposed, site.flipped) == (True, (False, False))
    # Variances 6 of the strong, weight sqrt(1000); 4 of what was pasted at the corners, weight sqrt(2).
    np.testing.assert_allclose(correlations, (1 + 4 / 6 * 0.002**0.5) ** -0.5, rtol=1e-3)


class MirroredChannel(nn.Module):
    """Its first channel is mirrored and by far the strongest, and no class looks at it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5)
        nn.init.zeros_(self.fc.weight[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).relu()
        return self.fc(torch.cat([100 * features[:, :1].flip(3), features[:, 1:]], 1).mean((2, 3)))


def test_channels_that_no_class_looks_at_do_not_place_cells(device):
    report = find_head(MirroredChannel().to(device), (3, 48, 48))
    assert report.site.flipped == (False, False)
    assert report.grid.method == "measured"
    assert report.grid.offset == pytest.approx((1.5, 1.5), abs=1)
    assert report.grid.stride == (4, 4)


def test_rows_and_columns_have_their_own_strides(device):
    torch.manual_seed(0)
    grid = grid_of(nn.Sequential(nn.Conv2d(3, 16, (4, 6), (4, 6)), nn.ReLU(), *linear()), (48, 60), device)
    assert (grid.method, grid.stride) == ("measured", (4, 6))
    assert grid.offset == pytest.approx((1.5, 2.5), abs=1)
