"""What is spelt out for LLVM, which does not find it itself: products of whole numbers in vectors.

Everything here is for any processor; where it has an instruction that multiplies bytes and adds
four products at once, that is used.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

__all__ = [
    "BYTES",
    "CLUSTERS",
    "EDGES",
    "add_sixteen",
    "common_of_eight",
    "fetch",
    "fetch_row",
    "lowest_bit",
    "products_of_four_halves",
    "products_of_sixteen",
]

# Bytes that memory is asked for at once.
LINE = 64
# Bytes, and edges, that a vector takes in.
BYTES = 32
EDGES = 8
# Clusters side by side in a block, and bytes of four columns of it.
CLUSTERS = 16
_BLOCK_BYTES = 4 * CLUSTERS
_INT, _LONG = ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), BYTES)
_WORDS = ir.VectorType(_LONG, EDGES)
_BLOCK = ir.VectorType(_INT, CLUSTERS)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * CLUSTERS)


@intrinsic
def fetch(typing_context, array, place):
    """Ask for the memory of a number of an array, without waiting for it."""

    def generate(context, builder, signature, arguments):
        read = _Rows(context, builder, signature, arguments, 0)
        _fetch(builder, builder.gep(read.data, [arguments[1]]))
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@intrinsic
def fetch_row(typing_context, rows, row):
    """Ask for the memory of a row of a contiguous array, without waiting for it."""

    def generate(context, builder, signature, arguments):
        read = _Rows(context, builder, signature, arguments, 0)
        start = read.row(arguments[1])
        per_line = _LONG(LINE // (signature.args[0].dtype.bitwidth // 8))
        with cgutils.for_range_slice(builder, _LONG(0), read.shape[1], per_line, inc=True) as (
            at,
            _,
        ):
            _fetch(builder, builder.gep(start, [at]))
        return context.get_dummy_value()

    return types.none(rows, types.intp), generate


def _fetch(builder, pointer):
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
    call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    # to read, into all caches, of data
    builder.call(call, [builder.bitcast(pointer, byte), _INT(0), _INT(3), _INT(1)])


@intrinsic
def lowest_bit(typing_context, number):
    """Place of the lowest bit that is set, of a number that has one."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(_LONG, [_LONG, ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.call(count, [arguments[0], ir.IntType(1)(1)])

    return types.uint64(types.uint64), generate


@intrinsic
def add_sixteen(typing_context, blocks, block, factor, out, start):
    """Add one of the blocks, (n_blocks, 16) int16, times a float32 factor to out[start:], float32.

    Sixteen numbers at once.
    """

    def generate(context, builder, signature, arguments):
        read, out = (_Rows(context, builder, signature, arguments, i) for i in (0, 3))
        floats = ir.VectorType(ir.FloatType(), _SHORTS.count // 2)
        shorts = ir.VectorType(ir.IntType(16), floats.count)
        numbers = builder.sitofp(_load(builder, read.row(arguments[1]), shorts), floats)
        product = builder.fmul(numbers, _spread(builder, arguments[2], floats), flags=["contract"])
        pointer = builder.bitcast(builder.gep(out.data, [arguments[4]]), floats.as_pointer())
        total = builder.fadd(builder.load(pointer, align=4), product, flags=["contract"])
        builder.store(total, pointer, align=4)
        return context.get_dummy_value()

    return types.none(blocks, types.uint64, types.float32, out, types.uint64), generate


@intrinsic
def common_of_eight(typing_context, bits, planes, out):
    """Sum whole numbers over the bits that eight edges have: `out` is (8,) int64.

    `bits` is (8, n_words) uint64, of which the first eight are the edges' first words; `planes` is
    (4, n_words) uint64, the bits of the numbers in two's complement.
    """

    def generate(context, builder, signature, arguments):
        bits, planes, out = (_Rows(context, builder, signature, arguments, i) for i in range(3))
        n_words = planes.shape[1]
        count = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_WORDS, [_WORDS]), f"llvm.ctpop.v{EDGES}i64"
        )
        total = cgutils.alloca_once_value(builder, ir.Constant(_WORDS, None))
        with cgutils.for_range(builder, n_words) as loop:
            at = builder.mul(loop.index, _LONG(EDGES))
            words = _load(builder, builder.gep(bits.data, [at]), _WORDS)
            sums = builder.load(total)
            for plane in range(4):
                number = builder.load(builder.gep(planes.row(_LONG(plane)), [loop.index]))
                common = builder.and_(words, _spread(builder, number, _WORDS))
                counts = builder.call(count, [common])
                counts = builder.shl(counts, ir.Constant(_WORDS, [plane] * EDGES))
                # two's complement: the last plane counts negative
                sums = builder.sub(sums, counts) if plane == 3 else builder.add(sums, counts)
            builder.store(sums, total)
        pointer = builder.bitcast(out.data, _WORDS.as_pointer())
        builder.store(builder.load(total), pointer, align=1)
        return context.get_dummy_value()

    return types.none(bits, planes, out), generate


