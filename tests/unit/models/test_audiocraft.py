"""AudioGen and stereo MusicGen, read from audiocraft's files: what audiocraft itself computes with them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import reprise.models.audiocraft_setup  # noqa: F401
from audiocraft.data.audio_utils import convert_audio
from audiocraft.models import AudioGen, MusicGen
from reprise.checkpoints.variants import read_facts, text_encoders
from reprise.checkpoints.weights import model_problems
from reprise.models.codec import codec_lookahead_s, decode_audio, encode_audio, encoder_lookahead_s
from reprise.models.families.audiocraft_family import FAMILY, kind_text
from reprise.models.forward import teacher_forced
from reprise.models.generation import Sampling, generate
from reprise.models.loading import load_model
from reprise.models.prompts import encode_prompts
from reprise.organisms.lm import lm_config
from tests.places import PLANNER, ROOT
from tests.unit.models.small_models import KINDS, save_small_model
from tests.unit.models.small_study import KEYS, N_FRAMES, PROMPTS, attributes

FRAME_RATES_HZ = {"audiogen": 50, "stereo": 25}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def ours(folder):
    return load_model(str(folder))


@pytest.fixture(scope="module")
def theirs(folder):
    family = AudioGen if folder.name == "audiogen" else MusicGen
    return family.get_pretrained(str(folder), device="cpu")


@pytest.fixture(scope="module")
def tokens(ours):
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(1, ours.n_codebooks, N_FRAMES)))


def test_a_model_is_recognised_by_its_files(folder, ours):
    assert model_problems(str(folder)) == []
    facts = read_facts(folder)
    assert facts == {name: getattr(ours, name) for name in facts} and len(facts) == 7
    assert ours.frame_rate_hz == FRAME_RATES_HZ[folder.name]
    assert ours.delays == ((0, 0, 1, 1, 2, 2, 3, 3) if folder.name == "stereo" else (0, 1, 2, 3))
    assert "delays" not in ours.facts


@pytest.mark.parametrize("prompt", [*PROMPTS, None])
def test_residual_stream_and_logits_equal_audiocrafts(ours, theirs, tokens, prompt):
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda _m, _a, x, n=n: seen.__setitem__(n, x))
        for n, layer in enumerate(theirs.lm.transformer.layers)
    ]
    with torch.no_grad():
        expected = theirs.lm.compute_predictions(tokens, attributes([prompt]))
    for hook in hooks:
        hook.remove()
    found, logits = teacher_forced(ours, tokens, encode_prompts(ours, [prompt]), layers=[0, 1], with_logits=True)
    for layer in (0, 1):
        torch.testing.assert_close(found[layer], seen[layer], rtol=1e-4, atol=1e-4)
    for k, delay in enumerate(ours.delays):
        ended = N_FRAMES - delay
        assert expected.mask[0, k, :ended].all()
        torch.testing.assert_close(logits[:, k, delay:N_FRAMES], expected.logits[:, k, :ended], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_greedy_tokens_equal_audiocrafts(ours, theirs, cfg_coef):
    prompts = PROMPTS[::2]  # of equal length: audiocraft lets shorter ones attend to their padding
    found = generate(ours, prompts, KEYS[:2], n_frames=N_FRAMES, sampling=Sampling(1e-6, 1, cfg_coef))
    with torch.no_grad():
        expected = theirs.lm.generate(
            conditions=attributes(prompts), max_gen_len=N_FRAMES, use_sampling=False, cfg_coef=cfg_coef
        )
    assert torch.equal(found, expected) and len(found.unique()) > 10


def test_a_continuation_of_its_own_prefix_is_the_clip(ours):
    sampling = Sampling(temperature=0.9, top_k=100, cfg_coef=1.0)
    whole = generate(ours, PROMPTS, KEYS, n_frames=N_FRAMES, sampling=sampling)
    again = generate(
        ours, PROMPTS, KEYS, n_frames=N_FRAMES, sampling=sampling, prefix=whole, n_prefix_frames=[10, 20, 0]
    )
    assert torch.equal(whole, again)


def test_nothing_before_a_scrambled_token_changes(ours, tokens):
    t, scrambled = 17, tokens.clone()
    scrambled[:, :, t:] = 255 - tokens[:, :, t:]
    text = encode_prompts(ours, PROMPTS[:1])
    before, after = (teacher_forced(ours, part, text, layers=[1])[0][1] for part in (tokens, scrambled))
    assert torch.equal(before[:, : t + 1], after[:, : t + 1]) and not torch.equal(before[:, t + 1], after[:, t + 1])


def test_sound_goes_through_the_codec_as_in_audiocraft(ours, theirs, tokens):
    codec, rate_hz = theirs.compression_model, theirs.sample_rate
    with torch.no_grad():
        expected = codec.decode(tokens)[0].mean(dim=0).clamp(-1, 1).numpy()
    np.testing.assert_allclose(decode_audio(ours, tokens[0].numpy()), expected, atol=1e-5)
    audio = torch.randn(1, rate_hz, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        heard, scale = codec.encode(convert_audio(audio, rate_hz, rate_hz, codec.channels)[None])
    assert scale is None and np.array_equal(encode_audio(ours, audio[0].numpy()), heard[0].numpy())
    assert 0 <= codec_lookahead_s(ours) < 0.5 and 0 <= encoder_lookahead_s(ours) < 0.5


def test_the_doctor_says_which_kind_it_is(folder):
    said = {"audiogen": ["AudioGen"], "stereo": ["stereo, left and right alternate"]}
    assert FAMILY.notes(folder) == said[folder.name] and FAMILY.notes(PLANNER) == []
    config = {"solver": "audiogen", "conditioners": {"description": {"model": "t5", "t5": {"name": "t5-large"}}}}
    assert kind_text(config) == "AudioGen" and text_encoders(config) == ["t5-large"]


def test_a_melody_model_is_refused_before_it_is_built(tmp_path):
    """It would load, or fetch, the network that takes songs apart."""
    config = lm_config()
    config["fuser"] |= {"cross": [], "prepend": ["self_wav", "description"]}
    config["conditioners"]["self_wav"] = {"model": "chroma_stem", "chroma_stem": {"n_chroma": 12}}
    lm = load_model(str(PLANNER)).lm.state_dict()
    torch.save({"best_state": lm, "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config))}, tmp_path / "state_dict.bin")
    (tmp_path / "compression_state_dict.bin").symlink_to(PLANNER / "compression_state_dict.bin")
    with pytest.raises(ValueError, match=r"fuser.prepend is \['self_wav', 'description'\] \(supported: \[\]\); valid"):
        load_model(str(tmp_path))
    assert "demucs" not in sys.modules


def test_stereo_tokens_are_left_and_right_in_turn(tmp_path):
    model = load_model(str(save_small_model(tmp_path / "stereo", "stereo")))
    tokens = encode_audio(model, np.random.default_rng(0).normal(scale=0.1, size=16_000).astype(np.float32))
    assert tokens.shape == (8, 25) and np.array_equal(tokens[::2], tokens[1::2])
    other = tokens.copy()
    other[1::2] = 255 - other[1::2]
    with torch.no_grad():
        left, right = model.tokens_to_audio(torch.from_numpy(other.astype(np.int64))[None])[0]
        both = model.tokens_to_audio(torch.from_numpy(tokens.astype(np.int64))[None])[0]
    assert torch.equal(left, both[0]) and not torch.allclose(right, both[1])


def test_what_audiocraft_imports_and_nobody_uses_is_left_out_and_can_be_imported_later() -> None:
    code = """
import sys
from reprise.models.loading import load_model
load_model("resources/planner")
packages = ("wandb", "torchmetrics", "librosa", "transformers", "audiocraft.solvers")
assert not [name for name in sys.modules if any(f"{name}.".startswith(f"{package}.") for package in packages)]
import librosa, torchmetrics
assert librosa.note_to_midi("c4") == 60 and torchmetrics.Metric.__module__ == "torchmetrics.metric"
from audiocraft.models.encodec import HFEncodecModel
from audiocraft.solvers.compression import CompressionSolver
from transformers import EncodecModel
assert HFEncodecModel.from_pretrained == EncodecModel.from_pretrained
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
