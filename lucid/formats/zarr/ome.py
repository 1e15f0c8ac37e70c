"""OME-Zarr: where the cells of a pooled image are (specification 0.4 and 0.5, "multiscales").

Each array of a pyramid has a scale, and perhaps a translation, from cells to the units of the axes. Pooling
makes cells larger and moves the centre of the first; datasets that were pooled to several sizes are several.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from lucid.formats.contract import Pooled


def described_again(
    attributes: dict[str, Any], made: Mapping[str, Sequence[Pooled]]
) -> dict[str, Any] | None:
    """A group's attributes for what was made of its arrays, by their paths in it; None if nothing changes."""
    changed = deepcopy(attributes)
    holder = changed.get("ome", changed)
    images = holder.get("multiscales") if isinstance(holder, dict) else None
    if not isinstance(images, list) or not made:
        return None
    for image in images:
        image["datasets"] = [
            one
            for dataset in image.get("datasets", [])
            for one in _pooled(dataset, made.get(str(dataset.get("path")), ()))
        ]
    return changed


def _pooled(dataset: dict[str, Any], made: Sequence[Pooled]) -> list[dict[str, Any]]:
    """The descriptions of what was made of an array; its own if nothing was."""
    if not made:
        return [dataset]
    return [
        dataset
        | {
            "path": "".join(dataset["path"].rpartition("/")[:2]) + pooled.name.rpartition("/")[2],
            "coordinateTransformations": _transformations(dataset, pooled),
        }
        for pooled in made
        if not pooled.flat
    ]


def _transformations(dataset: dict[str, Any], pooled: Pooled) -> list[dict[str, Any]]:
    rank = len(pooled.shape)
    scale, translation = [1.0] * rank, [0.0] * rank
    for step in dataset.get("coordinateTransformations", []):
        if step.get("type") == "scale":
            scale = [float(value) for value in step["scale"]]
        elif step.get("type") == "translation":
            translation = [float(value) for value in step["translation"]]
    for axis in (pooled.height_axis, pooled.height_axis + 1):
        ratio = pooled.source.shape[axis] / pooled.shape[axis]
        translation[axis] += scale[axis] * (ratio - 1) / 2
        scale[axis] *= ratio
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
