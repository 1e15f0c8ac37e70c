"""The kernels, compiled: the same sums in the same order, several times as fast.

NumPy's kernels (`pooling.kernels`) convert a tile and pass over it many times, a loop for each step. What
Numba compiles here goes from the elements of the source to the rounded means of whole windows in one
pass. Both add in one order, so the bits are the same, and which one runs is a matter of time only.

    choice     which kernel for which problem, by shapes and steps alone
    machine    its machine code, from Numba or from a file
    places     where these files are
    planar     small planes, many side by side
    wide       wide planes, row by row
    runs       windows that are runs of memory
    channels   channels-last data
    sums       what these share, and how a kernel is called
    vectors    vectors of numbers as values of compiled functions
    emission   the instructions behind them
    sizes      bytes of elements, registers and places to work in

What `choice.prepared` does not take on is left to NumPy: a few small planes, fewer channels than a vector has
lanes, byte orders not the processor's, and all that the rules are for. Loaded on use, by `pooling.jit`.
"""
