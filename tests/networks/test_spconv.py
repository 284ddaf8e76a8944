"""Sparse convolutions with spconv equal our own, and are used only where they may be.

spconv computes on the CPU here, which the product does not use: this tests how kernel
maps and weights are passed to it, not its CUDA kernels.
"""

from __future__ import annotations

import pytest
import torch

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.interruption import check_stop, interruptible
from napari_geosr.networks import build_network
from napari_geosr.networks.sparse import (
    GenerativeConvolution,
    SparseTensor,
    StridedConvolution,
    SubmanifoldConvolution,
    UpConvolution,
    _spconv,
    gather_bytes,
    sparse_backend,
)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Use spconv on the CPU; lists the number of places of each kernel computed."""
    pytest.importorskip("spconv.pytorch", reason="spconv is not installed")
    computed: list[int] = []
    convolution = _spconv.convolution

    def counted(features, weight, pairs, n_bytes):
        computed.append(len(weight))
        return convolution(features, weight, pairs, n_bytes)

    monkeypatch.setattr(_spconv, "_works_on", lambda _device: True)
    monkeypatch.setattr(_spconv, "convolution", counted)
    return computed


def voxels(channels: int, share: float = 0.3) -> SparseTensor:
    generator = torch.Generator().manual_seed(3)
    active = torch.rand(2, 9, 10, 13, generator=generator) < share
    values = torch.randn(2, channels, 9, 10, 13, generator=generator)
    return SparseTensor.from_dense(values, active)


def assert_equal(found: SparseTensor, expected: SparseTensor) -> None:
    assert torch.equal(found.coords, expected.coords)
    scale = expected.features.abs().max()
    assert (found.features - expected.features).abs().max() <= 1e-4 * scale


@pytest.mark.parametrize("n_bytes", [1, 2**24])
@pytest.mark.parametrize(
    ("kind", "places"),
    [("submanifold", 27), ("strided", 8), ("up", 8), ("children", 8), ("wide", 64)],
)
def test_each_layer_equals_ours(
    kind: str, places: int, n_bytes: int, on_cpu: list[int]
) -> None:
    torch.manual_seed(1)
    x = voxels(5)
    arguments: tuple[SparseTensor, ...] = (x,)
    if kind == "up":
        coarse = StridedConvolution(5, 6)(x)
        layer: torch.nn.Module = UpConvolution(6, 4)
        arguments = (coarse, x)
    elif kind in ("children", "wide"):
        layer = GenerativeConvolution(5, 4, wide=kind == "wide")
    else:
        chosen = SubmanifoldConvolution if kind == "submanifold" else StridedConvolution
        layer = chosen(5, 4)
    expected = layer(*arguments)
    assert not on_cpu, "spconv has computed a gradient"
    with torch.no_grad(), gather_bytes(n_bytes):
        found = layer(*arguments)
    assert on_cpu == [places]
    assert float(expected.features.detach().abs().max()) > 0.1
    assert_equal(found, expected)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_networks_equal_ours(share: float, on_cpu: list[int]) -> None:
    torch.manual_seed(1)
    for factor, labels in ((1, 3), (2, 1)):
        network = build_network(
            "surface_unet", channels=(4, 6, 8), in_channels=3,
            upscale_factor=factor, out_channels=labels,
        ).eval()  # fmt: skip
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.4)
        x = voxels(3, share)
        expected = network(x)
        before = len(on_cpu)
        with torch.inference_mode():
            found = network(x)
        assert len(on_cpu) > before
        if share:
            assert_equal(found, expected)
        else:
            assert len(found) == len(expected) == 0


def test_the_example_detects_a_wrong_result(
    on_cpu: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _spconv.agrees_on("cpu")
    correct = _spconv.convolution
    monkeypatch.setattr(
        _spconv, "convolution", lambda *given: correct(*given) * (1 + 1e-3)
    )
    assert not _spconv.agrees_on("cpu")
    assert on_cpu == [27, 27]


def test_an_unusable_installation_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(_spconv, "_operations", fail)
    assert not _spconv.agrees_on("cpu")


@pytest.mark.parametrize(
    "error",
    [
        Cancelled("Stopped."),
        torch.OutOfMemoryError(),
        RuntimeError("CUDA out of memory"),
    ],
)
def test_spconv_is_tried_again_after_an_interrupted_check(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise error

    original = _spconv.agrees_on
    monkeypatch.setattr(_spconv, "agrees_on", lambda _device: original("cpu"))
    _spconv._works_on.cache_clear()
    monkeypatch.setattr(_spconv, "convolution", interrupted)
    with pytest.raises(type(error)):
        _spconv._works_on("cuda:7")
    monkeypatch.setattr(_spconv, "convolution", plain_convolution)
    assert _spconv._works_on("cuda:7")
    _spconv._works_on.cache_clear()


def plain_convolution(features, weight, pairs, _n_bytes):
    check_stop()
    out = features.new_zeros(pairs.n_targets, weight.shape[2])
    for matrix, source, target in zip(
        weight, pairs.sources, pairs.targets, strict=True
    ):
        out.index_add_(0, target.long(), features[source.long()] @ matrix)
    return out


def test_a_stop_during_the_check_stops_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_spconv, "convolution", plain_convolution)
    assert _spconv.agrees_on("cpu")
    with interruptible(lambda: True), pytest.raises(Cancelled):
        _spconv.agrees_on("cpu")


def test_the_cpu_does_not_use_spconv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spconv, "agrees_on", lambda _device: True)
    _spconv._works_on.cache_clear()
    with torch.no_grad():
        assert not _spconv.is_usable(torch.zeros(2, 2))
    assert sparse_backend("cpu") == f"torch {torch.__version__}"
    monkeypatch.setattr(_spconv, "_version", lambda: "2.3.8")
    assert sparse_backend("cuda:7") == "spconv 2.3.8"
    _spconv._works_on.cache_clear()
