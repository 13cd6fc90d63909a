"""A loaded checkpoint in, what prepares its inputs out: its processor, or its tokenizer alone.

Pictures go through Pillow's backend of each family's image processor: the other one needs
torchvision and rounds differently, so a text would depend on what is installed. Most families'
processors also want one for videos, which there is only with torchvision. Nothing here shows a
video, so it is left out.
"""

import inspect
from typing import Any, cast

from embedders import torchaudio_cpu
from embedders.checkpoint import LoadedEncoder, quiet
from embedders.items import Modality

torchaudio_cpu.load()

import transformers  # noqa: E402
from transformers import (  # noqa: E402
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING  # noqa: E402
from transformers.processing_utils import ProcessorMixin  # noqa: E402

# Pixels of pictures, samples of sounds: what `reads` follows from.
PARTS = {"image_processor": Modality.IMAGE, "feature_extractor": Modality.AUDIO}
VIDEO = "video_processor"


class WritingModel:
    """Stands where `load_encoder` takes an auto class: the class is chosen by the configuration."""

    @staticmethod
    def from_pretrained(source: str, **options: Any) -> Any:
        """Load what writes: of pictures and text, of sounds and text, or of text alone.

        Raises:
            ValueError: the checkpoint's model writes no text, or only as an encoder-decoder.
        """
        places = ("trust_remote_code", "revision", "local_files_only")
        config = AutoConfig.from_pretrained(  # nosec B615: the revision is among the options
            source, **{name: options[name] for name in places if name in options}
        )
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"{source} is an encoder-decoder ({config.model_type}); take a model that goes on "
                "writing behind its prompt, such as LLaVA, Qwen-VL, SmolVLM or a Llama"
            )
        kinds = (
            (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoModelForImageTextToText),
            (MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoModelForMultimodalLM),
            (MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM),
        )
        remote = getattr(config, "auto_map", None) or {}
        known = [auto_class for mapping, auto_class in kinds if type(config) in mapping]
        brought = [auto_class for _, auto_class in kinds if auto_class.__name__ in remote]
        if able := known + brought:
            return able[0].from_pretrained(source, config=config, **options)
        raise ValueError(
            f"{source} ({config.model_type}) is neither an image-text-to-text nor a causal model; "
            "it writes nothing"
        )


def load_processor(loaded: LoadedEncoder) -> Any:
    """What prepares a writing model's inputs, padding on the left.

    Returns:
        A processor, whose parts say what can be shown, or a tokenizer.

    Raises:
        ImportError: the family's processor needs a package that is not installed.
        ValueError: it needs a part that is neither of text, pictures nor sounds.
    """
    tokenizer = loaded.companion(AutoTokenizer)
    source, options = loaded.checkpoint.source, loaded.checkpoint.options
    with quiet():
        settings, _ = ProcessorMixin.get_processor_dict(source, **options)
    if loaded.trust_remote_code and "AutoProcessor" in settings.get("auto_map", {}):
        processor = loaded.companion(AutoProcessor)
    elif (kind := _processor_class(loaded, settings, tokenizer)) is None:
        processor = tokenizer
    else:
        processor = _without_videos(kind, settings, _parts(loaded, kind, tokenizer))
    tokenizer = getattr(processor, "tokenizer", processor)
    # An answer follows the prompt at once; whatever stands on the left is masked.
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return processor


def modalities(processor: Any) -> frozenset[Modality]:
    """What a processor can be shown beside text."""
    return frozenset(
        modality for part, modality in PARTS.items() if getattr(processor, part, None) is not None
    )


def _processor_class(loaded: LoadedEncoder, settings: dict[str, Any], tokenizer: Any) -> Any:
    """The class that the checkpoint names, else its family's; None where it takes text alone."""
    config = loaded.model.config
    if type(config) not in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return None
    name = settings.get("processor_class") or tokenizer.init_kwargs.get("processor_class")
    named = getattr(transformers, name, None) if name else None
    if isinstance(named, type) and issubclass(named, ProcessorMixin):
        return named
    return PROCESSOR_MAPPING.get(type(config), None)


def _parts(loaded: LoadedEncoder, kind: Any, tokenizer: Any) -> dict[str, Any]:
    """A processor's parts by their names, all but the one of videos."""
    found: dict[str, Any] = {"tokenizer": tokenizer}
    for name in kind.get_attributes():
        if name == "image_processor":
            found[name] = _image_processor(loaded)
        elif name == "feature_extractor":
            found[name] = loaded.companion(AutoFeatureExtractor)
        elif name not in (*found, VIDEO):
            raise ValueError(
                f"{loaded.checkpoint.source}: its {kind.__name__} needs a {name}, which is neither "
                "of text, pictures nor sounds; take another family, or serve the model and choose "
                "the engine 'openai'"
            )
    return found


def _image_processor(loaded: LoadedEncoder) -> Any:
    try:
        return loaded.companion(AutoImageProcessor, backend="pil")
    except ValueError as error:
        if "torchvision" not in str(error):
            raise
        raise ImportError(
            f"{loaded.checkpoint.source}: this family's pictures are prepared by torchvision "
            "alone; install the torchvision that belongs to this torch, or take LLaVA, Qwen-VL "
            "or SmolVLM"
        ) from error


class _Stills(ProcessorMixin):
    """What `_without_videos` puts between a family's processor and the base of all."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        base = cast(Any, super())  # untyped
        by_order = dict(zip(base.get_attributes(), parts, strict=False))
        rest = {name: part for name, part in {**by_order, **named}.items() if name != VIDEO}
        base.__init__(**rest)

    @classmethod
    def get_attributes(cls) -> list[str]:
        names = cast(Any, super()).get_attributes()
        return [name for name in names if name != VIDEO]


def _without_videos(kind: Any, settings: dict[str, Any], parts: dict[str, Any]) -> Any:
    """A family's processor of given parts, with the checkpoint's own settings."""
    takes = inspect.signature(kind.__init__).parameters
    given = {name: settings[name] for name in takes if name in settings and name not in parts}
    given.pop(VIDEO, None)
    if VIDEO in takes:
        given[VIDEO] = None
    # The same name: messages and what transformers looks up go by it.
    stills = type(kind.__name__, (kind, _Stills), {"__module__": kind.__module__})
    return stills(**parts, **given)
