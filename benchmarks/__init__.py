"""Measurements against named peers, each a record of `results.json`; run them all with `python -m benchmarks`."""
