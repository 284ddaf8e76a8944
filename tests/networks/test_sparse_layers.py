"""Each sparse layer equals its dense counterpart at the occupied voxels."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from napari_geosr.core.errors import VolumeError
from napari_geosr.networks.sparse import (
    GenerativeConvolution,
    RowBatchNorm,
    SparseTensor,
    StridedConvolution,
    SubmanifoldConvolution,
    UpConvolution,
    _gather,
    gather_bytes,
    sparse_convolution,
    union_add,
)

boxes = st.tuples(*[st.integers(1, 7)] * 3)
cases = hypothesis.given(
    box=boxes,
    n=st.integers(1, 2),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
quick = hypothesis.settings(max_examples=10, deadline=None)


def random_tensor(
    box: tuple[int, ...], n: int, share: float, seed: int, channels: int = 3
) -> tuple[SparseTensor, torch.Tensor]:
    """A sparse tensor of voxels in random order, and the dense one."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(n, *box, generator=generator) < share
    values = torch.randn(n, channels, *box, generator=generator, dtype=torch.float64)
    dense = values * active[:, None]
    places = active.nonzero()
    places = places[torch.randperm(len(places), generator=generator)]
    b, z, y, x = places.unbind(1)
    features = dense[b, :, z, y, x]
    return SparseTensor.from_coords(places, features, (n, *box)), dense


def at(dense: torch.Tensor, x: SparseTensor) -> torch.Tensor:
    n, z, y, c = x.coords.long().unbind(1)
    return dense[n, :, z, y, c]


def cube(layer: torch.nn.Module, edge: int) -> torch.Tensor:
    """The weights as those of a dense convolution: (out, in, Z, Y, X)."""
    weight = layer.weight
    return weight.reshape(edge, edge, edge, *weight.shape[1:]).permute(4, 3, 0, 1, 2)


@quick
@cases
def test_submanifold_convolution(
    box: tuple[int, int, int], n: int, share: float, seed: int
) -> None:
    x, dense = random_tensor(box, n, share, seed)
    layer = SubmanifoldConvolution(3, 4).double()
    found = layer(x)
    assert torch.equal(found.coords, x.coords)
    expected = F.conv3d(dense, cube(layer, 3), padding=1)
    torch.testing.assert_close(found.features, at(expected, found))


@quick
@cases
def test_strided_convolution(
    box: tuple[int, int, int], n: int, share: float, seed: int
) -> None:
    x, dense = random_tensor(box, n, share, seed)
    layer = StridedConvolution(3, 2).double()
    found = layer(x)
    odd = [size % 2 for size in box]
    padded = F.pad(dense, (0, odd[2], 0, odd[1], 0, odd[0]))
    expected = F.conv3d(padded, cube(layer, 2), stride=2)
    torch.testing.assert_close(found.features, at(expected, found))
    # Elsewhere, the dense result is zero, so no voxel is missing.
    torch.testing.assert_close(found.to_dense(), expected)


@pytest.mark.parametrize("wide", [False, True])
@quick
@cases
def test_generative_convolution(
    wide: bool, box: tuple[int, int, int], n: int, share: float, seed: int
) -> None:
    x, dense = random_tensor(box, n, share, seed)
    layer = GenerativeConvolution(3, 2, wide=wide).double()
    found = layer(x)
    weight = cube(layer, 4 if wide else 2).transpose(0, 1)
    expected = F.conv_transpose3d(dense, weight, stride=2, padding=int(wide))
    torch.testing.assert_close(found.to_dense(), expected)
    assert torch.equal(found.keys, found.keys.sort().values)
    smaller = tuple(max(1, 2 * size - 1) for size in box)
    z, y, c = smaller
    cut = layer(x, smaller).to_dense()
    torch.testing.assert_close(cut, expected[:, :, :z, :y, :c])


@quick
@cases
def test_up_convolution_onto_known_voxels(
    box: tuple[int, int, int], n: int, share: float, seed: int
) -> None:
    fine, _ = random_tensor(box, n, share, seed)
    coarse = StridedConvolution(3, 2).double()(fine)
    layer = UpConvolution(2, 3).double()
    found = layer(coarse, fine)
    assert torch.equal(found.coords, fine.coords)
    weight = cube(layer, 2).transpose(0, 1)
    expected = F.conv_transpose3d(coarse.to_dense(), weight, stride=2)
    torch.testing.assert_close(found.features, at(expected, fine))


