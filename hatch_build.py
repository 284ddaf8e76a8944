"""Build hook: the README in the package's metadata has absolute links.

PyPI shows the README without the files of the repository, so that relative links to
pictures and pages would lead nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: The repository, and the files in it as GitHub serves them.
REPOSITORY = "https://github.com/napari-geosr/napari-geosr/blob/main/"
FILES = "https://raw.githubusercontent.com/napari-geosr/napari-geosr/main/"
#: Suffixes of pictures.
PICTURES = (".png", ".svg", ".webp")
#: Target of a relative link; absolute ones have a scheme, those to sections a #.
_RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


def with_absolute_links(text: str) -> str:
    """Return Markdown with absolute addresses instead of paths in the repository."""

    def absolute(match: re.Match[str]) -> str:
        path = match.group(1)
        return f"]({FILES if path.endswith(PICTURES) else REPOSITORY}{path})"

    return _RELATIVE.sub(absolute, text)


class ReadmeHook(MetadataHookInterface):
    """Adds the README to the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field `readme`, which pyproject.toml declares as dynamic."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_absolute_links(text),
        }
