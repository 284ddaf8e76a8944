"""Cards and bundles: texts, statistics of the training data, export."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle
from napari_geosr.models.card import FigureRow, ModelCard, Reference, TrainingData
from napari_geosr.models.distribution import Signature, distance, draw_sample, signature
from pretraining.data import draw_sample as draw_scan
from pretraining.recipes import Recipe

_N_EXAMPLES, _N_HELD_OUT = 160, 200
_STATISTICS_OFFSET = 20_000_000

_WHAT = (
    "Simulated: foams of spheres, irregular blobs, interwoven networks and sheets, and "
    "rare pores, dark or bright, some with gradients or a third phase; blurred, with "
    "independent noise, with noise of the spectrum of filtered back-projection, or "
    "projected with few photons and really reconstructed."
)
_TEXTS: dict[str, dict[str, str]] = {
    "foam-denoise": {
        "title": "Denoise porous CT volumes",
        "description": (
            "Removes noise and mild blur from volumes of two phases, pores in a solid, "
            "slice by slice with four neighbours on either side. A small mixed-scale "
            "dense network trained on simulated scans with known truth."
        ),
        "intended_use": (
            "Reconstructed CT volumes of foams, porous rock, bone, concrete, printed "
            "parts and the like, before porosity is measured: short exposures, few "
            "projections, low dose. Features of 2 to 15 voxels in radius, noise of 8 "
            "to 80 % of the contrast."
        ),
        "not_for": (
            "Fluorescence or electron microscopy, radiographs, ring or metal "
            "artefacts, beam hardening, cracks and fibres thinner than 2 voxels, more "
            "than two phases when grey levels between matter. It was trained on "
            "simulated data alone and sharpens edges, so grey values are no longer "
            "quantitative: do not read densities from its output. Compare with the "
            "original. No medical use."
        ),
    },
    "foam-sr-x2": {
        "title": "Double the resolution of porous CT volumes",
        "description": (
            "Gives twice the voxels along every axis, sharper and with less noise, for "
            "volumes of two phases, pores in a solid. A light 3D residual network with "
            "sub-pixel upsampling, trained on simulated pairs of coarse and fine scans."
        ),
        "intended_use": (
            "Reconstructed CT volumes of foams, porous rock, bone, concrete, printed "
            "parts and the like whose pores are 1.5 to 15 voxels in radius, with noise "
            "of 3 to 50 % of the contrast, before porosity is measured."
        ),
        "not_for": (
            "Fluorescence or electron microscopy, radiographs, single images, strongly "
            "anisotropic voxels, ring or metal artefacts, cracks and fibres thinner "
            "than a voxel: what the scan does not hold cannot be brought back, only "
            "guessed. It was trained on simulated data alone; grey values of its "
            "output are not quantitative. No medical use."
        ),
    },
}


def training_signatures(recipe: Recipe, n: int) -> list[Signature]:
    """Signatures of `n` scans drawn like those of training, other seeds."""
    found = []
    for i in range(n):
        volume = Volume(draw_scan(recipe, _STATISTICS_OFFSET + i).noisy, "ZYX")
        made = signature(draw_sample(volume))
        if made is not None:
            found.append(made)
    return found


def training_data(recipe: Recipe) -> TrainingData:
    """What the card tells about the training data."""
    signatures = training_signatures(recipe, _N_EXAMPLES + _N_HELD_OUT)
    return training_data_of(
        signatures[:_N_EXAMPLES],
        signatures[_N_EXAMPLES:],
        description=_WHAT,
        feature_radius=(1.5, 15.0),
        noise=recipe.noise,
        blur=recipe.blur,
        seeds=(recipe.seed,),
    )


def training_data_of(
    examples: list[Signature], held_out: list[Signature], **said: Any
) -> TrainingData:
    """Examples of what was trained on, and the distance of others of the kind."""
    quantiles = _rounded([s.quantiles for s in examples])
    spectra = _rounded([s.spectrum for s in examples])
    by_intensity = [distance(s.quantiles, quantiles) for s in held_out]
    by_spectrum = [distance(s.spectrum, spectra) for s in held_out]
    return TrainingData(
        intensity_quantiles=_reference(quantiles),
        intensity_distance=_spread(by_intensity),
        examples=quantiles,
        spectrum=_reference(spectra),
        spectrum_distance=_spread(by_spectrum),
        spectrum_examples=spectra,
        **said,
    )


def _rounded(rows: list[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 3) for v in row) for row in rows)


def _reference(rows: tuple[tuple[float, ...], ...]) -> Reference:
    values = np.array(rows)
    mean, sd = _rounded([values.mean(axis=0), values.std(axis=0)])
    return Reference(mean=mean, sd=sd)


def _spread(values: list[float]) -> tuple[float, float]:
    return round(float(np.median(values)), 4), round(
        float(np.percentile(values, 99)), 4
    )


def versions() -> dict[str, str]:
    """Versions of what training ran on."""
    names = ("torch", "numpy", "scipy", "scikit-image")
    return {"python": platform.python_version(), **{n: version(n) for n in names}}


def mixed_precision_error(network: nn.Module, recipe: Recipe) -> float:
    """Largest change in bfloat16 over a few scans, in sd of the output."""
    worst = 0.0
    for i in range(3):
        noisy = draw_scan(recipe, _STATISTICS_OFFSET - 1 - i).noisy
        n = network.spec.adjacent_slices
        if network.spec.axes == "YX":
            x = torch.from_numpy(noisy[8 : 8 + n].copy())[None]
        else:
            x = torch.from_numpy(noisy)[None, None]
        with torch.no_grad():
            exact = network(x)
            with torch.autocast("cpu", torch.bfloat16):
                reduced = network(x).float()
        worst = max(worst, float((reduced - exact).abs().max() / exact.std()))
    return round(worst, 4)


def export(
    folder: Path,
    recipe: Recipe,
    network: nn.Module,
    rows: list[dict[str, Any]],
    training: TrainingData,
    made: dict[str, Any],
) -> ModelCard:
    """Write card, weights and ``train.yaml`` into `folder`."""
    spec = network.spec
    card = ModelCard(
        name=recipe.name,
        task=recipe.task,
        network=recipe.network,
        network_kwargs=recipe.network_kwargs,
        axes=spec.axes,
        adjacent_slices=spec.adjacent_slices,
        upscale_factor=spec.upscale_factor[0],
        halo=max(spec.halo),
        training=training,
        figures=tuple(FigureRow(**row) for row in rows),
        licence="BSD-3-Clause",
        citation="napari-geosr developers, napari-geosr (2026).",
        provenance={
            "recipe": "train.yaml",
            "script": f"scripts/train_pretrained.py {recipe.name}",
            "baselines": "settings tuned per test set on a scan with known truth",
            "test_data": "simulated, two scans a set, seeds not used in training",
        },
        mixed_precision_error=mixed_precision_error(network, recipe),
        weights_sha256="0" * 64,
        n_parameters=1,
        **_TEXTS[recipe.name],
    )
    card = bundle.save(folder, card, network)
    text = yaml.safe_dump(made, sort_keys=False, allow_unicode=True)
    (folder / "train.yaml").write_text(text, encoding="utf-8")
    bundle.verify(folder)
    return card
