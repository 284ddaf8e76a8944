"""Files of packages from addresses: in pieces, up to a size, until somebody stops."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import Cancelled, ModelError
from napari_geosr.core.steps import ShouldStop
from napari_geosr.models.bundle import MAX_WEIGHTS_BYTES

#: Bytes after which it is asked whether to stop.
_PIECE = 2**16
#: Seconds without an answer.
_PATIENCE = 30.0


def is_address(text: str) -> bool:
    """Whether a text is the address of a file."""
    return text.startswith(("https://", "http://"))


def download(address: str, path: Path, should_stop: ShouldStop) -> None:
    """Write what is at an address to `path`.

    Raises
    ------
    ModelError
        If it cannot be had, has more bytes than weights may have, or httpx is missing.
    Cancelled
        Between two pieces, if `should_stop` says so.
    """
    try:
        import httpx
    except ImportError as error:
        raise ModelError(
            f"To download {address}, the library httpx is needed, which is not "
            "installed. Install it: pip install 'napari-geosr[zoo]'"
        ) from error
    size = 0
    try:
        with (
            httpx.stream(
                "GET", address, follow_redirects=True, timeout=_PATIENCE
            ) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            for piece in response.iter_bytes(_PIECE):
                if should_stop():
                    raise Cancelled("The download was cancelled; nothing was kept.")
                size += len(piece)
                if size > MAX_WEIGHTS_BYTES:
                    raise ModelError(
                        f"{address} has more than {format_bytes(MAX_WEIGHTS_BYTES)}, "
                        "which is too large for weights of a network."
                    )
                file.write(piece)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(
            f"{address} cannot be downloaded ({reason}). Check the address and the "
            "network, or download the package's zip by hand."
        ) from error
