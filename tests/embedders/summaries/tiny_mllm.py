"""A folder in, a tiny checkpoint that writes in it out: random weights, everything else as real."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.embedders import tiny

# isort: split
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPImageProcessorPil,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    WhisperFeatureExtractor,
)

from embedders.checkpoint import quiet

CONTEXT = 4096  # a byte or two a token: real prompts are long
SIDE = 32
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<image>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<row_1_col_1>"),
    *("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
)

# As the families' own are, a little shorter.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_VL = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>"
    "system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL = (  # LLaVA-1.6's: knows no system's turn, and raises
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}<image>\n"
    "{% endfor %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] }}{% endfor %} [/INST]{% elif message['role'] == 'assistant' %}"
    "{{ message['content'][0]['text'] }}</s>"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)
SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
DEAF = (  # leaves a system's turn out without a word
    "{% for message in messages %}{% if message['role'] == 'user' %}<|im_start|>"
    "{{ message['content'] }}<|im_end|>{% endif %}{% endfor %}"
)


def tokenizer(**settings: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE that knows every byte, with the control tokens of all families here."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteDecoder()
    made.train_from_iterator(
        tiny.TITLES,
        BpeTrainer(
            vocab_size=400,
            special_tokens=list(SPECIAL),
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, **settings)


def ids(words: PreTrainedTokenizerFast, *tokens: str) -> list[int]:
    return [words.convert_tokens_to_ids(token) for token in tokens]


def save(build: Callable[[], Any], folder: Path, *, ends: list[int], **generation: Any) -> Path:
    """A seeded model with the tokens that end its answers, as real checkpoints state them."""
    model = tiny.seeded(build, seed=6)  # one whose answers differ by prompt
    model.generation_config = GenerationConfig(eos_token_id=ends, **generation)
    return tiny.save(model, folder)


def llama(folder: Path, *, template: str | None = CHATML, **generation: Any) -> Path:
    """Text alone, and no token for padding, as Llama's."""
    words = tokenizer(bos_token="<s>", eos_token="<|im_end|>", chat_template=template)
    words.save_pretrained(folder)
    config = LlamaConfig(**TEXT, vocab_size=len(words))
    ends = ids(words, "<|im_end|>", "<|endoftext|>")
    return save(lambda: LlamaForCausalLM(config), folder, ends=ends, **generation)


def qwen2(folder: Path) -> Path:
    words = tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML)
    words.save_pretrained(folder)
    config = Qwen2Config(**TEXT, vocab_size=len(words))
    return save(lambda: Qwen2ForCausalLM(config), folder, ends=ids(words, "<|im_end|>"))


def llava(folder: Path, *, template: str | None = LLAVA) -> Path:
    """LLaVA-1.5: a template that writes no token of its own."""
    words = tokenizer(bos_token="<s>", eos_token="</s>", pad_token="<|endoftext|>")
    size = {"height": SIDE, "width": SIDE}
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size),
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    config = LlavaConfig(
        vision_config={**VISION, "model_type": "clip_vision_model"},
        text_config=LlamaConfig(**TEXT, vocab_size=len(words)),
        image_token_id=ids(words, "<image>")[0],
        vision_feature_layer=-2,
    )
    ends = ids(words, "</s>")
    return save(lambda: LlavaForConditionalGeneration(config), folder, ends=ends)


def llava_next(folder: Path) -> Path:
    """LLaVA-1.6, the paper's: tiles of pictures, as many as their shape asks for."""
    words = tokenizer(bos_token="<s>", eos_token="</s>", pad_token="<|endoftext|>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=grid,
        ),
        tokenizer=words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL,
    ).save_pretrained(folder)
    config = LlavaNextConfig(
        vision_config={**VISION, "model_type": "clip_vision_model"},
        text_config=LlamaConfig(**TEXT, vocab_size=len(words)),
        image_token_id=ids(words, "<image>")[0],
        image_grid_pinpoints=grid,
        vision_feature_layer=-2,
    )
    ends = ids(words, "</s>")
    return save(lambda: LlavaNextForConditionalGeneration(config), folder, ends=ends)


def save_qwen_parts(folder: Path, *, patch_size: int) -> PreTrainedTokenizerFast:
    """As the hub's: no processor_config.json, a template beside the tokenizer."""
    words = tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=QWEN_VL)
    words.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=patch_size,
        merge_size=2,
        size={"shortest_edge": 16 * patch_size**2, "longest_edge": 64 * patch_size**2},
    ).save_pretrained(folder)
    return words


def qwen2_vl(folder: Path) -> Path:
    words = save_qwen_parts(folder, patch_size=8)
    image, video = ids(words, "<|image_pad|>", "<|video_pad|>")
    start, end = ids(words, "<|vision_start|>", "<|vision_end|>")
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    ends = ids(words, "<|im_end|>", "<|endoftext|>")
    return save(lambda: Qwen2VLForConditionalGeneration(config), folder, ends=ends)


def qwen3_vl(folder: Path) -> Path:
    words = save_qwen_parts(folder, patch_size=8)
    image, video = ids(words, "<|image_pad|>", "<|video_pad|>")
    start, end = ids(words, "<|vision_start|>", "<|vision_end|>")
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            "head_dim": 8,
            "vocab_size": len(words),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "out_hidden_size": 32,
            "intermediate_size": 24,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return save(
        lambda: Qwen3VLForConditionalGeneration(config), folder, ends=ids(words, "<|im_end|>")
    )


def _save_idefics(folder: Path, config_class: Any, model_class: Any) -> Path:
    words = tokenizer(
        bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|endoftext|>"
    )
    Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
        ),
        tokenizer=words,
        image_seq_len=4,
        chat_template=SMOLVLM,
    ).save_pretrained(folder)
    config = config_class(
        vision_config=VISION,
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        scale_factor=2,
        image_token_id=ids(words, "<image>")[0],
        pad_token_id=ids(words, "<|endoftext|>")[0],
    )
    return save(lambda: model_class(config), folder, ends=ids(words, "<end_of_utterance>"))


def idefics3(folder: Path) -> Path:
    """SmolVLM's first generation is of this family."""
    return _save_idefics(folder, Idefics3Config, Idefics3ForConditionalGeneration)


def smolvlm(folder: Path) -> Path:
    """The second's: the same parts, by the name of a processor that also wants videos."""
    _save_idefics(folder, SmolVLMConfig, SmolVLMForConditionalGeneration)
    for name in ("processor_config.json", "tokenizer_config.json"):
        path = folder / name
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "processor_class": "SmolVLMProcessor"}))
    return folder


def qwen2_audio(folder: Path) -> Path:
    words = tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>")
    Qwen2AudioProcessor(
        feature_extractor=WhisperFeatureExtractor(feature_size=16, chunk_length=2),
        tokenizer=words,
    ).save_pretrained(folder)
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": 16,
            "d_model": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "max_source_positions": 100,
        },
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        audio_token_id=ids(words, "<|AUDIO|>")[0],
    )
    ends = ids(words, "<|im_end|>")
    return save(lambda: Qwen2AudioForConditionalGeneration(config), folder, ends=ends)


SEEING = {
    "idefics3": idefics3,
    "llava": llava,
    "llava_next": llava_next,
    "qwen2_vl": qwen2_vl,
    "qwen3_vl": qwen3_vl,
}
READING = {"llama": llama, "qwen2": qwen2}


def quietly(build: Callable[..., Path], folder: Path, **options: Any) -> Path:
    with quiet():
        return build(folder, **options)
