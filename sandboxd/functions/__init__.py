"""Functions: stored code that is run by name, its executions, and the keys that may use it."""
