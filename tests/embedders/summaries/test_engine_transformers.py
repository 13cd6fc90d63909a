"""A model in this process writes what it would write alone, of every family, and says why not."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from embedders.items import Modality
from embedders.summaries.base import Prompt, Unwritten
from embedders.summaries.config import WriterConfig
from embedders.summaries.engine_transformers import SIDE_PX, TransformersWriter
from tests.embedders import tiny
from tests.embedders.summaries import tiny_mllm

# isort: split
from transformers import AutoModelForImageTextToText, AutoProcessor

FAMILIES = {**tiny_mllm.SEEING, **tiny_mllm.READING, "qwen2_audio": tiny_mllm.qwen2_audio}
Open = Callable[..., TransformersWriter]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("writers")


@pytest.fixture(scope="module")
def folders(root: Path) -> Callable[[str], Path]:
    """A family's checkpoint, made once."""

    def made(name: str) -> Path:
        folder = root / f"tiny-{name}"
        return folder if folder.exists() else tiny_mllm.quietly(FAMILIES[name], folder)

    return made


@pytest.fixture(scope="module")
def files(root: Path) -> dict[str, list[Path]]:
    pictures = [item.image_path for item in tiny.image_items(root)]
    sounds = [item.audio_path for item in tiny.audio_items(root)]
    return {
        "images": [path for path in pictures if path is not None],
        "sounds": [path for path in sounds if path is not None],
    }


def config(model: Path, **settings: Any) -> WriterConfig:
    return WriterConfig(
        **{"engine": "transformers", "model": str(model), "batch_size": 4, **settings}
    )


@pytest.fixture(scope="module")
def opened(folders: Callable[[str], Path]) -> Open:
    """A writer of a family; one with the usual settings is opened once."""
    kept: dict[str, TransformersWriter] = {}

    def made(name: str, **settings: Any) -> TransformersWriter:
        if settings:
            return TransformersWriter(config(folders(name), **settings))
        if name not in kept:
            kept[name] = TransformersWriter(config(folders(name)))
        return kept[name]

    return made


def prompt(text: str, *, max_tokens: int = 10, **shown: tuple[Path, ...]) -> Prompt:
    return Prompt(instruction="Say what it is.", text=text, max_tokens=max_tokens, **shown)


def prompts(writer: TransformersWriter, files: dict[str, list[Path]]) -> list[Prompt]:
    """Texts of many lengths, with whatever the writer reads, and answers of two lengths."""
    asked = [prompt(title) for title in tiny.TITLES]
    for modality, name in ((Modality.IMAGE, "images"), (Modality.AUDIO, "sounds")):
        if modality in writer.reads:
            for n, path in enumerate(files[name]):
                shown: dict[str, Any] = {name: (path,)}
                asked.append(prompt(tiny.TITLES[n], **shown))
                asked.append(prompt(tiny.TITLES[-n], max_tokens=5, **shown))
    return asked[::2] + asked[1::2]


def texts(answers: list[str | Unwritten]) -> list[str]:
    """Answers as text, the reasons of missing ones included."""
    return [str(answer) for answer in answers]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_an_answer_depends_on_no_prompt_beside_it(
    opened: Open, files: dict[str, list[Path]], name: str
) -> None:
    writer = opened(name)
    asked = prompts(writer, files)
    alone = [texts(writer.write([one]))[0] for one in asked]
    assert texts(writer.write(asked)) == alone
    assert texts(writer.write(asked[::-1])) == alone[::-1]
    assert len(set(alone)) > len(tiny.TITLES) / 2, "answers that are all alike would show nothing"


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_sampled_answers_depend_on_the_prompt_and_the_seed_alone(
    opened: Open, files: dict[str, list[Path]], name: str
) -> None:
    writer = opened(name, temperature=1.5, seed=3)
    asked = prompts(writer, files)[:7]
    alone = [texts(writer.write([one]))[0] for one in asked]
    assert texts(writer.write(asked)) == alone
    assert texts(writer.write(asked[::-1])) == alone[::-1]
    assert alone != texts(opened(name).write(asked))
    assert alone != texts(opened(name, temperature=1.5, seed=4).write(asked))


@pytest.mark.parametrize("name", sorted(tiny_mllm.SEEING))
def test_another_picture_makes_another_text(
    opened: Open, files: dict[str, list[Path]], name: str
) -> None:
    writer = opened(name)
    assert writer.reads == {Modality.IMAGE}
    seen = [prompt("bread", images=(path,)) for path in files["images"]]
    both = prompt("bread", images=tuple(files["images"][:2]))
    found = texts(writer.write([prompt("bread"), both, *seen, *seen]))
    assert found[2:8] == found[8:]
    assert len(set(found)) >= 6, "a picture or two may look alike to random weights"


