"""Digests of the code and the large files that a stage depends on.

Snakemake reruns a rule when the date of its script changes, but not when a module that the script imports changes.
This module follows the code itself, definition by definition: the script, the functions, classes and constants of
`reprise` that it names, those that they name, and so on. The digest covers what the code does. Comments, docstrings,
formatting and the module of a definition do not matter. So a definition that moves to another module keeps its digest,
and editing a function reruns only the stages that can call it.

Nothing is imported. Code that cannot be followed counts as used: if a module is imported as a whole
(`from reprise import probes`), all of its definitions count. Top-level statements that define nothing run when a
module is imported, so they count for every stage that may import the module. A constant counts where its name is used.
To follow all of it takes seconds, so digests are kept until a source file changes (reprise/workflow/answers.py).

For large files, such as weights, Snakemake compares only modification times, and these are new in a fresh checkout. A
`fingerprint` of some of the bytes detects different weights. The jobs compare digests of all bytes.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from reprise.workflow.answers import kept

# A fingerprint reads this many blocks, spread evenly over the file, each of this length. The last block is longer: in
# files written by torch it has the checksums of all tensors (the directory of the zip archive).
N_BLOCKS, BLOCK_BYTES, LAST_BYTES = 64, 2**12, 2**16

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "reprise"
# Used instead of a name: all statements of a module, or only those that define nothing.
WHOLE, TOP_LEVEL = "*", ""


class Symbol(NamedTuple):
    """A definition: its file and its name, or WHOLE or TOP_LEVEL."""

    path: Path
    name: str


class Source(NamedTuple):
    """A parsed module.

    Attributes
    ----------
    imports
        All import statements, wherever they are.
    top_imports
        Those at the top level.
    statements
        All top-level statements except imports.
    defined
        The statements that bind each name.
    imported
        What each imported name stands for.
    effects
        The statements that define nothing.
    """

    imports: list[ast.Import | ast.ImportFrom]
    top_imports: list[ast.Import | ast.ImportFrom]
    statements: list[ast.stmt]
    defined: dict[str, list[ast.stmt]]
    imported: dict[str, set[Symbol | str]]
    effects: list[ast.stmt]


@cache
def code_digest(script: str) -> str:
    """Digest (12 hex digits) of `script` (a path relative to the project root) and of all `reprise` code that it uses.

    It is the same on every Python version. Raises FileNotFoundError if the script does not exist.
    """
    return kept(_sources_digest(), script, lambda: _digest_of(code_used(script)))


def function_digest(*functions: Callable[..., Any]) -> str:
    """Digest (12 hex digits) of functions of `reprise`, and of all `reprise` code that they use.

    Each is defined at the top level of its module.
    """
    names = " ".join(f"{function.__module__}.{function.__qualname__}" for function in functions)
    return kept(_sources_digest(), names, lambda: _digest_of(functions_used(*functions)))


@cache
def _sources_digest() -> str:
    """Digest of all source files on which a digest of code may depend, in milliseconds."""
    files = sorted(file for folder in (PACKAGE, "workflow_scripts") for file in (ROOT / folder).rglob("*.py"))
    return _digest(*(f"{file.relative_to(ROOT).as_posix()}\0{file.read_text(encoding='utf-8')}" for file in files))[
        :32
    ]


def _digest_of(uses: Mapping[Symbol, list[tuple[str, Symbol]]]) -> str:
    content = {symbol: _content(symbol) for symbol in uses}
    digests = dict(content)
    # The digests of the definitions that a definition uses show which of several definitions with one name is meant.
    for _ in range(3):
        digests = {
            symbol: _digest(content[symbol], *sorted(f"{name} {digests[used]}" for name, used in named))
            for symbol, named in uses.items()
        }
    return _digest(*sorted(digests.values()))[:12]


def code_used(script: str) -> dict[Symbol, list[tuple[str, Symbol]]]:
    """Every definition that `script` may use, each with the definitions that it names, and the names it uses."""
    return _used_by(Symbol(ROOT / script, WHOLE))


def functions_used(*functions: Callable[..., Any]) -> dict[Symbol, list[tuple[str, Symbol]]]:
    """As `code_used`, for functions."""
    modules = [_module_file(function.__module__) for function in functions]
    return _used_by(
        *(Symbol(file, each.__qualname__) for file, each in zip(modules, functions, strict=True) if file is not None)
    )


def _used_by(*start: Symbol) -> dict[Symbol, list[tuple[str, Symbol]]]:
    uses: dict[Symbol, list[tuple[str, Symbol]]] = {}
    files = {file for symbol in start for file in _files(symbol.path)}
    todo = [*start, *(Symbol(path, TOP_LEVEL) for path in sorted(files))]
    while todo:
        symbol = todo.pop()
        if symbol not in uses and (symbol.name != TOP_LEVEL or _source(symbol.path).effects):
            uses[symbol] = _named(symbol)
            todo.extend(used for _, used in uses[symbol])
    return uses


def code_files(script: str) -> list[Path]:
    """The script and every `reprise` source file that it may import, sorted."""
    return sorted(_files(ROOT / script))


def _files(start: Path) -> set[Path]:
    found: set[Path] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imported_files(path))
    return found


@cache
def fingerprint(path: Path) -> str:
    """Digest (12 hex digits) of a file's size and of some of its blocks, or of all bytes if the file is small.

    Raises OSError if it cannot be read.
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


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _source(path: Path) -> Source:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(_below([tree]))
    read = {node.id for node in nodes if isinstance(node, ast.Name)}
    statements: list[ast.stmt] = []
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, set[Symbol | str]] = {}
    effects: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            bound = _bound_by_import(statement)
            for name, what in bound.items():
                imported.setdefault(name, set()).update(what)
            # An imported name that is never used is imported for its side effects. (Modules of `reprise` are followed
            # anyway.)
            if any(name not in read and any(isinstance(x, str) for x in what) for name, what in bound.items()):
                effects.append(statement)
        elif not _does_nothing(statement):
            statements.append(statement)
            for name in _bound(statement):
                defined.setdefault(name, []).append(statement)
            if not _only_defines(statement):
                effects.append(statement)
    imports, top_imports = (
        [node for node in some if isinstance(node, ast.Import | ast.ImportFrom)] for some in (nodes, tree.body)
    )
    return Source(imports, top_imports, statements, defined, imported, effects)


