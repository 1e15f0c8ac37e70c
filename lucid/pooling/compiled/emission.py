"""LLVM's instructions for vectors: constants, memory, conversions between number types.

Elements in memory have any type of `pooling.dtypes`; in a vector they are float32 or float64.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

#: A value, type or builder of llvmlite's IR, or one of Numba's types: neither publishes types of its own.
IR = Any

INT16, INT32, INT64 = (ir.IntType(bits) for bits in (16, 32, 64))
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()

#: How elements lie in memory, by the names of `pooling.dtypes`.
ELEMENTS = {
    "bool": ir.IntType(8),
    **{f"{sign}int{bits}": ir.IntType(bits) for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float16": ir.HalfType(),
    "bfloat16": INT16,
    "float32": FLOAT,
    "float64": DOUBLE,
}


def constants(element: IR, values: Sequence[float]) -> IR:
    """A vector of these numbers."""
    return ir.Constant(ir.VectorType(element, len(values)), list(values))


def splat(builder: IR, value: IR, count: int) -> IR:
    """The same value in every lane."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(nothing, value, INT32(0))
    return builder.shuffle_vector(first, nothing, constants(INT32, [0] * count))


def read(builder: IR, address: IR, some: IR, element: str, lane: str, count: int) -> IR:
    """Load lanes, all or the first `some`; the others are 0 and their memory is not touched."""
    vector = ir.VectorType(ELEMENTS[element], count)
    where = builder.inttoptr(address, vector.as_pointer())
    if some is None:
        return _widened(builder, builder.load(where, align=1), lane, element)
    zeros = ir.Constant(vector, None)
    masked = _masked(builder, "load", vector, vector, (where.type, INT32, flags(count), vector))
    return _widened(
        builder, builder.call(masked, [where, INT32(1), _first(builder, some, count), zeros]), lane, element
    )


def every_nth(builder: IR, address: IR, n: int, lane: str, count: int) -> list[IR]:
    """`count` groups of `n` neighbouring numbers, as `n` vectors: the first of each group, the second, ..."""
    numbers = read(builder, address, None, lane, lane, n * count)
    return [
        builder.shuffle_vector(numbers, numbers, constants(INT32, range(k, n * count, n))) for k in range(n)
    ]


def alike(builder: IR, a: IR, b: IR) -> IR:
    """Flags of the lanes that are equal in both and not zero."""
    equal = builder.fcmp_ordered("==", a, b)
    return builder.and_(equal, builder.fcmp_ordered("!=", a, ir.Constant(a.type, None)))


def write(builder: IR, value: IR, address: IR, some: IR, element: str, lane: str) -> None:
    """Round lanes once and store them, all or the first `some`."""
    value = narrowed(builder, value, element, lane)
    where = builder.inttoptr(address, value.type.as_pointer())
    if some is None:
        builder.store(value, where, align=1)
        return
    count = value.type.count
    masked = _masked(
        builder, "store", value.type, ir.VoidType(), (value.type, where.type, INT32, flags(count))
    )
    builder.call(masked, [value, where, INT32(1), _first(builder, some, count)])


def _masked(builder: IR, verb: str, vector: IR, result: IR, arguments: tuple[IR, ...]) -> IR:
    name = {FLOAT: "f32", DOUBLE: "f64", ir.HalfType(): "f16"}.get(vector.element)
    name = f"llvm.masked.{verb}.v{vector.count}{name or f'i{vector.element.width}'}.p0"
    return builder.module.declare_intrinsic(name, (), ir.FunctionType(result, arguments))


def flags(count: int) -> IR:
    """The type of a flag for every lane."""
    return ir.VectorType(ir.IntType(1), count)


def _first(builder: IR, some: IR, count: int) -> IR:
    return builder.icmp_signed("<", constants(INT64, range(count)), splat(builder, some, count))


