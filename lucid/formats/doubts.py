"""What a file says of an array that is not understood here, or leaves its numbers without a mean: a line each."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from lucid.formats.grid import is_longitude
from lucid.formats.meaning import Attributes, meaning_by
from lucid.formats.values import numbers_in, text_of, to_element
from lucid.formats.variables import Variable
from lucid.options import Options
from lucid.pooling.sums import REDUCTIONS

#: How others call the attributes that name missing cells, without underscores, in lower case; ODIM_H5 has `undetect`.
_names_gap = re.compile("fillvalue|missing|(code)?missingvalue|nodata(value|vals)?|undetect").fullmatch
#: In the same way, those of an array or its group that say how large cells are, or where.
_is_size = re.compile(
    "(element|pixel|voxel)size(um|nm)?|(pixel|geospatial(lat|lon))?resolution|res|d[xy]|(grid)?spacing|transform"
).fullmatch
_STAYS = "grids and sizes stay those of the source in {}"
#: Software and conventions that describe arrays elsewhere, by how the paths of these begin, or by an attribute.
_DESCRIBED = {
    "/HDFEOS/": "StructMetadata of HDF-EOS",
    "/DataSet/ResolutionLevel ": "ImageSizeX of Imaris, which fills planes up to whole chunks that are averaged",
    "/t00000/s00/": "resolutions of BigDataViewer, which may store uint16 as int16",
    "/model_weights/": "model_config of Keras",
    "/Experiments/": "axes of HyperSpy",
    "/Data/Image/": "Metadata of Velox",
    "/mnepython/": "times and freqs of MNE",
    "/VTKHDF/": "WholeExtent of VTK",
    "/ITKImage/": "Dimension and Spacing of ITK",
    "/minc-2.0/": "dimensions of MINC",
    "/MDF/images/": "EMAN.nx of EMAN",
    "/Chimera/": "step of Chimera",
    "signal": "axes of NeXus",
    "pandas_type": "axes of pandas",
    "quantity": "where of ODIM_H5",
    "emd_group_type": "dims of EMD",
}


def doubts_of(
    options: Options, array: Variable, near: Callable[[str], Attributes] = lambda _: {}
) -> Iterator[str]:
    """What is to be said of an array that is pooled: the beginnings of lines, which end with its path.

    `near` gives the attributes of what is at a path.

    >>> array = Variable("/x", "/x", (4, 4), "int16", str, attributes={"NoData": -1, "flag_meanings": "land sea"})
    >>> for doubt in doubts_of(Options(sizes=[4]), array):
    ...     print(doubt)
    NoData is -1, a value like others unless `missing=-1`
    flag_meanings names its numbers, of which no mean is one

    """
    group = array.path.rpartition("/")[0]
    sources = [array.attributes, near(group)]
    # ODIM_H5 has a group beside it, or beside the group.
    if array.path.endswith("/data") and "/data" in group:
        sources += [near(f"{path}/what") for path in (group, group.rpartition("/")[0])]
    for word, what in _DESCRIBED.items():
        if array.path.startswith(word) or any(word in attributes for attributes in sources):
            yield _STAYS.format(what)
    if "encoding-type" in array.attributes and options.height_axis == 0 and not group.startswith("/uns"):
        yield _STAYS.format("obs and var of AnnData")
    # To read an attribute of each of very many arrays takes a third of the time of a plan.
    if "lon" in array.path.lower() and is_longitude(array.attributes):
        yield "longitudes that are fields of their own are numbers, also over the date line"
    if re.search("_direction(_at_|$)|azimuth", text_of(array.attributes.get("standard_name"))):
        yield "directions are numbers, also where they go round north"
    for attributes, key in ((source, key) for source in sources for key in source):
        name = key.rpartition(":")[2].replace("_", "").lower()
        if _is_size(name):
            yield f"{key} is that of the source's cells"
        elif name in ("flagmeanings", "palette") and not REDUCTIONS[options.reduce].picks:
            yield f"{key} names its numbers, of which no {options.reduce} is one"
        elif name == "offset" and options.reduce == "sum" and any(numbers_in(attributes[key])):
            yield f"{key} is that of one number, not of a sum of several"
        if _names_gap(name) and array.numbers is not None:
            meaning = meaning_by(options, array.attributes, array.numbers)
            with suppress(ValueError):  # it is text of something else
                for number in numbers_in(attributes[key]) or [float(text_of(attributes[key]))]:
                    element = to_element(number, meaning.stored, meaning.numbers)
                    is_number = element is not None and element == element
                    if meaning.by_attributes and is_number and element not in meaning.missing:
                        yield f"{key} is {number}, a value like others unless `missing={number}`"
