"""The command: what it writes is a study that can be run, and what is wrong is one line and status 1."""

import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest

from reprise.cli import main
from reprise.config.validation import load_config
from tests.places import PLANNER, ROOT


def test_a_new_study_is_valid_and_is_never_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my-study"]) == 0
    assert "snakemake --cores all --configfile config/my-study.yaml" in capsys.readouterr().out
    config = Path("config/my-study.yaml")
    study = load_config(config, base_dir=tmp_path, check_files=False).studies["my-study"]
    assert study.prompts == "config/my-study-prompts.tsv" and study.trained_layers == (11,)
    assert "my-study" in config.read_text() and "{" not in config.read_text().replace("{2:", "")
    config.write_text("mine")
    assert main(["new", "my-study"]) == 1
    said = capsys.readouterr().err
    assert "config/my-study.yaml: already exists; valid: another name" in said
    assert config.read_text() == "mine"


@pytest.mark.parametrize("name", ["My Study", "report", "a/b", ""])
def test_a_name_that_no_study_can_have_is_refused(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["new", name]) == 1
    assert "got the name" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.model
def test_the_doctor_looks_at_what_the_studies_need(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["doctor"]) == 0
    assert "Nothing is missing." in capsys.readouterr().out
    config = tmp_path / "study.yaml"
    config.write_text(f"studies: {{mine: {{model: {{name: {PLANNER}}}, saes: {{9: {PLANNER}/sae/layer2}}}}}}")
    assert main(["doctor", "--configfile", str(config)]) == 1
    assert "layer 9 is not in" in capsys.readouterr().out.replace("\n", " ")
    config.write_text("studies: {mine: {modell: {}}}")
    assert main(["doctor", "--configfile", str(config)]) == 1
    assert f"{config}: studies.mine" in capsys.readouterr().err
    assert main(["doctor", "--configfile", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err


def test_the_report_is_opened_where_there_is_one(tmp_path, monkeypatch, capsys):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert main(["open", str(tmp_path)]) == 1 and "there is no report" in capsys.readouterr().err and not opened
    (tmp_path / "report").mkdir()
    page = tmp_path / "report" / "index.html"
    page.touch()
    assert main(["open", str(tmp_path)]) == 0 and opened == [page.as_uri()]


def test_the_command_starts_without_torch():
    program = "import sys, reprise.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