def _widened(builder: IR, value: IR, lane: str, element: str) -> IR:
    """Elements as floats: as `dtypes.widen` does it, rounding 64-bit integers only."""
    count = value.type.count
    floats = ir.VectorType(ELEMENTS[lane], count)
    if element == lane:
        return value
    if element == "bool":
        return builder.uitofp(builder.icmp_unsigned("!=", value, ir.Constant(value.type, None)), floats)
    if element == "bfloat16":
        # The leading half of a float32.
        bits = builder.zext(value, ir.VectorType(INT32, count))
        bits = builder.shl(bits, constants(INT32, [16] * count))
        single = builder.bitcast(bits, ir.VectorType(FLOAT, count))
        return _widened(builder, single, lane, "float32")
    if element.startswith("float"):
        return builder.fpext(value, floats)
    return (builder.sitofp if element.startswith("int") else builder.uitofp)(value, floats)


def narrowed(builder: IR, value: IR, element: str, lane: str) -> IR:
    """Finite floats rounded once to `element`, as `dtypes.narrow` does it."""
    count = value.type.count
    if element == lane:
        return value
    if lane == "float32":
        value = _widened(builder, value, "float64", lane)
        return narrowed(builder, value, element, "float64")
    if element == "float32":
        return builder.fptrunc(value, ir.VectorType(FLOAT, count))
    # From here on float64 to a half: few processors have an instruction for that. Added to 1.5 times
    # the power of two whose last place is the half's, a float64 is rounded to that place.
    lowest, fraction = (-14, 10) if element == "float16" else (-126, 7)
    longs, ints = ir.VectorType(INT64, count), ir.VectorType(INT32, count)

    def each(number: int) -> IR:
        return constants(INT64, [number] * count)

    bits = builder.bitcast(value, longs)
    exponent, least = builder.and_(bits, each(0x7FF << 52)), each((1023 + lowest) << 52)
    exponent = builder.select(builder.icmp_unsigned(">", exponent, least), exponent, least)
    big = builder.bitcast(builder.add(exponent, each((52 - fraction << 52) + (1 << 51))), value.type)
    rounded = builder.fsub(builder.fadd(value, big), big)
    # Now float32 holds it exactly, and its leading bits are the half's; those of float16 once the
    # exponent counts from the lowest one, subnormals included.
    single = builder.fptrunc(rounded, ir.VectorType(FLOAT, count))
    shift = 16
    if element == "float16":
        shift = 13
        single = builder.fmul(single, constants(FLOAT, [2.0**-112] * count))
    half = builder.and_(builder.bitcast(single, ints), constants(INT32, [0x7FFFFFFF] * count))
    half = builder.lshr(half, constants(INT32, [shift] * count))
    if element == "float16":
        infinity = constants(INT32, [0x7C00] * count)
        half = builder.select(builder.icmp_unsigned("<", half, infinity), half, infinity)
    sign = builder.trunc(builder.lshr(bits, each(48)), ints)
    half = builder.or_(half, builder.and_(sign, constants(INT32, [0x8000] * count)))
    return builder.bitcast(
        builder.trunc(half, ir.VectorType(INT16, count)), ir.VectorType(ELEMENTS[element], count)
    )


def as_bits(builder: IR, flags: IR) -> IR:
    """Flags of lanes as an integer, lane 0 lowest."""
    count = flags.type.count
    bits = builder.bitcast(flags, ir.IntType(count))
    return bits if count == 64 else builder.zext(bits, INT64)


def prefetch_line(builder: IR, address: IR, purpose: str) -> None:
    """Have a line of memory brought into a cache, to "read" or to "write"; no address is wrong."""
    byte = ir.IntType(8).as_pointer()
    arguments = (byte, INT32, INT32, INT32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch.p0", (), ir.FunctionType(ir.VoidType(), arguments)
    )
    # The level-2 cache for what is read later, the first for what is written; data, not instructions.
    level = {"read": (0, 2), "write": (1, 3)}[purpose]
    builder.call(prefetch, [builder.inttoptr(address, byte), *map(INT32, level), INT32(1)])
