"""Makes the helpers that kill commands importable, and starts the command server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kills import Commands

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Starting it takes seconds."""
    from kills import Commands

    started = Commands()
    yield started
    started.close()
