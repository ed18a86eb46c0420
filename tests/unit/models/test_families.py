"""Model families: those of this package, and one that another package registers, as the docs page has it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch.nn import functional as F

from reprise.checkpoints.hub import MODEL_FILES
from reprise.checkpoints.weights import model_problems
from reprise.config.errors import ConfigError
from reprise.config.validation import validate
from reprise.extensions import ExtensionError
from reprise.models import loading
from reprise.models.codec import codec_lookahead_s, decode_audio, encode_audio, encoder_lookahead_s
from reprise.models.families import registry
from reprise.models.families.family import Family, lacking_files, source_digest
from reprise.models.families.registry import BUILT_IN, family_identity, family_names, family_of
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.loading import load_identified, load_model
from reprise.models.prompts import encode_prompts
from reprise.models.transformer import sinusoidal_position
from tests.places import ROOT
from tests.plugins import forget
from tests.unit.test_docs import fences

PAGE = (ROOT / "docs/how-to/add-a-model-family.md").read_text(encoding="utf-8")
CONFIG = {
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "codebook_size": 32,
    "delays": [0, 0, 1],
    "sample_rate_hz": 8000,
    "hop": 320,
    "max_duration_s": 20.0,
}


@dataclass
class Installed:
    """A package that is on the path for a test: its folder, and the lines of its entry points."""

    folder: Path

    def register(self, *lines: str) -> None:
        about = self.folder / "tiny_family-1.0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-family\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
        forget()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package of the docs page, installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    (text,) = (fence.text for fence in fences(PAGE) if fence.language == "python")
    (folder / "tiny_family.py").write_text(text)
    (line,) = re.findall(r'^tiny = ".*"$', PAGE, re.MULTILINE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "tiny_family", raising=False)
    installed = Installed(folder)
    installed.register(line.replace('"', ""))
    yield installed
    sys.modules.pop("tiny_family", None)
    forget()


@pytest.fixture
def model_dir(package, tmp_path):
    import tiny_family

    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    lm = tiny_family.build(CONFIG)
    for name, parameter in lm.named_parameters():
        # Larger than at initialisation, so that attention and positions matter.
        parameter.data *= 1 if "norm" in name else 2
    save_file(lm.state_dict(), folder / "tiny.safetensors")
    return folder


def own_logits(lm, tokens: torch.Tensor, words: list[int]) -> torch.Tensor:
    """What the tiny family's model is, in torch's own words: logits `[row, codebook, position, codebook_size]`."""
    size, delays = CONFIG["codebook_size"], CONFIG["delays"]
    sequence = torch.full((*tokens.shape[:2], tokens.shape[2] + 1), size)
    for k, delay in enumerate(delays):
        sequence[:, k, 1 + delay :] = tokens[:, k, : tokens.shape[2] - delay]
    x = sum(lm[f"embedding{k}"](sequence[:, k]) for k in range(len(delays)))
    x = x + sinusoidal_position(torch.arange(x.shape[1]), x.shape[2], max_period=10_000.0)
    prompt = lm["words"](torch.tensor(words)).expand(len(x), -1, -1)
    hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    for i in range(CONFIG["n_layers"]):
        for which, norm, mask in (("own", 0, hidden), ("cross", 1, None)):
            q = lm[f"layer{i}_norm{norm}"](x)
            kv = q if which == "own" else prompt
            weights = lm[f"layer{i}_{which}_in"].weight, None
            out = lm[f"layer{i}_{which}_out"]
            x = x + (
                F.multi_head_attention_forward(
                    q.transpose(0, 1),
                    kv.transpose(0, 1),
                    kv.transpose(0, 1),
                    x.shape[2],
                    CONFIG["n_heads"],
                    *weights,
                    None,
                    None,
                    False,
                    0.0,
                    out.weight,
                    None,
                    training=False,
                    attn_mask=mask,
                )[0].transpose(0, 1)
            )
        x = x + lm[f"layer{i}_down"](F.gelu(lm[f"layer{i}_up"](lm[f"layer{i}_norm2"](x))))
    x = lm["out_norm"](x)
    return torch.stack([lm[f"head{k}"](x) for k in range(len(delays))], dim=1)


def test_the_built_in_families_are_found_by_name():
    assert list(BUILT_IN) == ["audiocraft", "transformers"] == family_names()[:2]
    for name, family in BUILT_IN.items():
        assert family_of(name) is family and family.name == name and family.files == MODEL_FILES[name]
        # Their code is followed, so nothing stands for it.
        assert family_identity(name) == {} and family.version == ""


def test_a_family_of_another_package_is_found_and_loads(package, model_dir):
    assert "tiny" in family_names()
    assert model_problems(str(model_dir), backend="tiny") == []
    model = load_model(str(model_dir), backend="tiny")
    assert model.facts.items() >= family_of("tiny").facts(model_dir).items()
    assert model.delays == (0, 0, 1) and model.frame_rate_hz == 25


def test_its_model_computes_what_it_is(model_dir):
    model = load_model(str(model_dir), backend="tiny")
    tokens = torch.randint(32, (2, 3, 20), generator=torch.Generator().manual_seed(1))
    words = [sum(word.encode()) % 64 for word in ("slow", "piano")]
    _, logits = teacher_forced(model, tokens, encode_prompts(model, ["slow piano"] * 2), with_logits=True)
    with torch.no_grad():
        expected = own_logits(model.lm, tokens, words)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    # Greedy: every token is the likeliest given those before it.
    greedy = generate(model, ["slow piano"], [(1,)], n_frames=20, sampling=Sampling(1e-6, 1, 1.0))
    with torch.no_grad():
        likeliest = own_logits(model.lm, greedy, words).argmax(-1)
    for k, delay in enumerate(CONFIG["delays"]):
        assert torch.equal(greedy[:, k, : 20 - delay + 1], likeliest[:, k, delay : delay + 20])
    assert len(greedy.unique()) > 3


def test_its_codec_is_asked_like_any_other(model_dir):
    model = load_model(str(model_dir), backend="tiny")
    audio = decode_audio(model, torch.arange(30).expand(3, -1).numpy())
    assert audio.shape == (30 * 320,)
    assert encode_audio(model, audio).tolist() == [list(range(30))] * 3
    assert codec_lookahead_s(model) == 0 == encoder_lookahead_s(model)


def test_its_version_is_a_part_of_what_a_model_is(package, model_dir, monkeypatch):
    said = family_identity("tiny")
    assert said == {"family_version": f"1 {source_digest(package.folder)}", "library": "torch"}
    settings = {"name": str(model_dir), "backend": "tiny", "dtype": "float32"}
    identity = settings | said | {"weights_digest": load_model(str(model_dir), backend="tiny").weights_digest}
    assert load_identified(settings, identity).n_layers == 2
    # A study that was made with other code is not gone on with.
    with pytest.raises(RuntimeError) as caught:
        load_identified(settings, identity | {"family_version": "0"})
    assert str(caught.value).startswith(
        f"model.backend: the family tiny has version {said['family_version']}, but this study was made with 0; valid: "
    )
    # An edit shows in the digest.
    (package.folder / "tiny_family.py").open("a").write("\nOTHER = 1\n")
    assert source_digest(package.folder) not in said["family_version"]


def test_what_it_does_not_run_is_refused_by_name(model_dir):
    (model_dir / "tiny.json").write_text(json.dumps(CONFIG | {"rotary": True}))
    (line,) = model_problems(str(model_dir), backend="tiny")
    refused = "rotary is True (supported: not set); valid: a model whose tiny.json has these settings alone"
    assert line.startswith(f'"{model_dir}" cannot be run: {refused}')
    with pytest.raises(ValueError, match=re.escape(refused)):
        load_model(str(model_dir), backend="tiny")


def test_files_and_weights_that_are_lacking_are_errors(model_dir, tmp_path):
    assert lacking_files(tmp_path, family_of("tiny").files) == ["tiny.json", "tiny.safetensors"]
    weights = dict(loading.load_model(str(model_dir), backend="tiny").lm.state_dict())
    del weights["head1.weight"]
    save_file(weights, model_dir / "tiny.safetensors")
    with pytest.raises(ValueError, match=r"tiny.safetensors lacks or has too many: head1.weight"):
        load_model(str(model_dir), backend="tiny")
    (model_dir / "tiny.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tiny.safetensors"):
        load_model(str(model_dir), backend="tiny")
    assert model_problems(str(model_dir), backend="tiny") == [
        f'"{model_dir}": tiny.safetensors is missing; valid: a directory with tiny.json and tiny.safetensors, '
        "all complete"
    ]


def test_the_configuration_takes_every_family_and_no_other(package, model_dir):
    (page,) = (yaml.safe_load(fence.text) for fence in fences(PAGE) if fence.text.startswith("studies:"))
    assert validate(page, check_files=False).studies["my-study"].model.backend == "tiny"
    asked = page["studies"]["my-study"] | {"prompts": "config/prompts.tsv"}
    for name, seconds in (("tiny", 16), ("tiny", 21), ("tinny", 21)):
        asked |= {"model": {"name": str(model_dir), "backend": name}, "generation": {"duration_s": seconds}}
        for check_files in (False, True):
            found = config_problems({"studies": {"mine": asked}}, check_files=check_files)
            if name == "tinny":
                valid = "valid: one of audiocraft, transformers, tiny"
                assert found == [f'model.backend: got "tinny": no model family has this name; {valid}']
            elif seconds == 16 or not check_files:
                assert found == []
            else:
                assert len(found) == 1 and found[0].startswith("generation.duration_s: got 21; valid: at most 20, th")


def config_problems(raw, *, check_files):
    try:
        validate(raw, base_dir=ROOT, check_files=check_files)
    except ConfigError as error:
        return [line.removeprefix("config: studies.mine.") for line in error.problems]
    return []


@pytest.mark.parametrize(
    "change, problem",
    [
        ('version=""', 'has the version ""; valid: the version of its package, or source_digest of its folder'),
        ('name="small"', 'has the name "small"; valid: "tiny"'),
        ("=1/0", "cannot be imported (ZeroDivisionError: division by zero); valid: module:NAME"),
    ],
)
def test_a_family_that_is_not_one_is_an_error_of_one_line(package, change, problem):
    text = (package.folder / "tiny_family.py").read_text()
    field = change.partition("=")[0]
    text = re.sub(rf"^    {field}=.*,$", f"    {change},", text, flags=re.MULTILINE) if field else f"x{change}\n{text}"
    (package.folder / "tiny_family.py").write_text(text)
    with pytest.raises(ExtensionError) as caught:
        family_of("tiny")
    said = f"reprise.model_families: tiny = tiny_family:FAMILY {problem}"
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_an_entry_point_that_names_something_else(package):
    package.register("tiny = tiny_family:KNOWN")
    with pytest.raises(ExtensionError, match=r"tiny = tiny_family:KNOWN is a set; valid: a Family"):
        family_of("tiny")
    # What is built in cannot be taken over.
    package.register("audiocraft = tiny_family:FAMILY")
    assert family_of("audiocraft") is BUILT_IN["audiocraft"] and isinstance(BUILT_IN["audiocraft"], Family)


def test_neither_registry_nor_family_imports_anything_heavy(package):
    program = (
        "import sys; from reprise.models.families.registry import family_of; family_of('tiny'); "
        "print(sorted({'torch', 'audiocraft', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    path = os.pathsep.join([str(package.folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
