"""The names of corpora."""

from reprise.config.corpora import corpus_name
from reprise.config.schema import Study


def test_a_corpus_is_not_named_too_long_for_files() -> None:
    long_name = Study.model_validate({"model": {"name": "m" * 250}, "saes": {2: "sae"}})
    assert len(corpus_name(long_name)) <= 143
