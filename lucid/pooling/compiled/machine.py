"""Machine code of kernels: made by Numba once on a machine, from then on read from a file.

Numba takes 0.2 s to load and 1 to 3 s to compile a kernel; LLVM alone takes 0.03 s to load, and 2 ms to link
a kernel that was compiled before. So a command of half a second has its use of compiled kernels, which
Numba's own cache, that needs Numba, would make longer.

A kernel is one C function, `void kernel(const int64_t *call)`, whose code refers to nothing outside of it.
`sums` says what the integers are.
"""

import ctypes
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from lucid.pooling.compiled.places import SUFFIX, folders
from lucid.pooling.jit import PAYS, PAYS_IN_ALL

#: Where a kernel is made, as "module:function", and the constants it is made for.
Recipe = tuple[Any, ...]
#: Runs a kernel without the GIL, given where the integers of its call are.
Call = Callable[[int], None]

#: Files are good for the sources that they were made from: all beside the choice, since kernels share most.
SOURCES = zlib.crc32(
    b"".join(
        path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem != "choice"
    )
)
#: Bytes of the checksum that a file starts with.
CHECK = 4

_PROTOTYPE = ctypes.CFUNCTYPE(None, ctypes.c_int64)
#: Kernels, and the engines that own their memory; None for those that cannot be had.
_linked: dict[Recipe, tuple[Call, Any] | None] = {}
#: Elements that calls of kernels without code had.
_wanted: dict[Recipe, int] = {}
_linking = Lock()


def kernel(recipe: Recipe, elements: int) -> Call | None:
    """A kernel for so many elements; None where it is not worth compiling yet, or Numba cannot do it."""
    if recipe not in _linked:
        with _linking:
            _find(recipe, elements)
    linked = _linked.get(recipe)
    return linked and linked[0]


def _find(recipe: Recipe, elements: int) -> None:
    if recipe in _linked:
        return
    code = None if recipe in _wanted else _stored(recipe)
    if code is None:
        _wanted[recipe] = _wanted.get(recipe, 0) + elements
        if elements < PAYS and _wanted[recipe] < PAYS_IN_ALL:
            return
        code = _compiled(recipe)
    _linked[recipe] = None if code is None else _link(code)


def converts_halves() -> bool:
    """Whether the processor has instructions for float16: without, code would need a library."""
    features = _processor()[1].split(",")
    return "+f16c" in features or "+neon" in features


@cache
def _processor() -> tuple[str, str]:
    """Name and features of the processor that code is for: this one, or the one of Numba's variables."""
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    return name, llvm.get_host_cpu_features().flatten() if features is None else features


def _target() -> Any:
    """A target machine: a new one each time, since the engine that is given one ends it with itself."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = _processor()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(name, features, opt=3, codemodel="jitdefault", jit=True)


def _link(code: bytes) -> tuple[Call, Any]:
    """Make code callable."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return _PROTOTYPE(engine.get_function_address("kernel")), engine


def _compiled(recipe: Recipe) -> bytes | None:
    """Compile a kernel, and keep its code where there is a place for it."""
    module, _, function = recipe[0].partition(":")
    try:
        from lucid.pooling.compiled.sums import entry

        made = entry(getattr(import_module(f"lucid.pooling.compiled.{module}"), function)(*recipe[1:]))
    except ImportError:  # no Numba, or one that was made for another NumPy
        return None
    code = _emitted(made.inspect_llvm().replace(made.native_name, "kernel"))
    for folder in folders():
        if _keep(folder / _name(recipe), code):
            break
    return code


def _emitted(assembly: str) -> bytes:
    """Machine code of a module, of which nothing but the kernel is called from outside.

    Knowing that, LLVM finds that nothing in it can fail, and drops what Numba has for that case: calls
    of itself and of Python.
    """
    module = llvm.parse_assembly(assembly)
    for function in module.functions:
        if not function.is_declaration and function.name != "kernel":
            function.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_ipsccp_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(_target(), llvm.create_pipeline_tuning_options()))
    called = [function.name for function in module.functions if function.is_declaration]
    assert all(name.startswith("llvm.") for name in called), called
    code: bytes = _target().emit_object(module)
    return code


def _stored(recipe: Recipe) -> bytes | None:
    """Code from an earlier process; None where there is none, or only a part of it."""
    for folder in folders():
        try:
            data = (folder / _name(recipe)).read_bytes()
        except OSError:
            continue
        check, code = data[:CHECK], data[CHECK:]
        if zlib.crc32(code).to_bytes(CHECK) == check:
            return code
    return None


def _keep(path: Path, code: bytes) -> bool:
    """Store code under its name only when it is complete, since other processes read it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        partial.write_bytes(zlib.crc32(code).to_bytes(CHECK) + code)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        return False
    return True


def _name(recipe: Recipe) -> str:
    words = "-".join(str(word).rpartition(":")[2] for word in recipe)
    made_by = zlib.crc32(repr((SOURCES, llvmlite.__version__, _processor())).encode())
    return f"{words}-{made_by:08x}{SUFFIX}"
