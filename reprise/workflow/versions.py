"""Versions of the installed packages, which are saved with a result."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "snakemake", "numpy", "scikit-learn", "librosa", "zarr")


def package_versions(library: str) -> dict[str, str]:
    """Versions of Python, of `PACKAGES` and of the library that loads the model.

    Libraries of other backends are left out, because they need not be installed. The version of a package without
    metadata (a source tree on the path) is "unknown".
    """
    return {"python": platform.python_version()} | {package: _version(package) for package in (*PACKAGES, library)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
