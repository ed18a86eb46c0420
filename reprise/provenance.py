"""What code a stage depends on, as a digest.

Snakemake reruns a rule when its script changes, but not when a module that the script imports does, and it
compares modification times. Here the source is followed instead: the script, the `reprise` modules it names
in import statements (anywhere in the file), the modules those name, and so on. Nothing is imported, so a
digest costs milliseconds, and files with the same bytes always give the same digest.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

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
