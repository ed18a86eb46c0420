"""One results folder and its page for all tests of the report."""

from types import SimpleNamespace

import pytest

from tests.unit.report.html_page import Page
from tests.unit.report.results_folder import GAINS, run_script, write_card, write_study


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("study")
    studies = {
        name: write_study(root, name, gains=gains, candidates=name == "planner", refused=name == "quiet")
        for name, gains in GAINS.items()
    }
    cards = [write_card(root, "planner", "foresight"), write_card(root, "improviser", "none")]
    with pytest.MonkeyPatch.context() as patch:
        page = run_script(root, patch, studies, cards)
    return SimpleNamespace(root=root, studies=studies, cards=cards, page=page)


@pytest.fixture(scope="session")
def page(made: SimpleNamespace) -> Page:
    return Page(made.page)
