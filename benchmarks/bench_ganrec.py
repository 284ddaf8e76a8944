"""Compare GANrec with FBP, SIRT and TV for few projections.

Reconstructs a slice of a simulated foam in a parallel beam with Poisson noise. Prints a
Markdown table of the PSNR, with one row for each number of projections and algorithm.
The PSNR is computed within the field of view, the same circle for all.

    python benchmarks/bench_ganrec.py [--size 64] [--counts 15 20 30] [--photons 1e4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from napari_geosr.learning.sinogram_fit import FitSettings, field_of_view, fit_slices
from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.tomography_simulation import cylinder_sample, simulate_scan
from napari_geosr.tomography.algorithms import config_class, reconstruct_slices
from napari_geosr.tomography.preprocess import LineIntegrals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--counts", type=int, nargs="+", default=[15, 20, 30])
    parser.add_argument("--photons", type=float, default=1e4)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="run fewer cases")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = 48 if options.quick else options.size
    iterations = 150 if options.quick else options.iterations
    foam = sphere_foam((8, size, size), porosity=0.3, radius=(3, 8), gap=1.0, seed=3)
    sample = cylinder_sample(foam)
    print("| projections | algorithm | PSNR (dB) | process seconds |")
    print("|---:|---|---:|---:|")
    for count in options.counts:
        scan = simulate_scan(
            sample.attenuation, ScanConfig(projections=count, photons=options.photons)
        )
        truth = scan.provenance[0]["truth"]
        clean = torch.from_numpy(sample.attenuation[3:4] * truth["attenuation_scale"])
        geometry = ParallelGeometry(
            scan.angles, scan.n_columns, truth["centre"], size=size
        )
        sinogram = torch.from_numpy(LineIntegrals(scan).rows(3, 4)[0])
        circle = field_of_view(geometry, "cpu")

        def psnr(
            found: Tensor, clean: Tensor = clean, circle: Tensor = circle
        ) -> float:
            error = ((found - clean) * circle).square().sum() / circle.sum()
            return float(10 * torch.log10(clean.max() ** 2 / error))

        for name, work in _algorithms(sinogram, geometry, iterations).items():
            began = time.process_time()
            found = work()
            seconds = time.process_time() - began
            print(
                f"| {count} | {name} | {psnr(found):.2f} | {seconds:.1f} |", flush=True
            )


def _algorithms(
    sinogram: Tensor, geometry: ParallelGeometry, iterations: int
) -> dict[str, Callable[[], Tensor]]:
    def classical(name: str, **settings: object) -> Callable[[], Tensor]:
        config = config_class(name).create(**settings)
        return lambda: reconstruct_slices(name, sinogram, geometry, config)

    fbp = reconstruct_slices("fbp", sinogram, geometry)

    def ganrec(**settings: float) -> Callable[[], Tensor]:
        fit_settings = FitSettings(iterations=iterations, **settings)  # type: ignore[arg-type]
        return lambda: fit_slices(sinogram, geometry, fbp, fit_settings)

    return {
        "FBP": classical("fbp"),
        "FBP, non-negative": classical("fbp", nonnegative=True),
        "SIRT": classical("sirt"),
        "TV": classical("tv"),
        "GANrec": ganrec(),
        "GANrec without discriminator": ganrec(adversarial=0.0),
    }


if __name__ == "__main__":
    main()
