"""Measurements against named peers, each a record in `results.json`. Run all of them with `python -m benchmarks`."""
