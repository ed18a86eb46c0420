"""What code and which large files a stage depends on, as digests.

Snakemake reruns a rule when its script changes, but not when a module that the script imports does, and it
compares modification times. Here the source is followed instead: the script, the `reprise` modules it names
in import statements (anywhere in the file), the modules those name, and so on. Nothing is imported, so a
digest costs milliseconds, and files with the same bytes always give the same digest.

Of large files, such as weights, Snakemake compares modification times alone, and a fresh checkout has new ones. A
`fingerprint` of some of their bytes tells other weights; jobs compare digests of all of them.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

# Blocks of a file that a fingerprint reads, spread evenly, and how long they are. The last one holds the checksums of
# every tensor where torch wrote the file (the directory of a zip archive).
N_BLOCKS, BLOCK_BYTES, LAST_BYTES = 64, 2**12, 2**16

ROOT = Path(__file__).resolve().parent.parent


def code_digest(script: str) -> str:
    """Digest (12 hex digits) of `script` (path relative to the project root) and all `reprise` code it uses.

    Raises FileNotFoundError when the script does not exist.
    """
    digest = hashlib.sha256()
    for path in code_files(script):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def code_files(script: str) -> list[Path]:
    """The script and every `reprise` source file reachable from it by imports, sorted."""
    found: set[Path] = set()
    todo = [ROOT / script]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imported_files(path))
    return sorted(found)


@cache
def fingerprint(path: Path) -> str:
    """Digest (12 hex digits) of a file's size and of blocks of it; the whole file where it is small.

    Raises OSError when it cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        if size <= N_BLOCKS * BLOCK_BYTES + LAST_BYTES:
            digest.update(file.read())
        else:
            for i in range(N_BLOCKS):
                file.seek(i * (size - LAST_BYTES) // N_BLOCKS)
                digest.update(file.read(BLOCK_BYTES))
            file.seek(-LAST_BYTES, 2)
            digest.update(file.read())
    return digest.hexdigest()[:12]


@cache
def _imported_files(path: Path) -> tuple[Path, ...]:
    files: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "reprise":
                base = ROOT.joinpath(*name.split("."))
                files += [f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()]
    return tuple(files)
