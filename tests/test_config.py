"""Settings: one place that checks them, whatever layer they come from."""

import json
import string
from dataclasses import fields

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.config import NON_IDENTITY, PROVENANCE_KEYS, SETTINGS, Config, parse_flags, resolve
from kws.errors import KwsError
from kws.files import read_yaml
from kws.formatting import one_line

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(list(SETTINGS)) | st.text() | st.integers() | st.none()
word = st.text(string.ascii_lowercase, min_size=1, max_size=8)


def right(name):
    """A strategy for values that a setting takes by itself."""
    item = SETTINGS[name]
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices:
        return st.sampled_from(choices)
    if item.type is int:
        return st.integers(low, high)
    if item.type is float:
        return st.floats(low, high)
    if item.type is bool:
        return st.booleans()
    if item.type is tuple:
        return st.tuples(word, word).filter(lambda words: words[0] != words[1])
    return word


def resolved(mapping):
    """The Config of a mapping, or None where the settings refuse each other (groups that do not divide …)."""
    try:
        return resolve(("test", mapping))
    except KwsError:
        return None


right_settings = st.fixed_dictionaries({}, optional={name: right(name) for name in SETTINGS})


# --- properties ---


@given(st.dictionaries(keys, anything, max_size=4))
def test_anything_gives_a_config_or_one_line(mapping):
    try:
        assert isinstance(resolve(("test", mapping)), Config)
    except KwsError as error:
        assert str(error).isprintable() and len(str(error)) < 1000


@given(st.sampled_from(list(SETTINGS)), anything)
def test_a_config_holds_only_values_in_their_bounds(name, value):
    config = resolved({name: value})
    if config:
        item, got = SETTINGS[name], getattr(config, name)
        assert type(got) is item.type
        if item.metadata["low"] is not None:
            assert item.metadata["low"] <= got <= item.metadata["high"]
        if item.metadata["choices"]:
            assert got in item.metadata["choices"]


@given(right_settings)
def test_flags_yaml_and_json_say_the_same(mapping):
    config = resolved(mapping)
    if config is None:
        return
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in mapping.items()}
    texts = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in plain.items()}
    assert resolve(("flag", parse_flags([f"--{name}={text}" for name, text in texts.items()]))) == config
    spaced = [part for name, text in texts.items() for part in (f"--{name.replace('_', '-')}", text)]
    assert resolve(("flag", parse_flags(spaced))) == config
    assert resolve(("yaml", yaml.safe_load(yaml.safe_dump(plain)) or {})) == config
    assert resolve(("record", json.loads(json.dumps(config.as_dict())))) == config


@given(right_settings)
def test_a_config_resolves_to_itself_and_its_own_repr(mapping):
    config = resolved(mapping)
    if config:
        assert resolve(("again", config.as_dict())) == config
        agents = {name: str(value) for name, value in config.as_dict().items()}  # words as "['no', 'yes']"
        assert resolve(("agent", agents)) == config


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_command_line_gives_flags_or_one_line(arguments):
    try:
        assert isinstance(resolve(("flag", parse_flags(arguments))), Config)
    except KwsError as error:
        assert str(error).isprintable()


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.text(alphabet="{}[]:,-&*!|>'\"#% \n\tab1.", max_size=40).map(str.encode))
def test_any_file_gives_a_mapping_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(read_yaml(path), dict)
    except KwsError as error:
        assert str(error).isprintable()


@given(anything)
def test_one_line_is_one_short_printable_line(value):
    assert one_line(value).isprintable() and len(one_line(value)) <= 120


def test_a_project_that_wandb_could_not_find_again_is_refused():
    for project in (" kws", "kws "):
        with pytest.raises(KwsError, match=f"project: '{project}' begins or ends with a space"):
            resolve(("flag", {"project": project}))


def test_a_number_of_thousands_of_digits_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.yaml").write_text(f"lr: 0x{'f' * 9000}\n")
    with pytest.raises(KwsError, match="lr is 'int too long to show', but must be a number"):
        resolve(("a.yaml", read_yaml(tmp_path / "a.yaml")))


def test_a_yaml_file_that_multiplies_itself_costs_nothing(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "words: *a19"]))
    content = read_yaml(tmp_path / "a.yaml")
    with pytest.raises(KwsError, match="must be 2 to 35 different words"):
        resolve(("a.yaml", {"words": content["words"]}))


# --- layers ---


def test_later_layers_win():
    file, flags = {"n_mels": 40, "lr": 0.01, "seed": 1}, {"n-mels": "80", "seed": "2"}
    assert (resolve().n_mels, resolve().lr, resolve().seed) == (20, 0.003, 0)
    config = resolve(("file", file), ("flag", flags), ("run.config", {"seed": 3}))
    assert (config.n_mels, config.lr, config.seed) == (80, 0.01, 3)


