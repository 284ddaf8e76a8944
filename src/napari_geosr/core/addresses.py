"""Addresses of data on other computers, such as ``https://host/scan.ome.zarr``."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Metadata keys of a volume opened by its address: the address without credentials, and
#: the checksum of the metadata read there.
ADDRESS, METADATA_CHECKSUM = "address", "metadata_checksum"

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?!/)(.*)", re.DOTALL)
#: Address of a file on this computer, which names no server or ``localhost``; a `Path`
#: keeps only one slash.
_LOCAL = re.compile(
    r"file:(?:/{1,2}localhost/|/|///)(?!/)(.*)", re.DOTALL | re.IGNORECASE
)
_HIDDEN = "…"
#: Minimum length, in characters, at which a value in the query of an address is hidden
#: in messages.
_MIN_SECRET = 4


def as_address(path: str | Path) -> str | None:
    """Return `path` as an address; None if it is a local path.

    Examples
    --------
    >>> as_address(Path("https://host/scan.zarr"))  # a `Path` keeps only one slash
    'https://host/scan.zarr'
    >>> as_address(Path("file:///tmp/scan.zarr"))
    'file:///tmp/scan.zarr'
    >>> as_address("file://localhost/tmp/scan.zarr")
    'file:///tmp/scan.zarr'
    >>> as_address("C:/scan.zarr") is None
    True
    """
    local = _LOCAL.fullmatch(str(path))
    found = local or _ADDRESS.fullmatch(str(path))
    if found is None or Path(path).exists():
        return None
    if local is not None:
        return f"file:///{local[1]}"
    return f"{found[1].lower()}://{found[2]}"


def without_secrets(address: str) -> str:
    """Return an address without its user, password, query and fragment.

    The address of a file on this computer is returned unchanged, because ``?`` and
    ``#`` may be part of its name.

    Examples
    --------
    >>> without_secrets("https://me:secret@host/scan.zarr?token=1234")
    'https://host/scan.zarr'
    >>> without_secrets("file:///C:/x y#1.tif")
    'file:///C:/x y#1.tif'
    """
    if _LOCAL.fullmatch(address):
        return address
    scheme, _, rest = address.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def host_of(address: str) -> str:
    """Return the server or bucket that an address names; ``""`` if it names none.

    Examples
    --------
    >>> host_of("https://me@host:8080/scan.zarr")
    'host'
    >>> host_of("https://:8080/scan.zarr")
    ''
    """
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # an unclosed bracket
        return ""


def has_secrets(address: str) -> bool:
    """Whether an address contains a user, a password, a query or a fragment."""
    return without_secrets(address) != address


def clean_reason(error: BaseException, address: str) -> str:
    """Return up to 160 characters of an error's first line, with secrets removed."""
    lines = clean_text(str(error), address).strip().splitlines()
    return (lines or [type(error).__name__])[0][:160].rstrip(". ")


def clean_text(text: str, address: str) -> str:
    """Return a text without the secrets that an address contains."""
    if not has_secrets(address):
        return text
    text = text.replace(address, without_secrets(address))
    rest = address.partition("://")[2]
    user = rest.partition("/")[0].rpartition("@")[0]
    try:
        query = urlsplit(address).query
    except ValueError:
        query = ""
    values = [part.partition("=")[2] for part in query.split("&")]
    # Short values are common words and numbers rather than secrets.
    values = [value for value in values if len(value) >= _MIN_SECRET]
    secrets = {user, user.partition(":")[2], query, *values}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for form in (secret, unquote(secret)):
            text = text.replace(form, _HIDDEN)
    return text
