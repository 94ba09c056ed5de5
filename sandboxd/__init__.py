"""sandboxd: runs untrusted programs, each in a sandbox of its own."""

__version__ = "0.1.0"
