"""Memory required by a window, measured on the loaded network.

The network runs on two small windows under a dispatch mode that adds up the live
storage at every operation; the peak is exactly linear in the number of voxels. The
estimate also includes the copies that convolution libraries make inside an operation
(not visible as tensors), a fixed amount, and the buffers of the pipeline. After the
first tile, the runner compares the predicted with the measured growth and corrects the
cost model (`CostModel.corrected`).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import DeviceMemoryError, ModelError
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.inference.pipeline import DEPTH
from napari_geosr.inference.tiles.tiling import Layout, Size, minimum_window
from napari_geosr.io.lazy import ReadUnit
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

#: Ratio of the actual peak to the counted bytes, assumed until it is measured. Without
#: the copies inside convolutions, the ratio was 1.3 to 1.8; with them, 0.8 to 1.1 on
#: small windows and up to 1.6 on large ones in 3D.
FIRST_SAFETY = 1.6
MIN_SAFETY = 1.3
#: Upper limit of the measured ratio, because the growth may include memory of other
#: threads.
_MAX_SAFETY = 3.0
#: Memory, in bytes, that does not depend on the window: library code, thread stacks and
#: scratch space.
_FIXED = {"cpu": 48 * 10**6, "cuda": 400 * 10**6, "mps": 200 * 10**6}
_PROBES = {2: (96, 160), 3: (16, 28)}
#: Margin, in voxels, that the last layers compute around the core of a tile.
_CORE_MARGIN = 6


class BlockTooLargeError(Exception):
    """A tile or block did not fit into memory; the runner halves it and continues."""


@dataclass(frozen=True)
class CostModel:
    """Peak bytes of one forward pass: ``fixed + safety · (base + slope · voxels)``.

    Attributes
    ----------
    base, slope : float
        Bytes, and bytes per voxel of the window, counted on the network.
    safety : float
        Actual bytes per counted byte.
    fixed : int
        Bytes independent of network and window.
    at_once : float
        Largest number of voxels that the network computes at once; it splits larger
        windows itself.
    beyond : float
        Bytes for each voxel beyond `at_once`.
    """

    base: float
    slope: float
    safety: float = FIRST_SAFETY
    fixed: int = _FIXED["cpu"]
    at_once: float = math.inf
    beyond: float = 0.0

    def counted(self, n_voxels: int) -> float:
        """Return the bytes of storage for a window of `n_voxels`."""
        together = min(n_voxels, self.at_once)
        return self.base + self.slope * together + self.beyond * (n_voxels - together)

    def peak(self, n_voxels: int) -> float:
        """Return the bytes that the process uses for a window of `n_voxels`."""
        return self.fixed + self.safety * self.counted(n_voxels)

    def max_voxels(self, nbytes: int) -> int:
        """Return the size, in voxels, of the largest window that fits into `nbytes`."""
        counted = (nbytes - self.fixed) / self.safety - self.base
        if counted <= self.slope * self.at_once:
            return max(0, int(counted / self.slope))
        return int(self.at_once + (counted - self.slope * self.at_once) / self.beyond)

    def corrected(self, n_voxels: int, measured: int) -> CostModel:
        """Return the cost model corrected by the memory measured for a window."""
        safety = (measured - self.fixed) / self.counted(n_voxels)
        return replace(self, safety=min(_MAX_SAFETY, max(MIN_SAFETY, safety)))


@dataclass(frozen=True)
class Buffers:
    """Bytes per voxel that the pipeline holds in addition to the network.

    Attributes
    ----------
    source, target, network : int
        Bytes per voxel of the source, of the target and of the network's data type.
    depth : int
        Maximum number of tiles read ahead, and of tiles waiting to be written.
    chunks : tuple of int, optional
        Chunk of the target along Z, Y, X: a store reads, modifies and compresses, at
        the same time, all chunks that a tile touches.
    held : int
        Bytes held by source and target, regardless of the tile size.
    unit : ReadUnit, optional
        Block of the source that is decoded as a whole; the memory for it is not part
        of `held`, because it depends on the tile.
    deviation : int
        Bytes per voxel of a second target for standard deviations; 0 if there is none.
    """

    source: int = 4
    target: int = 4
    network: int = 4
    depth: int = DEPTH
    chunks: Size | None = None
    held: int = 0
    deviation: int = 0
    unit: ReadUnit | None = None

    def bytes(self, layout: Layout, core: Size, window: Size) -> int:
        """Return the peak memory in bytes of the tiles queued for input and output."""
        deep = (window[0] + 2 * layout.context, *window[1:])
        n_in, n_core = math.prod(deep), math.prod(core) * math.prod(layout.scale)
        # One block is being read (raw, mask, floats), `depth` are waiting, and one is
        # being computed.
        read = n_in * (self.source + 1 + (self.depth + 1) * self.network)
        # One result is being computed, `depth` are waiting, and one is being converted
        # and reported.
        values = (self.depth + 2) * self.network * (2 if self.deviation else 1)
        written = n_core * (values + 2 * (self.target + self.deviation) + 2)
        return read + written + self._store(layout, core) + self.held

    def _store(self, layout: Layout, core: Size) -> int:
        if self.chunks is None:
            return 0
        touched = 1
        for n, size, scale, chunk in zip(
            core, layout.shape, layout.scale, self.chunks, strict=True
        ):
            # A tile that is not aligned with the chunk grid touches one more chunk.
            n_chunks = math.ceil(size * scale / chunk)
            touched *= min(n_chunks, math.ceil(n * scale / chunk) + 1) * chunk
        return 2 * touched * (self.target + self.deviation)


def tile_peak(
    layout: Layout, cost: CostModel, buffers: Buffers, core: Size, window: Size
) -> float:
    """Return the peak memory, in bytes, of a run with tiles of this size.

    Parameters
    ----------
    layout : Layout
    cost : CostModel
        Memory cost of the network on its device.
    buffers : Buffers
        Buffers of the pipeline.
    core, window : (int, int, int)
        Input voxels along Z, Y and X: the tile, and the tile with its halo.
    """
    n_forward = math.prod(window[1:] if layout.per_plane else window)
    return cost.peak(n_forward) + buffers.bytes(layout, core, window)


@dataclass(frozen=True)
class RegionCost:
    """Counted storage of a network that can compute just a part of its output.

    Attributes
    ----------
    base : float
        Bytes independent of window and core.
    window, core : float
        Bytes per voxel of the window, and additional bytes per voxel of the core.
    """

    base: float
    window: float
    core: float

    def counted(self, window: Size, core: Size) -> float:
        """Return the bytes of storage for a core in a window."""
        pairs = zip(core, window, strict=True)
        near = math.prod(min(n, size + 2 * _CORE_MARGIN) for size, n in pairs)
        return self.base + self.window * math.prod(window) + self.core * near


def region_peak(
    network: nn.Module,
    device: str,
    layout: Layout,
    buffers: Buffers,
    core: Size,
    window: Size,
) -> float:
    """Predict the peak memory, in bytes, of a tile if only its core is computed.

    Unlike `tile_peak`, it does not assume that the network computes its output for the
    whole window. The result is infinite for networks that cannot compute just a part,
    and for networks that process single planes.

    Parameters
    ----------
    network : nn.Module
    device : str
    layout, buffers, core, window
        As in `tile_peak`.
    """
    restore_core = getattr(network, "restore_core", None)
    if restore_core is None or layout.per_plane:
        return math.inf
    cost = _measure_region_cost(network, device)
    counted = FIRST_SAFETY * cost.counted(window, core)
    fixed = _FIXED.get(device.partition(":")[0], 0)
    return fixed + counted + buffers.bytes(layout, core, window)


_REGION_COSTS: weakref.WeakKeyDictionary[Any, RegionCost] = weakref.WeakKeyDictionary()


def _measure_region_cost(network: nn.Module, device: str) -> RegionCost:
    """Fit the cost to bytes counted for two one-voxel cores and a full core."""
    known = _REGION_COSTS.get(network)
    if known is None:
        spec, kind = network_spec(network), device.partition(":")[0]
        small, large = (
            probe_window(spec, length) for length in _PROBES[len(spec.axes)]
        )
        n_small, n_large = math.prod(small), math.prod(large)
        low, high = (
            count_storage(network, window, kind, _middle(spec, window))
            for window in (small, large)
        )
        whole = count_storage(network, large, kind, _whole(spec, large))
        slope = max(1.0, (high - low) / max(1, n_large - n_small))
        known = _REGION_COSTS[network] = RegionCost(
            base=max(0.0, high - slope * n_large),
            window=slope,
            core=max(0.0, whole - high) / n_large,
        )
    return known


def _whole(spec: NetworkSpec, window: Sequence[int]) -> tuple[slice, ...]:
    pairs = zip(window, spec.upscale_factor, strict=True)
    return tuple(slice(0, n * s) for n, s in pairs)


def _middle(spec: NetworkSpec, window: Sequence[int]) -> tuple[slice, ...]:
    """Return the part of the output that belongs to the middle voxel of a window."""
    pairs = zip(window, spec.upscale_factor, strict=True)
    return tuple(slice(n // 2 * s, (n // 2 + 1) * s) for n, s in pairs)


_CACHE: weakref.WeakKeyDictionary[Any, dict[str, CostModel]] = (
    weakref.WeakKeyDictionary()
)


def measure_cost(network: nn.Module, device: str = "cpu") -> CostModel:
    """Count the storage of two small windows and fit a line; cached per network.

    Raises
    ------
    ModelError
        If the network does not run on such windows.
    DeviceMemoryError
        If memory runs out even on the smaller window.
    """
    known = _CACHE.setdefault(network, {})
    kind = device.partition(":")[0]
    if kind not in known:
        spec = network_spec(network)
        counts = {0: 0.0}
        for length in _PROBES[len(spec.axes)]:
            window = probe_window(spec, length)
            try:
                counts[math.prod(window)] = count_storage(network, window, kind)
            except MemoryError:  # then fit a line through the origin
                break
        if len(counts) == 1:
            raise DeviceMemoryError(
                f"{device} ran out of memory for a window of just {window} voxels. "
                "Close other programs or use another device."
            )
        (n1, c1), (n2, c2) = sorted(counts.items())[-2:]
        slope = max((c2 - c1) / (n2 - n1), 1.0)
        known[kind] = CostModel(
            base=max(0.0, c2 - slope * n2),
            slope=slope,
            fixed=_FIXED.get(kind, 0),
            at_once=spec.at_once or math.inf,
            beyond=_bytes_beyond(spec),
        )
    return known[kind]


def _bytes_beyond(spec: NetworkSpec) -> float:
    """Return the bytes per input voxel for windows too large to be computed at once."""
    n_fine = math.prod(spec.upscale_factor)
    if spec.n_outputs == 1:
        # Bytes of the input, the running sum of the outputs and the sum of their
        # weights.
        return 4.0 + 8.0 * n_fine
    # Bytes of the input (three copies: as read, while transformed, and for a member), a
    # member's output, the mean, the squares, and two intermediate results.
    return 12.0 + 20.0 * n_fine


def learn_cost(network: nn.Module, device: str, cost: CostModel) -> None:
    """Remember a corrected cost model for later runs in this process.

    Parameters
    ----------
    network : nn.Module
    device : str
    cost : CostModel
    """
    _CACHE.setdefault(network, {})[device.partition(":")[0]] = cost


def network_spec(network: nn.Module) -> NetworkSpec:
    """Return the network's `spec`; raise `ModelError` if it has none."""
    spec = getattr(network, "spec", None)
    if not isinstance(spec, NetworkSpec):
        raise ModelError(
            f"The network {type(network).__name__} declares no NetworkSpec as `spec`."
        )
    return spec


