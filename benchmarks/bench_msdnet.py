"""Targets P3 and P4: fast forms of the MSD-net compared with concatenation of maps.

    python benchmarks/bench_msdnet.py --size 512 --threads 2 --repeat 2

Both forms run in turn in one process, and the best time of each is used. The targets:
inference at depth 100, width 1 and 512² is at least 8 times as fast and needs at most
1.5 (depth + 1) maps of memory; a training step is at least 4 times as fast, stores at
most a fifth of the activations, and gives the same gradients to within 1e-4.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from napari_geosr.networks import build_network
from napari_geosr.networks.msdnet import MSDNet


def concatenated(network: MSDNet, x: torch.Tensor) -> torch.Tensor:
    """Evaluate the network as defined in the paper."""
    maps = x
    layers = zip(network.weights, network.biases, network.dilations, strict=True)
    for weight, bias, d in layers:
        new = functional.conv2d(maps, weight, bias, padding=d, dilation=d)
        maps = torch.cat([maps, functional.relu(new)], dim=1)
    final = network.final_weight.view(1, -1, 1, 1)
    centre = network.config.adjacent_slices // 2
    out = functional.conv2d(maps, final, network.final_bias)
    return out + x[:, centre : centre + 1]


def _network(depth: int) -> MSDNet:
    torch.manual_seed(0)
    network = build_network("msdnet", depth=depth, width=1)
    torch.nn.init.normal_(network.final_weight, 0, 0.1)
    return network


clock = time.perf_counter


def _in_turn(calls: list[Callable[[], Any]], repeat: int) -> list[float]:
    best = [float("inf")] * len(calls)
    for _ in range(repeat):
        for i, call in enumerate(calls):
            start = clock()
            call()
            best[i] = min(best[i], clock() - start)
    return best


class _LiveBytes(TorchDispatchMode):
    """Count the storage that operations allocate and that is still in use."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        import weakref

        result = func(*args, **(kwargs or {}))
        found = result if isinstance(result, tuple | list) else (result,)
        for tensor in found:
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known.add(key)
                size = storage.nbytes()
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, key, size)
        return result

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def live_peak(call: Callable[[], Any]) -> int:
    """Return the largest amount of storage in use, in bytes, while `call` runs."""
    with _LiveBytes() as counter:
        call()
    return counter.peak


def inference(size: int, depth: int, repeat: int) -> dict[str, float]:
    """Compare inference in time, memory and result."""
    network, x = _network(depth), torch.randn(1, 1, size, size)
    with torch.no_grad():
        slow, fast = concatenated(network, x), network(x)
        error = float((slow - fast).abs().max() / slow.abs().max())
        peak = live_peak(lambda: network(x))
        times = _in_turn([lambda: concatenated(network, x), lambda: network(x)], repeat)
    return {
        "concatenated_s": times[0],
        "fast_s": times[1],
        "speed_ratio": times[0] / times[1],
        "memory_maps": peak / (4 * size * size) / (depth + 1),
        "relative_error": error,
    }


def _saved_bytes(call: Callable[[], torch.Tensor]) -> int:
    """Return the bytes stored by autograd, counting each storage once."""
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda t: t):
        out = call()
    size = sum(t.untyped_storage().nbytes() for t in kept.values())
    del out
    return size


def training(size: int, depth: int, repeat: int) -> dict[str, float]:
    """Compare time, memory and gradients of a forward and backward pass."""
    network, x = _network(depth), torch.randn(2, 1, size, size)
    parameters = list(network.parameters())

    def step(forward: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(forward().square().mean(), parameters)

    slow = step(lambda: concatenated(network, x))
    fast = step(lambda: network(x))
    error = max(
        float((a - b).abs().max() / a.abs().max().clamp_min(1e-12))
        for a, b in zip(slow, fast, strict=True)
    )
    saved = [
        _saved_bytes(lambda: concatenated(network, x)),
        _saved_bytes(lambda: network(x)),
    ]
    times = _in_turn(
        [
            lambda: step(lambda: concatenated(network, x)),
            lambda: step(lambda: network(x)),
        ],
        repeat,
    )
    return {
        "concatenated_s": times[0],
        "fast_s": times[1],
        "speed_ratio": times[0] / times[1],
        "saved_ratio": saved[1] / saved[0],
        "gradient_error": error,
    }


def main() -> None:
    """Print the results and, at the end, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure CPU time, for machines that run other programs",
    )
    arguments = parser.parse_args()
    if arguments.cpu_time:
        global clock
        clock = time.process_time
    torch.set_num_threads(arguments.threads)
    found = {"P3": inference(arguments.size, 100, arguments.repeat)}
    if not arguments.skip_training:
        found["P4"] = training(arguments.size // 4, 50, arguments.repeat)
    for name, figures in found.items():
        print(f"{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
