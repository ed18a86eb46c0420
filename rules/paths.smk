# Where everything lies, and which files depend on what a study asks for. Helpers without side effects.


def own(path):
    """A path of ours as a script needs it: Snakemake puts the prefix only before inputs and outputs."""
    return f"{PREFIX}{path}"


def given(path):
    """A file that the configuration names, as an input: no prefix belongs before it."""
    return str(Path(path).absolute()) if PREFIX else path


def organism_card(folder):
    """The card of an organism: beside it where it is shipped, or what its training ends with."""
    parts = Path(folder).parts
    if parts[:3] == ("results", "organisms", "resources"):
        return f"results/organisms/resources/{parts[3]}.card.json"
    return f"{folder}/card.json"


def sae_of(study, layer):
    """Where the SAE of a layer lies: the directory that the study names, or the one it is trained into."""
    if layer in STUDIES[study].trained_layers:
        return f"results/{study}/saes/layer{layer}"
    return STUDIES[study].saes[layer]


def sae_to_read(study, layer):
    """The same, as a script reads it."""
    trained = layer in STUDIES[study].trained_layers
    return own(sae_of(study, layer)) if trained else sae_of(study, layer)


def horizons(study):
    return [horizon_name(a, b) for a, b in STUDIES[study].horizons.values()]


def hooks(study):
    """Everything that is dumped: the input embedding and the layers that are studied."""
    return ["embedding", *(f"layer{layer}" for layer in STUDIES[study].hook_layers)]


def random_hooks(study):
    """What is dumped of the model with random weights, where it is probed."""
    probed = reads_random_weights(STUDIES[study].probes.representations)
    return (
        [f"random-layer{layer}" for layer in STUDIES[study].hook_layers]
        if probed
        else []
    )


def folder_of(kind, study):
    """Where one kind of store lies: with the corpus, or with the study."""
    shared = kind in ("tokens", "audio", "openings", "activations")
    return (
        f"results/corpora/{corpus(study)}/{kind}"
        if shared
        else f"results/{study}/{kind}"
    )


def store(kind, study, batch, hook=None):
    """Manifest of one batch of one kind of store."""
    return "/".join(
        [folder_of(kind, study), *([hook] if hook else []), f"{batch}.manifest.json"]
    )


def stores(kind, study, hook=None):
    """Manifests of all batches of one kind of store."""
    return [store(kind, study, batch, hook) for batch in batches(study)]


def folder_of_store(manifest):
    """The store that a manifest is of."""
    return manifest.removesuffix(".manifest.json")


def model_record(study):
    """What was found out about the model of a study."""
    return f"results/corpora/{corpus(study)}/model.json"


def store_folders(study):
    """The stores themselves. Consumers take the manifests; asking for the folders too notices one that was deleted."""
    kinds = ["tokens", "audio", "descriptors"]
    kinds += ["openings"] if STUDIES[study].source == "continuation" else []
    manifests = [manifest for kind in kinds for manifest in stores(kind, study)]
    for hook in hooks(study) + random_hooks(study):
        manifests += stores("activations", study, hook)
    for layer in STUDIES[study].sae_layers:
        manifests += stores("latents", study, f"layer{layer}")
    trained = [sae_of(study, layer) for layer in STUDIES[study].trained_layers]
    return trained + [folder_of_store(manifest) for manifest in manifests]


def tables(study):
    """Everything else that lies between, so that what was deleted is made again."""
    return [
        *(measurement(study, layer) for layer in STUDIES[study].sae_layers),
        *(certificate(study, layer) for layer in STUDIES[study].sae_layers),
        *events_tables(study),
        *clip_summary_tables(study),
        *(labels_table(study, horizon) for horizon in horizons(study)),
        *probe_results(study),
        *screens(study),
        *das_fits(study),
    ]


def certificate(study, layer):
    return f"results/{study}/certificates/layer{layer}.json"


def measurement(study, layer):
    """What a certificate is judged by."""
    return f"results/{study}/certificates/layer{layer}.measured.json"


def labels_table(study, horizon):
    return f"results/{study}/labels/{horizon}.parquet"


