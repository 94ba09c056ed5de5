"""Environments: root file systems by name, imported from archives, read-only under every job."""
