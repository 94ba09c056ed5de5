"""Hostile programs and hostile clients, each with the outcome it must have."""
