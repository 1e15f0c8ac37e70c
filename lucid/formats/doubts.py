"""What a file says of an array that is not understood here, or leaves its numbers without a mean: a line each."""

from collections.abc import Iterator
from contextlib import suppress

from lucid.formats.grid import is_longitude
from lucid.formats.meaning import meaning_by
from lucid.formats.values import numbers_in, text_of, to_element
from lucid.formats.variables import Variable
from lucid.options import Options

#: How others call the attributes that name missing cells, without underscores, in lower case.
_MARKS = {"fillvalue", "missingvalue", "codemissingvalue", "missing", "nodata", "nodatavalue", "nodatavals"}
_OF_SOURCE = "is that of the source's cells"
#: What is said of other attributes, called in the same way.
_ATTRIBUTES = {
    **dict.fromkeys(("elementsizeum", "pixelsize", "voxelsize", "pixelresolution"), _OF_SOURCE),
    **dict.fromkeys(("resolution", "spacing", "transform", "res"), _OF_SOURCE),
    "flagmeanings": "names its numbers, of which no {reduce} is one",
}
#: Conventions that describe arrays in another place, by how the paths of these begin.
_CONVENTIONS = {
    "/HDFEOS/": "StructMetadata of HDF-EOS",
    "/DataSet/ResolutionLevel ": "ImageSizeX of Imaris, which fills planes up to whole chunks that are averaged",
    "/t00000/s00/": "resolutions of BigDataViewer, which may store uint16 as int16",
}


def doubts_of(options: Options, array: Variable) -> Iterator[str]:
    """What is to be said of an array that is pooled: the beginnings of lines, which end with its path.

    >>> array = Variable("/x", "/x", (4, 4), "int16", str, attributes={"NoData": -1, "flag_meanings": "land sea"})
    >>> for doubt in doubts_of(Options(sizes=[4]), array):
    ...     print(doubt)
    NoData is -1, a value like others unless `missing=-1`
    flag_meanings names its numbers, of which no mean is one

    """
    for start, what in _CONVENTIONS.items():
        if array.path.startswith(start):
            yield f"grids and sizes stay those of the source in {what}"
    # To read an attribute of each of very many arrays takes a third of the time of a plan.
    if "lon" in array.path.lower() and is_longitude(array.attributes):
        yield "longitudes that are fields of their own are numbers, also over the date line"
    for key in array.attributes:
        name = key.replace("_", "").lower()
        if name in _ATTRIBUTES and (name != "flagmeanings" or options.reduce in ("mean", "sum")):
            yield f"{key} {_ATTRIBUTES[name]}".format(reduce=options.reduce)
        if name in _MARKS and array.numbers is not None:
            meaning = meaning_by(options, array.attributes, array.numbers)
            with suppress(ValueError):  # it is text of something else
                for number in numbers_in(array.attributes[key]) or [float(text_of(array.attributes[key]))]:
                    element = to_element(number, meaning.stored, meaning.numbers)
                    is_number = element is not None and element == element
                    if meaning.by_attributes and is_number and element not in meaning.missing:
                        yield f"{key} is {number}, a value like others unless `missing={number}`"
