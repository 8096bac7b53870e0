"""How fast, how small, and where the time goes: `python -m benchmarks.speed --help`."""
