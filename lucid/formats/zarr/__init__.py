"""Zarr stores, versions 2 and 3: zarr is imported in this folder and nowhere else.

Read from the top, an input goes through

    store       files by keys, in a folder, an archive or behind a URL
    documents   their metadata: JSON, version 2 in the words of version 3
    nodes       groups and arrays
    meaning     arrays as variables, of which `lucid.formats.choice` says which are pooled
    layout      where the elements of one lie: chunks, shards, codecs
    chunks      how they are read
    codecs      how they are decoded, and encoded
    source      all of that as the contract of formats has it

and an output, whatever its source is, through

    sink        where it is built, and put in its place
    build       what groups and arrays it has, decided before anything is written
    carry       files that are copied as they are, and summaries made anew
    compression which codecs its arrays have
    files       the files of an array's chunks, when all means are there

What packages raise becomes one line in `errors`. What attributes say is understood by `meaning` (missing values,
packing), `geography` (dimensions and coordinates), `ome` (images and their levels) and `nczarr` (what netCDF-C writes).
"""
