"""Single modules against the linear problem written out by hand: a convolution is a matrix over its patches."""

from copy import deepcopy
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from compression.block import scale_dtype
from compression.errors import InvalidOptions, NumericalError, UnsupportedModel
from compression.hessian import Accumulator
from compression.layer import LayerProblem
from compression.matrix_view import input_rows, module_matrices
from compression.module import compress_module
from compression.options import (
    METHOD_OPTIONS,
    LayerOptions,
    MethodOptions,
    RtnOptions,
    SparseGptOptions,
)
from compression.registry import solve

CPU = torch.device("cpu")
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "stride": {"kernel_size": 3, "stride": (2, 1), "bias": False},
    "padded": {"kernel_size": (3, 2), "padding": (2, 1)},
    "dilated": {"kernel_size": 2, "dilation": (1, 3), "padding": 1},
    "same": {"kernel_size": (4, 3), "padding": "same", "dilation": (1, 2)},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "reflected": {"kernel_size": 3, "padding": (1, 2), "padding_mode": "reflect"},
    "around, same": {"kernel_size": (2, 3), "padding": "same", "padding_mode": "circular"},
    "two groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 2, "groups": 4},
    "pointwise": {"kernel_size": 1},
}
METHODS = [pytest.param(options, id=name) for name, options in METHOD_OPTIONS.items()]


def convolution(**options: Any) -> nn.Conv2d:
    torch.manual_seed(3)
    return nn.Conv2d(4, 8, **options)


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 4, 9, 7, generator=torch.Generator().manual_seed(4))


def patches(module: nn.Conv2d, images_BCHW: Tensor, group: int) -> Tensor:
    """What each output position of a group sees, one input at a time: the module's own forward with a single weight of one."""
    probe = deepcopy(module)
    probe.bias = None
    first = group * (module.out_channels // module.groups)
    columns = []
    for place in product(*map(range, module.weight.shape[1:])):
        with torch.no_grad():
            probe.weight.zero_()
            probe.weight[first, *place] = 1
            columns.append(probe(images_BCHW)[:, first].flatten())
    return torch.stack(columns, dim=1)


def options_of(method: type[MethodOptions]) -> LayerOptions:
    """2:4 and 4 bit, whichever of them the method knows."""
    asked = {"sparsity": 0.5, "pattern": "2:4", "bits": 4, "group_size": "row"}
    chosen: dict[str, Any] = {name: value for name, value in asked.items() if name in method.model_fields}
    options: Any = method(**chosen)
    return options  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # torch's, about its speed
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_rows_times_matrix_is_what_the_convolution_gives(options: dict[str, Any]) -> None:
    module = convolution(**options).double()
    X = images().double()
    matrices, rows = module_matrices(module), input_rows(module, X)
    assert len(matrices) == len(rows) == module.groups
    for group, X_NC in enumerate(rows):
        assert torch.equal(X_NC, patches(module, X, group))
    by_hand = torch.cat([X_NC @ W_RC.T for X_NC, W_RC in zip(rows, matrices, strict=True)], dim=1)
    if module.bias is not None:
        by_hand += module.bias
    found = module(X).movedim(1, -1).reshape(-1, 8)
    torch.testing.assert_close(by_hand, found, rtol=1e-12, atol=1e-12)


def test_single_image_has_the_rows_of_a_batch_of_one() -> None:
    module = convolution(kernel_size=3, padding=1)
    assert torch.equal(input_rows(module, images()[0])[0], input_rows(module, images()[:1])[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["stride", "two groups", "dilated"])
def test_convolution_is_compressed_as_the_linear_layer_over_its_patches(kind: str, method: type[MethodOptions]) -> None:
    module = convolution(**CONVOLUTIONS[kind] | {"kernel_size": 2})
    dense = [W_RC.clone() for W_RC in module_matrices(module)]
    options = options_of(method)
    results = compress_module(module, images(24).split(8), options, "net.conv")
    assert len(results) == module.groups
    for group, (W_RC, result) in enumerate(zip(dense, results, strict=True)):
        accumulator = Accumulator(W_RC.shape[1], CPU)
        for batch in images(24).split(8):
            accumulator.add(patches(module, batch, group))
        problem = LayerProblem(result.name, W_RC, accumulator.finish(result.name), scale_dtype(torch.float32))
        assert torch.equal(module_matrices(module)[group], solve(problem, options).weights.to_dense())
        assert result.tokens == len(patches(module, images(24), group))
        assert not torch.equal(module_matrices(module)[group], W_RC)


@pytest.mark.parametrize("method", METHODS)
def test_linear_and_the_transposed_form_of_it_are_compressed_alike(method: type[MethodOptions]) -> None:
    torch.manual_seed(5)
    linear, other = nn.Linear(32, 12), Conv1D(12, 32)
    with torch.no_grad():
        other.weight.copy_(linear.weight.T)
        other.bias.copy_(linear.bias)
    X = torch.randn(4, 30, 32)
    options = options_of(method)
    (a,), (b,) = compress_module(linear, [X], options), compress_module(other, [X], options)
    assert torch.equal(linear.weight, other.weight.T)
    assert a.relative_error == b.relative_error
    assert a.relative_error is not None
    assert a.tokens == 120
    torch.testing.assert_close(linear(X), other(X))


@torch.no_grad()
def test_small_net_keeps_its_2_4_pattern_and_loses_little() -> None:
    torch.manual_seed(6)
    net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, stride=2, groups=2))
    X = images(16)
    for index in (0, 2):
        module = net[index]
        assert isinstance(module, nn.Conv2d)
        assert module.bias is not None
        calibration = net[:index](X)
        expected = module(calibration)
        results = compress_module(module, [calibration], SparseGptOptions(sparsity=0.5, pattern="2:4"))
        assert all(int((W_RC != 0).unflatten(1, (-1, 4)).sum(-1).max()) == 2 for W_RC in module_matrices(module))
        change, whole = module(calibration) - expected, expected - module.bias[:, None, None]
        for result, part, of in zip(results, change.chunk(len(results), 1), whole.chunk(len(results), 1), strict=True):
            lost = float(part.square().sum() / of.square().sum())
            assert result.relative_error == pytest.approx(lost, rel=1e-3)
            assert lost < 0.5


