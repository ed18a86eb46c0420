"""The baseline's columns."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from reprise.probing.baseline import baseline_features, words_of


def test_baseline_features() -> None:
    prompts = ["piano in c, amber", "organ in c, amber", "organ in c, brook"]
    descriptors = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    ids, measures = ["p", "q", "r"], ["rms", "flux"]
    x, names = baseline_features(prompts, ids, [3.0, 4.0, 6.5, 9.0], descriptors, descriptor_names=measures)
    assert x.shape == (3, 4, len(names)) and x.dtype == np.float32
    column = dict(zip(names, np.moveaxis(x, 2, 0), strict=True))
    assert [n for n in names if n.startswith("word_")] == ["word_amber", "word_organ"]
    assert column["word_amber"][:, 0].tolist() == [1, 1, 0] and column["word_organ"][:, 3].tolist() == [0, 1, 1]
    assert np.array_equal(column["flux"], descriptors[:, :, 1])
    assert column["time_4s"].tolist() == [[0, 1, 0, 0]] * 3
    with pytest.raises(ValueError, match="descriptors: shape"):
        baseline_features(prompts[:1], ids[:1], [3.0], descriptors, descriptor_names=measures)


def test_a_word_that_several_recordings_share_is_part_of_the_baseline() -> None:
    descriptors = np.zeros((4, 1, 0), np.float32)

    def words(prompts: list[str], ids: list[str]) -> list[str]:
        return baseline_features(prompts, ids, [3.0], descriptors, descriptor_names=[])[1][1:]

    # One text, of two tracks among three; the same of one track with two cuts says nothing of another.
    assert words(["sad", "sad", "", "gay"], ["a", "b", "c", "d"]) == ["word_sad"]
    assert words(["sad", "sad", "", "gay"], ["a", "a", "c", "d"]) == []
    assert words([""] * 4, ["a", "b", "c", "d"]) == []


def test_words_are_those_of_scikit_learn() -> None:
    texts = ["Slow, slow piano: café (in c#) 80's", "", "α-β techno__4/4", "don't STOP"]
    for text in texts:
        found = CountVectorizer(token_pattern=r"(?u)\b\w+\b").fit([text, "nothing"]).get_feature_names_out()
        assert words_of(text) | {"nothing"} == set(found)
