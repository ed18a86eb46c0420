"""All representations that can be probed: their role, their names, what they read, and how they are computed.

To add one, append it to `BUILT_IN`, or name it as an entry point of the group `reprise.representations` in a package
of your own (docs/how-to/add-a-representation.md). The configuration, the rules, the probe's script, the verdict and
the report all use this list.

Roles. `evidence`: the verdict rests on it. Its p-values are corrected together, and its gain is compared with that of
`REFERENCE` at the same layer. `check`: it should not predict, and the verdict warns if it does. `comparison`: it
decides nothing, and the report shows it next to the others.

A study captures the input embedding and the layers that have an SAE. If a representation reads the model with random
weights, the study captures the same layers of that model too. A representation reads these stores, at every clip and
time of the grid of labels.

Nothing heavy is imported here, because the Snakefile imports this at every parse. `make` imports what it needs.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from reprise.extensions import ExtensionError, installed, load, refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

GROUP = "reprise.representations"
EVIDENCE, CHECK, COMPARISON = ROLES = ("evidence", "check", "comparison")
# The learned gain of evidence is its gain over this representation, at the same layer.
REFERENCE = "random_model"
# The hooks of each kind of store that a study has.
LAYER, RANDOM_LAYER = "layer{layer}", "random-layer{layer}"
_HOOKS = {
    "activations": ("embedding", LAYER, RANDOM_LAYER),
    "latents": (LAYER,),
    "tokens": ("",),
    "descriptors": ("",),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Source(NamedTuple):
    """Stores of a study that a representation reads.

    kind: activations, latents, tokens or descriptors. hook: the hook, with `{layer}` for the layer of the probe.
    size_only: only the size of the arrays is read, so the first batch is enough.
    """

    kind: str
    hook: str = ""
    size_only: bool = False


class Inputs(NamedTuple):
    """What a representation is made from.

    stores: for each source, the manifests of the batches (read them with `reprise.storage.artifacts.read_array` and
    `reprise.saes.latents.read_latents`). positions: the positions of a clip that are the times of the grid, `[time]`.
    study: its name. hook: such as layer2, or "" for a representation without layers.
    """

    stores: Sequence[Sequence[str]]
    positions: Sequence[int]
    study: str
    hook: str


class Words(NamedTuple):
    """The names of a representation.

    text: in sentences of the verdict. label: in the report. legend: in the report's legend, if it is not the label.
    mark: the shape of its mark (circle, square or diamond). For a check only: `silent`, the title of its row, and
    `warning`, what the verdict says if it predicts.
    """

    text: str
    label: str
    legend: str = ""
    mark: str = "circle"
    silent: str = ""
    warning: str = "predicts too"


class Representation(NamedTuple):
    """One representation.

    make(inputs): returns float32 `[clip, time, d]`, or CSR `[clip * time, d]`, clip-major, with the clips of all
    batches in their stable order. It imports what it needs when it is called.
    needs_certificate: its values are latents. So each probe needs the certificate of its layer's SAE, and leaves out
    times that the certificate excludes.
    beside: the name of the representation after which the report shows it.
    version: any text, required if another package adds it. A changed version makes the probes stale. For built-in
    representations, changes of the code do that.
    """

    name: str
    role: str
    words: Words
    sources: tuple[Source, ...]
    make: "Callable[[Inputs], NDArray[np.float32] | csr_matrix]"
    needs_certificate: bool = False
    beside: str = ""
    version: str = ""

    @property
    def reads_latents(self) -> bool:
        """Whether it needs an SAE, so that it is probed only at layers that have one."""
        return any(source.kind == "latents" for source in self.sources)

    @property
    def per_layer(self) -> bool:
        """Whether it has one probe per layer. Otherwise it has a single probe, filed under the embedding's hook."""
        return any("{layer}" in source.hook for source in self.sources)


def stream(inputs: Inputs) -> "NDArray[np.float32]":
    """Activations of the first source, float32 `[clip, time, d_model]`."""
    from reprise.storage.artifacts import read_array

    return read_array(inputs.stores[0], "resid_post", inputs.positions).astype("float32")


def latents(inputs: Inputs) -> "csr_matrix":
    """SAE latents of the first source, CSR `[clip * time, d_sae]`."""
    from reprise.saes.latents import read_latents

    return read_latents(inputs.stores[0], inputs.positions)


def random_dictionary(inputs: Inputs) -> "csr_matrix":
    """Latents of a random dictionary of the SAE's size (the second source), CSR `[clip * time, d_sae]`."""
    from reprise.identity import seed_from
    from reprise.probing.probes import random_latents
    from reprise.saes.latents import sae_size

    d_sae, k = sae_size(inputs.stores[1])
    seed = seed_from("random dictionary", inputs.study, inputs.hook)[0]
    return random_latents(stream(inputs), d_sae=d_sae, k=k, seed=seed)


BUILT_IN = (
    Representation(
        "resid",
        role=EVIDENCE,
        words=Words("residual stream", label="residual", legend="residual stream"),
        sources=(Source("activations", LAYER),),
        make=stream,
    ),
    Representation(
        "sae",
        role=EVIDENCE,
        words=Words("SAE latents", label="SAE latents", mark="square"),
        sources=(Source("latents", LAYER),),
        make=latents,
        needs_certificate=True,
    ),
    Representation(
        "embedding",
        role=CHECK,
        words=Words(
            "embedding",
            label="input embedding",
            legend="input embedding, a check",
            mark="diamond",
            silent="Input embedding predicts nothing",
            warning="predicts: the baseline leaves something out",
        ),
        sources=(Source("activations", "embedding"),),
        make=stream,
    ),
    Representation(
        "random_dictionary",
        role=COMPARISON,
        words=Words("random dictionary", label="random dictionary", mark="square"),
        sources=(Source("activations", LAYER), Source("latents", LAYER, size_only=True)),
        make=random_dictionary,
        beside="sae",
    ),
    Representation(
        "random_model",
        role=CHECK,
        words=Words(
            "model with random weights",
            label="random weights",
            silent="Random weights predict nothing",
            warning="predicts too: sound from before the baseline's window can be read without any training, so only "
            "the learned gain beyond it counts",
        ),
        sources=(Source("activations", RANDOM_LAYER),),
        make=stream,
        beside="resid",
    ),
)
_BY_NAME = {entry.name: entry for entry in BUILT_IN}