def probe_window(spec: NetworkSpec, length: int) -> tuple[int, ...]:
    """Return a window of about `length` voxels per axis that the network accepts."""
    return tuple(
        math.ceil(max(length, least) / stride) * stride
        for least, stride in zip(minimum_window(spec), spec.stride, strict=True)
    )


def count_storage(
    network: nn.Module,
    window: Sequence[int],
    kind: str = "cpu",
    core: tuple[slice, ...] | None = None,
) -> float:
    """Return the peak of live storage, in bytes, in a forward pass over `window`.

    Parameters
    ----------
    network : nn.Module
    window : sequence of int
        Number of voxels along the axes of the network.
    kind : str
        Type of the device, such as ``"cpu"``.
    core : tuple of slice, optional
        The part of the output to compute, in output voxels, for a network with
        ``restore_core``.

    Returns
    -------
    float
        Bytes.

    Raises
    ------
    ModelError
        If the forward pass fails.
    MemoryError
        If memory runs out.
    """
    import torch

    spec = network_spec(network)
    parameter = next(network.parameters(), torch.zeros(()))
    x = torch.zeros(
        (1, spec.adjacent_slices, *window),
        dtype=parameter.dtype,
        device=parameter.device,
    )
    forward: Any = network
    meter = _storage_meter(convolution_copies=kind == "cpu")
    try:
        # Do not use inference_mode, which hides the parts of composite operations.
        with torch.no_grad(), meter:
            meter.track(x)
            forward(x) if core is None else forward.restore_core(x, core)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise ModelError(
            f"The network fails on a window of {tuple(window)} voxels: {error}. "
            "Check the model bundle."
        ) from error
    return float(meter.peak)


