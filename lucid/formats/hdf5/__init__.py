"""HDF5 files: h5py is imported in this folder and nowhere else.

Read from the top, an input goes through

    tree        names, links and objects
    meaning     datasets as variables, of which `lucid.formats.choice` says which are pooled
    types       their elements; elsewhere: whether the other files are there that some lie in
    filters     what undoes which compression: chunks by any thread, plugins by their functions, codec by the
                library, apart from the file
    source      all of that as the contract of formats has it

and an output, whatever its source is, through

    sink        built whole before any mean is known, and put in its place
    create      datasets for means
    carry       all else: remake, attributes, references and elsewhere do what the library's own copy gets wrong
    check       the finished file, opened and walked

What attributes say is understood by `meaning` (missing values, packing, MATLAB) and `geography` (dimension scales).
"""
