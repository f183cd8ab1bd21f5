"""The settings of a run: defaults, checks, layers and flags. Settings are checked here and nowhere else."""

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from unicodedata import normalize

from kws.errors import KwsError
from kws.formatting import one_line

SCHEMA = 1  # version of the records of settings, in config.json and in checkpoints: raise it if a meaning changes
# Recorded in a run's config beside the settings; ignored when such a config is read back as settings.
PROVENANCE_KEYS = (
    "run_id", "run_name", "sweep_id", "sweep", "schema", "data_info", "versions", "code_version", "host", "device_name",
    "concurrent_jobs", "started",
)  # fmt: skip
# Where and how a run is done. They are not part of its name; two runs that differ only in them should agree.
NON_IDENTITY = ("data", "data_dir", "speaker_from", "device", "threads", "study", "project", "entity", "run_dir")

# The words of Speech Commands v0.02, and named sets of words.
SPEECH_COMMANDS_WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go",
    "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila",
    "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
WORD_SETS = {
    "yes-no": ("no", "yes"),
    "core10": ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
    "all35": SPEECH_COMMANDS_WORDS,
}
MOST_WORDS = 35
UNKNOWN, SILENCE = "_unknown_", "_silence_"  # labels, and folders of the official test set


def _setting(
    default: Any, help: str, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """The settings of one run: config keys, flags and sweep parameters have these names."""

    words: tuple[str, ...] = _setting(
        ("no", "yes"), "the keywords, or yes-no, core10, all35; a word's position is its label"
    )
    unknown: bool = _setting(False, "add the label _unknown_: other words")
    unknown_share: float = _setting(
        1.0, "clips of other words per epoch, as a multiple of a keyword's average", 0.01, 100.0
    )
    unknown_synthetic: bool = _setting(False, "also train _unknown_ with synthetic words (kws data --unknown_words)")
    silence: bool = _setting(False, "add the label _silence_: background noise and digital silence")
    data: str = _setting("speech_commands", "corpus", choices=("speech_commands", "synthetic"))
    data_dir: str = _setting(
        lambda: os.environ.get("KWS_DATA") or "data", "the folder that holds SpeechCommands/ or WORD/*.wav"
    )
    speaker_from: str = _setting(
        "(.+?)_nohash_", "regular expression for the speaker in a file's name; its first group, if it has one"
    )
    resplit: bool = _setting(
        False, "re-split training and validation speakers by seed; the official test set is not used"
    )
    n_mels: int = _setting(20, "number of mel bands", 1, 128)
    n_fft: int = _setting(400, "STFT frame length in samples at 16 kHz", 16, 4096)
    # Four poolings by two need 16 frames of the second: 1000 samples leave 17.
    hop_length: int = _setting(160, "samples between STFT frames", 1, 1000)
    mean_norm: str = _setting(
        "band", "feature normalisation: none, per-clip mean, per-band mean", choices=("none", "clip", "band")
    )
    channels: int = _setting(48, "channels of the four convolutions", 1, 1024)
    kernel_size: int = _setting(5, "kernel size of the convolutions in frames (odd)", 1, 31)
    groups: int = _setting(1, "groups of the last three convolutions; divides channels", 1, 1024)
    epochs: int = _setting(20, "number of epochs", 1, 10_000)
    batch_size: int = _setting(64, "clips per step", 1, 65_536)
    lr: float = _setting(0.003, "learning rate of Adam", 1e-8, 10.0)
    lr_step: int = _setting(5, "StepLR: epochs between two decays", 1, 10_000)
    lr_gamma: float = _setting(0.5, "StepLR: factor of a decay", 1e-6, 1.0)
    seed: int = _setting(0, "seed of weights, batch order and augmentation", 0, 2**31 - 1)
    augment: bool = _setting(True, "data augmentation, as set by the next six settings")
    shift_ms: float = _setting(100.0, "augmentation: maximum time shift in ms, zero-filled", 0.0, 1000.0)
    noise_prob: float = _setting(0.8, "augmentation: share of clips with background noise", 0.0, 1.0)
    noise_level: float = _setting(0.1, "augmentation: maximum factor on the noise recording", 0.0, 1.0)
    gain_db: float = _setting(6.0, "augmentation: maximum gain and attenuation in dB", 0.0, 40.0)
    speed_perturb: float = _setting(0.15, "augmentation: maximum relative speed perturbation", 0.0, 0.5)
    time_mask_ms: float = _setting(300.0, "augmentation: maximum time-mask length in ms", 0.0, 1000.0)
    device: str = _setting("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    threads: int = _setting(1, "CPU threads; results may differ in rounding with another number", 1, 1024)
    study: str = _setting("single", "the study that the run belongs to; W&B group")
    project: str = _setting("", "W&B project; empty: $WANDB_PROJECT, else that of wandb init, else kws")
    entity: str = _setting("", "W&B entity; empty: $WANDB_ENTITY, else that of wandb init, else the account's default")
    run_dir: str = _setting("runs", "the folder that run folders are written to")

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels: the words, then _unknown_ and _silence_ if they are used."""
        return labels_of(vars(self))

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values (lists for tuples), in their order."""
        return asdict(self) | {"words": list(self.words)}

    @property
    def run_name(self) -> str:
        """The run's name made of its settings: `mels40-g1-s3`, with every other setting that is not the default."""
        parts = [f"mels{self.n_mels}", f"g{self.groups}"]
        for name in IDENTITY_SETTINGS:
            value = getattr(self, name)
            if name not in ("n_mels", "groups", "seed") and value != SETTINGS[name].default:
                text = f"{value:g}" if isinstance(value, (int, float)) else value
                if name == "words":
                    set_name = next((key for key, words in WORD_SETS.items() if words == value), "-".join(value))
                    text = f"-{set_name}"
                parts.append(f"{name.replace('_', '-')}{text}")
        return "-".join([*parts, f"s{self.seed}"])


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the labels of a recorded config: its words, then _unknown_ and _silence_ if used."""
    extra = [label for label, used in ((UNKNOWN, "unknown"), (SILENCE, "silence")) if config.get(used)]
    return (*config["words"], *extra)


SETTINGS = {item.name: item for item in fields(Config)}
# Two runs of one study that agree in all of these are repetitions of each other.
IDENTITY_SETTINGS = tuple(name for name in SETTINGS if name not in NON_IDENTITY)


def resolve(*layers: tuple[str, Mapping[str, Any]]) -> Config:
    """Return the Config that the layers give; a later layer takes precedence.

    A layer is (where, mapping): where names the source in messages ("flag", "runs/x.yaml"), mapping maps settings to
    values. Raises KwsError at an unknown key (with the nearest valid one) or an invalid value.
    """
    values = {}
    for where, mapping in layers:
        for key, value in mapping.items():
            name = setting_name(key, where)
            if name is not None:
                values[name] = checked(name, value, where)
    config = Config(**values)
    _check_together(config)
    return config


def recorded(where: str, mapping: Mapping[str, Any]) -> Config:
    """Return the Config that a run recorded. Unlike in `resolve`, no default stands in for a setting it lacks.

    Raises KwsError if the record lacks a setting, has an unknown one, or has another schema: such a run would be
    described wrongly.
    """
    missing = [name for name in SETTINGS if name not in mapping]
    unknown = [one_line(key) for key in mapping if not _is_known(one_line(key))]
    problems = [f"{what} {', '.join(names)}" for what, names in (("no", missing), ("unknown", unknown)) if names]
    if mapping.get("schema") != SCHEMA:
        problems.insert(0, f"schema {one_line(mapping.get('schema'))}, not {SCHEMA}")
    if problems:
        raise KwsError(f"{where}: was recorded by another version of kws ({'; '.join(problems)}); start a new run")
    return resolve((where, mapping))


def setting_name(key: object, where: str) -> str | None:
    """Return the setting that `key` means, None for what W&B or a run's record adds. Raises KwsError if unknown."""
    name = one_line(key).replace("-", "_")
    if _is_known(name):
        return name if name in SETTINGS else None
    raise KwsError(f"{where}: there is no setting {one_line(key)!r}; {suggestion(name, SETTINGS, 'settings are')}")


def _is_known(name: str) -> bool:
    return name in SETTINGS or name in PROVENANCE_KEYS or name.startswith("_") or name == "wandb_version"


def suggestion(name: str, known: Iterable[str], list_intro: str = "known") -> str:
    """Return "did you mean X?" for the nearest known name, else all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"{list_intro}: {', '.join(known)}"


def checked(name: str, value: Any, where: str) -> Any:
    """Return `value` as the setting's own type. Raises KwsError, naming `where`, if the value is invalid."""
    item, shown = SETTINGS[name], one_line(value)
    convert, wanted = _CONVERT[name if name == "words" else item.type]
    try:
        value = convert(value)
    except (TypeError, ValueError, OverflowError):
        raise KwsError(f"{where}: {name} is {shown!r}, but must be {wanted}") from None
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.7)  # gpu is not cpu
        hint = f"; did you mean {near[0]}?" if near else ""
        raise KwsError(f"{where}: {name} is {shown!r}, but must be one of {', '.join(choices)}{hint}")
    if low is not None and not low <= value <= high:
        raise KwsError(f"{where}: {name} is {shown}, but must be between {low:g} and {high:g}")
    return value


def parse_flags(arguments: Iterable[str]) -> dict[str, Any]:
    """Return {key: text} from `--n_mels=40`, `--n-mels 40` and `--augment` (a boolean setting alone is true)."""
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or flag == "--":
            raise KwsError(f"flag: {one_line(flag)!r} is not a --KEY=VALUE; see kws train --help")
        key, equals, value = flag[2:].partition("=")
        name = setting_name(key, "flag")
        if key.replace("-", "_") in PROVENANCE_KEYS:
            raise KwsError(f"flag: --{one_line(key)} is not a setting; a run records it by itself")
        if not equals:
            if rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif name in SETTINGS and SETTINGS[name].type is bool:
                value = "true"
            else:
                raise KwsError(f"flag: --{key} has no value; write --{key}=VALUE")
        values.pop(key, None)  # of a flag given twice, in either spelling, the last one counts
        values[key] = value
    return values


def _check_together(config: Config) -> None:
    if config.channels % config.groups:
        divisors = [str(g) for g in range(1, config.channels + 1) if config.channels % g == 0]
        raise KwsError(
            f"groups: {config.groups} does not divide the {config.channels} channels of the convolutions; "
            f"choose one of {', '.join(divisors)}"
        )
    try:
        re.compile(config.speaker_from)
    except re.error as error:
        raise KwsError(f"speaker_from: {one_line(config.speaker_from)!r} is no regular expression ({error})") from error
    if config.kernel_size % 2 == 0:
        raise KwsError(f"kernel_size: {config.kernel_size} is even; choose an odd one, so that frames stay centred")
    if config.unknown_synthetic and not config.unknown:
        raise KwsError("unknown_synthetic: has no effect without the label _unknown_; add --unknown=true")
    if config.hop_length > config.n_fft:
        raise KwsError(f"hop_length: {config.hop_length} is larger than n_fft {config.n_fft}, so samples are skipped")
    for name in ("data_dir", "speaker_from", "run_dir", "study"):
        if not getattr(config, name).strip():
            raise KwsError(f"{name}: is empty; leave it out or give it a value")
    for name, longest in (("study", 64), ("project", 128), ("entity", 128)):  # the study is a W&B tag, too
        if len(getattr(config, name)) > longest:
            raise KwsError(f"{name}: has {len(getattr(config, name))} characters; W&B takes {longest} at most")
    for name in ("project", "entity"):
        if getattr(config, name) != getattr(config, name).strip():
            raise KwsError(f"{name}: {one_line(getattr(config, name))!r} begins or ends with a space")
        if getattr(config, name) in ("runs", "sweeps"):
            raise KwsError(f"{name}: {getattr(config, name)!r} is a word of W&B's addresses; choose another name")
        if any(character in getattr(config, name) for character in "/\\#?%:"):
            raise KwsError(f"{name}: {one_line(getattr(config, name))!r} has one of / \\ # ? % : which W&B refuses")


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    number = float(value) if isinstance(value, str) and not value.strip().lstrip("+-").isdigit() else value
    if isinstance(number, float) and not number.is_integer():
        raise ValueError
    return int(number)


def _to_float(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        raise ValueError
    return text in ("true", "1", "yes", "on")


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, os.PathLike)) or not str(value).isprintable():
        raise ValueError
    return str(value)


def _to_words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # no,yes - or, from an agent, a list's repr: ['no', 'yes']
        value = WORD_SETS.get(value.strip()) or [
            word.strip().strip("'\"") for word in value.strip().strip("[]()").split(",")
        ]
    if not isinstance(value, (list, tuple)):
        raise ValueError
    # YAML reads no as False. A word is the name of a folder in the data set.
    words = tuple(normalize("NFC", _to_text(("no", "yes")[word] if isinstance(word, bool) else word)) for word in value)
    names = all(word.isidentifier() and not word.startswith("_") for word in words)
    if not (names and 2 <= len(words) <= MOST_WORDS and len(set(words)) == len(words)):
        raise ValueError
    return words


_CONVERT: dict[Any, tuple[Callable[[Any], Any], str]] = {
    int: (_to_int, "a whole number"),
    float: (_to_float, "a number"),
    bool: (_to_bool, "true or false"),
    str: (_to_text, "text"),
    "words": (_to_words, f"2 to {MOST_WORDS} different words, such as no,yes, or one of {', '.join(WORD_SETS)}"),
}
