"""OME-Zarr images (specification 0.4 and 0.5): their levels, and their metadata anew.

A group is an image whose attributes, in 0.5 those under `ome`, have "multiscales": lists of arrays of one image, the
largest first. All levels of a result come from the source's first, one for each size; what was made of that one at
other sizes in the source is left out, arrays and all. Axes keep their names, which 0.5 holds array metadata to.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from lucid.formats.arrays import Pooled
from lucid.formats.regions import size_of
from lucid.formats.zarr.nodes import Node, joined
from lucid.formats.zarr.transformations import after_pooling, pooling_of


class Image(NamedTuple):
    """One list of levels: the path of the group, those of its arrays, and whether these number objects."""

    group: str
    paths: tuple[str, ...]
    is_label: bool = False


def images_of(nodes: Iterable[Node]) -> list[Image]:
    """The images of a store."""
    found = []
    for node in nodes:
        holder = _holder(node.attributes)
        is_label = "image-label" in holder or node.path.rpartition("/")[0].rpartition("/")[2] == "labels"
        for image in _multiscales(holder):
            levels = [d for d in _dicts(image.get("datasets")) if isinstance(d.get("path"), str)]
            paths = tuple(_normal(joined(node.path, level["path"])) for level in levels)
            found.append(Image(node.path, paths, is_label))
    return found


def left_out(images: Sequence[Image], pooled: Iterable[str]) -> dict[str, list[str]]:
    """Arrays that do not go with the result, by the group of their image: all levels of one whose first is pooled."""
    chosen = set(pooled)
    gone = {
        image.group: [path for path in image.paths[1:] if path not in chosen]
        for image in images
        if image.paths and image.paths[0] in chosen
    }
    return {group: paths for group, paths in gone.items() if paths}


def described_again(
    node: Node, shapes: Mapping[str, tuple[int, ...]], made: Mapping[str, Sequence[Pooled]]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The attributes of an image's group for what was made of its arrays, None if nothing changes; and notes.

    Parameters
    ----------
    node
        The group.
    shapes
        Of the arrays of the source, by their paths.
    made
        What was made of each, by its path.

    """
    attributes = deepcopy(node.attributes)
    holder, notes = _holder(attributes), list[str]()
    is_changed = False
    for image in _multiscales(holder):
        levels = [(_normal(joined(node.path, str(d.get("path")))), d) for d in _dicts(image.get("datasets"))]
        if not any(path in made for path, _ in levels):
            continue
        is_changed = True
        is_whole = levels[0][0] in made
        described: list[tuple[int, dict[str, Any]]] = []
        for path, level in levels:
            if path in made:
                for pooled in made[path]:
                    if not pooled.flat:
                        again, unknown = _level(node, level, pooled)
                        described.append((size_of(pooled.shape), again))
                        notes += [_note(kind, pooled) for kind in unknown]
            elif not is_whole and path in shapes:
                described.append((size_of(shapes[path]), level))
        described.sort(key=lambda pair: -pair[0])
        image["datasets"] = [level for _, level in described]
        if is_whole:
            _say_method(image, next(iter(made[levels[0][0]])).reduce)
    if not is_changed:
        return None, []
    holder["multiscales"] = [
        image for image in holder["multiscales"] if not isinstance(image, dict) or image.get("datasets")
    ]
    if not holder["multiscales"]:
        del holder["multiscales"]
    return attributes, list(dict.fromkeys(notes))


def _level(node: Node, level: dict[str, Any], pooled: Pooled) -> tuple[dict[str, Any], list[str]]:
    path = pooled.name.strip("/").removeprefix(f"{node.path}/" if node.path else "")
    steps = _dicts(level.get("coordinateTransformations"))
    again, unknown = after_pooling(steps, *pooling_of(pooled.source.shape, pooled.shape))
    return level | {"path": path, "coordinateTransformations": again}, unknown


def _note(kind: str, pooled: Pooled) -> str:
    return (
        f"{pooled.source.name} has a coordinate transformation of type {kind}, which is kept as it is, behind "
        "the scale and the translation of the new cells"
    )


def _say_method(image: dict[str, Any], reduce: str) -> None:
    """What made the levels, where that is said."""
    if "type" in image:
        image["type"] = reduce
    if "metadata" in image:
        image["metadata"] = {
            "method": "lucid-pool",
            "description": f"{reduce} over adaptive windows of level 0",
        }


def _holder(attributes: dict[str, Any]) -> dict[str, Any]:
    """Where an image says what it is: in 0.5 under `ome`, in 0.4 among the attributes."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _multiscales(holder: dict[str, Any]) -> list[dict[str, Any]]:
    return _dicts(holder.get("multiscales"))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _normal(path: str) -> str:
    """A path without empty steps, as files may have them: "./0", "0/"."""
    return "/".join(step for step in path.split("/") if step not in ("", "."))
