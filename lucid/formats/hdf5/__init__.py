"""HDF5 files: h5py is imported in this folder and nowhere else.

Read from the top, an input goes through

    tree        names, links and objects; dataset: what is asked of those that have elements
    meaning     datasets as variables, of which `lucid.formats.choice` says which are pooled
    types       their elements; absent: what is missing of the other files that some lie in
    filters     what undoes which compression: chunks by any thread, plugins by their functions, codec by the
                library, apart from the file
    source      all of that as the contract of formats has it

and an output, whatever its source is, through

    sink        built whole before any mean is known, and put in its place
    carry       every object and link that is there; create: datasets for means, of which means knows the sources
    copies      objects: remake, attributes, references, elsewhere do what the library's own copy gets wrong, and
                claims refuses what the file cannot hold
    check       the finished file, opened and walked

What attributes say is understood by `meaning` (missing values, packing, MATLAB) and `geography` (dimension scales).
"""
