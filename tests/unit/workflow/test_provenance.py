"""A stage's code digest follows what its code does, and nothing else; a fingerprint follows what a file holds."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reprise.workflow import provenance
from reprise.workflow.provenance import code_digest, code_files, code_used, fingerprint, function_digest

A, B = "workflow_scripts/a.py", "workflow_scripts/b.py"
FILES = {
    A: "from reprise.one import f\n\nprint(f(1))\n",
    B: "import reprise.three\nimport reprise.two\n\nprint(reprise.three.scale(2))\n",
    "reprise/__init__.py": "",
    "reprise/one.py": '''"""One."""

import numpy as np

from reprise.three import scale
from reprise.two import LIMIT, Table


def f(x: int) -> int:
    """Of x."""
    from reprise import two

    table: Table = two.Table()  # a comment
    return np.minimum(g(x), LIMIT + table.size)


def g(x):
    return x + 1


def unused(x):
    return scale(x)
''',
    "reprise/two.py": "LIMIT = 3\n\n\nclass Table:\n    size = 1\n",
    "reprise/three.py": "def scale(x):\n    return 2 * x\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two scripts: `a` uses one.f, which uses one.g and all of two; `b` uses all of three."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path, {})
    return tmp_path


def write(project, changed):
    """The project's files as they are above, but for these."""
    shutil.rmtree(project / "reprise", ignore_errors=True)
    for name, text in (FILES | changed).items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    for function in vars(provenance).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def digests(project, changed=None):
    write(project, changed or {})
    return code_digest(A), code_digest(B)


def edited(name, *replacements):
    text = FILES[name]
    for before, after in replacements:
        assert before in text
        text = text.replace(before, after)
    return {name: text}


def test_imports_are_followed_wherever_they_stand(project):
    names = [path.relative_to(project).as_posix() for path in code_files(A)]
    assert names == ["reprise/__init__.py", "reprise/one.py", "reprise/three.py", "reprise/two.py", A]


def test_what_is_used_is_found_by_name(project):
    names = {(symbol.path.stem, symbol.name) for symbol in code_used(A)}
    assert names == {
        ("a", "*"),
        ("a", ""),
        ("one", "f"),
        ("one", "g"),
        ("two", "LIMIT"),
        ("two", "Table"),
        ("two", "*"),
    }


def stand_in(name):
    """A function as it is asked for: only its module and its name count."""
    return SimpleNamespace(__module__="reprise.one", __qualname__=name)


def test_a_function_has_a_digest_of_its_own(project):
    def of_each(changed):
        write(project, changed)
        return [function_digest(stand_in(name)) for name in ("f", "g", "unused")]

    f, g, unused = of_each({})
    assert len({f, g, unused}) == 3
    assert of_each(edited("reprise/one.py", ("# a comment", "# another"))) == [f, g, unused]
    # f uses g, and what `unused` uses is nothing to the two.
    changed = of_each(edited("reprise/one.py", ("x + 1", "x + 2")))
    assert changed[0] != f and changed[1] != g and changed[2] == unused
    assert of_each(edited("reprise/three.py", ("2 * x", "3 * x")))[:2] == [f, g]
    assert function_digest(stand_in("f"), stand_in("g")) == function_digest(stand_in("f")) != function_digest()


