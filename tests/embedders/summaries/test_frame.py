"""Nothing that a stranger writes leaves the frame, looks like a turn, or is seen by nobody."""

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers
from tokenizers.models import WordLevel

from embedders.summaries.frame import CLOSE, CUT, LIMIT, MOST, OPEN, framed, plain
from tests.embedders.summaries.hostile import TITLES, read_frame

SPECIAL = re.compile(r"[<>\[\]]|#{2}|(?i:\b(user|assistant|system|model|response)\s*:)")

TOKENS = (
    *("<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|start_header_id|>", "</s>", "[INST]"),
    *("[/INST]", "<<SYS>>", "<start_of_turn>", "<end_of_turn>", "<|end|>", "<|assistant|>"),
    *("<image>", "<|image_pad|>", "[IMG]", "<|vision_start|>", "<start_of_image>"),
)
ENCODABLE = [title for title in TITLES.values() if "\ud83c" not in title]

pieces = st.sampled_from(
    [*TITLES.values(), '"', "\\", "\n", "{", "}", CLOSE, OPEN, "ASSISTANT", ":"]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=20)), max_size=6).map("".join)


def shape(data: Any) -> Any:
    """The structure without the words."""
    if isinstance(data, dict):
        return [shape(one) for one in data.values()]
    return [shape(one) for one in data] if isinstance(data, list) else type(data)


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
def test_a_hostile_title_stays_one_value_of_the_frame(title: str) -> None:
    title = f"T {title}"  # one of nothing visible is left out
    frame = framed({"title": title, "tags": [title, "red"], "more": {title: "x", "year": 1994}})
    found = read_frame(frame)
    assert list(found) == ["title", "tags", "more"]
    assert found["title"] == plain(title)
    assert found["tags"] == [plain(title), "red"]
    assert found["more"] == {plain(title): "x", "year": 1994}
    assert frame.startswith(f"{OPEN}\n")
    assert frame.endswith(f"\n{CLOSE}")


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
def test_no_folding_brings_a_special_token_back(title: str) -> None:
    made = plain(title)
    for form in ("NFC", "NFKC", "NFD", "NFKD"):
        assert not SPECIAL.search(unicodedata.normalize(form, made))


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.NFC(),
        normalizers.NFKC(),
        normalizers.NFKD(),
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    ],
    ids=["NFC", "NFKC", "NFKD", "accents stripped"],
)
@pytest.mark.parametrize("is_normalized", [True, False])
def test_tokenizers_find_special_tokens_in_hostile_titles_but_in_no_frame(
    normalizer: normalizers.Normalizer, is_normalized: bool
) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=is_normalized, special=True) for token in TOKENS]
    )
    raw = [set(tokenizer.encode(title).ids) for title in ENCODABLE]
    assert set().union(*raw) == set(range(len(TOKENS) + 1))
    for title in ENCODABLE:
        assert set(tokenizer.encode(framed({"title": title})).ids) == {0}


@given(texts, texts, texts)
def test_whatever_is_written_the_structure_is_the_same(key: str, title: str, other: str) -> None:
    data = {"title": f"t{title}", "events": [{"said": f"e{other}", "n": 1}], "k": {f"k{key}": 2.5}}
    found = read_frame(framed(data))
    assert shape(found) == shape(data)
    assert found["title"] == plain(f"t{title}")


@given(texts)
def test_what_is_plain_stays_as_it_is(text: str) -> None:
    made = plain(text)
    assert plain(made) == made
    assert len(made) <= LIMIT
    assert not SPECIAL.search(made)
    assert "\n" not in made
    made.encode()
    assert all(unicodedata.category(one) not in ("Cc", "Cf", "Co", "Cs") for one in made)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Heat (1995)", "Heat (1995)"),
        ("  Chablis\n\tPremier Cru ", "Chablis Premier Cru"),
        ("Crème brûlée, 日本語, Ünï", "Crème brûlée, 日本語, Ünï"),
        ("I <3 Halo [Xbox]", "I \u20393 Halo (Xbox)"),
        ("File system: a story", "File system - a story"),
        ("C# and ## more", "C# and # more"),
        ("\u200b\u202e", ""),
        ("", ""),
    ],
)
def test_ordinary_words_stay_readable(text: str, made: str) -> None:
    assert plain(text) == made


def test_a_long_text_is_cut_and_says_so() -> None:
    made = plain("word " * 1_000, limit=50)
    assert made.endswith(CUT)
    assert len(made) <= 50
    assert plain("y" * 50, limit=50) == "y" * 50


def test_lists_and_mappings_are_bounded_and_what_is_empty_is_left_out() -> None:
    many = [str(n) for n in range(MOST + 50)]
    found = read_frame(
        framed({"tags": many, "more": dict.fromkeys(many, 1), "none": None, "blank": "\u200b"})
    )
    assert len(found["tags"]) == len(found["more"]) == MOST
    assert set(found) == {"tags", "more"}


def test_numbers_that_json_does_not_know_are_left_out() -> None:
    frame = framed({"weight": float("nan"), "other": float("inf"), "zero": 0, "half": 0.5})
    assert read_frame(frame) == {"zero": 0, "half": 0.5}
