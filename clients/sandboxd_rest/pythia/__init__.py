"""Pythia's API: tasks, the environments they run in, and their execution."""
