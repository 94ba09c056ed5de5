"""Write the C source of sandboxd._native from the one header.

CMake runs this with the preprocessed text of ``sandbox.h`` (so its X macros are expanded) and the
name of the C file to write. API mode: the compiler, not this script, knows the layout of the
structs, and it refuses to compile when an enum's value differs.
"""

import pathlib
import sys

from cffi import FFI


def generate(cdef: str, target: pathlib.Path) -> None:
    """Write the extension's C source to ``target``; cffi raises on text it cannot parse."""
    ffi = FFI()
    ffi.cdef(cdef)
    ffi.set_source("sandboxd._native", '#include "sandbox.h"')
    ffi.emit_c_code(str(target))


if __name__ == "__main__":
    preprocessed, target = sys.argv[1:]
    generate(pathlib.Path(preprocessed).read_text(), pathlib.Path(target))
