"""Vectors of floats as values of functions that Numba compiles.

Numba leaves it to LLVM to find vectors in loops, and LLVM finds none in loops as short as
a row of a feature map. Here they are written out: `load` takes `count` neighbouring elements
of memory as one value, `+`, `-` and `/` work lane by lane, and LLVM spreads a value over as many
registers as the processor has for it. A lane is a lane whatever its neighbours hold, so what
comes out does not depend on the processor either.

Addresses are integers, and nothing is checked: only kernels call these.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from lucid.pooling.compiled.emission import (
    ELEMENTS,
    INT32,
    INT64,
    IR,
    alike,
    as_bits,
    constants,
    every_nth,
    flags,
    narrowed,
    prefetch_line,
    read,
    splat,
    write,
)
from lucid.pooling.compiled.sizes import SIZES, WORD


class Vector(types.Type):
    """Numba's type of `count` lanes of "float32" or "float64"."""

    def __init__(self, lane: str, count: int) -> None:
        self.lane, self.count = lane, count
        super().__init__(f"Vector({lane}, {count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: IR, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(ELEMENTS[vector.lane], vector.count))


@intrinsic(prefer_literal=True)
def size(_: IR, element: IR) -> IR:
    """Bytes of an element, a constant."""

    def emit(_: IR, __: IR, ___: IR, ____: IR) -> IR:
        return INT64(SIZES[element.literal_value])

    return types.int64(element), emit


@intrinsic
def integer(_: IR, address: IR, k: IR) -> IR:
    """Integer `k` of a list in memory."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        where = builder.add(arguments[0], builder.mul(arguments[1], INT64(WORD)))
        return builder.load(builder.inttoptr(where, INT64.as_pointer()))

    return types.int64(types.int64, types.int64), emit


@intrinsic
def mark(_: IR, flags: IR, k: IR) -> IR:
    """Set flag `k` of a list in memory."""

    def emit(context: IR, builder: IR, __: IR, arguments: IR) -> IR:
        byte = ir.IntType(8)
        builder.store(byte(1), builder.inttoptr(builder.add(*arguments), byte.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic(prefer_literal=True)
def load(_: IR, address: IR, element: IR, lane: IR, count: IR) -> IR:
    """`count` lanes from consecutive elements."""
    names = element.literal_value, lane.literal_value, count.literal_value

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        return read(builder, arguments[0], None, *names)

    return Vector(*names[1:])(types.int64, element, lane, count), emit


@intrinsic(prefer_literal=True)
def load_some(_: IR, address: IR, some: IR, element: IR, lane: IR, count: IR) -> IR:
    """The same with only the first `some` lanes in memory, zeros behind them."""
    names = element.literal_value, lane.literal_value, count.literal_value

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        return read(builder, arguments[0], arguments[1], *names)

    return Vector(*names[1:])(types.int64, types.int64, element, lane, count), emit


@intrinsic(prefer_literal=True)
def prefetch(_: IR, address: IR, purpose: IR) -> IR:
    """Have the line of memory at an address brought into a cache, to "read" or "write" it; any will do."""

    def emit(context: IR, builder: IR, __: IR, arguments: IR) -> IR:
        prefetch_line(builder, arguments[0], purpose.literal_value)
        return context.get_dummy_value()

    return types.void(types.int64, purpose), emit


@intrinsic(prefer_literal=True)
def store(_: IR, value: IR, address: IR, element: IR) -> IR:
    """Store all lanes as consecutive elements."""

    def emit(context: IR, builder: IR, __: IR, arguments: IR) -> IR:
        write(builder, arguments[0], arguments[1], None, element.literal_value, value.lane)
        return context.get_dummy_value()

    return types.void(value, types.int64, element), emit


@intrinsic(prefer_literal=True)
def store_some(_: IR, value: IR, address: IR, some: IR, element: IR) -> IR:
    """Store the first `some` lanes."""

    def emit(context: IR, builder: IR, __: IR, arguments: IR) -> IR:
        write(builder, arguments[0], arguments[1], arguments[2], element.literal_value, value.lane)
        return context.get_dummy_value()

    return types.void(value, types.int64, types.int64, element), emit


@intrinsic(prefer_literal=True)
def full(_: IR, value: IR, lane: IR, count: IR) -> IR:
    """The same integer in every lane."""
    vector = Vector(lane.literal_value, count.literal_value)

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        return splat(builder, builder.sitofp(arguments[0], ELEMENTS[vector.lane]), vector.count)

    return vector(types.int64, lane, count), emit


@intrinsic(prefer_literal=True)
def cast(_: IR, value: IR, lane: IR) -> IR:
    """The same lanes as float32 or float64."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        return narrowed(builder, arguments[0], lane.literal_value, value.lane)

    return Vector(lane.literal_value, value.count)(value, lane), emit


@intrinsic(prefer_literal=True)
def leading(_: IR, value: IR) -> IR:
    """The 26 leading bits of float64; with what they leave, 27, products with small integers are exact."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        bits = builder.bitcast(arguments[0], ir.VectorType(INT64, value.count))
        kept = builder.and_(bits, constants(INT64, [~0x7FFFFFF] * value.count))
        return builder.bitcast(kept, arguments[0].type)

    return value(value), emit


@intrinsic(prefer_literal=True)
def not_finite(_: IR, value: IR) -> IR:
    """Bits of the lanes that are NaN or infinite."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        difference = builder.fsub(arguments[0], arguments[0])
        return as_bits(builder, builder.fcmp_unordered("uno", difference, difference))

    return types.uint64(value), emit


@intrinsic(prefer_literal=True)
def same(_: IR, a: IR, b: IR) -> IR:
    """Bits of the lanes that are equal in both and not zero."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        return as_bits(builder, alike(builder, *arguments))

    return types.uint64(a, a), emit


@intrinsic(prefer_literal=True)
def add_groups(_: IR, address: IR, length: IR, lane: IR, count: IR) -> IR:
    """Sums of `count` groups of `length` neighbouring numbers, each added one by one."""
    n, name, k = length.literal_value, lane.literal_value, count.literal_value

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        total = splat(builder, ELEMENTS[name](0), k)
        for numbers in every_nth(builder, arguments[0], n, name, k):
            total = builder.fadd(total, numbers)
        return total

    return Vector(name, k)(types.int64, length, lane, count), emit


@intrinsic(prefer_literal=True)
def same_ends(_: IR, address: IR, length: IR, lane: IR, count: IR) -> IR:
    """Bits of the groups whose first number is its last, too, as `same` has it."""
    n, name, k = length.literal_value, lane.literal_value, count.literal_value

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        first, *_, last = every_nth(builder, arguments[0], n, name, k)
        return as_bits(builder, alike(builder, first, last))

    return types.uint64(types.int64, length, lane, count), emit


@intrinsic(prefer_literal=True)
def select(_: IR, bits: IR, a: IR, b: IR) -> IR:
    """Lanes of `a` where their bit is set, else of `b`."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        number = arguments[0] if a.count == 64 else builder.trunc(arguments[0], ir.IntType(a.count))
        return builder.select(builder.bitcast(number, flags(a.count)), arguments[1], arguments[2])

    return a(types.uint64, a, a), emit


@intrinsic(prefer_literal=True)
def fold(_: IR, value: IR) -> IR:
    """Sum of the lanes as a binary tree, neighbours first, as a vector of one lane."""

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        lanes, count = arguments[0], value.count
        while count > 1:
            even, odd = (
                builder.shuffle_vector(lanes, lanes, constants(INT32, range(start, count, 2)))
                for start in (0, 1)
            )
            lanes, count = builder.fadd(even, odd), count // 2
        return lanes

    return Vector(value.lane, 1)(value), emit


@intrinsic(prefer_literal=True)
def fold_rows(_: IR, rows: IR, lane: IR, count: IR) -> IR:
    """Sums of as many vectors in memory as they have lanes, each as `fold` has it: two of them at a time."""
    name, n = lane.literal_value, count.literal_value

    def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
        step = n * SIZES[name]
        sums = [
            read(builder, builder.add(arguments[0], INT64(k * step)), None, name, name, n) for k in range(n)
        ]
        while len(sums) > 1:
            pairs = zip(sums[::2], sums[1::2], strict=True)
            sums = [
                builder.fadd(
                    *(
                        builder.shuffle_vector(*pair, constants(INT32, range(start, 2 * n, 2)))
                        for start in (0, 1)
                    )
                )
                for pair in pairs
            ]
        return sums[0]

    return Vector(name, n)(types.int64, lane, count), emit


@intrinsic(prefer_literal=True)
def transpose(
    _: IR,
    source: IR,
    source_step: IR,
    source_some: IR,
    target: IR,
    target_step: IR,
    target_some: IR,
    from_element: IR,
    lane: IR,
    to_element: IR,
    count: IR,
) -> IR:
    """Store row `j` at `target + j * target_step` as column `j` of the rows at `source`; `count` of each.

    Rows have `count` elements in memory, or the first so many: `source_some` or `target_some`,
    which is None for all. Log2(count) rounds of swaps, each of two registers: 4 shuffles a register
    of 16 lanes, where element by element there were 16 loads and stores.
    """
    names = from_element.literal_value, lane.literal_value, to_element.literal_value
    n = count.literal_value
    partial = [some is not types.none for some in (source_some, target_some)]

    def emit(context: IR, builder: IR, __: IR, arguments: IR) -> IR:
        source, source_step, source_some, target, target_step, target_some = arguments[:6]

        def row(base: IR, step: IR, i: int) -> IR:
            return builder.add(base, builder.mul(step, INT64(i)))

        rows = [
            read(builder, row(source, source_step, i), source_some if partial[0] else None, *names[:2], n)
            for i in range(n)
        ]
        width = 1
        while width < n:
            low = [k if not k & width else n + k - width for k in range(n)]
            high = [k + width if not k & width else n + k for k in range(n)]
            for i in range(n):
                if not i & width:
                    pair = rows[i], rows[i + width]
                    rows[i], rows[i + width] = (
                        builder.shuffle_vector(*pair, constants(INT32, lanes)) for lanes in (low, high)
                    )
            width *= 2
        for i in range(n):
            where, some = row(target, target_step, i), target_some if partial[1] else None
            write(builder, rows[i], where, some, names[2], names[1])
        return context.get_dummy_value()

    some = [types.int64 if given else types.none for given in partial]
    addresses = types.int64, types.int64, some[0], types.int64, types.int64, some[1]
    signature = types.void(*addresses, from_element, lane, to_element, count)
    return signature, emit


def _define(operation: Any, instruction: str) -> None:
    @intrinsic(prefer_literal=True)
    def lane_by_lane(_: IR, a: IR, b: IR) -> IR:
        def emit(_: IR, builder: IR, __: IR, arguments: IR) -> IR:
            return getattr(builder, instruction)(*arguments)

        return a(a, a), emit

    @overload(operation)
    def chosen(a, b):
        return (lambda a, b: lane_by_lane(a, b)) if isinstance(a, Vector) and a == b else None


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