def _storage_meter(*, convolution_copies: bool) -> Any:
    """Return a dispatch mode that tracks current and peak live bytes."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Counts the bytes of every tensor's storage while it is alive."""

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            """Avoid the slow import of torch's compiler, which would freeze the UI."""
            return False

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.alive = self.peak = 0
            self.tracked: dict[int, Any] = {}

        def track(self, tensor: torch.Tensor) -> None:
            """Count the storage of `tensor` once, until it is freed."""
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes()
            if key in self.tracked:
                return

            def on_freed(_: object) -> None:
                """Count the storage as freed."""
                self.tracked.pop(key, None)
                self.alive -= size

            self.tracked[key] = weakref.ref(storage, on_freed)
            self.alive += size
            self.peak = max(self.peak, self.alive)

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            hidden_copies = 0
            if convolution_copies and "convolution" in func.name():
                # Convolutions copy input and output, with channels rounded up to 16.
                for tensor in (args[0], out):
                    channels = tensor.shape[1]
                    blocked = -(-channels // 16) * 16
                    hidden_copies += tensor.nbytes // channels * blocked
            for leaf in tree_iter(out):
                if isinstance(leaf, torch.Tensor):
                    self.track(leaf)
            self.peak = max(self.peak, self.alive + hidden_copies)
            return out

    return StorageMeter()
