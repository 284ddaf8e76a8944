"""Compare exact tiles with an untiled run and with MONAI's sliding window: P1, P2.

The alternatives run in turn in one process, with one thread and float32. The shortest
CPU time of three runs is used, because it depends less on other programs. Weights are
random. "error" is the largest difference from the untiled result. MONAI runs with an
overlap of 0.25 and Gaussian blending, once with windows as large as the tiles of
napari-geosr (P2: tiles of at least 5 halos must not be slower than this) and once with
windows as large as these tiles with their halos, which need the same memory.

    python benchmarks/bench_tiling.py [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.memory import measure_cost
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.inference.tiles.choice import choose_tile
from napari_geosr.inference.tiles.tiling import lay_out, plan
from napari_geosr.networks import build_network
from napari_geosr.networks.spec import NetworkSpec

STANDARD = IntensityStatistics(0.0, 1.0, -5.0, 5.0, 1)


class UNet(torch.nn.Module):
    """A two-level U-Net with nearest-neighbour upsampling: a network with a stride."""

    def __init__(self, ndim: int, features: int) -> None:
        super().__init__()
        conv = (torch.nn.Conv2d, torch.nn.Conv3d)[ndim - 2]
        self.pool = (torch.nn.MaxPool2d, torch.nn.MaxPool3d)[ndim - 2](2)

        def block(a: int, b: int) -> torch.nn.Module:
            return torch.nn.Sequential(
                conv(a, b, 3, padding=1),
                torch.nn.ReLU(),
                conv(b, b, 3, padding=1),
                torch.nn.ReLU(),
            )

        f = features
        self.down = torch.nn.ModuleList(
            [block(1, f), block(f, 2 * f), block(2 * f, 4 * f)]
        )
        self.up = torch.nn.ModuleList([block(6 * f, 2 * f), block(3 * f, f)])
        self.out = conv(f, 1, 1)
        self.rise = torch.nn.Upsample(scale_factor=2)
        axes = "ZYX"[-ndim:]
        n = (1,) * ndim
        self.spec = NetworkSpec(
            axes, (23,) * ndim, (4,) * ndim, n, minimum_size=(4,) * ndim
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down[0](x)
        b = self.down[1](self.pool(a))
        c = self.down[2](self.pool(b))
        b = self.up[0](torch.cat([self.rise(c), b], 1))
        return self.out(self.up[1](torch.cat([self.rise(b), a], 1)))


CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...], tuple[int, ...]]] = {
    "U-Net 2D, halo 23": (lambda: UNet(2, 16), (512, 512), (128, 128)),
    "light SR x2 2D, halo 10": (lambda: sr(2), (384, 384), (96, 96)),
    "MSD-net d10 2D, halo 55": (lambda: msd(2, 10), (512, 512), (512, 128)),
    "MSD-net d6 2D, odd size": (lambda: msd(2, 6), (421, 509), (216, 256)),
    "U-Net 3D, halo 23": (lambda: UNet(3, 8), (96, 96, 96), (48, 48, 48)),
    "light SR x2 3D, halo 6": (lambda: sr(3), (72, 72, 72), (36, 36, 72)),
    "MSD-net d4 3D, halo 10": (lambda: msd(3, 4), (80, 80, 80), (80, 80, 40)),
}


def msd(ndim: int, depth: int) -> Any:
    network = build_network("msdnet", ndim=ndim, depth=depth)
    torch.nn.init.normal_(network.final_weight, std=0.3)
    return network


def sr(ndim: int) -> Any:
    network = build_network("light_sr", ndim=ndim, blocks=4 if ndim == 2 else 2)
    for block in network.blocks:
        torch.nn.init.normal_(block.second.weight, std=0.05)
    return network


def monai_window(network: Any, x: torch.Tensor, tile: tuple[int, ...]) -> torch.Tensor:
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        return sliding_window_inference(
            x, tile, 1, network, overlap=0.25, mode="gaussian"
        )


def best_times(alternatives: dict[str, Callable[[], Any]], n: int) -> dict[str, float]:
    best = dict.fromkeys(alternatives, float("inf"))
    for _ in range(n):
        for name, call in alternatives.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def compare(name: str, n: int) -> bool:
    make, shape, tile = CASES[name]
    torch.manual_seed(0)
    network = make().eval()
    source = np.random.default_rng(0).normal(size=shape).astype("float32")
    x = torch.from_numpy(source)[None, None]
    layout = lay_out(shape, network.spec)
    pad = [p - s for p, s in zip(layout.padded[-len(shape) :], shape, strict=True)]
    x = torch.nn.functional.pad(
        x, [v for p in reversed(pad) for v in (0, p)], mode="reflect"
    )
    target = np.zeros(layout.output_shape, "float32")

    def whole() -> torch.Tensor:
        with torch.inference_mode():
            return network(x)

    def tiled() -> None:
        run_to_end(
            restore_tiles(
                network, source, target,
                statistics=STANDARD, budget=1 << 40, tile=tile, threads=1,
            )
        )  # fmt: skip

    crop = tuple(slice(0, n) for n in target.shape)
    expected = whole()[0, 0].numpy()[crop]
    tiled()
    error = np.abs(target - expected).max()
    tiles = plan(shape, network.spec, tile)
    window = max((t.window_shape for t in tiles.tiles), key=np.prod)[-len(shape) :]
    monai = monai_window(network, x, tile)[0, 0].numpy()[crop]
    monai_error = np.abs(monai - expected).max()
    times = best_times(
        {
            "whole": whole,
            "tiled": tiled,
            "monai": lambda: monai_window(network, x, tile),
            "monai same memory": lambda: monai_window(network, x, window),
        },
        n,
    )
    one = times["whole"]
    factor, std = tiles.cost_factor, float(expected.std())
    ratio = times["tiled"] / one
    halos = min(t / h for t, h in zip(tile, network.spec.halo, strict=True))
    targets = [error <= 1e-5 * std, ratio <= 1.10 * factor]
    if halos >= 5:
        targets.append(times["tiled"] <= times["monai"])
    print(
        f"{name}, {'x'.join(map(str, shape))}, tile {'x'.join(map(str, tile))}, "
        f"{halos:.1f} halos\n"
        f"    error/std {error / std:.0e} (target 1e-5)   "
        f"MONAI {monai_error / std:.1e}\n"
        f"    time/whole {ratio:.2f} = {ratio / factor:.2f} x formula {factor:.2f} "
        f"(target 1.10 x)   MONAI {times['monai'] / one:.2f}, in the same memory "
        f"{times['monai same memory'] / one:.2f}   {verdict(*targets)}",
        flush=True,
    )
    # The exit status allows for a busy machine; the printed verdict does not.
    return error <= 1e-5 * std and ratio <= 1.2 * 1.10 * factor


def verdict(*targets: bool) -> str:
    return "met" if all(targets) else "MISSED"


def chosen_overhead() -> bool:
    """Print the overhead of tiles chosen from a budget, for volumes of typical size."""
    print(
        "\ntile chosen from the budget: work / work of the untiled run (target <= 1.25)"
    )
    good = True
    for name, (make, _, _) in CASES.items():
        network = make().eval()
        shape = (1024, 1024) if network.spec.axes == "YX" else (256, 512, 512)
        cost = measure_cost(network)
        for budget in (1, 4, 16):
            choice = choose_tile(shape, network.spec, cost, budget * 10**9)
            allows = choice.cost_factor <= 1.25
            print(
                f"{name:24} {'x'.join(map(str, shape)):11} budget {budget:2} GB  tile "
                f"{choice.tile}  work {choice.cost_factor:.2f}  "
                f"peak {choice.peak_bytes / 1e9:.2f} GB  "
                f"{'met' if allows else 'not allowed by the budget'}"
            )
            good &= choice.peak_bytes <= budget * 10**9
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="measure once instead of three times"
    )
    parser.add_argument(
        "--only", default="", help="run only cases with this text in their name"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = 1 if options.quick else 3
    good = [compare(name, n) for name in CASES if options.only in name]
    if not options.only:
        good.append(chosen_overhead())
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