def _does_nothing(node: ast.AST) -> bool:
    """Whether a node does nothing at run time: docstrings, other bare constants, and code only for type checkers."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", "")) and not node.orelse
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _only_defines(statement: ast.stmt) -> bool:
    """Whether a statement only binds names of its module, unlike `TABLE[key] = value` or `library.flag = value`."""
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return not any(isinstance(n, ast.Subscript | ast.Attribute) for t in targets for n in ast.walk(t))
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds in its module. For compound statements such as `try`, those of all branches."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    names: set[str] = set()
    parts: list[ast.AST] = [statement]
    if isinstance(statement, ast.Assign):
        parts = list(statement.targets)
    elif isinstance(statement, ast.AnnAssign):
        parts = [statement.target]
    for node in (node for part in parts for node in ast.walk(part)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= _bound_by_import(node).keys()
    return names


def _bound_by_import(node: ast.Import | ast.ImportFrom) -> dict[str, set[Symbol | str]]:
    """What each imported name stands for: definitions of `reprise`, or a text for other packages."""
    bound: dict[str, set[Symbol | str]] = {}
    for alias in node.names:
        name, what = alias.asname or alias.name, f"{alias.name} of {getattr(node, 'module', '')}"
        target: Symbol | str
        if isinstance(node, ast.Import):
            file = _module_file(alias.name)
            # `import a.b` binds `a`. Several imports may bind the same name.
            name = alias.asname or alias.name.split(".")[0]
            target = Symbol(file, WHOLE) if file else what
        else:
            file, inner = _module_file(node.module or ""), _module_file(f"{node.module}.{alias.name}")
            whole = inner or (file if alias.name == "*" else None)
            target = Symbol(whole, WHOLE) if whole else Symbol(file, alias.name) if file else what
        bound.setdefault(name, set()).add(target)
    return bound


@cache
def _module_file(module: str) -> Path | None:
    """The file of a module of `reprise`; None for any other."""
    if module.split(".")[0] != PACKAGE:
        return None
    base = ROOT.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


@cache
def _imported_files(path: Path) -> tuple[Path, ...]:
    """The files of `reprise` that a file imports, anywhere in it, and the `__init__.py` files of their packages.

    For an `__init__.py`, only imports at the top level count. Otherwise every module of a package would also count as
    importing everything that the package offers.
    """
    files: list[Path] = []
    source = _source(path)
    for node in source.top_imports if path.name == "__init__.py" else source.imports:
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in [*named, *(".".join([*named, alias.name]) for alias in node.names)]:
            parts = name.split(".")
            files += [file for i in range(len(parts)) if (file := _module_file(".".join(parts[: i + 1])))]
    return tuple(dict.fromkeys(files))


def _statements(symbol: Symbol) -> list[ast.stmt]:
    source = _source(symbol.path)
    if symbol.name == WHOLE:
        return source.statements
    return source.effects if symbol.name == TOP_LEVEL else source.defined[symbol.name]


@cache
def _named(symbol: Symbol) -> list[tuple[str, Symbol]]:
    """The definitions that the statements of a symbol use, through names of the module or local imports, sorted."""
    source = _source(symbol.path)
    seen: set[tuple[str, Symbol]] = set()
    for node in _names_and_imports(symbol):
        targets: dict[str, set[Symbol | str]] = {}
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            own: set[Symbol | str] = {Symbol(symbol.path, node.id)} if node.id in source.defined else set()
            targets[node.id] = own | source.imported.get(node.id, set())
        elif isinstance(node, ast.Import | ast.ImportFrom):
            targets = _bound_by_import(node)
        for name, found in targets.items():
            seen |= {(name, target) for what in found if isinstance(what, Symbol) for target in _resolved(what)}
    return sorted(seen - {(symbol.name, symbol)})


def _resolved(symbol: Symbol) -> set[Symbol]:
    """Where a symbol is defined, if its module imports it from another. The whole module if it cannot be found."""
    source = _source(symbol.path)
    if symbol.name == WHOLE or symbol.name in source.defined:
        return {symbol}
    passed_on = {what for what in source.imported.get(symbol.name, set()) if isinstance(what, Symbol)}
    return set().union(*map(_resolved, passed_on)) if passed_on else {Symbol(symbol.path, WHOLE)}


@cache
def _names_and_imports(symbol: Symbol) -> list[ast.Name | ast.Import | ast.ImportFrom]:
    """The names and imports in the statements of a symbol, except in those that do nothing."""
    nodes = _below(_statements(symbol), without=_does_nothing)
    return [node for node in nodes if isinstance(node, ast.Name | ast.Import | ast.ImportFrom)]


def _below(nodes: Iterable[ast.AST], *, without: Callable[[ast.AST], bool] = lambda node: False) -> Iterator[ast.AST]:
    """These nodes and every node below them, except those left out and what is below those."""
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if without(node):
            continue
        yield node
        # This is what ast.iter_child_nodes does, in half of the time.
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                todo.append(value)
            elif isinstance(value, list):
                todo += [each for each in value if isinstance(each, ast.AST)]


@cache
def _content(symbol: Symbol) -> str:
    """Digest of the statements of a symbol, and of the imports from other packages that they use."""
    source, statements = _source(symbol.path), _statements(symbol)
    foreign = {
        text
        for node in _names_and_imports(symbol)
        for text in (source.imported.get(node.id, set()) if isinstance(node, ast.Name) else ())
        if isinstance(text, str)
    }
    return _digest(*sorted(foreign), *(repr(_plain(statement)) for statement in statements))


def _plain(node: object) -> object:
    """A syntax tree as tuples.

    Empty fields are left out, because Python versions differ in which fields they have. Names of `reprise` modules are
    also left out, because `_named` finds the imported definitions.
    """
    if isinstance(node, list):
        return [_plain(item) for item in node if not (isinstance(item, ast.AST) and _does_nothing(item))]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name in node._fields if (value := getattr(node, name, None)) not in (None, [])}
    if isinstance(node, ast.ImportFrom) and _module_file(node.module or ""):
        del fields["module"]
    fields.pop("kind", None)
    return (type(node).__name__, *((name, _plain(value)) for name, value in fields.items()))
