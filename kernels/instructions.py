"""Two machine instructions that numba does not expose, for compiled code only."""

# mypy: disable-error-code="import-untyped,no-untyped-call,untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BYTE_POINTER = ir.IntType(8).as_pointer()
_INT32 = ir.IntType(32)
# Typed as Any: the function that numba makes has another signature than the one decorated here.
_instruction: Any = intrinsic


@_instruction
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of ``array[index]``; the index may lie outside the array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(start, [arguments[1]]), _BYTE_POINTER)
        name = "llvm.prefetch.p0"
        kind = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _INT32, _INT32, _INT32])
        llvm = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        to_read, into_every_cache, not_code = _INT32(0), _INT32(3), _INT32(1)
        builder.call(llvm, [address, to_read, into_every_cache, not_code])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@_instruction
def float16_as_float64(typing_context: Any, bits: Any) -> Any:
    """Value of a float16 from its raw bits (``uint16``)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.DoubleType())

    return types.float64(bits), generate
