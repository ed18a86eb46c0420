"""An installed package, of the module and the entry points that a page of the docs shows."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from reprise import extensions
from reprise.models.families import registry as families
from reprise.probing import representations
from reprise.saes.formats import registry
from reprise.targets import registry as targets
from tests.places import ROOT


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    page: str = "",
    changed: tuple[str, str] = ("", ""),
) -> None:
    """Put the example of a page of docs/how-to on the path as `pip install` would: its Python block as a module, and
    the entry points of its TOML block in a `.dist-info`. changed: a text in the module, and what stands there instead.
    """
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    code, toml = (re.search(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)[1] for kind in ("python", "toml"))
    assert changed[0] in code
    ((group, points),) = tomllib.loads(toml)["project"]["entry-points"].items()
    info = folder / "example-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for value in points.values():
        module = value.partition(":")[0]
        (folder / f"{module}.py").write_text(code.replace(*changed))
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(folder)
    forget()


def forget() -> None:
    """Look for installed packages again."""
    for function in (
        extensions.installed,
        representations._found,
        registry._installed_formats,
        families._installed_family,
        targets.target_of,
        targets.code_of,
    ):
        function.cache_clear()