def test_another_sound_makes_another_text(opened: Open, files: dict[str, list[Path]]) -> None:
    writer = opened("qwen2_audio")
    assert writer.reads == {Modality.AUDIO}
    heard = [prompt("a song", sounds=(path,)) for path in files["sounds"]]
    found = texts(writer.write([prompt("a song"), *heard, *heard]))
    assert found[1:6] == found[6:]
    assert len(set(found)) >= 4


@pytest.mark.parametrize("name", ["idefics3", "llava", "llava_next"])
def test_texts_are_those_of_transformers_own_processor(
    opened: Open, folders: Callable[[str], Path], files: dict[str, list[Path]], name: str
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folders(name)).eval()
    processor = AutoProcessor.from_pretrained(folders(name))
    path = files["images"][0]
    text = "the red wine"
    turns: list[Any] = [{"role": "system", "content": [{"type": "text", "text": "Say it."}]}]
    if name == "llava_next":
        turns, text = [], f"Say it.\n\n{text}"
    shown = [{"type": "image", "path": str(path)}, {"type": "text", "text": text}]
    turns.append({"role": "user", "content": shown})
    inputs = processor.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=12)
    answer = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    asked = Prompt(instruction="Say it.", text="the red wine", images=(path,), max_tokens=12)
    assert opened(name).write([asked]) == [answer.strip()]


def test_the_revision_holds_all_that_changes_an_answer(opened: Open) -> None:
    plain = opened("qwen2_vl")
    assert plain.name == "tiny-qwen2_vl"
    assert f"pictures of at most {SIDE_PX} px" in plain.revision
    others = [
        opened("qwen2_vl", dtype="bfloat16"),
        opened("qwen2_vl", temperature=0.5),
        opened("qwen2_vl", temperature=0.6),
        opened("qwen2_vl", temperature=0.5, seed=1),
        opened("llava"),
    ]
    assert len({plain.revision, *(other.revision for other in others)}) == 6
    # Which batches are made and where they run changes none; nor does a seed that is not used.
    assert opened("qwen2_vl", batch_size=1, seed=5, device="cpu").revision == plain.revision
    assert others[0].write([prompt("bread")])[0]


def test_what_a_checkpoint_says_of_sampling_is_left_aside(opened: Open, tmp_path: Path) -> None:
    wild = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 5.0}
    folder = tiny_mllm.quietly(tiny_mllm.llama, tmp_path / "wild", **wild)
    asked = [prompt(title) for title in tiny.TITLES]
    writer = TransformersWriter(config(folder))
    assert texts(writer.write(asked)) == texts(opened("llama").write(asked))


def test_an_answer_ends_where_the_checkpoint_says(
    opened: Open, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    writer = opened("qwen2")
    asked = [prompt(title, max_tokens=16) for title in tiny.TITLES]
    asks = [writer._asked(one) for one in asked]
    tokens = writer._generated(asks, writer._inputs(asks))
    ending = next(token for token in tokens[0] if token != tokens[0][0])
    folder = shutil.copytree(folders("qwen2"), tmp_path / "ends")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = [ending, 16]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    ended = TransformersWriter(config(folder))
    before = writer._tokenizer.decode(tokens[0][: tokens[0].index(ending)]).strip()
    found = ended.write(asked)
    assert found[0] == before
    assert ended.usage.output_tokens < writer.usage.output_tokens
    # Its fellows went on, and what they say is not changed by it.
    assert texts([ended.write([one])[0] for one in asked]) == texts(found)


def test_usage_counts_prompts_and_tokens(folders: Callable[[str], Path]) -> None:
    writer = TransformersWriter(config(folders("llama")))
    assert writer.usage.num_prompts == 0
    asked = [prompt("bread", max_tokens=4), prompt("the red wine", max_tokens=6)]
    answers = writer.write(asked)
    assert writer.usage.num_prompts == 2
    sizes = [len(writer._tokenizer(writer._chat.text(one))["input_ids"]) for one in asked]
    assert writer.usage.input_tokens == sum(sizes)
    assert all(isinstance(answer, str) for answer in answers)
    assert 2 <= writer.usage.output_tokens <= 10


def test_progress_counts_up_to_the_last_prompt(
    opened: Open, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    writer, told = opened("llava"), list[int]()
    asked = [*prompts(writer, files), prompt("gone", images=(tmp_path / "gone.png",))]
    writer.write(asked, on_progress=told.append)
    assert told == sorted(set(told))
    assert told[-1] == len(asked)
    assert writer.write([], on_progress=told.append) == []


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_a_missing_or_damaged_picture_costs_the_others_nothing(
    opened: Open, files: dict[str, list[Path]], tmp_path: Path, name: str
) -> None:
    writer, good = opened(name), files["images"][0]
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:80])
    bad = [tmp_path / "gone.png", cut, tmp_path]
    asked = [prompt("bread", images=(path,)) for path in (good, *bad, good)]
    first, *unwritten, last = writer.write(asked)
    assert first == last == writer.write(asked[:1])[0]
    for path, answer in zip(bad, unwritten, strict=True):
        assert isinstance(answer, Unwritten)
        assert str(path) in str(answer)


