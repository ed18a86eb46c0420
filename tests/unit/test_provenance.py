"""A stage's code digest follows its imports, and nothing else; a fingerprint follows what a file holds."""

import os

import numpy as np
import pytest
import torch

from reprise import provenance
from reprise.provenance import code_digest, code_files, fingerprint


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two scripts: `a` uses reprise.one, which uses reprise.two; `b` uses reprise.three."""
    for name, text in {
        "workflow_scripts/a.py": "from reprise.one import f\n",
        "workflow_scripts/b.py": "import reprise.three\n",
        "reprise/__init__.py": "",
        "reprise/one.py": "import numpy\ndef f():\n    from reprise import two\n",
        "reprise/two.py": "x = 1\n",
        "reprise/three.py": "y = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    provenance._imported_files.cache_clear()
    return tmp_path


def digests():
    provenance._imported_files.cache_clear()
    return code_digest("workflow_scripts/a.py"), code_digest("workflow_scripts/b.py")


def test_imports_are_followed_wherever_they_stand(project):
    names = [path.relative_to(project).as_posix() for path in code_files("workflow_scripts/a.py")]
    assert names == ["reprise/__init__.py", "reprise/one.py", "reprise/two.py", "workflow_scripts/a.py"]


def test_only_what_uses_a_module_changes_with_it(project):
    a, b = digests()
    (project / "reprise/two.py").write_text("x = 2\n")
    assert digests() == (digests()[0], b) and digests()[0] != a


def test_touching_a_file_changes_nothing(project):
    before = digests()
    (project / "reprise/two.py").touch()
    assert digests() == before


def test_a_missing_script_is_an_error(project):
    with pytest.raises(FileNotFoundError):
        code_digest("workflow_scripts/none.py")


def test_editing_the_probes_does_not_regenerate_audio():
    probes = provenance.ROOT / "reprise/probes.py"
    assert probes in code_files("workflow_scripts/probe.py")
    assert probes not in code_files("workflow_scripts/generate.py")
    assert probes not in code_files("workflow_scripts/encode.py")


def test_a_fingerprint_tells_other_weights_whatever_their_date(tmp_path):
    rng = np.random.default_rng(0)
    content = bytearray(rng.bytes(3_000_000))
    paths = [tmp_path / name for name in ("a", "again", "ends_otherwise", "longer", "retrained", "small", "smaller")]
    paths[0].write_bytes(content)
    paths[1].write_bytes(content)
    os.utime(paths[1], (0, 0))
    paths[2].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    paths[3].write_bytes(content + b"\0")
    # Every weight a little different, as after more training.
    paths[4].write_bytes((np.frombuffer(content, np.uint8) ^ 1).tobytes())
    paths[5].write_bytes(content[:1000])
    paths[6].write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:1000])
    prints = [fingerprint(path) for path in paths]
    assert prints[0] == prints[1] and len(set(prints)) == len(paths) - 1


def test_a_tensor_that_torch_saves_otherwise_has_another_fingerprint(tmp_path):
    """No block may be read in the middle, but the archive has a checksum of each tensor at its end."""
    weights = {"a": torch.zeros(2_000_000), "b": torch.zeros(10)}
    torch.save(weights, tmp_path / "before.bin")
    weights["a"][1_234_567] = 1.0
    torch.save(weights, tmp_path / "after.bin")
    assert fingerprint(tmp_path / "before.bin") != fingerprint(tmp_path / "after.bin")
