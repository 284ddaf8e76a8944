"""``napari-geosr demo``."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_geosr.cli.kit.console import run_command
from napari_geosr.cli.kit.options import Overwrite
from napari_geosr.core.errors import ConfigError
from napari_geosr.operations.demo import demo_steps


def demo(
    *,
    out: Annotated[
        Path,
        Parameter(
            alias="-o",
            help="Folder for the scan, the result and the report. Created if missing.",
        ),
    ] = Path("geosr-demo"),
    show: Annotated[
        bool,
        Parameter(
            negative="", help="Open the scan and the result in napari at the end."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> int:
    """Restore a simulated noisy foam scan and report its pores before and after."""
    if show and find_spec("napari") is None:
        raise ConfigError(
            "napari is not installed, so --show cannot open the result. Install it "
            'with: pip install "napari-geosr[pyqt6]"'
        )
    result, _ = run_command(
        lambda should_stop: demo_steps(
            out, overwrite=overwrite, should_stop=should_stop
        )
    )
    for name, report in result.reports.items():
        print(f"{name:<9} porosity {100 * report.porosity:6.2f} %")
    print(
        f"porosity error {100 * result.error_before:.1f} % before, "
        f"{100 * result.error_after:.1f} % after restoration"
    )
    print(f"report: {result.files['report.html']}")
    if show:
        names = ("truth.ome.tif", "scan.ome.tif", "result.ome.tif")
        paths = [str(result.files[name]) for name in names]
        # -P: do not import modules from the current folder.
        napari = [sys.executable, "-P", "-m", "napari", "--plugin", "napari-geosr"]
        return subprocess.run([*napari, *paths], check=False).returncode
    return 0
