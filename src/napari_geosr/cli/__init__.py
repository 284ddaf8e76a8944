"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from napari_geosr.cli.app import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``napari-geosr``; leaves with the command's exit code."""
    sys.exit(run(arguments))
