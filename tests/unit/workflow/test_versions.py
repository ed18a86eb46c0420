"""A result says what it was computed with, and asks for no library that its backend does not use."""

import ast
import importlib.metadata
from importlib.metadata import PackageNotFoundError, version

import pytest

from reprise.workflow.provenance import code_files
from reprise.workflow.versions import package_versions
from tests.places import ROOT

BACKENDS = ("audiocraft", "transformers")
# Whatever these do is imported where a backend was chosen.
OF_BACKENDS = ("audiocraft.py", "audiocraft_setup.py", "huggingface.py")


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_backends_own_library_is_asked_for(backend, monkeypatch):
    (other,) = set(BACKENDS) - {backend}

    def only(package):
        if package == other:
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("reprise.workflow.versions.version", only)
    found = package_versions(backend)
    assert found[backend] == importlib.metadata.version(backend) and other not in found
    assert {"python", "torch", "snakemake"} <= found.keys()
    assert package_versions(other)[other] == "unknown", "a version that is not told costs no study its verdict"


@pytest.mark.parametrize("path", sorted((ROOT / "workflow_scripts").glob("*.py")), ids=lambda path: path.stem)
def test_no_job_of_a_study_imports_a_library_that_another_setting_needs(path):
    """Module by module, as imported when a job starts; organisms are audiocraft's."""
    if path.stem.startswith("organism_"):
        return
    optional = {*BACKENDS, "omegaconf", "sae_lens"} - ({"sae_lens"} if path.stem == "train_sae" else set())
    for file in code_files(f"workflow_scripts/{path.name}"):
        if file.name in OF_BACKENDS:
            continue
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not optional & {name.partition(".")[0] for name in names}, file
            chosen = {"reprise.models.audiocraft", "reprise.models.audiocraft_setup", "reprise.models.huggingface"}
            assert file.parent.name == "organisms" or not chosen & set(names), file
    # Nor does it ask for the version of one.
    assert "importlib.metadata" not in path.read_text() or path.stem == "train_sae"
