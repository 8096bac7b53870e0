"""Scalpel's library: layer-wise second-order compression of language models.

This package and `recipe`, `options`, `protocol`, `plan`, `report`, `events`, `errors`, `families` import without torch.
The work is done by `compression.compress.compress`.
"""

__version__ = "0.1.0"