def names() -> list[str]:
    """The names of all representations: first built in, then of installed packages.

    Raises ExtensionError if an installed package uses the name of a built-in one.
    """
    if taken := next((name for name in installed(GROUP) if name in _BY_NAME), None):
        raise ExtensionError(f"{refused(GROUP, taken)} has the name of a built-in one; valid: another name")
    return [*_BY_NAME, *installed(GROUP)]


def find(name: str) -> Representation:
    """The representation with this name. Raises ExtensionError if there is none, or it cannot be used."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name not in installed(GROUP):
        raise ExtensionError(f"representation: got {name!r}; valid: one of {', '.join(names())}")
    return _found(name)


@cache
def _found(name: str) -> Representation:
    entry = load(GROUP, name, Representation)
    if problem := _problem(entry, name):
        raise ExtensionError(f"{refused(GROUP, name)}: {problem}")
    return entry


def _problem(entry: Representation, name: str) -> str:
    """What is wrong with a representation that another package adds under a name, or ""."""
    if entry.name != name or not _NAME.fullmatch(name):
        return f"name is {entry.name!r}; valid: the entry point's name, with a-z, 0-9 and _, beginning with a letter"
    if entry.role not in ROLES:
        return f"role is {entry.role!r}; valid: one of {', '.join(ROLES)}"
    if not (isinstance(entry.version, str) and entry.version):
        return f"version is {entry.version!r}; valid: a text that changes with what make computes"
    if not entry.sources:
        return "sources is empty; valid: at least one Source"
    for source in entry.sources:
        if source.hook not in _HOOKS.get(source.kind, ()):
            valid = "; ".join(f"{kind}: {' or '.join(map(repr, hooks))}" for kind, hooks in _HOOKS.items())
            return f"sources has kind {source.kind!r} with hook {source.hook!r}; valid: {valid}"
    if len({source[:2] for source in entry.sources}) < len(entry.sources):
        return "sources has the same stores twice; valid: each once"
    if entry.role == EVIDENCE and not entry.per_layer:
        valid = f"a source with {{layer}}, to compare it with {REFERENCE} at that layer"
        return f"role is evidence, but no source has a layer; valid: {valid}"
    reads_latents = any(source.kind == "latents" and not source.size_only for source in entry.sources)
    if entry.needs_certificate != reads_latents:
        return f"needs_certificate is {entry.needs_certificate}; valid: True if latents are read, else False"
    if entry.words.mark not in ("circle", "square", "diamond"):
        return f"words.mark is {entry.words.mark!r}; valid: circle, square or diamond"
    return ""


def with_role(of: Iterable[str], role: str) -> list[str]:
    """The names in `of` whose representation has this role, without repeats, in their order."""
    return [name for name in dict.fromkeys(of) if find(name).role == role]


def reads_random_weights(of: Iterable[str]) -> bool:
    """Whether any representation in `of` reads the model with random weights."""
    return any(source.hook == RANDOM_LAYER for name in of for source in find(name).sources)


def versions(name: str) -> dict[str, str]:
    """The version of a representation from another package, by name, for the settings of its probes; {} if built in.

    Changes in the code of another package are not seen.
    """
    return {} if name in _BY_NAME else {name: find(name).version}


def report_order(of: Iterable[str]) -> list[str]:
    """Representations in the report's order: those without layers, then each other one and those shown beside it."""
    rank = {name: i for i, name in enumerate(names())}

    def place(name: str) -> tuple[bool, int, bool, int]:
        entry = find(name)
        return entry.per_layer, rank.get(entry.beside or name, len(rank)), bool(entry.beside), rank[name]

    return sorted(dict.fromkeys(of), key=place)


def probe_names(name: str, layers: Iterable[int]) -> list[str]:
    """The names of a representation's probes in file names: one per layer, or a single one."""
    return [f"{name}-layer{layer}" for layer in layers] if find(name).per_layer else [name]


def probe_pattern() -> str:
    """Regular expression for the names of probes. It does not import what other packages add."""
    own = [entry.name + (r"-layer\d+" if entry.per_layer else "") for entry in BUILT_IN]
    return "|".join([*own, *(rf"{name}(-layer\d+)?" for name in names() if name not in _BY_NAME)])


def of_probe(probe: str) -> tuple[Representation, str]:
    """The representation in a probe's name, and its hook: `layer2`, or "" if it has no layers."""
    name, _, hook = probe.partition("-")
    return find(name), hook


def sources_of(probe: str) -> list[Source]:
    """The sources of a probe, with its layer in their hooks."""
    entry, hook = of_probe(probe)
    layer = hook.removeprefix("layer")
    return [source._replace(hook=source.hook.format(layer=layer)) for source in entry.sources]


def by_source(manifests: Iterable[str]) -> list[list[str]]:
    """Group a list of manifests by source. Each source has its own folder."""
    return [list(group) for _, group in groupby(manifests, key=lambda path: PurePath(path).parent)]