def test_weight_keeps_its_dtype_and_results_are_of_what_is_stored() -> None:
    module = nn.Linear(32, 8).to(torch.bfloat16)
    (result,) = compress_module(module, [torch.randn(64, 32)], SparseGptOptions(sparsity=0.5, pattern="2:4"))
    assert module.weight.dtype == torch.bfloat16
    assert result.sparsity == 0.5


def test_pattern_that_does_not_tile_the_patches_is_refused_with_the_width() -> None:
    module = nn.Conv2d(3, 8, 3)
    with pytest.raises(InvalidOptions, match=r"4 does not divide the 27 inputs of net\.conv"):
        compress_module(module, [torch.randn(1, 3, 8, 8)], SparseGptOptions(sparsity=0.5, pattern="2:4"), "net.conv")


def channels_last() -> nn.Conv2d:
    module = nn.Conv2d(4, 8, 3)
    module.weight = nn.Parameter(module.weight.detach().contiguous(memory_format=torch.channels_last))
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.ConvTranspose2d(4, 8, 3), "transposed convolution"),
        (nn.Embedding(8, 4), "Embedding is not a module"),
        (channels_last(), "not contiguous"),
    ],
    ids=["transposed", "embedding", "channels last"],
)
def test_module_that_is_no_matrix_is_refused(module: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        compress_module(module, [], RtnOptions(bits=4, group_size="row"))


def test_module_is_left_as_it_was_when_an_input_is_not_finite() -> None:
    module = nn.Linear(32, 8)
    before = module.weight.detach().clone()
    with pytest.raises(NumericalError, match="NaN"):
        compress_module(module, [torch.full((4, 32), torch.nan)], SparseGptOptions(sparsity=0.5))
    assert torch.equal(module.weight, before)