def events_tables(study):
    return [f"results/{study}/events/{batch}.parquet" for batch in batches(study)]


def reviews_table(study):
    """The reviews that override the tests of a study's events; none where the configuration names no review file."""
    return [f"results/{study}/reviews.parquet"] if STUDIES[study].review.files else []


def reviews_summary(study):
    return [f"results/{study}/reviews.json"] if STUDIES[study].review.files else []


def clip_summary_tables(study):
    """What became of each clip: from when on it can have an event, or why it has no events."""
    return [f"results/{study}/events/{batch}.clips.parquet" for batch in batches(study)]


def probe_results(study):
    """Results of every probe of a study: representation x layer (once where it is of none) x horizon. What reads latents
    is probed where there is an SAE."""
    asked = STUDIES[study]
    return [
        f"results/{study}/probes/{horizon}/{name}.json"
        for horizon in horizons(study)
        for representation in asked.probes.representations
        for name in probe_names(
            representation,
            (
                asked.sae_layers
                if find_representation(representation).reads_latents
                else asked.hook_layers
            ),
        )
    ]


def long_probes(study, ending):
    """Files of the probes at the horizon that foresight is judged at."""
    a_s, b_s = STUDIES[study].horizons[STUDIES[study].longer_roles[-1]]
    folder = f"results/{study}/probes/{horizon_name(a_s, b_s)}/"
    found = [path for path in probe_results(study) if path.startswith(folder)]
    return [path.removesuffix(".json") + ending for path in found]


def trained_model(model):
    """The card of a model that is trained here: its directory may not be there yet."""
    folder = Path(model.name)
    return [organism_card(folder)] if folder.parts[0] == "results" else []


def given_model(model):
    """The checkpoint files of a model in a directory; none for a hub id, whose weights each job compares by digest."""
    if trained_model(model) or model_place(model.name):
        return []
    folder = Path(model.name)
    return [
        folder / file for file in needed_files(folder, family_of(model.backend).files)
    ]


def openings(wildcards):
    """Openings of a batch's recordings, where the model goes on from them."""
    if study_config(wildcards).source != "continuation":
        return []
    return [
        f"results/corpora/{wildcards.corpus}/openings/{wildcards.batch}.manifest.json"
    ]


def trained_sae(study, layer):
    """What stands for an SAE that is trained here, for a study or with its model."""
    folder = Path(sae_of(study, int(layer)))
    if int(layer) in STUDIES[study].trained_layers:
        return [f"{folder}.manifest.json"]
    return (
        [organism_card(folder)] if folder.parts[:2] == ("results", "organisms") else []
    )


def trained_again(study, layer):
    """The names of all SAEs that are trained for a layer; the first is the one that is used."""
    n_seeds = STUDIES[study].sae_training.n_seeds
    return [
        f"layer{layer}",
        *(f"layer{layer}-seed{seed}" for seed in range(1, n_seeds)),
    ]


def seed_tables(study):
    """Tables of how many latents come back, for the layers with several SAEs."""
    if STUDIES[study].sae_training.n_seeds == 1:
        return []
    layers = STUDIES[study].trained_layers
    return [f"results/{study}/saes/layer{layer}.seeds.parquet" for layer in layers]


def given_sae(study, layer):
    """The files of an SAE in a directory; none on the hub, where the commit in its name says which it is."""
    name = sae_of(study, int(layer))
    if trained_sae(study, layer) or sae_place(name):
        return []
    folder = Path(name)
    return [folder / file for file in sae_files(folder)]


def representation_stores(study, probe):
    """Manifests of what a probe reads, source by source."""
    return [
        manifest
        for source in sources_of(probe)
        for manifest in stores(source.kind, study, source.hook)[
            : 1 if source.size_only else None
        ]
    ]


def certificate_of(study, probe):
    """The certificate of the SAE whose latents are probed, which says where in a clip they can be trusted."""
    entry, hook = of_probe(probe)
    layer = hook.removeprefix("layer")
    return [certificate(study, layer)] if entry.needs_certificate else []


def horizons_by_role(study):
    return {
        role: horizon_name(a, b) for role, (a, b) in STUDIES[study].horizons.items()
    }