@intrinsic
def products_of_sixteen(typing_context, codes, blocks, numbers, rows, out):
    """Products of blocks of sixteen clusters and rows, four pairs of a block and a row.

    `codes` is (n_blocks, n_fours, 16, 4) uint8, as `skxmc.search.codes.byte_rows` makes it, and
    `numbers` is (n_rows, 4 * n_fours) int8. `blocks` and `rows` are tuples of four. Products go to
    ``out[rows[q], 16 * blocks[q] :]``, float32. A variable given as the block or row of several
    pairs is read once for all.
    """

    def generate(context, builder, signature, arguments):
        read, other, out = (_Rows(context, builder, signature, arguments, i) for i in (0, 2, 4))
        blocks, rows = (cgutils.unpack_tuple(builder, arguments[i], 4) for i in (1, 3))
        size = builder.mul(read.shape[1], _LONG(_BLOCK_BYTES))
        starts = [read.place(block, size) for block in blocks]
        others = [other.row(row) for row in rows]
        totals = [cgutils.alloca_once_value(builder, ir.Constant(_BLOCK, None)) for _ in rows]
        with cgutils.for_range(builder, read.shape[1]) as loop:
            at, four = (builder.mul(loop.index, _LONG(n)) for n in (_BLOCK_BYTES, 4))
            for start, row, total in zip(starts, others, totals, strict=True):
                code = _load(builder, builder.gep(start, [at]), _BLOCK)
                number = _spread(builder, _load(builder, builder.gep(row, [four]), _INT), _BLOCK)
                builder.store(_add_fours(builder, builder.load(total), code, number), total)
        floats = ir.VectorType(ir.FloatType(), CLUSTERS)
        for block, row, total in zip(blocks, rows, totals, strict=True):
            place = builder.gep(out.row(row), [builder.mul(_long(builder, block), _LONG(CLUSTERS))])
            place = builder.bitcast(place, floats.as_pointer())
            builder.store(builder.sitofp(builder.load(total), floats), place, align=1)
        return context.get_dummy_value()

    return types.none(codes, blocks, numbers, rows, out), generate


@intrinsic
def products_of_four_halves(typing_context, rows, first, second, third, fourth, row, out):
    """Products of four rows of numbers from 0 to 15, two a byte, with one of -128 to 127.

    `rows` is (n_rows, width) uint8, with a width that `BYTES` divides; their low halves go with the
    first `width` numbers of `row`, (2 * width,) int8, their high halves with the others. `out`,
    float32, receives four products.
    """

    def generate(context, builder, signature, arguments):
        read, other, out = (_Rows(context, builder, signature, arguments, i) for i in (0, 5, 6))
        width = read.shape[1]
        starts = [read.row(q) for q in arguments[1:5]]
        totals = [cgutils.alloca_once_value(builder, ir.Constant(_SUMS, None)) for _ in starts]
        fifteen, four = (ir.Constant(_BYTES, [number] * BYTES) for number in (15, 4))
        with _each_vector(builder, width) as (at, _):
            low = other.load(other.data, at)
            high = other.load(other.data, builder.add(at, width))
            for start, total in zip(starts, totals, strict=True):
                both, sums = read.load(start, at), builder.load(total)
                sums = _add_products(builder, sums, builder.and_(both, fifteen), low)
                sums = _add_products(builder, sums, builder.lshr(both, four), high)
                builder.store(sums, total)
        _store_sums(builder, [builder.load(total) for total in totals], out.data)
        return context.get_dummy_value()

    return types.none(rows, first, second, third, fourth, row, out), generate


def _each_vector(builder, width):
    """Begin a loop over the vectors of so many bytes."""
    return cgutils.for_range_slice(builder, _LONG(0), width, _LONG(BYTES), inc=True)


