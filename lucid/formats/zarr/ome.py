"""OME-Zarr images (specification 0.4 and 0.5): their levels, and their metadata anew.

A group is an image whose attributes, in 0.5 those under `ome`, have "multiscales": lists of arrays of one image, the
largest first. All levels of a result come from the source's first, one for each size; what was made of that one at
other sizes in the source is left out, arrays and all. Axes keep their names, which 0.5 holds array metadata to.

Cell i of a result lies where r * i + t of the source does, with r = n_in / n_out and t = (r - 1) / 2, since pooling
makes cells larger and moves the centre of the first. Its coordinate transformation is the source's after that one:

    scale s, translation b      →  scale s * r, translation b + s * t
    any other                   →  scale r and translation t before it
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lucid.formats.arrays import ResultSpec
from lucid.formats.regions import size_of
from lucid.formats.zarr.nodes import Node
from lucid.formats.zarr.store import key_in

LABEL_NOTE = (
    "{} is a label image: means of numbers of objects are no numbers of objects; `reduce='max'` keeps to some "
    "that are there"
)
#: Results by the path of what they are made of.
Results: TypeAlias = Mapping[str, Sequence[ResultSpec]]


class Image(NamedTuple):
    """One list of levels: the path of the group, those of its arrays, and whether these number objects."""

    group: str
    paths: tuple[str, ...]
    is_label: bool = False


def images_of(nodes: Iterable[Node]) -> list[Image]:
    """The images of a store."""
    images = []
    for node in nodes:
        holder = _holder(node.attributes)
        is_label = "image-label" in holder or node.folder.rpartition("/")[2] == "labels"
        for image in _objects(holder.get("multiscales")):
            levels = [d for d in _objects(image.get("datasets")) if isinstance(d.get("path"), str)]
            images.append(Image(node.path, tuple(_path(node, level) for level in levels), is_label))
    return images


def aside_paths(images: Sequence[Image]) -> tuple[set[str], set[str]]:
    """Paths of labels and of lower levels, which are pooled only where the user names them.

    Levels are made of the first, and means of numbers of objects are numbers of no object.
    """
    labels = {f"/{path}" for image in images if image.is_label for path in image.paths}
    return labels, {f"/{path}" for image in images for path in image.paths[1:]} - labels


def lower_levels(images: Iterable[Image], results: Container[str]) -> dict[str, list[str]]:
    """Arrays that do not go with the result, by the group of their image: all levels of one whose first is pooled."""
    whole = [image for image in images if image.paths and image.paths[0] in results]
    levels = ((image.group, [path for path in image.paths[1:] if path not in results]) for image in whole)
    return {group: paths for group, paths in levels if paths}


def notes_on_labels(images: Sequence[Image], results: Results) -> Iterator[str]:
    """Lines where an image and its labels have no longer as many levels as one another, as OME-Zarr wants it."""
    before = {image.group: len(image.paths) for image in images}
    after = {image.group: len(results.get(image.paths[0], image.paths)) for image in images if image.paths}
    for label in (image.group for image in images if image.is_label):
        group = label.rpartition("labels/")[0].rstrip("/")
        if before.get(group) == before[label] and after.get(group) != after[label]:
            yield f"/{label} has {after[label]} levels, its image {after[group]}; OME-Zarr wants as many of both"


def attributes_of_image(
    node: Node, shapes: Mapping[str, tuple[int, ...]], results: Results
) -> tuple[dict[str, Any], list[str]]:
    """The attributes of an image's group for the results of its arrays; and notes.

    `shapes` are those of the arrays of the source, by their paths.
    """
    attributes, notes = deepcopy(node.attributes), list[str]()
    holder = _holder(attributes)
    images = _objects(holder.get("multiscales"))
    for image in images:
        levels = [(_path(node, level), level) for level in _objects(image.get("datasets"))]
        if not any(path in results for path, _ in levels):
            continue
        first = results.get(levels[0][0])
        sizes: list[tuple[int, dict[str, Any]]] = []
        for path, level in levels:
            for result in (one for one in results.get(path, ()) if not one.flat):
                new_level, unknown = _level(node, level, result)
                sizes.append((size_of(result.shape), new_level))
                notes += unknown
            if path not in results and not first and path in shapes:
                sizes.append((size_of(shapes[path]), level))
        image["datasets"] = [level for _, level in sorted(sizes, key=lambda pair: -pair[0])]
        if first and "type" in image:
            image["type"] = first[0].reduce
        if first and "metadata" in image:
            words = f"{first[0].reduce} over adaptive windows of level 0"
            image["metadata"] = {"method": "lucid-pool", "description": words}
    if attributes == node.attributes:
        return attributes, []
    holder["multiscales"] = [image for image in images if image.get("datasets")]
    if not holder["multiscales"]:
        del holder["multiscales"]
    return attributes, list(dict.fromkeys(notes))


def _level(node: Node, level: dict[str, Any], result: ResultSpec) -> tuple[dict[str, Any], list[str]]:
    """What an image's group says of a result; and notes."""
    name = result.name.strip("/").removeprefix(f"{node.path}/" if node.path else "")
    steps = _objects(level.get("coordinateTransformations"))
    steps, unknown = transformations_of_result(steps, result.source.shape, result.shape)
    return level | {"path": name, "coordinateTransformations": steps}, [
        f"{result.source.name} has a coordinate transformation of type {step_type}, which is kept as it is, behind "
        "the scale and the translation of the new cells"
        for step_type in unknown
    ]


def transformations_of_result(
    steps: Sequence[dict[str, Any]], before: Sequence[int], after: Sequence[int]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The transformations of a result, by shapes, and the types of those that are not understood.

    >>> transformations_of_result([{"type": "scale", "scale": [1, 0.5]}], (3, 8), (3, 2))[0]
    [{'type': 'scale', 'scale': [1.0, 2.0]}, {'type': 'translation', 'translation': [0.0, 0.75]}]

    """
    scale = np.array([a / b if b else 1.0 for a, b in zip(before, after, strict=True)])
    translation = (scale - 1) / 2
    rest = [step for step in steps if step.get("type") != "identity"]
    is_moved = bool(translation.any())
    while rest and (numbers := _numbers(rest[0], len(before))) is not None:
        if rest[0]["type"] == "scale":
            scale, translation = scale * numbers, translation * numbers
        else:
            translation, is_moved = translation + numbers, True
        rest = rest[1:]
    first = [{"type": "scale", "scale": scale.tolist()}]
    if is_moved or rest:
        first.append({"type": "translation", "translation": translation.tolist()})
    unknown = (str(step.get("type")) for step in rest if _numbers(step, len(before)) is None)
    return [*first, *rest], [*dict.fromkeys(unknown)]


def _numbers(step: dict[str, Any], rank: int) -> npt.NDArray[np.float64] | None:
    """The numbers of a scale or a translation; None of all else, also where they lie in an array of their own."""
    if step.get("type") not in ("scale", "translation"):
        return None
    try:
        array = np.asarray(step.get(step["type"]), np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (rank,) else None


def _holder(attributes: dict[str, Any]) -> dict[str, Any]:
    """Where an image says what it is: in 0.5 under `ome`, in 0.4 among the attributes."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _path(node: Node, level: dict[str, Any]) -> str:
    """The path of a level, without empty steps, as files may have them: "./0", "0/"."""
    steps = key_in(node.path, str(level.get("path"))).split("/")
    return "/".join(step for step in steps if step not in ("", "."))
