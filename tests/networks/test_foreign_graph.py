"""Graphs of ONNX operators agree with torch, and unsupported ones are rejected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.networks.foreign_formats.graph import build

X = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(0)) - 0.3
W = torch.rand(4, 4, 3, 3, generator=torch.Generator().manual_seed(1)) - 0.5


def run(
    nodes: list[Any],
    weights: dict[str, torch.Tensor] | None = None,
    constants: dict[str, Any] | None = None,
    opset: int = 18,
    x: torch.Tensor = X,
) -> torch.Tensor:
    weights = weights or {}
    settings = {
        "input": "x",
        "output": "y",
        "opset": opset,
        "nodes": nodes,
        "constants": constants or {},
    }
    graph = build(settings, weights)
    graph.load_state_dict(weights)
    with torch.no_grad():
        result: torch.Tensor = graph.eval()(x)
    return result


def one(op: str, *takes: str, **attributes: Any) -> list[Any]:
    return [(op, ("x", *takes), ("y",), attributes)]


def ints(*values: int) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    return "int64", (len(values),), values


def check(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"pads": [1, 1, 1, 1]}, lambda: functional.conv2d(X, W, padding=1)),
        (
            {"pads": [2, 1, 2, 1], "dilations": [2, 1], "strides": [1, 2]},
            lambda: functional.conv2d(
                X, W, padding=(2, 1), dilation=(2, 1), stride=(1, 2)
            ),
        ),
        (
            {"pads": [0, 1, 1, 0]},
            lambda: functional.conv2d(functional.pad(X, (1, 0, 0, 1)), W),
        ),
        (
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            lambda: functional.conv2d(functional.pad(X, (0, 1, 0, 1)), W, stride=2),
        ),
    ],
)
def test_convolutions(attributes: dict[str, Any], expected: Any) -> None:
    check(run(one("Conv", "w", **attributes), {"w": W}), expected())


def test_layers() -> None:
    up = functional.conv_transpose2d(X, W, stride=2, padding=1, output_padding=1)
    attributes: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    check(
        run(one("ConvTranspose", "w", output_padding=[1, 1], **attributes), {"w": W}),
        up,
    )
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    check(run(one("MaxPool", **attributes)), functional.max_pool2d(X, 2))
    check(run(one("AveragePool", **attributes)), functional.avg_pool2d(X, 2))
    check(run(one("GlobalAveragePool")), X.mean((2, 3), keepdim=True))
    v = {name: torch.rand(4) + 0.1 for name in ("s", "b", "m", "v")}
    check(
        run(one("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3), v),
        functional.batch_norm(X, v["m"], v["v"], v["s"], v["b"], eps=1e-3),
    )
    two = {name: v[name] for name in ("s", "b")}
    check(
        run(one("InstanceNormalization", "s", "b"), two),
        functional.instance_norm(X, weight=v["s"], bias=v["b"]),
    )
    check(
        run(one("GroupNormalization", "s", "b", num_groups=2), two, opset=21),
        functional.group_norm(X, 2, v["s"], v["b"]),
    )
    check(
        run(one("DepthToSpace", blocksize=2, mode="CRD")),
        functional.pixel_shuffle(X, 2),
    )
    dcr = X.reshape(1, 2, 2, 1, 6, 8).permute(0, 3, 4, 1, 5, 2).reshape(1, 1, 12, 16)
    check(run(one("DepthToSpace", blocksize=2)), dcr)


@pytest.mark.parametrize(
    ("mode", "corners", "torchs"),
    [
        ("linear", "half_pixel", {"mode": "bilinear", "align_corners": False}),
        ("linear", "align_corners", {"mode": "bilinear", "align_corners": True}),
        ("cubic", "pytorch_half_pixel", {"mode": "bicubic", "align_corners": False}),
        ("nearest", "asymmetric", {"mode": "nearest"}),
        ("nearest", "half_pixel", {"mode": "nearest"}),
    ],
)
def test_resizing(mode: str, corners: str, torchs: dict[str, Any]) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": corners}
    rounding = "floor" if corners == "asymmetric" else "round_prefer_floor"
    expected = functional.interpolate(X, scale_factor=2, **torchs)
    weights = {"scales": torch.tensor([1.0, 1.0, 2.0, 2.0])}
    nodes = one("Resize", "", "scales", nearest_mode=rounding, **attributes)
    check(run(nodes, weights), expected)
    nodes = one("Resize", "", "", "sizes", nearest_mode=rounding, **attributes)
    check(run(nodes, constants={"sizes": ints(1, 4, 12, 16)}), expected)


def test_values_and_sizes() -> None:
    clipped = run(one("Clip", "low", ""), {"low": torch.tensor(0.1)})
    check(clipped, X.clamp(min=0.1))
    check(run(one("Clip", max=0.2), opset=10), X.clamp(max=0.2))
    check(run(one("LeakyRelu", alpha=0.3)), functional.leaky_relu(X, 0.3))
    slope = torch.rand(4, 1, 1)
    check(run(one("PRelu", "s"), {"s": slope}), functional.prelu(X, slope.ravel()))
    check(
        run(one("ReduceMean", "axes"), constants={"axes": ints(2, 3)}),
        X.mean((2, 3), True),
    )
    check(run(one("Softmax", axis=1)), X.softmax(1))
    check(run(one("Softmax"), opset=11), X.flatten(1).softmax(1).view_as(X))
    check(
        run(
            one("Pad", "pads", mode="reflect"),
            constants={"pads": ints(0, 0, 1, 2, 0, 0, 3, 0)},
        ),
        functional.pad(X, (2, 0, 1, 3), "reflect"),
    )
    slices = {
        "starts": ints(1, -1),
        "ends": ints(6, -(2**31)),
        "axes": ints(2, 3),
        "steps": ints(2, -1),
    }
    nodes = one("Slice", "starts", "ends", "axes", "steps")
    check(run(nodes, constants=slices), X[:, :, 1:6:2].flip(3))
    # The shape of a value, split and joined again, as torch exports views.
    nodes = [
        ("Shape", ("x",), ("s",), {}),
        ("Gather", ("s", "three"), ("n",), {"axis": 0}),
        ("Unsqueeze", ("n", "zero"), ("n1",), {}),
        ("Concat", ("one", "n1", "rest"), ("to",), {"axis": 0}),
        ("Reshape", ("x", "to"), ("y",), {}),
    ]
    constants = {
        "three": ("int64", (), (3,)),
        "zero": ints(0),
        "one": ints(1),
        "rest": ints(-1),
    }
    check(run(nodes, constants=constants), X.reshape(1, 8, -1))


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        (one("Explode"), "Explode"),
        (one("Add", "nowhere"), "'nowhere', which no operator produces"),
        ([("Relu", ("x",), ("z",), {})], "no operator produces"),
    ],
)
def test_graphs_that_do_not_hold_together(nodes: list[Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        run(nodes)


def test_variants_that_torch_has_not_are_refused() -> None:
    nodes = one(
        "Resize", "", "s", mode="linear", coordinate_transformation_mode="asymmetric"
    )
    with pytest.raises(ModelError, match="linear interpolation by asymmetric"):
        run(nodes, {"s": torch.tensor([1.0, 1.0, 2.0, 2.0])})
    with pytest.raises(ConfigError, match="not a valid type or name"):
        run(one("Relu"), constants={"c": ("object", (1,), (1,))})


def test_values_are_let_go_and_a_stop_is_heard() -> None:
    nodes = [
        ("Relu", ("x",), ("a",), {}),
        ("Neg", ("a",), ("b",), {}),
        ("Add", ("a", "b"), ("y",), {}),
    ]
    settings = {"input": "x", "output": "y", "opset": 18, "nodes": nodes}
    graph = build(settings, {})
    assert graph.last_use == {0: ["x"], 2: ["a", "b"]}
    asked: list[None] = []
    graph.between_strips = lambda: asked.append(None)
    assert not graph(X).any()
    assert len(asked) == 3
