"""A misspelt or mistyped setting is refused with its dotted name, and later sources win."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedders.items import Modality
from sommelier.settings import Settings
from sommelier.settings_file import SettingsError, load, overridden, parse


def write(folder: Path, text: str) -> Path:
    path = folder / "sommelier.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "named", "nearest"),
    [
        ("[stroe]\nroot = 'x'", "stroe", "store"),
        ("[server]\nprot = 5", "server.prot", "port"),
        ("[ranker.trainning]\nseed = 1", "ranker.trainning", "training"),
        ("[ranker.training]\nfusion_step = 1", "ranker.training.fusion_step", "fusion_steps"),
        ("[ranker.llm.embedded]\nlayers = 1", "ranker.llm.embedded.layers", "num_layers"),
        ("[catalog.columns]\ntitel = 'name'", "catalog.columns.titel", "title"),
        ("[evaluation]\nwarmup = 1", "evaluation.warmup", "warm_up"),
        (
            "[[encoders]]\nmodality = 'text'\nencoder = 'minilm'\ndevise = 'cpu'",
            "encoders.0.devise",
            "device",
        ),
    ],
)
def test_an_unknown_key_is_refused_at_every_level(
    tmp_path: Path, text: str, named: str, nearest: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(write(tmp_path, text))
    assert f"no setting '{named}'" in str(refused.value)
    assert f"did you mean '{nearest}'?" in str(refused.value)
    assert "Allowed here: " in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = '50051'", 'server.port: expected a valid integer, got "50051"'),
        ("[limits]\nqueue = 1.5", "limits.queue: expected a valid integer, got 1.5"),
        ("[index]\nseed = true", "index.seed: expected a valid integer, got true"),
        ("[retrieval]\ntune = 'yes'", "retrieval.tune: expected a valid boolean"),
        ("[catalog.columns]\ndescription = 'plot'", "catalog.columns.description: "),
        ("[pooling.weights]\nsmell = 1", "no block 'smell'"),
        ("[time]\ncut = 'later'", "time.cut: expected 'end'"),
        ("[time]\ncut = 2024-05-31T00:00:00", "needs a time zone"),
        ("ranker = 3", "ranker: expected an object, got 3"),
        ("[server]\nport = 99999", "server: server.port must be between 0 and 65535"),
        (
            "[[encoders]]\nmodality = 'text'\nencoder = 'word2vec'",
            "encoders.0: no text encoder 'word2vec': choose one of",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_dotted_name(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(write(tmp_path, text))
    assert said in str(refused.value)


def test_later_sources_win(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nport = 1\nhost = 'a'\n[index]\nkind = 'exact'")
    variables = {"SOMMELIER__SERVER__PORT": "2", "SOMMELIER__SERVER__HOST": "b", "HOME": "x"}
    settings = load(path, overrides=["server.port=3"], environment=variables)
    assert settings.server.port == 3
    assert settings.server.host == "b"
    assert settings.index.kind == "exact"


def test_words_are_read_as_toml_and_else_as_text() -> None:
    words = ["time.cut=end", "target.behaviors=['buy']", "pooling.weights.text=2", "index.seed=4"]
    settings = load(None, overrides=words)
    assert settings.time.cut == "end"
    assert settings.target.behaviors == ("buy",)
    assert settings.pooling.weights == {Modality.TEXT: 2}
    assert settings.index.seed == 4


def test_a_word_reaches_into_the_list_of_encoders(tmp_path: Path) -> None:
    path = write(tmp_path, "[[encoders]]\nmodality = 'text'\nencoder = 'minilm'")
    settings = load(path, overrides=["encoders.0.batch_size=7"])
    assert settings.encoders[0].batch_size == 7
    with pytest.raises(SettingsError, match="encoders has the places 0 to 0, got '1'"):
        load(path, overrides=["encoders.1.batch_size=7"])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("server.port", "expected <section>.<key>=<value>"),
        ("=5", "expected <section>.<key>=<value>"),
        ("server.port.number=5", "server.port is a value, not a section"),
    ],
)
def test_a_word_that_sets_nothing_is_refused(tmp_path: Path, word: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(write(tmp_path, "[server]\nport = 1"), overrides=[word])


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    text = """
[catalog]
path = "../films"
[paths]
workspace = "made"
report = ".."
[ranker.llm]
model = "llm"
[server]
callers = "secret/callers.jsonl"
tls_certificate = "/run/tls.pem"
tls_key = "../tls.key"
"""
    settings = load(write(tmp_path, text))
    assert settings.server.callers == tmp_path / "secret" / "callers.jsonl"
    assert settings.server.tls_certificate == Path("/run/tls.pem")
    assert settings.server.tls_key == tmp_path.parent / "tls.key"
    assert settings.server.tls_client_ca is None
    assert settings.catalog.path == tmp_path.parent / "films"
    assert settings.store.root == tmp_path / "made" / "store"
    assert settings.paths.index == tmp_path / "made" / "index"
    assert settings.paths.report == tmp_path
    assert settings.ranker.llm.model == str(tmp_path / "llm")


def test_a_model_file_is_found_beside_the_settings_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "ears.tflite").write_bytes(b"")
    text = """
