"""Passes the environment of a job to its processes on other nodes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

#: Pattern of the folders with the keys and the script of a run's workers; a killed run
#: leaves its folder behind.
PRIVATE_FOLDERS = ".workers.*.partial"
#: Prefixes, in capitals, of the environment variables that a process on another node
#: needs and that ``oarsh`` does not pass on. The case is ignored, because proxy
#: variables are often in lower case.
_PASSED_ON = (
    "ALL_PROXY",
    "AWS_",
    "CONDA",
    "CURL_CA_BUNDLE",
    "CUDA",
    "DASK",
    "FSSPEC",
    "GLOO",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LD_LIBRARY_PATH",
    "NAPARI_GEOSR",
    "NCCL",
    "NO_PROXY",
    "PATH",
    "PYTHON",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT",
    "TORCH",
    "VIRTUAL_ENV",
    "XDG",
)
#: Lines of a shell script that read the variables from its standard input and set them,
#: or report that they are missing.
READ_EXPORTS = (
    'passed=$(cat)\neval "$passed"\n[ -n "$passed" ] || '
    'echo "The environment of the job was not passed on to this node." >&2\n'
)
#: Variables that are not passed on, because their values are only valid on one node.
_OF_NODE = ("CUDA_VISIBLE_DEVICES",)


def export_lines(more: Mapping[str, str]) -> str:
    """Return shell-script lines that set the variables that other nodes need.

    Variables with unusual names or with unprintable characters, such as line breaks,
    are omitted, because a shell may not parse them correctly. Values may be secrets,
    such as keys for cloud storage, so they are never written to a file; see
    `READ_EXPORTS`.

    Parameters
    ----------
    more : mapping of str to str
        Further variables; they take precedence.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(_PASSED_ON) and name not in _OF_NODE
    }
    return "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in (passed | dict(more)).items()
        if name.isidentifier() and value.isprintable()
    )
