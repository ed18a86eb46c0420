"""Benchmarks run by hand and rarely: what they import must still be there."""

import importlib

import pytest


@pytest.mark.parametrize(
    "name", ["ablation", "labels", "planted", "processes", "readme", "scores", "screen", "workflow"]
)
def test_a_benchmark_finds_what_it_measures(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")