[[encoders]]
modality = "audio"
encoder = "tflite"
model = "ears.tflite"
output = 121
hop = 7680
[[encoders]]
modality = "image"
encoder = "onnx"
model = "gone.onnx"
value_range = [-1, 1]
mean = [0.485, 0.456, 0.406]
"""
    ears, eyes = load(write(tmp_path, text)).encoders
    assert (ears.model, ears.output, ears.hop) == (str(tmp_path / "ears.tflite"), 121, 7680)
    assert (eyes.model, eyes.value_range) == ("gone.onnx", (-1, 1))
    assert eyes.mean == (0.485, 0.456, 0.406)


def test_a_hub_id_is_no_path(tmp_path: Path) -> None:
    text = "[ranker.llm]\nmodel = 'org/name'\nrevision = 'abc'"
    assert load(write(tmp_path, text)).ranker.llm.model == "org/name"


def test_an_adapter_is_relative_to_the_file_and_need_not_be_there_yet(tmp_path: Path) -> None:
    text = "[[encoders]]\nmodality = 'text'\nencoder = 'minilm'\nadapter = 'models/tuned/text'"
    (encoder,) = load(write(tmp_path, text)).encoders
    assert encoder.adapter == tmp_path / "models/tuned/text"
    hog = "[[encoders]]\nmodality = 'image'\nencoder = 'hog'\nadapter = 'x'"
    with pytest.raises(SettingsError, match="image encoder 'hog' takes no 'adapter'"):
        load(write(tmp_path, hog))


def test_a_writers_folder_is_relative_to_the_file_and_a_servers_model_is_its_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "llava").mkdir()
    text = """
[summaries]
enabled = true
[summaries.writer]
engine = "transformers"
model = "llava"
[preferences]
enabled = true
block_size = 5
[preferences.writer]
engine = "openai"
model = "llava"
url = "http://localhost:8000/v1"
"""
    settings = load(write(tmp_path, text))
    assert settings.summaries.enabled
    assert settings.summaries.writer.model == str(tmp_path / "llava")
    assert settings.preferences.block_size == 5
    assert settings.preferences.writer.model == "llava"


def test_a_writer_without_a_model_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"summaries\.writer: the engine 'transformers' needs"):
        load(write(tmp_path, "[summaries.writer]\nengine = 'transformers'"))


def test_a_time_may_be_written_as_text_or_as_tomls_own(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 31, tzinfo=UTC)
    for text in ("2024-05-31T00:00:00Z", "'2024-05-31T00:00:00Z'"):
        assert load(write(tmp_path, f"[time]\ncut = {text}")).time.cut == moment


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="run `sommelier init`"):
        load(tmp_path / "none.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"sommelier\.toml is no valid TOML"):
        load(write(tmp_path, "[server\n"))


def test_words_can_be_applied_to_settings_that_are_in_no_file() -> None:
    settings = overridden(Settings(), ["index.kind=exact"])
    assert settings.index.kind == "exact"
    assert settings.paths == Settings().paths
    assert parse({}) == Settings()
