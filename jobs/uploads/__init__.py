"""Data sets and models that users bring."""
