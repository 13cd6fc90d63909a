from dataclasses import replace

import pytest

from embedders.texts import MAX_CHARACTERS, TextKind, Texts, TextSource

SUMMARY = TextSource(
    kind=TextKind.SUMMARY, writer="Qwen/Qwen2.5-VL-7B-Instruct", revision="1", prompt="p"
)
PREFERENCE = replace(SUMMARY, kind=TextKind.PREFERENCE)


def texts(source: TextSource, row_ids: list[str], **given: list[str] | list[int]) -> Texts:
    facts = {"texts": ["Some words."] * len(row_ids), "positions": [0] * len(row_ids)}
    return Texts(source=source, row_ids=row_ids, **(facts | given))  # type: ignore[arg-type]


def test_an_id_says_what_it_is_of_and_who_wrote_it() -> None:
    kind, slug, digest = "summary", "qwen_qwen2_5_vl_7b_i", SUMMARY.source_id[-8:]
    assert SUMMARY.source_id == f"{kind}_{slug}_{digest}"
    assert int(digest, 16) >= 0
    assert PREFERENCE.source_id.startswith("preference_")


def test_every_fact_is_part_of_the_id() -> None:
    facts = {"writer": "qwen_qwen2_5_vl_7b_instruct", "revision": "2", "prompt": "q"}
    ids = {replace(SUMMARY, **{name: one}).source_id for name, one in facts.items()}
    assert len(ids | {SUMMARY.source_id, PREFERENCE.source_id}) == 5


def test_a_view_of_the_longest_name_is_a_table_of_postgresql() -> None:
    longest = replace(PREFERENCE, writer="w" * 200)
    assert len(f"sommelier_user_{longest.source_id}_fts_idx") <= 63


def test_a_user_may_have_texts_of_several_moments_and_an_item_but_one() -> None:
    assert len(texts(PREFERENCE, ["u", "u"], positions=[3, 6])) == 2
    with pytest.raises(ValueError, match=r"summary_.*: an id occurs twice"):
        texts(SUMMARY, ["a", "a"])


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"texts": ["x"]}, "2 ids, 1 texts and 2 positions; there must be as many of each"),
        ({"positions": [0]}, "2 ids, 2 texts and 1 positions"),
        ({"positions": [0, -3]}, "'b' cannot be at position -3"),
        ({"positions": [0, 3]}, "'b' cannot be at position 3"),
        ({"texts": ["x", " \n"]}, "the text of 'b' is empty"),
        ({"texts": ["x", "y" * (MAX_CHARACTERS + 1)]}, "'b' has 8,193 characters, at most 8,192"),
        ({"texts": ["x", "ab\0c"]}, "'b' holds the character NUL at 2"),
        ({"texts": ["x", "ab\ud83d"]}, "'b' is not valid Unicode at character 2"),
    ],
)
def test_what_no_store_can_hold_is_refused_by_name(given: dict[str, list[str]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        texts(SUMMARY, ["a", "b"], **given)


def test_the_longest_text_is_kept() -> None:
    assert texts(SUMMARY, ["a"], texts=["\U0001f600" * MAX_CHARACTERS]).texts[0][0] == "\U0001f600"
