"""What a run is: every setting, its default and its check. Settings are checked here and nowhere else."""

import difflib
import math
import os
from dataclasses import asdict, dataclass, field, fields

from kws.errors import KwsError
from kws.formatting import one_line

# Written into a run's config beside the settings; ignored when such a config is read back as settings.
PROVENANCE_KEYS = (
    "run_id", "run_name", "sweep_id", "data_info", "versions", "git_commit", "host", "device_name",
    "features_prefetched", "started",
)  # fmt: skip
# Where and how a run is done. They stay out of the run's name; two runs that differ in them alone should agree.
NON_IDENTITY = ("words", "data", "data_dir", "device", "threads", "study", "project", "entity", "run_dir")


def _setting(default, help, low=None, high=None, choices=None):
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """The settings of one run: config keys, flags and sweep parameters are these same words."""

    words: tuple = _setting(("no", "yes"), "the two words; a word's place is its label")
    data: str = _setting("speech_commands", "the corpus", choices=("speech_commands", "synthetic"))
    data_dir: str = _setting(lambda: os.environ.get("KWS_DATA") or "data", "the folder that holds SpeechCommands/")
    resplit: bool = _setting(False, "deal the training and validation speakers anew by the seed; the test list rests")
    n_mels: int = _setting(20, "mel bands of the log-mel layer", 1, 128)
    n_fft: int = _setting(400, "samples of an STFT frame (16 kHz)", 16, 4096)
    # Four poolings by two need 16 frames of the second: 1000 samples leave 17.
    hop_length: int = _setting(160, "samples between STFT frames", 1, 1000)
    mean_norm: str = _setting(
        "band",
        "what is taken out of the log-mel: nothing, a clip's mean, its bands' means",
        choices=("none", "clip", "band"),
    )
    channels: int = _setting(48, "channels of the four convolutions", 1, 1024)
    kernel_size: int = _setting(5, "frames that a convolution sees (odd)", 1, 31)
    groups: int = _setting(1, "groups of the last three convolutions; divides channels", 1, 1024)
    epochs: int = _setting(20, "passes over the training clips", 1, 10_000)
    batch_size: int = _setting(64, "clips a training step", 1, 65_536)
    lr: float = _setting(0.003, "Adam's learning rate", 1e-8, 10.0)
    lr_step: int = _setting(5, "StepLR: epochs between two decays", 1, 10_000)
    lr_gamma: float = _setting(0.5, "StepLR: factor of a decay", 1e-6, 1.0)
    seed: int = _setting(0, "of the weights, the batch order and the augmentation", 0, 2**31 - 1)
    augment: bool = _setting(True, "change the training clips at random, as the next six settings say")
    shift_ms: float = _setting(100.0, "augmentation: largest shift to either side, ms, zero-filled", 0.0, 1000.0)
    noise_prob: float = _setting(0.8, "augmentation: share of clips that get background noise", 0.0, 1.0)
    noise_level: float = _setting(0.1, "augmentation: largest factor on the noise recording", 0.0, 1.0)
    gain_db: float = _setting(6.0, "augmentation: largest gain to either side, dB", 0.0, 40.0)
    speed_perturb: float = _setting(
        0.0, "augmentation: largest change of a log-mel's speed, and so its pitch", 0.0, 0.5
    )
    time_mask_ms: float = _setting(300.0, "augmentation: longest piece of a log-mel to leave out, ms", 0.0, 1000.0)
    device: str = _setting("auto", "where the run computes", choices=("auto", "cpu", "cuda", "mps"))
    threads: int = _setting(1, "CPU threads; results on the CPU may differ in rounding with it", 1, 1024)
    study: str = _setting("single", "the study that the run belongs to: W&B's group")
    project: str = _setting("kws", "W&B project")
    entity: str = _setting("", "W&B entity; empty: the account's default")
    run_dir: str = _setting("runs", "the folder that run folders are written to")

    def as_dict(self):
        """Return the settings as plain values (lists for tuples), in their order."""
        return asdict(self) | {"words": list(self.words)}

    @property
    def run_name(self):
        """The run's name from what it is: `mels40-g1-s3`, with every other setting that is not the default."""
        parts = [f"mels{self.n_mels}", f"g{self.groups}"]
        for item in fields(self):
            if item.name not in (*NON_IDENTITY, "n_mels", "groups", "seed"):
                value = getattr(self, item.name)
                if value != item.default:
                    parts.append(f"{item.name.replace('_', '-')}{value if isinstance(value, str) else f'{value:g}'}")
        return "-".join([*parts, f"s{self.seed}"])


SETTINGS = {item.name: item for item in fields(Config)}
# Two runs of one study that agree in all of these are repetitions.
IDENTITY_SETTINGS = tuple(name for name in SETTINGS if name not in NON_IDENTITY)