@quick
@cases
def test_a_batch_is_as_its_samples_alone(
    box: tuple[int, int, int], n: int, share: float, seed: int
) -> None:
    x, dense = random_tensor(box, 2, share, seed)
    layers = (
        SubmanifoldConvolution(3, 3).double(),
        StridedConvolution(3, 3).double(),
        GenerativeConvolution(3, 2, wide=True).double(),
    )

    def run(given: SparseTensor) -> torch.Tensor:
        for layer in layers:
            given = layer(given)
        return given.to_dense()

    alone = [run(SparseTensor.from_dense(part[None])) for part in dense]
    torch.testing.assert_close(run(x), torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n_bytes", "loops"), [(1, False), (10**9, False), (1, True)])
def test_gradients_are_right(
    n_bytes: int, loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not loops:
        monkeypatch.setattr(_gather, "_MAX_PRODUCTS", 0)
    x, _ = random_tensor((3, 4, 5), 2, 0.4, 0, channels=2)
    weight = torch.randn(27, 2, 3, dtype=torch.float64, requires_grad=True)
    features = x.features.clone().requires_grad_()
    pairs = x.neighbours()

    def convolved(f: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with gather_bytes(n_bytes):
            return sparse_convolution(f, w, pairs)

    assert torch.autograd.gradcheck(convolved, (features, weight))
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.gradgradcheck(convolved, (features, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [(1, 3), (8, 8), (3, 17)])
def test_gather_and_matrix_products_are_equal(
    channels: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several threads, for layers whose voxels change, and with gradients."""
    monkeypatch.setattr(_gather, "_MIN_PAIRS", 7)
    monkeypatch.setattr(_gather, "_AT_ONCE", 5)
    threads = torch.get_num_threads()
    x, _ = random_tensor((6, 7, 5), 2, 0.4, 4, channels=channels[0])
    x = x.with_features(x.features.to(dtype).requires_grad_())
    layers = [
        SubmanifoldConvolution(*channels),
        StridedConvolution(channels[1], channels[0]),
        GenerativeConvolution(*channels, wide=True),
    ]
    found = []
    try:
        for limit, n in ((0, 1), (10**4, 1), (10**4, 3)):
            monkeypatch.setattr(_gather, "_MAX_PRODUCTS", limit)
            torch.set_num_threads(n)
            given = x
            for layer in layers:
                layer.zero_grad()
                given = layer.to(dtype)(given)
            x.features.grad = None
            given.features.square().sum().backward()
            gradients = [layer.weight.grad.clone() for layer in layers]
            found.append([given.features, x.features.grad.clone(), *gradients])
    finally:
        torch.set_num_threads(threads)
    products, one_thread, three_threads = found
    for a, b, c in zip(products, one_thread, three_threads, strict=True):
        torch.testing.assert_close(b, a)
        torch.testing.assert_close(c, b)
    # Rows do not depend on the number of threads.
    assert torch.equal(one_thread[0], three_threads[0])


def test_gradients_equal_the_dense_ones() -> None:
    x, dense = random_tensor((5, 6, 4), 2, 0.3, 1)
    layer = SubmanifoldConvolution(3, 2).double()
    features = x.features.clone().requires_grad_()
    y = layer(x.with_features(features))
    y.features.square().sum().backward()
    kernel = cube(layer, 3).detach().clone().requires_grad_()
    given = dense.clone().requires_grad_()
    at(F.conv3d(given, kernel, padding=1), x).square().sum().backward()
    assert kernel.grad is not None
    assert given.grad is not None
    assert layer.weight.grad is not None
    mine = layer.weight.grad.reshape(3, 3, 3, 3, 2).permute(4, 3, 0, 1, 2)
    torch.testing.assert_close(mine, kernel.grad)
    torch.testing.assert_close(features.grad, at(given.grad, x))


@quick
@cases
def test_union_adds_and_pruning_removes(
    box: tuple[int, int, int], n: int, share: float, seed: int
) -> None:
    x, dense = random_tensor(box, n, share, seed)
    y, other = random_tensor(box, n, 0.3, seed + 1)
    torch.testing.assert_close(union_add(x, y).to_dense(), dense + other)
    keep = x.features[:, 0] > 0
    kept = x.pruned(keep)
    assert len(kept) == int(keep.sum())
    torch.testing.assert_close(kept.to_dense(), dense * (dense[:, :1] > 0))
    assert torch.equal(x.contains(kept), torch.ones(len(kept), dtype=torch.bool))
    # The pruned tensor has its own maps.
    layer = SubmanifoldConvolution(3, 2).double()
    layer(x)
    expected = F.conv3d(kept.to_dense(), cube(layer, 3), padding=1)
    torch.testing.assert_close(layer(kept).features, at(expected, kept))


def test_normalisation_is_over_all_rows() -> None:
    x, _ = random_tensor((4, 4, 4), 2, 0.5, 3)
    norm = RowBatchNorm(3).double()
    found = norm(x.features)
    torch.testing.assert_close(found.mean(0), torch.zeros(3, dtype=torch.float64))
    one = norm(x.features[:1])
    norm.eval()
    torch.testing.assert_close(one, norm(x.features[:1]))
    assert norm(x.features[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("coords", "message"),
    [([[0, 4, 0, 0]], "outside"), ([[0, 1, 1, 1], [0, 1, 1, 1]], "twice")],
)
def test_invalid_voxels_are_refused(coords: list[list[int]], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        SparseTensor.from_coords(
            torch.tensor(coords), torch.ones(len(coords), 1), (1, 4, 4, 4)
        )
