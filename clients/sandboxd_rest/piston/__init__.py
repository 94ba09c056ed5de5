"""Piston's API, version 2: /api/v2 and, as its public instance has it, /api/v2/piston."""
