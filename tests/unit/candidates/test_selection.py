"""Candidates: worked out by hand, and blind to horizons where they must be."""

import pandas as pd

from reprise.candidates.selection import candidate_name, candidate_title, rank_features, strongest_local_feature


def local_screens() -> pd.DataFrame:
    return pd.DataFrame(
        [
            (2, "h0.5-2", 7, 9.0, 0.001),
            (2, "h4-8", 7, 4.0, 0.01),  # far ahead too
            (2, "h0.5-2", 8, 8.0, 0.001),
            (2, "h2-4", 8, -3.0, 0.02),  # far ahead too, the other way round
            (2, "h0.5-2", 9, 5.0, 0.001),
            (2, "h4-8", 9, 2.0, 0.3),  # not enough
            (2, "h0.5-2", 3, 5.0, 0.001),  # as strong as 9
            (2, "h0.5-2", 5, -9.0, 0.001),  # falls before a return
            (2, "h0.5-2", 6, 7.0, 0.2),
            (4, "h0.5-2", 1, 6.0, 0.001),
        ],
        columns=["layer", "horizon", "feature", "z", "q"],
    )


def test_ranking_keeps_the_strongest_horizon_of_features_that_rise_before_a_return():
    screens = pd.DataFrame(
        [
            (2, "h4-8", 7, 5.0, 0.001),
            (2, "h2-4", 7, 6.0, 0.001),
            (2, "h4-8", 8, -9.0, 0.0001),
            (4, "h4-8", 9, 4.0, 0.20),
            (4, "h4-8", 1, 5.5, 0.01),
            (4, "h0.5-2", 3, 9.0, 0.001),
        ],
        columns=["layer", "horizon", "feature", "z", "q"],
    )
    ranked = rank_features(screens, fdr=0.05, horizons=["h2-4", "h4-8"])
    assert ranked[["layer", "feature", "horizon"]].values.tolist() == [[2, 7, "h2-4"], [4, 1, "h4-8"]]


def test_a_candidate_is_named_by_what_it_does():
    def spec(kind: str, *latents: int, **changed: object) -> dict:
        target = {"kind": kind, "latents": list(latents)}
        return {"layer": 2, "kind": kind, "subspaces": {"target": target}, "clips": [{"clip_id": "c0"}]} | changed

    feature = spec("feature", 7)
    assert candidate_name(feature) == candidate_name(dict(reversed(feature.items())))
    names = [
        candidate_name(spec(*of)) for of in (("feature", 7), ("feature_set", 7, 9), ("leace",), ("mean_difference",))
    ]
    assert [name.rsplit("-", 1)[0] for name in names] == [
        "layer2-f7",
        "layer2-set2",
        "layer2-leace",
        "layer2-meandifference",
    ]
    assert candidate_name(feature) != candidate_name(spec("feature", 7, clips=[]))
    titles = [candidate_title(2, *of) for of in (("feature", [7]), ("feature_set", [7, 9, 1]), ("feature_set", [7]))]
    assert titles == ["layer 2, feature 7", "layer 2, features 7, 9 and 1", "layer 2, feature 7 as a set"]
    assert candidate_title(4, "mean_difference", []) == "layer 4, mean difference"
    assert candidate_title(4, "leace", []) == "layer 4, LEACE"


def test_the_local_feature_is_the_strongest_that_no_longer_horizon_knows():
    how = {"fdr": 0.05, "local": "h0.5-2", "longer": ["h2-4", "h4-8"]}
    assert strongest_local_feature(local_screens(), layer=2, excluded=7, **how) == 3
    assert strongest_local_feature(local_screens().iloc[::-1], layer=2, excluded=7, **how) == 3
    assert strongest_local_feature(local_screens(), layer=2, excluded=3, **how) == 9
    assert strongest_local_feature(local_screens(), layer=4, excluded=7, **how) == 1
    assert strongest_local_feature(local_screens(), layer=4, excluded=1, **how) is None
    # Without longer horizons every feature is local.
    assert strongest_local_feature(local_screens(), layer=2, excluded=7, **(how | {"longer": []})) == 8
