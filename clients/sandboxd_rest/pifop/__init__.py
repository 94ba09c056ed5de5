"""PIFOP's Functions API: /AUTHOR/FUNCTION and what is below it, at the root of the gateway."""
