"""Download model files, with restrictions on URL, size and time."""

from __future__ import annotations

import ipaddress
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import Cancelled, ModelError
from napari_geosr.core.steps import ShouldStop
from napari_geosr.models.bundle_files import MAX_WEIGHTS_BYTES

#: Maximum time to wait for a response, in seconds.
_RESPONSE_SECONDS = 30.0
#: Maximum duration of the whole download, in seconds.
_TOTAL_SECONDS = 1800.0
#: Maximum number of URLs requested in a row: the given one and its redirects.
_MAX_HOPS = 6
#: IPv6 addresses that represent IPv4 addresses (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_address(text: str) -> bool:
    """Whether a string is a URL."""
    return text.lower().startswith(("https://", "http://"))


def file_name_of(url: str) -> str:
    """Return the last part of a URL's path; ``""`` if it is missing or invalid."""
    try:
        return Path(urlsplit(url).path).name
    except ValueError:  # `download` reports what is wrong with the URL
        return ""


def download(
    address: str, path: Path, should_stop: ShouldStop, *, limit: int | None = None
) -> None:
    """Download a URL to `path`.

    Parameters
    ----------
    limit : int, optional
        Maximum size in bytes; by default the limit for weights.

    Raises
    ------
    ModelError
        If the file cannot be downloaded, is too large or takes too long, httpx is
        missing, or the URL or a redirect is not an https URL of a public host.
    Cancelled
        If `should_stop` returns True between two chunks.
    """
    _host_and_port(address, address)  # report this error even if httpx is missing
    try:
        import httpx
    except ImportError as error:
        raise ModelError(
            f"Downloading {address} needs the library httpx, which is not installed. "
            "Install it: pip install 'napari-geosr[zoo]'"
        ) from error
    place, deadline = address, time.monotonic() + _TOTAL_SECONDS
    try:
        for _ in range(_MAX_HOPS):
            _check_url(place, address)
            with httpx.stream(
                "GET",
                place,
                # Each redirect is checked before it is followed.
                follow_redirects=False,
                timeout=_RESPONSE_SECONDS,
                # A compressed response could unpack to any size.
                headers={"Accept-Encoding": "identity"},
            ) as response:
                _check_peer(response, address)
                if response.has_redirect_location:
                    place = str(response.url.join(response.headers["location"]))
                    continue
                response.raise_for_status()
                _save(response, path, address, limit, deadline, should_stop)
                return
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(
            f"{address} cannot be downloaded ({reason}). Check the URL and "
            "your network connection, or download the package's zip by hand."
        ) from error
    raise ModelError(
        f"{address} redirects more than {_MAX_HOPS - 1} times. Download the file by "
        "hand."
    )


def _save(
    response: Any,
    path: Path,
    address: str,
    limit: int | None,
    deadline: float,
    should_stop: ShouldStop,
) -> None:
    """Stream the body of a response to a file."""
    max_bytes = MAX_WEIGHTS_BYTES if limit is None else limit
    if "content-encoding" in response.headers:
        raise ModelError(
            f"{address} was sent compressed although this was not requested. Download "
            "the file by hand."
        )
    declared = response.headers.get("content-length", "")
    size, too_large = 0, declared.isdecimal() and int(declared) > max_bytes
    with path.open("wb") as file:
        # Read chunks as they arrive: a slow server may send single bytes.
        for piece in () if too_large else response.iter_bytes():
            if should_stop():
                raise Cancelled("The download was cancelled; nothing was kept.")
            if time.monotonic() > deadline:
                raise ModelError(
                    f"{address} took longer than {_TOTAL_SECONDS / 60:.0f} minutes. "
                    "Download the file by hand."
                )
            size += len(piece)
            too_large = size > max_bytes
            if too_large:
                break
            file.write(piece)
    if too_large:
        raise ModelError(
            f"{address} is larger than {format_bytes(max_bytes)}, the limit for this "
            "kind of file."
        )


def _check_url(place: str, address: str) -> None:
    """Reject anything but https URLs of public hosts."""
    host, port = _host_and_port(place, address)
    for found in _addresses(host, port, proxied=_is_proxied(host)):
        _refuse_private(found, address)


def _host_and_port(place: str, address: str) -> tuple[str, int]:
    """Return the host and port of an https URL; anything else is rejected."""
    via = "" if place == address else f" redirects to {place}, which"
    try:
        parts = urlsplit(place)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ModelError(
            f"{address} is not a valid URL ({error}). Check it."
        ) from error
    if parts.scheme.lower() != "https" or not host:
        raise ModelError(
            f"{address}{via} is not an https URL, so the file could be replaced in "
            "transit. Give the https URL, or download the file by hand."
        )
    return host, port or 443


def _check_peer(response: Any, address: str) -> None:
    """Reject a response from a private address, because DNS results can change."""
    stream = response.extensions.get("network_stream")
    if stream is None or _is_proxied(response.url.host):
        return
    peer = stream.get_extra_info("server_addr")
    if peer:
        _refuse_private(ipaddress.ip_address(str(peer[0]).partition("%")[0]), address)


def _is_proxied(host: str) -> bool:
    """Whether httpx uses a proxy for this host, according to the environment."""
    proxies = getproxies()
    return bool({"https", "all"} & proxies.keys()) and not proxy_bypass(host)


def _addresses(host: str, port: int, *, proxied: bool) -> list[_Address]:
    """Return the addresses of a host name; empty if only a proxy can resolve it."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        if proxied:
            return []
        raise
    return [ipaddress.ip_address(str(f[4][0]).partition("%")[0]) for f in infos]


def _refuse_private(host_address: _Address, address: str) -> None:
    inner = host_address
    if isinstance(host_address, ipaddress.IPv6Address):
        inner = host_address.ipv4_mapped or host_address.sixtofour or host_address
        if host_address in _NAT64:
            inner = ipaddress.IPv4Address(int(host_address) & 0xFFFFFFFF)
    if not inner.is_global or inner.is_multicast:
        raise ModelError(
            f"{address} points to {host_address}, which is this computer or one on a "
            "private network, so nothing was downloaded. Download the file by hand."
        )
