"""The command line. Heavy libraries are imported only by the commands that use them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from napari_geosr.cli.app import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``napari-geosr``; exits with the command's exit code."""
    sys.exit(run(arguments))
