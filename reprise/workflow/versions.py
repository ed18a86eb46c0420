"""Versions of the packages that a result was computed with, by what is installed where they are asked for."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "snakemake", "numpy", "scikit-learn", "librosa", "zarr")


def package_versions(library: str) -> dict[str, str]:
    """Versions of Python, of `PACKAGES` and of the library that the model's backend loads it with. Of no other
    backend's: it need not be installed. A package without metadata (a source tree on the path) is "unknown"."""
    return {"python": platform.python_version()} | {package: _version(package) for package in (*PACKAGES, library)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