def local_labels(study, horizon):
    """Labels of the local horizon, for the longer ones."""
    by_role = horizons_by_role(study)
    longer = [by_role[role] for role in STUDIES[study].longer_roles]
    return [labels_table(study, by_role["local"])] if horizon in longer else []


def screens(study):
    return [
        f"results/{study}/screens/{horizon}/layer{layer}.parquet"
        for horizon in horizons(study)
        for layer in STUDIES[study].sae_layers
    ]


def das_fits(study):
    """Subspaces that are searched for by gradient, one for each layer, if that kind is tried."""
    if "das" not in STUDIES[study].candidates.kinds:
        return []
    return [
        f"results/{study}/das/layer{layer}.json" for layer in STUDIES[study].hook_layers
    ]


def layer_of(candidate):
    """The layer in a candidate's name, such as layer2-f117-1a2b3c."""
    return int(candidate.split("-")[0].removeprefix("layer"))


def donated(study, candidate):
    """The stores that edits take other clips' coordinates from. Controls are read as the candidate is."""
    if STUDIES[study].ablation.target != "resample":
        return []
    kind = "latents" if candidate_sae(candidate) else "activations"
    return stores(kind, study, f"layer{layer_of(candidate)}")


def donated_to_map(study, candidate):
    """The same for the map of a candidate, which edits the other layers along directions."""
    if STUDIES[study].ablation.target != "resample":
        return []
    others = [
        layer for layer in STUDIES[study].hook_layers if layer != layer_of(candidate)
    ]
    return donated(study, candidate) + [
        manifest
        for layer in others
        for manifest in stores("activations", study, f"layer{layer}")
    ]


def candidate_sae(candidate):
    """The layer of the SAE that a candidate is read through, as a list: none for a direction, which another SAE does not
    make stale. Its name says so (`candidate_name` of reprise/candidates/selection.py).
    """
    reads_latents = re.fullmatch(r"layer\d+-(f|set)\d+-\w+", candidate)
    return [layer_of(candidate)] if reads_latents else []


def chosen_candidates(study):
    """Names of the candidates the screen found; none before it has run."""
    folder = Path(checkpoints.candidates.get(study=study).output.folder)
    return sorted(path.stem for path in folder.glob("layer*.json"))


def maps(study):
    """The map of the candidate that showed foresight, once that is known; of the first one if there are several."""
    if not STUDIES[study].candidates.map_step_s:
        return []
    verdict = Path(checkpoints.verdict.get(study=study).output.verdict)
    judged = json.loads(verdict.read_text(encoding="utf-8"))["candidates"]
    passing = [each["name"] for each in judged if each["verdict"] == "foresight"]
    return [f"results/{study}/maps/{name}.parquet" for name in passing[:1]]


def model_card(study):
    """The card beside a model in a directory, if there is one: it says whether the model is an organism."""
    card = Path(STUDIES[study].model.name) / "card.json"
    return [given(card.as_posix())] if card.is_file() else []


def recordings_files(study):
    """What says whose the recordings of a study are and under which licences."""
    study_config = STUDIES[study].recordings
    named = (
        [study_config.manifest, study_config.checksums]
        if STUDIES[study].source != "prompts"
        else []
    )
    return [given(path) for path in named if path]


def of_candidates(file, folder="effects"):
    """A file of every candidate of every study; known once the candidates are."""
    return [
        f"results/{study}/{folder}/{file.format(candidate=candidate)}"
        for study in STUDIES
        for candidate in chosen_candidates(study)
    ]


def clips_of(organism):
    """The clips an organism was trained on."""
    if organism in DERIVED:
        kind = RECIPE["derived"][organism]["clips"]
        return [f"results/organisms/derived-clips/{kind}.npz"]
    return expand("results/organisms/clips/{part}.npz", part=range(RECIPE["n_parts"]))


def start_of(organism):
    """The weights of the shipped organism that another one starts from; none if it starts from nothing."""
    start = RECIPE["derived"][organism].get("start")
    return [f"results/organisms/shipped/{start}/lm.pt"] if start else []
