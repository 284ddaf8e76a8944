"""Connected parts of surfaces that consist of triangles."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled


@compiled
def _root(parent: np.ndarray, vertex: int) -> int:
    while parent[vertex] != vertex:
        parent[vertex] = parent[parent[vertex]]
        vertex = parent[vertex]
    return vertex


@compiled
def number_parts(faces: np.ndarray, parts: np.ndarray) -> int:
    """Number the connected parts of a surface, and return how many there are.

    Unlike `connected_components` of scipy, this function does not block other threads.

    Parameters
    ----------
    faces : ndarray of shape (M, 3), int32
        Vertices of each triangle.
    parts : ndarray of shape (N,), int32
        Receives the part of each vertex, from 0. Vertices without a triangle are parts
        by themselves.
    """
    for vertex in range(parts.size):
        parts[vertex] = vertex
    for i in range(faces.shape[0]):
        first = _root(parts, faces[i, 0])
        for k in range(1, 3):
            other = _root(parts, faces[i, k])
            # The lowest is the root, so that roots are numbered before the others.
            if other < first:
                parts[first] = other
                first = other
            else:
                parts[other] = first
    n_parts = 0
    for vertex in range(parts.size):
        if parts[vertex] == vertex:
            parts[vertex] = n_parts
            n_parts += 1
        else:
            parts[vertex] = parts[parts[vertex]]
    return n_parts
