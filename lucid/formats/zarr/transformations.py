"""Where the cells of a pooled image are: OME-Zarr's coordinate transformations of an array, adjusted.

Cell i of the result lies where r * i + t of the source does, with r = n_in / n_out and t = (r - 1) / 2, since pooling
makes cells larger and moves the centre of the first. The result's transformation is the source's after that one:

    scale s, translation b      →  scale s * r, translation b + s * t
    affine (A | b)              →  affine (A * r | b + A * t)
    any other                   →  scale r and translation t before it
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Transformation: TypeAlias = dict[str, Any]
Floats: TypeAlias = npt.NDArray[np.float64]


def pooling_of(before: Sequence[int], after: Sequence[int]) -> tuple[Floats, Floats]:
    """Scale and translation of a pooling, for shapes.

    >>> [values.tolist() for values in pooling_of((3, 8), (3, 2))]
    [[1.0, 4.0], [0.0, 1.5]]

    """
    scale = np.array([a / b if b else 1.0 for a, b in zip(before, after, strict=True)])
    return scale, (scale - 1) / 2


def after_pooling(
    steps: Sequence[Transformation], scale: Floats, translation: Floats
) -> tuple[list[Transformation], list[str]]:
    """The transformations of a result, and the types of those that are not understood.

    >>> steps = [{"type": "scale", "scale": [1, 0.5]}]
    >>> after_pooling(steps, *pooling_of((3, 8), (3, 2)))[0]
    [{'type': 'scale', 'scale': [1.0, 2.0]}, {'type': 'translation', 'translation': [0.0, 0.75]}]

    """
    rank = len(scale)
    total, moved = scale.copy(), translation.copy()
    has_translation = bool(np.any(translation))
    for position, step in enumerate(steps):
        values = _values(step, rank)
        if step.get("type") == "identity":
            continue
        if values is None:
            rest = list(steps[position:])
            matrix = _numbers(step.get("affine"), (rank, rank + 1))
            if step.get("type") == "affine" and position == 0 and matrix is not None:
                return [step | {"affine": _affine(matrix, scale, translation)}, *rest[1:]], _unknown(
                    rest[1:], rank
                )
            # What comes before is done: the rest stays as it is, behind it.
            return [*_written(total, moved, has_translation=True), *rest], _unknown(rest, rank)
        if step["type"] == "scale":
            total, moved = total * values, moved * values
        else:
            moved, has_translation = moved + values, True
    return _written(total, moved, has_translation=has_translation), []


def _written(scale: Floats, translation: Floats, *, has_translation: bool) -> list[Transformation]:
    steps: list[Transformation] = [{"type": "scale", "scale": scale.tolist()}]
    return (
        [*steps, {"type": "translation", "translation": translation.tolist()}] if has_translation else steps
    )


def _values(step: Transformation, rank: int) -> Floats | None:
    """The numbers of a scale or a translation; None of all else, also where they lie in an array of their own."""
    kind = step.get("type")
    if kind not in ("scale", "translation"):
        return None
    return _numbers(step.get(kind), (rank,))


def _numbers(value: Any, shape: tuple[int, ...]) -> Floats | None:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == shape else None


def _affine(matrix: Floats, scale: Floats, translation: Floats) -> list[list[float]]:
    square = matrix[:, :-1]
    rows: list[list[float]] = np.column_stack([square * scale, matrix[:, -1] + square @ translation]).tolist()
    return rows


def _unknown(steps: Sequence[Transformation], rank: int) -> list[str]:
    kinds = [str(s.get("type")) for s in steps if s.get("type") != "identity" and _values(s, rank) is None]
    return [kind for kind in dict.fromkeys(kinds) if kind != "affine"]