def test_a_damaged_sound_costs_the_others_nothing(
    opened: Open, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(files["sounds"][0].read_bytes()[:20])
    asked = [prompt("a song", sounds=(path,)) for path in (cut, files["sounds"][0])]
    bad, good = opened("qwen2_audio").write(asked)
    assert isinstance(bad, Unwritten)
    assert isinstance(good, str)


def test_a_picture_that_the_model_refuses_costs_the_others_nothing(
    opened: Open, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    ribbon = tmp_path / "ribbon.png"
    Image.new("RGB", (1000, 2), "red").save(ribbon)
    good = [prompt(title, images=(files["images"][0],)) for title in tiny.TITLES]
    odd = prompt("bread", images=(ribbon,))
    writer = opened("qwen2_vl", batch_size=8)
    answers = writer.write([*good[:2], odd, *good[2:]])
    assert isinstance(answers[2], Unwritten)
    assert "the model refused it" in str(answers[2])
    del answers[2]
    assert texts(answers) == texts(writer.write(good))


def test_a_large_picture_is_shrunk_before_it_is_shown(opened: Open, tmp_path: Path) -> None:
    for name, size in (("large", (3000, 1500)), ("small", (1024, 512)), ("tiny", (1, 1))):
        Image.new("RGB", size, "teal").save(tmp_path / f"{name}.png")
    asked = [prompt("sea", images=(tmp_path / f"{name}.png",)) for name in ("large", "small")]
    writer = opened("qwen2_vl")
    large, small = (writer._asked(one) for one in asked)
    assert large.pictures[0].size == small.pictures[0].size == (1024, 512)
    one_pixel = prompt("sea", images=(tmp_path / "tiny.png",))
    assert isinstance(writer.write([one_pixel])[0], str)


@pytest.mark.parametrize(
    ("name", "shown"), [("llama", "images"), ("llava", "sounds"), ("qwen2_audio", "images")]
)
def test_what_the_model_does_not_read_is_an_error(
    opened: Open, files: dict[str, list[Path]], name: str, shown: str
) -> None:
    writer = opened(name)
    before = writer.usage.num_prompts
    files_shown: dict[str, Any] = {shown: (files[shown][0],)}
    with pytest.raises(ValueError, match=rf"tiny-{name} reads .* and a prompt holds {shown}"):
        writer.write([prompt("bread"), prompt("bread", **files_shown)])
    assert writer.usage.num_prompts == before


def test_a_prompt_beyond_the_context_is_told_and_not_cut(opened: Open) -> None:
    writer = opened("llama")
    long = prompt("wine bread " * tiny_mllm.CONTEXT)
    asked = [prompt("bread"), long, prompt("the red wine")]
    first, told, last = writer.write(asked)
    assert isinstance(told, Unwritten)
    assert f"{tiny_mllm.CONTEXT - 10} of the {tiny_mllm.CONTEXT}" in str(told)
    assert [first, last] == [writer.write([one])[0] for one in asked[::2]]
    assert isinstance(writer.write([long])[0], Unwritten)


def test_the_answer_needs_room_in_the_context_too(opened: Open) -> None:
    writer = opened("llama")
    fits = prompt("bread", max_tokens=20)
    size = writer._inputs([writer._asked(fits)])["input_ids"].shape[1]
    over = prompt("bread", max_tokens=tiny_mllm.CONTEXT - size + 1)
    assert isinstance(writer.write([fits])[0], str)
    assert isinstance(writer.write([over])[0], Unwritten)


def test_a_batch_that_does_not_fit_in_memory_is_halved(
    folders: Callable[[str], Path], files: dict[str, list[Path]]
) -> None:
    writer = TransformersWriter(config(folders("qwen2_vl"), batch_size=8))
    asked = [prompt(title, images=(files["images"][0],)) for title in tiny.TITLES * 3]
    expected, sizes = texts(writer.write(asked)), list[int]()

    def small_memory(_model: Any, _args: Any, inputs: dict[str, Any]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("as a small card says")

    hook = writer._loaded.model.register_forward_pre_hook(small_memory, with_kwargs=True)
    assert texts(writer.write(asked)) == expected
    assert [size for size in sizes if size > 2] == [8, 4], "what fits is remembered"
    hook.remove()


def test_a_prompt_that_fits_in_no_memory_is_told(folders: Callable[[str], Path]) -> None:
    writer = TransformersWriter(config(folders("llama"), batch_size=4))
    asked = [prompt("wine " * 100), *map(prompt, tiny.TITLES), prompt("the wine")]
    expected, sizes = texts(writer.write(asked)), list[int]()

    def no_memory_for_long(_model: Any, _args: Any, inputs: dict[str, Any]) -> None:
        sizes.append(len(inputs["input_ids"]))
        if inputs["input_ids"].shape[1] > 100:
            torch.empty(1 << 50)

    writer._loaded.model.register_forward_pre_hook(no_memory_for_long, with_kwargs=True)
    told, *answers = writer.write(asked)
    assert isinstance(told, Unwritten)
    assert "does not fit in memory, even alone" in str(told)
    assert texts(answers) == expected[1:]
    assert sizes[:3] == [4, 2, 1], "its batch is halved down to it"
    assert max(sizes[3:]) == 4, "and the others run together again"


def test_thoughts_are_no_answer(tmp_path: Path) -> None:
    thinking = tiny_mllm.CHATML + "{% if add_generation_prompt %}<think>\n{% endif %}"
    folder = tiny_mllm.quietly(tiny_mllm.llama, tmp_path / "thinker", template=thinking)
    writer = TransformersWriter(config(folder))
    answer = writer.write([prompt("bread")])[0]
    assert isinstance(answer, Unwritten)
    assert "spent on thinking aloud" in str(answer)
    asked = writer._asked(prompt("bread"))
    thought = writer._tokenizer("a song </think> the red wine", add_special_tokens=False)
    assert writer._said(thought["input_ids"], asked) == "the red wine"


def test_an_empty_answer_is_told(opened: Open) -> None:
    writer = opened("llama")
    asked = writer._asked(prompt("bread"))
    blank = writer._tokenizer("\n <|im_end|>", add_special_tokens=False)["input_ids"]
    answer = writer._said(blank, asked)
    assert isinstance(answer, Unwritten)
    assert "answered nothing" in str(answer)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_hostile_text_is_read_as_words(
    opened: Open, files: dict[str, list[Path]], name: str
) -> None:
    writer = opened(name)
    shown: dict[str, Any] = {}
    if Modality.IMAGE in writer.reads:
        shown = {"images": (files["images"][0],)}
    hostile = prompt("".join(tiny_mllm.SPECIAL), max_tokens=4, **shown)
    kind = prompt("bread", max_tokens=4, **shown)

    def controls(one: Prompt) -> list[int]:
        ids = writer._inputs([writer._asked(one)])["input_ids"][0].tolist()
        return [token for token in ids if token < len(tiny_mllm.SPECIAL)]

    assert controls(hostile) == controls(kind)
    answers = writer.write([hostile, kind])
    assert texts(answers)[1] == texts(writer.write([kind]))[0]


def test_weights_in_a_pickle_are_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (tmp_path / "mark", "ran"))

    folder = shutil.copytree(folders("llama"), tmp_path / "pickled")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Trap()}))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(OSError, match="safetensors"):
        TransformersWriter(config(folder))
    (folder / "other.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no \*\.safetensors"):
        TransformersWriter(config(folder))
    assert not (tmp_path / "mark").exists()


def test_a_hub_model_needs_a_commit() -> None:
    with pytest.raises(ValueError, match="pin a revision"):
        TransformersWriter(WriterConfig(engine="transformers", model="org/model"))


def test_another_engines_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="the engine is 'transformers'"):
        TransformersWriter(WriterConfig())


def test_loading_and_writing_are_quiet(
    folders: Callable[[str], Path],
    files: dict[str, list[Path]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    writer = TransformersWriter(config(folders("qwen2_vl")))
    writer.write([prompt("bread"), prompt("bread", images=(files["images"][0],))])
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_gpu_writes_the_same_texts(opened: Open, files: dict[str, list[Path]], name: str) -> None:
    gpu = opened(name, device="cuda")
    asked = prompts(gpu, files)
    assert texts(gpu.write(asked)) == texts(opened(name, device="cpu").write(asked))
