"""Add the recall and precision of branches to the card of a bundled model.

    python scripts/network_rows.py fluo-sr-x2

Dentin and bone cells (those of ``benchmarks/bench_networks.py``) are imaged with pixels
twice as wide as those of the result, super-resolved by cubic interpolation and by the
model, and segmented at Otsu's threshold of the noise-free target. The branches of the
segmented structures are compared with those of the true object.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import zoom

from napari_geosr import restore
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.quality import psnr
from napari_geosr.measure.graph import network_graph
from napari_geosr.measure.graph.agreement import graph_agreement
from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import FigureRow
from napari_geosr.physics import fluorescence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from bench_networks import DISTANCE, OBJECTS, VOXEL

#: Shape of the objects and of the results.
SHAPE = (96, 96, 96)
#: Seeds of the objects; none was used in training.
SEEDS = (60_000, 60_001, 60_002)
#: Blur as in the benchmark: 0.2 µm across, 0.6 µm along the axis, in coarse pixels.
MICROSCOPE = fluorescence.Microscope(
    blur=0.2 / 2.355 / VOXEL / 2,
    elongation=3.0,
    step=0.5,
    photons=60.0,
    read_noise=1.0,
    background=0.02,
)


def rows(name: str) -> list[FigureRow]:
    """Results of cubic interpolation and of the model as means over all objects."""
    from skimage.filters import threshold_otsu

    found = []
    for kind, make in OBJECTS.items():
        values: dict[str, list[dict[str, float]]] = {"cubic": [], "model": []}
        for seed in SEEDS:
            light, mask = make(SHAPE, seed)
            rng = np.random.default_rng([seed, 17])
            noisy, sharp = fluorescence.expose_coarse(light, MICROSCOPE, rng)
            threshold = float(threshold_otsu(sharp))
            true = graph(mask)
            model: Any = restore(Volume(noisy, "ZYX"), name).data
            # Pixels are areas, so their outer edges are preserved.
            cubic = zoom(noisy, (1, 2, 2), order=3, mode="nearest", grid_mode=True)
            for method, image in (("cubic", cubic), ("model", np.asarray(model))):
                agreement = graph_agreement(graph(image > threshold), true, DISTANCE)
                values[method].append(
                    {
                        "psnr": psnr(image, sharp, MICROSCOPE.photons),
                        "branch_recall": agreement.branch_recall,
                        "branch_precision": agreement.branch_precision,
                    }
                )
        for method, each in values.items():
            mean = {k: round(float(np.mean([v[k] for v in each])), 4) for k in each[0]}
            title = f"{kind}, {MICROSCOPE.photons:g} photons"
            found.append(FigureRow(test_set=title, method=method, **mean))
    return found


def graph(mask: Any) -> Any:
    """Return the graph of the tubes, in µm."""
    return network_graph(mask, (VOXEL,) * 3, unit="µm")


def main() -> None:
    """Replace the branch rows on the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    name = parser.parse_args().model
    made = rows(name)
    for row in made:
        print(row.test_set, row.method, row.psnr, row.branch_recall, sep="  ")
    path = zoo.bundled_folder() / name
    card = bundle.read_card(path)
    sets = {row.test_set for row in made}
    kept = [row for row in card.figures if row.test_set not in sets]
    card = card.model_copy(update={"figures": (*kept, *made)})
    (path / bundle.CARD_FILE).write_text(card.to_yaml(), encoding="utf-8")


if __name__ == "__main__":
    main()
