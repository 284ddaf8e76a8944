"""The command line. Heavy libraries are imported only by the commands that use them."""

from __future__ import annotations

import sys

# Importing `typing` takes a few milliseconds, during which Ctrl-C is not handled.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``napari-geosr`` and exit with the command's exit code."""
    try:
        # Imported here because the import takes a few tenths of a second, and the user
        # may press Ctrl-C during this time.
        from napari_geosr.cli.app import run

        code = run(arguments)
    except KeyboardInterrupt:
        print("napari-geosr: Stopped.", file=sys.stderr)
        code = 130
    sys.exit(code)