def resolve(*layers):
    """Return the Config that the layers give, the later one winning.

    A layer is (where, mapping): where names the source in messages ("flag", "runs/x.yaml"), mapping goes from
    setting to value. Raises KwsError at an unknown key (with the nearest right one) or a value that is wrong.
    """
    values = {}
    for where, mapping in layers:
        for key, value in mapping.items():
            name = setting_name(key, where)
            if name is not None:
                values[name] = _checked(SETTINGS[name], value, where)
    config = Config(**values)
    _check_together(config)
    return config


def setting_name(key, where):
    """Return the setting that `key` means, None for what W&B or a record adds. Raises KwsError if unknown."""
    name = one_line(key).replace("-", "_")
    if name in SETTINGS:
        return name
    if name.startswith("_") or name in PROVENANCE_KEYS or name == "wandb_version":
        return None
    near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"settings are: {', '.join(SETTINGS)}"
    raise KwsError(f"{where}: no setting is called {one_line(key)!r}; {hint}")


def checked(name, value, where):
    """Return `value` as the setting's own type. Raises KwsError, naming `where`, if the setting does not take it."""
    return _checked(SETTINGS[name], value, where)


def parse_flags(arguments):
    """Return {key: text} from `--n_mels=40`, `--n-mels 40` and `--augment` (a boolean setting alone is true)."""
    values = {}
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or flag == "--":
            raise KwsError(f"flag: {one_line(flag)!r} is not a --KEY=VALUE; see kws train --help")
        key, equals, value = flag[2:].partition("=")
        name = setting_name(key, "flag")
        if key.replace("-", "_") in PROVENANCE_KEYS:
            raise KwsError(f"flag: --{one_line(key)} is not a setting: a run records it by itself")
        if not equals:
            boolean = name in SETTINGS and SETTINGS[name].type is bool
            if rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif boolean:
                value = True
            else:
                raise KwsError(f"flag: --{key} has no value; write --{key}=VALUE")
        values.pop(key, None)  # of a flag given twice, in either spelling, the last one counts
        values[key] = value
    return values


def _checked(item, value, where):
    shown = one_line(value)
    try:
        value = _CONVERT[item.type](value)
    except (TypeError, ValueError, OverflowError):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(item.type)
        wanted = wanted or "two different words, such as no,yes"
        raise KwsError(f"{where}: {item.name} is {shown!r}, but must be {wanted}") from None
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.7)  # gpu is not cpu
        hint = f"; did you mean {near[0]}?" if near else ""
        raise KwsError(f"{where}: {item.name} is {shown!r}, but must be one of {', '.join(choices)}{hint}")
    if low is not None and not low <= value <= high:
        raise KwsError(f"{where}: {item.name} is {shown}, but must lie between {low:g} and {high:g}")
    return value


def _check_together(config):
    if config.channels % config.groups:
        divisors = [str(g) for g in range(1, config.channels + 1) if config.channels % g == 0]
        raise KwsError(
            f"groups: {config.groups} does not divide the {config.channels} channels of the convolutions; "
            f"choose one of {', '.join(divisors)}"
        )
    if config.kernel_size % 2 == 0:
        raise KwsError(f"kernel_size: {config.kernel_size} is even; take an odd one, so that frames stay centred")
    if config.hop_length > config.n_fft:
        raise KwsError(f"hop_length: {config.hop_length} is larger than n_fft {config.n_fft}, so samples are skipped")
    for name in ("data_dir", "run_dir", "project", "study"):
        if not getattr(config, name).strip():
            raise KwsError(f"{name}: is empty; leave it out or give it a value")
    for name, longest in (("study", 64), ("project", 128), ("entity", 128)):
        if len(getattr(config, name)) > longest:  # the study is a tag, too
            raise KwsError(f"{name}: has {len(getattr(config, name))} characters; W&B takes {longest} at most")
    for name in ("project", "entity"):
        if any(character in getattr(config, name) for character in "/\\#?%:"):
            raise KwsError(f"{name}: {one_line(getattr(config, name))!r} holds one of / \\ # ? % : which W&B refuses")


def _to_int(value):
    if isinstance(value, bool):
        raise ValueError
    number = float(value) if isinstance(value, str) and not value.strip().lstrip("+-").isdigit() else value
    if isinstance(number, float) and not number.is_integer():
        raise ValueError
    return int(number)


def _to_float(value):
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _to_bool(value):
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError


def _to_text(value):
    if value is None:
        return ""
    if isinstance(value, (str, int, os.PathLike)) and not isinstance(value, bool):
        text = str(value)
        if text.isprintable():
            return text
    raise ValueError


def _to_words(value):
    if isinstance(value, str):  # no,yes - or, from an agent, a list's repr: ['no', 'yes']
        value = [word.strip().strip("'\"") for word in value.strip().strip("[]()").split(",")]
    if not isinstance(value, (list, tuple)):
        raise ValueError
    spoken = [("no", "yes")[word] if isinstance(word, bool) else word for word in value]  # YAML reads no as False
    words = tuple(_to_text(word) for word in spoken)
    # A word is a folder's name inside the data set.
    if len(set(words)) != 2 or len(words) != 2 or not all(word.isidentifier() for word in words):
        raise ValueError
    return words


_CONVERT = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_text, tuple: _to_words}
