"""The transformers backend: the same weights in both libraries' forms give the same activations and tokens."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.models.builders import get_compression_model, get_lm_model
from audiocraft.modules import conditioners
from reprise.checkpoints.variants import read_facts
from reprise.checkpoints.weights import model_problems
from reprise.models.adapter import Model
from reprise.models.capture import residual_stream
from reprise.models.codec import codec_lookahead_s, decode_audio, encode_audio
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.organisms.codec import CARD, FRAME_RATE_HZ, N_CODEBOOKS, SAMPLE_RATE_HZ, codec_config
from reprise.organisms.lm import D_MODEL, N_LAYERS, lm_config
from tests.places import ROOT
from transformers import (
    AutoTokenizer,
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

PROMPTS = ["piano in c, amber theme", "organ", None]
N_FRAMES = 30
D_TEXT = 48


class Pair(NamedTuple):
    audiocraft: Model
    transformers: Model
    folder: Path


def save_text_encoder(folder: Path) -> None:
    """A random T5 with a tokenizer of its own, as a directory that either library loads."""
    words = ["<pad>", "</s>", "<unk>", "▁", "▁piano", "▁organ", "▁in", "▁c", ",", "▁amber", "▁theme"]
    T5Tokenizer(vocab=[(word, -1.0) for word in words], extra_ids=0).save_pretrained(folder)
    sizes = {"vocab_size": len(words), "d_model": D_TEXT, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    T5EncoderModel(T5Config(**sizes)).save_pretrained(folder)


def save_as_audiocraft(folder: Path, text_encoder: Path) -> None:
    """A random MusicGen with this T5, in audiocraft's form. Like the published one, its codec has recurrent layers."""
    lm_cfg, codec_cfg = lm_config(), codec_config()
    lm_cfg["conditioners"]["description"] = {
        "model": "t5",
        "t5": {"name": str(text_encoder), "finetune": False, "word_dropout": 0.0, "normalize_text": False},
    }
    codec_cfg["seanet"]["lstm"] = 2
    codec_cfg["rvq"]["kmeans_init"] = False
    lm, codec = get_lm_model(OmegaConf.create(lm_cfg)), get_compression_model(OmegaConf.create(codec_cfg))
    for parameter in lm.parameters():
        parameter.data *= 2
    for buffer in (b for name, b in codec.named_buffers() if name.endswith("_codebook.embed")):
        buffer.normal_()
    for name, module, cfg in (("state_dict", lm, lm_cfg), ("compression_state_dict", codec, codec_cfg)):
        saved = {"best_state": module.state_dict(), "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(cfg))}
        torch.save(saved, folder / f"{name}.bin")


def decoder_state(lm: torch.nn.Module) -> dict[str, torch.Tensor]:
    """audiocraft's names to those of `MusicgenForConditionalGeneration`."""
    renamed = {}
    for name, value in lm.state_dict().items():
        if name.startswith("condition_provider"):
            renamed[f"enc_to_dec_proj.{name.rpartition('.')[2]}"] = value
            continue
        for old, new in (
            ("emb.", "model.decoder.embed_tokens."),
            ("linears.", "lm_heads."),
            ("out_norm.", "model.decoder.layer_norm."),
            ("transformer.layers.", "model.decoder.layers."),
            (".norm1.", ".self_attn_layer_norm."),
            (".norm_cross.", ".encoder_attn_layer_norm."),
            (".norm2.", ".final_layer_norm."),
            (".cross_attention.", ".encoder_attn."),
            (".linear1.", ".fc1."),
            (".linear2.", ".fc2."),
        ):
            name = new + name[len(old) :] if name.startswith(old) else name.replace(old, new)
        if name.endswith("in_proj_weight"):
            for part, weight in zip("qkv", value.chunk(3), strict=True):
                renamed["decoder." + name.replace("in_proj_weight", f"{part}_proj.weight")] = weight
        else:
            renamed[f"decoder.{name}"] = value
    return renamed


def codec_state(codec: torch.nn.Module) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in codec.state_dict().items():
        for old, new in (
            ("coder.model.", "coder.layers."),
            (".conv.conv.", ".conv."),
            (".convtr.convtr.", ".conv."),
            ("quantizer.vq.layers.", "quantizer.layers."),
            ("._codebook.", ".codebook."),
            (".weight_g", ".parametrizations.weight.original0"),
            (".weight_v", ".parametrizations.weight.original1"),
        ):
            name = name.replace(old, new)
        renamed[f"audio_encoder.{name}"] = value
    return renamed


def save_as_transformers(folder: Path, text_encoder: Path, lm: torch.nn.Module, codec: torch.nn.Module) -> None:
    seanet = codec_config()["seanet"]
    bits_per_s = N_CODEBOOKS * FRAME_RATE_HZ * (CARD - 1).bit_length()
    config = MusicgenConfig(
        text_encoder=T5Config.from_pretrained(text_encoder).to_dict(),
        audio_encoder=EncodecConfig(
            target_bandwidths=[bits_per_s / 1000],
            sampling_rate=SAMPLE_RATE_HZ,
            hidden_size=seanet["dimension"],
            num_filters=seanet["n_filters"],
            upsampling_ratios=seanet["ratios"],
            codebook_size=CARD,
            use_causal_conv=False,
            use_conv_shortcut=False,
            pad_mode="constant",
            num_lstm_layers=2,
        ).to_dict(),
        decoder=MusicgenDecoderConfig(
            vocab_size=CARD,
            num_hidden_layers=N_LAYERS,
            ffn_dim=4 * D_MODEL,
            num_attention_heads=4,
            hidden_size=D_MODEL,
            num_codebooks=N_CODEBOOKS,
            pad_token_id=CARD,
        ).to_dict(),
    )
    whole = MusicgenForConditionalGeneration(config)
    text_state = T5EncoderModel.from_pretrained(text_encoder).state_dict()
    state = {f"text_encoder.{name}": value for name, value in text_state.items()}
    whole.load_state_dict(state | decoder_state(lm) | codec_state(codec))
    whole.save_pretrained(folder)
    AutoTokenizer.from_pretrained(text_encoder).save_pretrained(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One random MusicGen in both forms, loaded from both."""
    torch.manual_seed(0)
    text, ours, theirs = (tmp_path_factory.mktemp(name) for name in ("text", "audiocraft", "transformers"))
    save_text_encoder(text)
    with pytest.MonkeyPatch.context() as patch:
        # audiocraft knows T5 models by a list of names.
        patch.setattr(conditioners.T5Conditioner, "MODELS", [str(text)])
        patch.setattr(conditioners.T5Conditioner, "MODELS_DIMS", {str(text): D_TEXT})
        save_as_audiocraft(ours, text)
        audiocraft = load_model(str(ours))
    save_as_transformers(theirs, text, audiocraft.lm, audiocraft.codec)
    return Pair(audiocraft, load_model(str(theirs), backend="transformers"), theirs)


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(CARD, size=(3, N_CODEBOOKS, N_FRAMES))


def test_the_facts_are_the_same(pair: Pair) -> None:
    ours, theirs = pair.audiocraft.facts, pair.transformers.facts
    # Each form has a digest of its own, and only audiocraft's says how long the clips of the training were.
    differing = {key for key in ours if ours[key] != theirs[key]}
    assert differing == {"weights_digest", "max_duration_s"} and theirs["max_duration_s"] == 30
    # Its files say so before it is loaded.
    said = read_facts(pair.folder, backend="transformers")
    assert len(said) == 7 and said.items() <= theirs.items()


def test_resid_post_agrees_at_every_layer_and_position(pair: Pair, tokens: np.ndarray) -> None:
    layers = range(-1, N_LAYERS)
    ours, theirs = (next(residual_stream(model, tokens, PROMPTS, layers=layers, batch_size=3)) for model in pair[:2])
    for layer in layers:
        assert ours[layer].shape == (3, N_FRAMES + 1, D_MODEL) and ours[layer].std() > 0.1
        np.testing.assert_allclose(theirs[layer], ours[layer], rtol=1e-4, atol=1e-4)
    # The prompt is heard: without one the stream is another.
    unheard = next(residual_stream(pair.transformers, tokens, [None] * 3, layers=[5], batch_size=3))[5]
    assert np.abs(unheard - theirs[5])[:2].max() > 0.01 and np.allclose(unheard[2], theirs[5][2], atol=1e-4)


def test_resid_post_and_logits_equal_transformers_own(pair: Pair, tokens: np.ndarray) -> None:
    """One prompt at a time, through the library's own forward pass with its own delay pattern."""
    whole = MusicgenForConditionalGeneration.from_pretrained(pair.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(pair.folder)
    for i, prompt in enumerate(PROMPTS[:2]):
        codes = torch.from_numpy(tokens[i])
        begun = torch.cat([torch.full((N_CODEBOOKS, 1), CARD), codes], dim=1)
        length = N_FRAMES + 1 + N_CODEBOOKS
        _, pattern = whole.decoder.build_delay_pattern_mask(begun, pad_token_id=CARD, max_length=length)
        sequence = pattern[:, : N_FRAMES + 1]
        with torch.no_grad():
            expected = whole(
                **tokenizer([prompt], return_tensors="pt"), decoder_input_ids=sequence, output_hidden_states=True
            )
        model = pair.transformers
        ours, logits = teacher_forced(
            model,
            codes[None],
            encode_prompts(model, [prompt]),
            layers=range(-1, N_LAYERS),
            with_logits=True,
        )
        # transformers' last hidden state is normed, ours is not.
        for layer in range(-1, N_LAYERS - 1):
            torch.testing.assert_close(ours[layer], expected.decoder_hidden_states[layer + 1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits[0], expected.logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_greedy_and_sampled_tokens_are_equal(pair: Pair, cfg_coef: float) -> None:
    for sampling in (Sampling(1e-6, 1, cfg_coef), Sampling(1.0, 50, cfg_coef)):
        ours, theirs = (
            generate(model, PROMPTS, [(1,), (2,), (3,)], n_frames=N_FRAMES, sampling=sampling) for model in pair[:2]
        )
        assert torch.equal(ours, theirs)
        assert len(np.unique(ours)) > 10


def test_the_codec_is_the_same(pair: Pair, tokens: np.ndarray) -> None:
    ours, theirs = (decode_audio(model, tokens[0]) for model in pair[:2])
    assert ours.shape == (N_FRAMES * SAMPLE_RATE_HZ // FRAME_RATE_HZ,) and ours.std() > 1e-3
    np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-5)
    audio = np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
    ours, theirs = (encode_audio(model, audio) for model in pair[:2])
    assert ours.shape == (N_CODEBOOKS, FRAME_RATE_HZ) and np.array_equal(ours, theirs)
    assert codec_lookahead_s(pair.audiocraft) == pytest.approx(codec_lookahead_s(pair.transformers), abs=0.05)


def test_audiocraft_is_not_needed(pair: Pair) -> None:
    program = """
import sys
sys.modules["audiocraft"] = None
from reprise.models.generation import Sampling
from reprise.models.generation import generate
from reprise.models.loading import load_model
model = load_model(sys.argv[1], backend="transformers")
sampling = Sampling(1e-6, 1, 1.0)
print(generate(model, ["organ"], [(1,)], n_frames=4, sampling=sampling)[0, 0].tolist())
"""
    done = subprocess.run([sys.executable, "-c", program, pair.folder], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    expected = generate(pair.audiocraft, ["organ"], [(1,)], n_frames=4, sampling=Sampling(1e-6, 1, 1.0))
    assert done.stdout.strip() == str(expected[0, 0].tolist())


def test_weights_that_would_be_drawn_at_random_are_an_error(pair: Pair, tmp_path: Path) -> None:
    """transformers loads MusicGen's melody model as the plain one, and any checkpoint that lacks weights."""
    shutil.copytree(pair.folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    whole = "valid: the whole model, as save_pretrained() writes it"
    codebook = "audio_encoder.quantizer.layers.1.codebook"
    lacking = {
        "decoder.model.decoder.layers.3.fc1.": "1 weight: decoder.model.decoder.layers.3.fc1.weight",
        "text_encoder.": "the whole text encoder (text_encoder.*)",
        "audio_encoder.": "the whole codec (audio_encoder.*)",
        f"{codebook}.embed": f"2 weights: {codebook}.embed, {codebook}.embed_avg",
        "enc_to_dec_proj.": "2 weights: enc_to_dec_proj.bias, enc_to_dec_proj.weight",
    }
    for prefix, text in lacking.items():
        kept = {name: weight for name, weight in weights.items() if not name.startswith(prefix)}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        problem = f"model.safetensors is missing {text}; {whole}"
        assert model_problems(str(tmp_path), backend="transformers") == [f'"{tmp_path}": {problem}']
        with pytest.raises(ValueError, match=re.escape(problem)):
            load_model(str(tmp_path), backend="transformers")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "musicgen_melody"}))
    refused = "model_type is 'musicgen_melody' (supported: 'musicgen')"
    with pytest.raises(
        ValueError, match=re.escape(f"model: {tmp_path}: {refused}; valid: a model with only text conditioning")
    ):
        load_model(str(tmp_path), backend="transformers")
    # Before any job.
    (line,) = model_problems(str(tmp_path), backend="transformers")
    assert line.startswith(f'"{tmp_path}" cannot be run: {refused}; valid: ')
    assert model_problems(str(pair.folder), backend="transformers") == []


def test_weights_that_the_model_has_no_place_for_are_an_error(pair: Pair, tmp_path: Path) -> None:
    """transformers passes over them: where "decoder" is in the name, without a word even in its own report."""
    shutil.copytree(pair.folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    layer = "decoder.model.decoder.layers.0.self_attn.q_proj"
    no_place = "contains 1 weight that the model does not have: {}; valid: "
    extras = {
        f"{layer}.lora_A.default.weight": "contains weights of an adapter: {}; valid: the adapter merged into the "
        "model with PEFT's merge_and_unload(), then the result saved with save_pretrained()",
        "decoder.model.decoder.layers.9.fc1.weight": no_place,
        "enc_to_dec_proj.scale": no_place,
        "audio_encoder.quantizer.layers.9.codebook.embed": no_place,
    }
    for name, text in extras.items():
        save_file({**weights, name: torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
        (line,) = model_problems(str(tmp_path), backend="transformers")
        assert line.startswith(f'"{tmp_path}": model.safetensors {text.format(name)}')
        with pytest.raises(ValueError, match=re.escape(f"model.safetensors {text.format(name)}")):
            load_model(str(tmp_path), backend="transformers")


def test_what_published_files_hold_beside_the_weights_does_no_harm(pair: Pair, tmp_path: Path) -> None:
    """Older ones have positions, the text encoder's embedding under both names, and weight_g and weight_v."""
    shutil.copytree(pair.folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    for i, letter in enumerate("gv"):
        new = f".parametrizations.weight.original{i}"
        weights = {name.replace(new, f".weight_{letter}"): weight for name, weight in weights.items()}
    weights["decoder.model.decoder.embed_positions.weights"] = torch.zeros(2048, D_MODEL)
    weights["text_encoder.encoder.embed_tokens.weight"] = weights["text_encoder.shared.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert model_problems(str(tmp_path), backend="transformers") == []
    loaded = load_model(str(tmp_path), backend="transformers")
    assert loaded.weights_digest == pair.transformers.weights_digest


def test_shards_are_asked_as_one_file_is(pair: Pair, tmp_path: Path) -> None:
    shutil.copytree(pair.folder, tmp_path, dirs_exist_ok=True)
    whole = MusicgenForConditionalGeneration.from_pretrained(pair.folder)
    (tmp_path / "model.safetensors").unlink()
    whole.save_pretrained(tmp_path, max_shard_size="1MB")
    first, *_ = sorted(tmp_path.glob("model-*.safetensors"))
    assert model_problems(str(tmp_path), backend="transformers") == []
    weights = load_file(first)
    name = sorted(weights)[0]
    save_file({n: w for n, w in weights.items() if n != name}, first, metadata={"format": "pt"})
    (line,) = model_problems(str(tmp_path), backend="transformers")
    assert f"model.safetensors.index.json is missing 1 weight: {name}; " in line


def test_a_variant_that_is_not_run_is_refused(pair: Pair, tmp_path: Path) -> None:
    config = MusicgenConfig.from_pretrained(pair.folder)
    config.decoder.scale_embedding = True
    MusicgenForConditionalGeneration(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(pair.folder).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"decoder.scale_embedding is True \(supported: False\)"):
        load_model(str(tmp_path), backend="transformers")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json and no model\.safetensors"):
        load_model(str(tmp_path.parent), backend="transformers")
