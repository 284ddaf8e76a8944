"""``napari-geosr generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import STOPPING, print_json, run_command
from napari_geosr.cli.kit.options import (
    AS_FLAGS,
    Json,
    OutFolder,
    Overwrite,
    SettingsPath,
    settings_from,
)
from napari_geosr.operations import generate as generation
from napari_geosr.operations.generate.config import GenerateConfig
from napari_geosr.operations.inputs import open_volume
from napari_geosr.operations.models.catalogue import ModelName


def generate(
    model: Annotated[
        ModelName,
        Parameter(
            help="Diffusion model trained with `train ddpm`: name, path or job folder."
        ),
    ],
    /,
    *,
    out: OutFolder,
    training_images: Annotated[
        list[Path] | None,
        Parameter(
            negative="",
            consume_multiple=True,
            help="Images or volumes on which the model was trained. Samples are "
            "compared with them; if more than 1 % are copies, no samples are kept.",
        ),
    ] = None,
    config: Annotated[GenerateConfig | None, AS_FLAGS] = None,
    settings: SettingsPath = None,
    json: Json = False,
    overwrite: Overwrite = False,
) -> int:
    """Generate images or volumes with a diffusion model; they are not measurements.

    Each option is documented in its declaration.

    Returns
    -------
    int
        Exit code.
    """
    merged = settings_from(GenerateConfig, config, settings)
    volumes = [open_volume(path, None) for path in training_images or ()]
    made, warnings = run_command(
        lambda should_stop: generation.generate_steps(
            model,
            out,
            merged,
            training_images=volumes,
            overwrite=overwrite,
            should_stop=should_stop,
        ),
        stopping=STOPPING,
    )
    if json:
        print_json({**made.to_json_dict(), "warnings": warnings})
        return 0
    print(f"Wrote {len(made.files)} generated samples to {out}")
    if made.porosities:
        low, high = min(made.porosities), max(made.porosities)
        mean = sum(made.porosities) / len(made.porosities)
        print(f"  Porosity: mean {mean:.3f}, from {low:.3f} to {high:.3f}")
    if made.limit is not None:
        print(
            f"  Similarity to the training images: at most "
            f"{max(made.similarities):.2f} (limit for copies: {made.limit:.2f})"
        )
    print("  The samples show what the model has learned; they are not measurements.")
    return 0