class _Rows:
    """An array in code that is being made: where it is, its shape, and vectors of its bytes."""

    def __init__(self, context, builder, signature, arguments, i):
        array = context.make_array(signature.args[i])(context, builder, arguments[i])
        self.builder, self.data = builder, array.data
        self.shape = cgutils.unpack_tuple(builder, array.shape)

    def row(self, number):
        """Where a row starts; its number is none below zero."""
        return self.place(number, self.shape[1])

    def place(self, number, size):
        """Where a part starts, if each has that size."""
        number = _long(self.builder, number)
        return self.builder.gep(self.data, [self.builder.mul(number, size)])

    def load(self, start, at):
        return _load(self.builder, self.builder.gep(start, [at]), _BYTES)


def _add_products(builder, sums, a, b):
    """Add products of bytes, a without and b with a sign, to sums."""
    if not _HAS_INSTRUCTION:
        return builder.add(sums, builder.mul(builder.zext(a, _SUMS), builder.sext(b, _SUMS)))
    add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_SUMS, [_SUMS] * 3), "llvm.x86.avx512.vpdpbusd.256"
    )
    return builder.call(add, [sums, builder.bitcast(a, _SUMS), builder.bitcast(b, _SUMS)])


def _add_fours(builder, sums, codes, numbers):
    """Add products of four bytes of each place, `codes` without and `numbers` with a sign."""
    if _HAS_INSTRUCTION:
        add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_BLOCK, [_BLOCK] * 3), "llvm.x86.avx512.vpdpbusd.512"
        )
        return builder.call(add, [sums, codes, numbers])
    # pairs of 16 bits: the first and third of four bytes, the second and fourth
    codes, numbers = (builder.bitcast(vector, _SHORTS) for vector in (codes, numbers))
    eight, ones = (ir.Constant(_SHORTS, [number] * _SHORTS.count) for number in (8, 255))
    first, second = builder.and_(codes, ones), builder.lshr(codes, eight)
    even, odd = builder.ashr(builder.shl(numbers, eight), eight), builder.ashr(numbers, eight)
    sums = builder.add(sums, _add_pairs(builder, first, even))
    return builder.add(sums, _add_pairs(builder, second, odd))


def _add_pairs(builder, a, b):
    """Products of numbers of 16 bits, two neighbours added: an instruction that LLVM finds."""
    wide = ir.VectorType(_INT, _SHORTS.count)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    return _fold(builder, products, products, (range(0, wide.count, 2), range(1, wide.count, 2)))


def _long(builder, number):
    """Make an index, none below zero, one of 64 bits."""
    return number if number.type == _LONG else builder.zext(number, _LONG)


def _has_instruction() -> bool:
    """Tell whether code is made for a processor that multiplies and adds bytes at once."""
    if config.CPU_NAME or config.CPU_FEATURES:  # made for another one, perhaps
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512vl"))


def _spread(builder, number, kind):
    """Repeat a number in all places of a vector."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, _INT(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, kind.count), None))


def _load(builder, pointer, kind):
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


def _store_sums(builder, four, pointer):
    """Add the places of each of four vectors, and store the sums as float32 numbers."""
    while four[0].type.count > 8:
        half = four[0].type.count // 2
        places = range(half), range(half, 2 * half)
        four = [_fold(builder, vector, vector, places) for vector in four]
    # what is added stays in one half of the vector as long as it may: it is moved at less cost
    halves = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    pairs = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
    front = _fold(builder, four[0], four[1], halves)
    back = _fold(builder, four[2], four[3], halves)
    both = _fold(builder, front, back, pairs)
    sums = _fold(builder, both, both, ([0, 4, 2, 6], [1, 5, 3, 7]))
    floats = ir.VectorType(ir.FloatType(), 4)
    pointer = builder.bitcast(pointer, floats.as_pointer())
    builder.store(builder.sitofp(sums, floats), pointer, align=1)


def _fold(builder, a, b, places):
    """Add places of two vectors, counted on from one to the other, to other places of them."""
    masks = (ir.Constant(ir.VectorType(_INT, len(m)), list(m)) for m in places)
    first, second = (builder.shuffle_vector(a, b, mask) for mask in masks)
    return builder.add(first, second)


_HAS_INSTRUCTION = _has_instruction()
# an instruction adds four neighbours; else LLVM finds one that adds two if it may choose which
_SUMS = ir.VectorType(_INT, BYTES // 4 if _HAS_INSTRUCTION else BYTES)