@pytest.mark.parametrize(
    "change",
    [
        edited("reprise/one.py", ("# a comment", "# another")),
        edited("reprise/one.py", ('"""One."""', '"""Another text."""'), ('    """Of x."""\n', "")),
        edited("reprise/one.py", ("np.minimum(g(x), LIMIT + table.size)", "np.minimum(\n  g( x ),LIMIT+table.size,)")),
        edited("reprise/two.py", ("    size = 1", '    """A table."""\n\n    size = 1\n    "How long it is."')),
        edited(
            "reprise/two.py",
            ("LIMIT = 3", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    x = 1\nLIMIT = 3"),
        ),
        # What it cannot call is no concern of a stage, although the module is imported.
        edited("reprise/one.py", ("return scale(x)", "return scale(x + 1)")),
        edited("reprise/three.py", ("2 * x", "3 * x")),
    ],
    ids=["comment", "docstring", "format", "texts", "typing", "unused", "unused import"],
)
def test_what_does_nothing_changes_nothing(project, change):
    before = digests(project)
    assert digests(project, change)[0] == before[0]


@pytest.mark.parametrize(
    "change",
    [
        edited("reprise/one.py", ("x + 1", "x + 2")),
        edited("reprise/one.py", ("import numpy as np", "import jax.numpy as np")),
        edited("reprise/two.py", ("LIMIT = 3", "LIMIT = 4")),
        edited("reprise/two.py", ("size = 1", "size = 2")),
        edited("reprise/two.py", ("LIMIT = 3", "LIMIT = 3\nprint(LIMIT)")),
        edited("reprise/two.py", ("LIMIT = 3", "import numpy\nLIMIT = 3\nnumpy.flag = 1")),
        edited("reprise/two.py", ("LIMIT = 3", "try:\n    LIMIT = int('3')\nexcept ValueError:\n    LIMIT = 4")),
        edited("reprise/three.py", ("def scale", "open('log')\n\n\ndef scale")),
        edited(A, ("f(1)", "f(2)")),
        edited("reprise/three.py", ("def scale", "import patches\n\n\ndef scale")),
        {"reprise/__init__.py": "import os\n\nos.environ['X'] = '1'\n"},
    ],
    ids=[
        "function",
        "library",
        "constant",
        "class",
        "effect",
        "patch",
        "branches",
        "imported",
        "side",
        "script",
        "package",
    ],
)
def test_what_does_something_else_changes_the_digest(project, change):
    before = digests(project)
    assert digests(project, change)[0] != before[0]


def test_only_what_uses_a_module_changes_with_it(project):
    before = digests(project)
    after = digests(project, edited("reprise/three.py", ("2 * x", "3 * x")))
    assert after[0] == before[0] and after[1] != before[1]


def test_a_definition_that_moves_keeps_the_digest(project):
    before = digests(project)[0]
    one = FILES["reprise/one.py"]
    g = "def g(x):\n    return x + 1\n"
    assert g in one
    moved = one.replace(g, "").replace("from reprise.two", "from reprise.sub.helpers import g\nfrom reprise.two")
    new = {"reprise/one.py": moved, "reprise/sub/helpers.py": g}
    assert digests(project, new)[0] == before
    # A package that passes it on is as good, and a module may have another name.
    passed_on = {**new, "reprise/one.py": moved.replace("reprise.sub.helpers", "reprise.sub")}
    assert (
        digests(project, passed_on | {"reprise/sub/__init__.py": "from reprise.sub.helpers import g\n"})[0] == before
    )
    renamed = {"reprise/uno.py": one, "reprise/one.py": "", A: FILES[A].replace("reprise.one", "reprise.uno")}
    assert digests(project, renamed)[0] == before


def test_which_of_two_definitions_of_one_name_is_used_shows(project):
    """Both are used before and after; only what uses which of them is another."""
    both = "from reprise.x import pick as p\nfrom reprise.y import pick as q\nprint(p(), q())\n"
    two = {"reprise/x.py": "def pick():\n    return 1\n", "reprise/y.py": "def pick():\n    return 2\n", A: both}
    swapped = both.replace("x import", "z import").replace("y import", "x import").replace("z import", "y import")
    assert digests(project, two)[0] != digests(project, two | {A: swapped})[0]


def test_touching_a_file_changes_nothing(project):
    before = digests(project)
    (project / "reprise/two.py").touch()
    assert digests(project) == before


def test_a_missing_script_is_an_error(project):
    with pytest.raises(FileNotFoundError):
        code_digest("workflow_scripts/none.py")


def test_editing_the_probes_does_not_regenerate_audio():
    probes = provenance.ROOT / "reprise/probing/probes.py"
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
