"""Another bound measures and encodes nothing anew; where the SAE fails by it, nobody uses the latents that are
there."""

import json
import shutil
from pathlib import Path

import pytest

from reprise.interventions.subspace import of_latents, to_record
from reprise.saes.errors import SaeError
from tests.workflow.conftest import digests, run_script, snakemake, tiny_config, write_config

REFUSED = r"has no certificate for layer 2, so nothing is encoded with it and no latents of it are used: FVU"


def test_codes_made_under_other_bounds_are_not_used(finished: Path, tmp_path: Path) -> None:
    study, config = tmp_path / "study", tiny_config()
    shutil.copytree(finished, study, symlinks=True)
    before = digests(study)
    config["defaults"]["certificate"] |= {"max_fvu": 0.0001}
    write_config(study, config)
    said = snakemake(study, "--cores", "2", "--keep-going", check=False)
    for name in ("screen/h4-8-layer2", "screen/h0.5-2-layer2", "probe/h4-8-sae-layer2", "probe/h0.5-2-sae-layer2"):
        log = (study / f"results/logs/tiny/{name}.log").read_text()
        assert "so nothing is encoded with it and no latents of it are used" in log, name
        assert "(see results/tiny/certificates/layer2.json)" in log
    assert "rule encode:" not in said and "rule measure_sae:" not in said and "rule probe:" in said
    after = digests(study)
    kept = ("results/tiny/certificates/layer2.measured", "results/tiny/latents", "results/corpora")
    assert all(after[path] == before[path] for path in before if path.startswith(kept))
    certificate = json.loads((study / "results/tiny/certificates/layer2.json").read_text())
    assert certificate["failures"] == ["fvu"] and certificate["settings"]["max_fvu"] == 0.0001

    # What is to be encoded is judged by encoding itself, whether or not there is a certificate.
    shutil.rmtree(study / "results/tiny/latents")
    (study / "results/tiny/certificates/layer2.json").unlink()
    latents = "results/tiny/latents/layer2/b00.manifest.json"
    said = snakemake(study, "--cores", "2", latents, check=False)
    assert "Error in rule encode" in said and not (study / latents).exists()
    log = (study / "results/logs/tiny/encode/layer2-b00.log").read_text()
    assert "has no certificate for layer 2" in log and "(see results/tiny/certificates/layer2.measured.json)" in log

    # Under the first bounds all is as before.
    write_config(study, tiny_config())
    snakemake(study, "--cores", "2")
    again = digests(study)
    changed = {path for path in before.keys() | again.keys() if before.get(path) != again.get(path)}
    assert all(path.startswith(("results/tiny/verdict", "results/tiny/preregistration")) for path in changed), changed


@pytest.mark.parametrize("rule", ["screen", "probe", "ablate"])
def test_what_reads_codes_refuses_without_a_certificate(tmp_path: Path, rule: str) -> None:
    record = {"sae": "saes/layer2", "passed": False, "failures": ["fvu"], "reason": "FVU at layer 2 is 0.9"}
    record |= {"hook_layer": 2, "n_silent": 0, "all_silent": False}
    path = tmp_path / "layer2.json"
    path.write_text(json.dumps(record))
    of_sae = to_record(of_latents("feature", [5]))
    (tmp_path / "any.json").write_text(json.dumps({"subspaces": {"target": of_sae}}))
    inputs = {"certificate": str(path) if rule == "screen" else [str(path)]}
    inputs |= {name: str(tmp_path / "any.json") for name in ("model", "candidate")}
    wildcards = {"probe": "sae-layer2", "horizon": "h4-8", "layer": "2"}
    asked = {"screen": {}, "probes": {}, "ablation": {}, "sae": ["saes/layer2"]}
    with pytest.raises(SaeError, match=REFUSED):
        run_script(rule, tmp_path / "log", inputs, {}, wildcards, **asked)
