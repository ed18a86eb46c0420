"""The simulation of a large study: jobs wait for what they need, and for a free card or core."""

import pytest

from benchmarks.scale import Job, read_graph, simulate, with_edits

DOT = """digraph snakemake_dag {
    0[label = "report", color = "0.07 0.6 0.85", style="rounded"];
    1[label = "verdict", color = "0.5 0.6 0.85", style="rounded"];
    2[label = "generate\\nbatch: b00", color = "0.5 0.6 0.85", style="rounded"];
    3[label = "candidates", color = "0.5 0.6 0.85", style="rounded"];
    1 -> 0
    3 -> 1
    2 -> 3
}"""


def chain(*seconds: float, on_card: bool = False, first: int = 0) -> dict[int, Job]:
    """Jobs that follow each other."""
    return {first + i: Job("stage", s, on_card, (first + i - 1,) if i else ()) for i, s in enumerate(seconds)}


def test_a_graph_is_read_and_edits_stand_between_candidates_and_verdict() -> None:
    graph = read_graph(DOT)
    assert graph == {0: ("report", (1,)), 1: ("verdict", (3,)), 2: ("generate", ()), 3: ("candidates", (2,))}
    full = with_edits(graph, 2)
    assert sorted(rule for rule, _ in full.values()) == sorted(
        ["report", "verdict", "generate", "candidates", "ablate", "ablate", "effects", "effects", "heads", "map"]
    )
    effects = {job for job, (rule, _) in full.items() if rule == "effects"}
    assert effects < set(full[1][1])
    assert {full[job][0] for job in full[0][1]} == {"verdict", "heads", "map"}


def test_jobs_that_follow_each_other_take_the_sum() -> None:
    assert simulate(chain(3, 4, 5), n_cards=0, n_cores=8) == 12


def test_jobs_share_cores_and_cards() -> None:
    alone = {i: Job("stage", 10, False, ()) for i in range(6)}
    assert simulate(alone, n_cards=0, n_cores=3) == 20
    on_cards = {i: Job("stage", 10, True, ()) for i in range(6)}
    assert simulate(on_cards, n_cards=1, n_cores=8) == 60
    assert simulate(on_cards, n_cards=4, n_cores=8) == 20
    # Others run beside those that wait for a card.
    both = on_cards | {10 + i: Job("stage", 10, False, ()) for i in range(6)}
    assert simulate(both, n_cards=1, n_cores=2) == 60


def test_the_longest_chain_begins_first() -> None:
    jobs = chain(1, 1, 20) | {10: Job("stage", 10, False, ()), 11: Job("stage", 10, False, ())}
    assert simulate(jobs, n_cards=0, n_cores=2) == 22


def test_what_can_not_be_run_is_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        simulate({0: Job("a", 1, False, (1,)), 1: Job("b", 1, False, (0,))}, n_cards=1, n_cores=1)
    with pytest.raises(ValueError, match="need a card"):
        simulate({0: Job("a", 1, True, ())}, n_cards=0, n_cores=1)
