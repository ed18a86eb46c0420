"""Where the models and SAEs of the Hugging Face hub lie on this machine. Nothing is downloaded: a job finds what was
fetched beforehand, so that it needs no network and its weights do not change in mid-study.

Conventions. A model is a directory, or a hub id: `owner/name`, or `small`, `medium` and so on for MusicGen's, and
`@<commit>` to pin it (else it is what was fetched last). An SAE is a directory, or `hf://owner/name/folder@<commit>`.
A commit has all its 40 hexadecimal digits.

The cache has huggingface_hub's layout (https://huggingface.co/docs/huggingface_hub/guides/manage-cache): under
`models--owner--name` the file `refs/main` holds the commit that was fetched last, and `snapshots/<commit>/` holds its
files, as far as they were fetched. It lies where huggingface_hub has it; audiocraft's own checkpoints lie at
AUDIOCRAFT_CACHE_DIR, where that is set (`audiocraft/models/loaders.py`).

Degenerate input: a name that is neither a path nor a hub id is a HubError; what was never fetched has no folder, None.
The Snakefile imports this at every parse, so it imports nothing heavy, huggingface_hub neither.
"""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HUB_SAE = "hf://owner/name/folder@<commit>"
SHARDS = "model.safetensors.index.json"
# The files of a model's folder by backend; where several stand together, one of them will do.
MODEL_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    "audiocraft": (("state_dict.bin",), ("compression_state_dict.bin",)),
    "transformers": (("config.json",), ("model.safetensors", SHARDS), ("tokenizer.json", "spiece.model")),
}
# The short names that audiocraft's `MusicGen.get_pretrained` knows.
_SHORT_NAMES = ("small", "medium", "large", "melody")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PINNED = "the 40 hexadecimal digits of a commit (a branch moves, and with it what a result rests on)"


class HubError(ValueError):
    """A name that stands for nothing on the hub: says the name and what is valid."""


class Place(NamedTuple):
    """A repository of the hub, at `commit` (None: what was fetched last), and a `folder` in it ("": its root)."""

    repository: str
    commit: str | None
    folder: str = ""


def model_place(name: str, *, base_dir: Path = Path()) -> Place | None:
    """What a model's name stands for on the hub; None where it is a path: it begins with `.`, `/` or `~`, has more
    than two parts, or begins with a folder that is in `base_dir`. Raises HubError."""
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
    """What an SAE's name stands for on the hub; None where it is a path. Raises HubError."""
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
    """The cache of the hub's files; of a model's own checkpoint, if a `backend` is given."""
    if backend == "audiocraft" and "AUDIOCRAFT_CACHE_DIR" in os.environ:
        return Path(os.environ["AUDIOCRAFT_CACHE_DIR"])
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    folder = os.environ.get("HF_HUB_CACHE", os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub")))
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def repository_folder(place: Place, cache: Path) -> Path:
    """Where a cache keeps a repository."""
    return cache / f"models--{place.repository.replace('/', '--')}"


def fetched_folder(place: Place, cache: Path) -> Path | None:
    """The folder with a place's files, as far as they were fetched; None where none was."""
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
    """The command that fetches files of a place into `cache`, for a machine with network. `anew`: also what is
    there."""
    words = ["hf", "download", place.repository, *files]
    words += ["--revision", place.commit] if place.commit else []
    for pattern in patterns:
        words += ["--include", pattern]
    words += ["--force-download"] if anew else []
    # Where huggingface_hub would put it anyhow goes without saying.
    words += ["--cache-dir", str(cache)] if cache != cache_folder() else []
    return shlex.join(words)


def model_folder(name: str, *, backend: str = "audiocraft", base_dir: Path = Path()) -> Path:
    """The directory that a model is loaded from. Raises HubError, and FileNotFoundError where it was not fetched."""
    place = model_place(name, base_dir=base_dir)
    return base_dir / name if place is None else _fetched(name, place, cache_folder(backend))


def sae_folder(name: str) -> Path:
    """The directory that an SAE is loaded from. Raises HubError, and FileNotFoundError where it was not fetched."""
    place = sae_place(name)
    return Path(name) if place is None else _fetched(name, place, cache_folder())


def _fetched(name: str, place: Place, cache: Path) -> Path:
    folder = fetched_folder(place, cache)
    if folder is None:
        raise FileNotFoundError(f"{name} is not in the cache {cache}; `snakemake doctor` says how to fetch it")
    return folder