def test_data_dir_comes_from_the_environment_unless_it_is_given(monkeypatch):
    assert resolve().data_dir == "data"
    monkeypatch.setenv("KWS_DATA", "/elsewhere")
    assert resolve().data_dir == "/elsewhere"
    assert resolve(("flag", {"data_dir": "here"})).data_dir == "here"


def test_what_a_record_and_wandb_add_is_left_out():
    extra = dict.fromkeys((*PROVENANCE_KEYS, "_wandb", "wandb_version"), "x")
    assert resolve(("config.json", extra | {"n_mels": 40})) == resolve(("flag", {"n_mels": 40}))


@pytest.mark.parametrize("text,value", (
    ("40", 40), ("40.0", 40), ("4e1", 40), (" 40 ", 40), ("+40", 40), (40.0, 40), (40, 40),
))  # fmt: skip
def test_whole_numbers_in_any_spelling(text, value):
    got = resolve(("test", {"n_mels": text})).n_mels
    assert got == value and type(got) is int


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1e-3\naugment: off\nwords: [no, yes]\nseed: 7\n")
    config = resolve(("a.yaml", read_yaml(tmp_path / "a.yaml")))
    assert (config.lr, config.augment, config.words, config.seed) == (0.001, False, ("no", "yes"), 7)


@pytest.mark.parametrize("value", ("True", "true", "1", "on", "yes", True, 1))
def test_true_in_any_spelling(value):
    assert resolve(("test", {"augment": value})).augment is True
    assert resolve(("test", parse_flags(["--augment"]))).augment is True


@pytest.mark.parametrize("value", ("False", "FALSE", "0", "off", "no", False, 0))
def test_false_in_any_spelling(value):
    assert resolve(("test", {"augment": value})).augment is False


@pytest.mark.parametrize(
    "value", ("yes,no", ["yes", "no"], ("yes", "no"), "['yes', 'no']", [True, False], " yes , no ")
)
def test_words_in_any_spelling(value):
    assert resolve(("test", {"words": value})).words == ("yes", "no")


@pytest.mark.parametrize("arguments", (
    ["--n_mels=40"], ["--n_mels", "40"], ["--n-mels", "40"], ["--n-mels=40"], ["--n_mels=20", "--n-mels=40"],
    ["--n-mels=40", "--n_mels=20", "--n-mels=40"], ["--_wandb={}", "--n_mels=40"],
), ids=" ".join)  # fmt: skip
def test_flags_in_any_spelling_and_the_last_one_counts(arguments):
    assert resolve(("flag", parse_flags(arguments))).n_mels == 40


def test_a_flag_can_hold_an_equals_sign_and_a_minus():
    flags = parse_flags(["--data_dir=/a=b", "--study", "-x", "--entity="])
    assert flags == {"data_dir": "/a=b", "study": "-x", "entity": ""}


# --- names ---


def test_run_names_say_what_is_not_the_default():
    def name(**changed):
        return resolve(("test", changed)).run_name

    assert name() == "mels20-g1-s0"
    assert name(n_mels=40, seed=3) == "mels40-g1-s3"
    assert name(channels=32, lr=0.001, augment=False) == "mels20-g1-channels32-lr0.001-augment0-s0"
    assert name(mean_norm="clip", words="yes,no") == "mels20-g1-words-yes-no-mean-normclip-s0"


@given(right_settings)
def test_two_configs_of_one_name_differ_in_circumstances_alone(mapping):
    config = resolved(mapping)
    if config:
        alone = resolve(("test", {name: getattr(config, name) for name in SETTINGS if name not in NON_IDENTITY}))
        assert alone.run_name == config.run_name
        assert config.run_name.isascii() and " " not in config.run_name and "/" not in config.run_name


def test_every_setting_has_help_and_a_default_that_is_valid():
    assert resolve() == Config()
    assert all(item.metadata["help"] for item in fields(Config))
    assert set(NON_IDENTITY) < set(SETTINGS)
    assert resolve(("defaults", Config().as_dict())) == Config()


def test_named_sets_of_words_and_the_labels_that_follow_them():
    assert resolved({"words": "yes-no"}).labels == ("no", "yes")
    core = resolved({"words": "core10", "unknown": True, "silence": True})
    assert core.words == ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
    assert core.labels == (*core.words, "_unknown_", "_silence_")
    assert len(resolved({"words": "all35"}).words) == 35
    assert core.run_name == "mels20-g1-words-core10-unknown1-silence1-s0"


def test_synthetic_unknown_words_without_the_label_are_an_error_with_a_fix():
    with pytest.raises(KwsError, match="unknown_synthetic: has no effect .*; add --unknown=true"):
        resolve(("test", {"unknown_synthetic": True}))
