"""A prompts file: how it is read, and what is refused, line by line."""

import json
from pathlib import Path

import pytest

from reprise.config.cross_checks import MAX_SEED
from reprise.config.errors import ConfigError, not_one_line
from reprise.config.prompts import MAX_ID, Prompt, as_models_read, read_prompts
from reprise.organisms import score
from tests.places import ROOT


def prompt_problems(folder: Path, text: str) -> list[str]:
    (folder / "p.tsv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_prompts(folder / "p.tsv")
    return [line.replace(f"{folder}/", "") for line in caught.value.problems]


def test_prompts_are_read_in_order_with_commas_quotes_and_byte_order_mark(tmp_path: Path) -> None:
    text = '\ufeffprompt_id\tprompt\r\nb-1\t"slow, sad ""waltz"""\r\n\r\na\t café \r\n'
    (tmp_path / "p.tsv").write_text(text, encoding="utf-8")
    assert read_prompts(tmp_path / "p.tsv") == [Prompt("b-1", 'slow, sad "waltz"'), Prompt("a", "café")]


def test_prompts_may_have_a_group(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("prompt_id\tprompt\tgroup\na\tone\tpiano\nb\ttwo\t\n")
    assert read_prompts(tmp_path / "p.tsv") == [Prompt("a", "one", "piano"), Prompt("b", "two", "")]
    assert prompt_problems(tmp_path, "prompt_id\tprompt\tgroup\na\tone\n") == [
        "p.tsv: line 2: 2 cells; valid: prompt_id, prompt and group, separated by one tab"
    ]


def test_every_bad_prompt_is_named_with_its_line(tmp_path: Path) -> None:
    text = "prompt_id\tprompt\na\tone\nA\ttwo\nb_c\tthree\nd\t\ne\tONE\nf\n\tfour\n"
    assert prompt_problems(tmp_path, text) == [
        'p.tsv: line 3: prompt_id "A" is also on line 2; valid: each id only once',
        'p.tsv: line 4: prompt_id "b_c"; valid: letters, digits and hyphens',
        'p.tsv: line 5: prompt "d" is empty; valid: some text',
        'p.tsv: line 6: prompt "e" is the same to a model as "a" on line 2, "ONE"; valid: each text once, '
        "under one id",
        "p.tsv: line 7: 1 cells; valid: prompt_id and prompt, separated by one tab",
        'p.tsv: line 8: prompt_id ""; valid: letters, digits and hyphens',
    ]


@pytest.mark.parametrize("one", ["\n", "\r\n", "\u2028", "\x0b", "\x85"], ids=["LF", "CR LF", "LS", "VT", "NEL"])
def test_a_prompt_with_a_line_break_in_it_is_refused_and_never_read_as_one_word(one: str, tmp_path: Path) -> None:
    text = f'prompt_id\tprompt\na\t"warm piano{one}slow tempo"\nb_\tcalm organ\n'
    (tmp_path / "p.tsv").write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        read_prompts(tmp_path / "p.tsv")
    first, second = caught.value.problems
    assert first.startswith(f'{tmp_path}/p.tsv: line 2: prompt "a" is "warm piano')
    assert first.endswith("; valid: one line of text") and "contains a line break (U+" in first
    # Lines are still those that an editor shows.
    assert second.startswith(f"{tmp_path}/p.tsv: line {4 if one.endswith(chr(10)) else 3}: prompt_id")


def test_nul_and_its_like_are_refused_and_a_tab_in_quotes_is_a_space(tmp_path: Path) -> None:
    (line,) = prompt_problems(tmp_path, "prompt_id\tprompt\na\tpia\x00no\n")
    assert "contains a control character (U+0000)" in line
    (tmp_path / "p.tsv").write_text('prompt_id\tprompt\na\t"warm\tpiano"\n')
    assert read_prompts(tmp_path / "p.tsv") == [Prompt("a", "warm\tpiano")]


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    assert prompt_problems(tmp_path, "prompt_id\tprompt\tprompt\na\tpiano\torgan\n") == [
        "p.tsv: line 1: the header has prompt twice; valid: each column once"
    ]


@pytest.mark.parametrize(
    "one, other",
    [
        ("piano theme", "piano  theme"),
        ("piano theme", "piano\u00a0theme"),
        ("piano theme", "piano\u200btheme"),
        ("piano theme", "piano\ttheme"),
        ("café piano", "cafe\u0301 piano"),
        ("fine piano", "\ufb01ne piano"),
        ("piano 4/4", "piano ４/4"),
    ],
)
def test_prompts_that_are_the_same_to_a_model_are_refused_as_a_pair(one: str, other: str, tmp_path: Path) -> None:
    assert prompt_problems(tmp_path, f'prompt_id\tprompt\na\t{one}\nx\torgan\nb\t"{other}"\n') == [
        f'p.tsv: line 4: prompt "b" is the same to a model as "a" on line 2, {json.dumps(other, ensure_ascii=False)}; '
        "valid: each text once, under one id"
    ]


def test_one_text_under_two_ids_is_refused_and_what_a_model_tells_apart_is_not(tmp_path: Path) -> None:
    (line,) = prompt_problems(tmp_path, "prompt_id\tprompt\na\tpiano\nb\tpiano\n")
    assert line.startswith('p.tsv: line 3: prompt "b" is the same as "a" on line 2, "piano"; valid: each text once')
    (tmp_path / "p.tsv").write_text("prompt_id\tprompt\na\tpiano, slow\nb\tpiano slow\nc\tcafé\nd\tcafe\n")
    assert len(read_prompts(tmp_path / "p.tsv")) == 4


def test_texts_are_the_same_where_t5s_tokenizer_says_so() -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    t5 = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc", remove_extra_whitespaces=True, add_dummy_prefix=False, escape_whitespaces=False
    )
    for code in [*range(0x20, 0x7F), *range(0xA0, 0x1200), *range(0x2000, 0x2600), *range(0xFB00, 0xFB50), 0xFEFF]:
        text = f"a{chr(code)}B  c "
        if not_one_line(text) or code == 0x344:  # one combining mark, which Unicode takes for two
            continue
        assert as_models_read(text) == as_models_read(t5.Normalize(text)), hex(code)


def test_a_name_too_long_for_files_is_refused_beforehand(tmp_path: Path) -> None:
    assert prompt_problems(tmp_path, f"prompt_id\tprompt\n{'a' * 250}\tpiano\n") == [
        f'p.tsv: line 2: prompt_id "{"a" * 56}... has 250 characters; valid: at most {MAX_ID}, because it is part of '
        "file names"
    ]
    # With the largest seed, and with what is played of a candidate's conditions.
    longest = f"{'a' * MAX_ID}-s{MAX_SEED}--random_direction-prefix_only-d1.flac"
    assert len(longest) <= 143


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "p.tsv: no prompts; valid: a header and at least one prompt"),
        ("prompt_id\tprompt\n", "p.tsv: no prompts; valid: a header and at least one prompt"),
        (
            "id\tprompt\na\tb\n",
            'p.tsv: line 1: the header is ["id", "prompt"]; valid: the columns prompt_id, prompt',
        ),
        ("prompt_id,prompt\na,b\n", 'p.tsv: line 1: the header is ["prompt_id,prompt"]; valid: the columns'),
        ('prompt_id\tprompt\na\t"b" c\n', "p.tsv: line 2: '\t' expected after '\"'; valid: cells separated by tabs"),
    ],
)
def test_a_prompts_file_that_is_none(text: str, expected: str, tmp_path: Path) -> None:
    found = prompt_problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_the_demo_prompts_are_the_organisms() -> None:
    prompts = read_prompts(ROOT / "config" / "prompts.tsv")
    assert [p.prompt for p in prompts] == score.prompts()
    assert prompts[0].prompt_id == "piano-c-amber"
