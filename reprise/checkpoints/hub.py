"""Find the models and SAEs of the Hugging Face hub on this machine. Nothing is downloaded here: a job uses the files
that were downloaded before. So it needs no network, and its weights do not change during a study.

Conventions. A model is a directory or a hub id: `owner/name`, or a short name such as `small` or `medium` for
MusicGen's models. `@<commit>` pins it; without a commit it is the version that was downloaded last. An SAE is a
directory, or `hf://owner/name/folder@<commit>`. A commit has all its 40 hexadecimal digits.

The cache has huggingface_hub's layout (https://huggingface.co/docs/huggingface_hub/guides/manage-cache). Under
`models--owner--name`, the file `refs/main` contains the commit that was downloaded last, and `snapshots/<commit>/`
contains the files that were downloaded. The cache is where huggingface_hub puts it. audiocraft's own checkpoints are
in AUDIOCRAFT_CACHE_DIR, if that is set (`audiocraft/models/loaders.py`).

Degenerate input: a name that is neither a path nor a hub id raises HubError. Something that was never downloaded has
the folder None. The Snakefile imports this at every parse, so it imports nothing heavy, not even huggingface_hub.
"""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HUB_SAE = "hf://owner/name/folder@<commit>"
SHARDS = "model.safetensors.index.json"
# Groups of files in a model's folder, by backend. One file of each group is needed.
MODEL_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    "audiocraft": (("state_dict.bin",), ("compression_state_dict.bin",)),
    "transformers": (("config.json",), ("model.safetensors", SHARDS), ("tokenizer.json", "spiece.model")),
}
# The short names that audiocraft's `MusicGen.get_pretrained` knows.
_SHORT_NAMES = ("small", "medium", "large", "melody")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PINNED = "the 40 hexadecimal digits of a commit (a branch can change, and results would change with it)"


class HubError(ValueError):
    """A name that is not valid on the hub. The message has the name and what is valid."""


class Place(NamedTuple):
    """A hub repository at a `commit` (None: the one downloaded last), and a `folder` in it ("": the root)."""

    repository: str
    commit: str | None
    folder: str = ""


def model_place(name: str, *, base_dir: Path = Path()) -> Place | None:
    """The place of a model on the hub, by its name; None if the name is a path.

    A path begins with `.`, `/` or `~`, has more than two parts, or begins with a folder that exists in `base_dir`.
    Raises HubError.
    """
    parts = name.split("/")
    if name[0] in "./~" or len(parts) > 2 or (base_dir / parts[0]).is_dir():
        return None
    repository, at, commit = name.partition("@")
    if not _REPOSITORY.fullmatch(repository):
        valid = "a hub id such as facebook/musicgen-small, or a directory such as resources/planner"
        raise HubError(f'got "{name}"; valid: {valid}')
    if at and not _COMMIT.fullmatch(commit):
        raise HubError(f'got "{name}"; valid: {repository}, or {repository}@ and {_PINNED}')
    if repository in _SHORT_NAMES:
        repository = f"facebook/musicgen-{repository}"
    return Place(repository, commit or None)


def sae_place(name: str) -> Place | None:
    """The place of an SAE on the hub, by its name; None if the name is a path. Raises HubError."""
    if not name.startswith("hf://"):
        return None
    address, _, commit = name.removeprefix("hf://").partition("@")
    owner, _, rest = address.partition("/")
    title, _, folder = rest.partition("/")
    odd = folder and {".", "..", ""} & set(folder.split("/"))
    if not title or not _REPOSITORY.fullmatch(f"{owner}/{title}") or odd:
        raise HubError(f'got "{name}"; valid: {HUB_SAE}')
    if not _COMMIT.fullmatch(commit):
        raise HubError(f'got "{name}"; valid: hf://{address}@ and {_PINNED}')
    return Place(f"{owner}/{title}", commit, folder)


def cache_folder(backend: str | None = None) -> Path:
    """The cache of hub files. With a `backend`: the cache of that backend's own checkpoints."""
    if backend == "audiocraft" and "AUDIOCRAFT_CACHE_DIR" in os.environ:
        return Path(os.environ["AUDIOCRAFT_CACHE_DIR"])
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    folder = os.environ.get("HF_HUB_CACHE", os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def repository_folder(place: Place, cache: Path) -> Path:
    """The folder of a repository in a cache."""
    return cache / f"models--{place.repository.replace('/', '--')}"


def fetched_folder(place: Place, cache: Path) -> Path | None:
    """The folder with the downloaded files of a place; None if there are none."""
    folder, commit = repository_folder(place, cache), place.commit
    if commit is None:
        try:
            commit = (folder / "refs" / "main").read_text().strip()
        except OSError:
            return None
    found = folder / "snapshots" / commit / place.folder
    return found if commit and found.is_dir() else None


def fetch_command(
    place: Place, files: Sequence[str] = (), *, patterns: Sequence[str] = (), anew: bool = False, cache: Path
) -> str:
    """The command that downloads files of a place, for a machine with network.

    Parameters
    ----------
    files, patterns
        Names of files, and glob patterns of names. Without either: all files.
    anew
        Download files again that are in the cache.
    cache
        The cache to download to.
    """
    words = ["hf", "download", place.repository, *files]
    words += ["--revision", place.commit] if place.commit else []
    for pattern in patterns:
        words += ["--include", pattern]
    words += ["--force-download"] if anew else []
    # huggingface_hub's own default is not written out.
    words += ["--cache-dir", str(cache)] if cache != cache_folder() else []
    return shlex.join(words)


def model_folder(name: str, *, backend: str = "audiocraft", base_dir: Path = Path()) -> Path:
    """The directory of a model. Raises HubError, and FileNotFoundError if the model was not downloaded.

    A path is relative to `base_dir`. The backend decides which cache is used.
    """
    place = model_place(name, base_dir=base_dir)
    return base_dir / name if place is None else _fetched(name, place, cache_folder(backend))


def sae_folder(name: str) -> Path:
    """The directory of an SAE. Raises HubError, and FileNotFoundError if the SAE was not downloaded."""
    place = sae_place(name)
    return Path(name) if place is None else _fetched(name, place, cache_folder())


def _fetched(name: str, place: Place, cache: Path) -> Path:
    folder = fetched_folder(place, cache)
    if folder is None:
        raise FileNotFoundError(f"{name} is not in the cache {cache}; `snakemake doctor` shows how to download it")
    return folder
