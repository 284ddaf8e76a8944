"""``napari-geosr generate``."""

from __future__ import annotations

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
from napari_geosr.operations.models.catalogue import ModelName


def generate(
    model: Annotated[
        ModelName,
        Parameter(
            help="Diffusion model trained with train ddpm: name, path or job folder."
        ),
    ],
    /,
    *,
    out: OutFolder,
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
    files, warnings = run_command(
        lambda should_stop: generation.generate_steps(
            model, out, merged, overwrite=overwrite, should_stop=should_stop
        ),
        stopping=STOPPING,
    )
    if json:
        listed = [str(path) for path in files]
        print_json({"files": listed, "generated": True, "warnings": warnings})
        return 0
    print(f"Wrote {len(files)} generated samples to {out}")
    print("  They show what the model has learned, and are not measurements.")
    return 0
