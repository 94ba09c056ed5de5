"""What becomes of memory that is not used any more.

After the first large block that is freed, the C library takes later ones of that size from its heap
(mallopt(3), M_MMAP_THRESHOLD), and one small block above them keeps all of it: some clients that
leave large answers unread would make the process as large for good.
"""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# Above this a page fault for each page is little beside what is done with the bytes.
_LARGE_BYTES: Final = 512 << 10


def give_back_large() -> None:
    """Have large blocks come from the kernel, and go back to it when they are freed. Does nothing
    where the C library is another one than glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES)
