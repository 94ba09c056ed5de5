"""The cffi extension made from native/include/sandbox.h; only engine/wire.py touches it."""

from typing import Any

ffi: Any
lib: Any
