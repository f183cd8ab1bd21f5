"""Run folders as `kws train` writes them, with seeded random numbers, for tests of the code that reads them."""

import csv
import json
import math
import random
import re

from kws.analysis.records import RunRecord
from kws.config import Config
from kws.training.run_folder import Prediction

VAL_CLIPS = [f"{word}/{speaker:08x}_nohash_0.wav" for speaker in range(200, 300) for word in ("no", "yes")]
CLIPS = [f"{word}/{speaker:08x}_nohash_0.wav" for speaker in range(100) for word in ("no", "yes")]


def make_run(run_dir, seed=0, accuracy=0.98, fingerprint="f" * 64, synthetic=False, epochs=8, state="finished",
             jitter=0.004, clips=CLIPS, run_id=None, record=(), summary=(), **settings):  # fmt: skip
    """Write one run folder and return it, with an accuracy of about `accuracy` and the given settings.

    `record` and `summary` are mappings that override entries of config.json and summary.json; entries of config.json
    that are None in `record` are left out.
    """
    config = Config(seed=seed, epochs=epochs, run_dir=str(run_dir), **settings)
    chance = random.Random(repr((sorted(settings.items()), seed, fingerprint)))
    run_id = run_id or re.sub(r"[^a-z0-9]+", "-", f"{config.study}-{config.run_name}-{fingerprint[:2]}".lower())
    folder = run_dir / run_id
    folder.mkdir(parents=True)
    rows = []
    for epoch in range(1, epochs + 1):
        ease = 1 - math.exp(-1.2 * epoch)
        val = min(1.0, accuracy * (0.5 + 0.5 * ease) + chance.gauss(0, jitter))
        loss = 0.7 * math.exp(-0.45 * epoch) + 0.01 + abs(chance.gauss(0, 0.01))
        rows.append((epoch, loss, val, loss * 1.2, round(val * 200) / 200, 0.003, chance.gauss(0.8, 0.03), 2000.0))
    hard = set(clips[:: max(1, len(clips) // 15)])
    wrong = {clip for clip in clips if chance.random() < (1 - accuracy) * (12 if clip in hard else 0.25)}
    if "test/accuracy" in dict(summary):
        wrong = set(chance.sample(clips, round(len(clips) * (1 - dict(summary)["test/accuracy"]))))
    errors = len(wrong)
    best = max(rows, key=lambda row: row[4])
    params = 300 + config.n_mels * config.channels * 5 + 3 * config.channels**2 * 5 // config.groups
    data_info = {"fingerprint": fingerprint, "synthetic": synthetic, "train": 1000, "val": 200, "test": len(clips),
                 "speakers": 120, "folder": str(run_dir / "no-data")}  # fmt: skip
    written = config.as_dict() | {
        "run_id": run_id, "run_name": config.run_name, "sweep_id": None, "data_info": data_info,
        "versions": {"kws": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "torchaudio": "2.11.0", "wandb": "0.31.0",
                     "ptflops": "0.7.5"},
        "schema": 1, "code_version": "0" * 12, "host": "desk", "device_name": "a CPU", "concurrent_jobs": 1,
        "started": f"2026-11-22T10:00:{seed % 60:02d}+00:00",
    } | dict(record)  # fmt: skip
    written = {name: value for name, value in written.items() if name == "sweep_id" or value is not None}
    (folder / "config.json").write_text(json.dumps(written))
    header = "epoch,train/loss,train/accuracy,val/loss,val/accuracy,lr,time/epoch_s,time/clips_per_s"
    _write_csv(folder / "metrics.csv", header, rows)
    numbers = {"state": state}
    if state == "finished":
        numbers |= {
            "best/epoch": best[0], "best/val_accuracy": best[4], "best/val_loss": best[3],
            "test/accuracy": 1 - errors / len(clips), "test/loss": 0.05, "test/errors": errors,
            "time/epoch_s_median": sorted(row[6] for row in rows)[len(rows) // 2], "time/run_s": 20.0,
            "model/params": params, "model/macs": params * 90, "model/flops": params * 180, "frontend/macs": 1_000_000,
        }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(numbers | dict(summary)))
    val_accuracy = dict(summary).get("best/val_accuracy", best[4])
    val_wrong = set(chance.sample(VAL_CLIPS, round(len(VAL_CLIPS) * (1 - val_accuracy))))
    predictions = [("validation", clip, *_prediction(chance, clip, clip in val_wrong)) for clip in VAL_CLIPS]
    predictions += [("test", clip, *_prediction(chance, clip, clip in wrong)) for clip in clips]
    _write_csv(folder / "predictions.csv", "split,clip,label,probability", predictions)
    _write_csv(
        folder / "layers.csv",
        "layer,output_shape,params,macs",
        [("conv1", "64x101", 6400, 640000), ("linear", "1", 65, 64)],
    )
    return folder


def _prediction(chance, clip, wrong):
    """Return label and probability of label 1."""
    label = int(clip.startswith("yes/"))
    return label, abs(label - (chance.uniform(0.51, 0.99) if wrong else chance.uniform(0.001, 0.3)))


def make_study(run_dir, name="n_mels", values=(20, 40, 80), seeds=5, accuracies=None, study=None, **arguments):
    """Write one run for each value and seed of the setting `name`; `accuracies` maps a value to its accuracy."""
    for value in values:
        for seed in range(seeds):
            accuracy = (accuracies or {}).get(value, 0.98)
            make_run(run_dir, seed=seed, accuracy=accuracy, study=study or name, **{name: value}, **arguments)
    return run_dir


def write_sweep(run_dir, sweep_id, **content):
    """Write a sweep file where `kws sweep` keeps its copy."""
    folder = run_dir / "sweeps" / sweep_id
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(json.dumps(content))  # JSON is YAML


def _write_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def record(val_speakers, test_speakers, wrong, seed=0, **settings):
    """Return a RunRecord with two clips of each speaker; `wrong` says which clips, validation first, are errors."""
    config = Config(seed=seed, **settings)
    clips = [
        f"{word}/{speaker:08x}_nohash_0.wav" for speaker in (*val_speakers, *test_speakers) for word in config.words
    ]
    labels = [config.words.index(clip.partition("/")[0]) for clip in clips]
    predictions = {
        clip: Prediction(label, (0.0, 1.0) if bool(label) != bool(error) else (1.0, 0.0))
        for clip, label, error in zip(clips, labels, wrong, strict=True)
    }
    first = 2 * len(val_speakers)
    val, test = dict(list(predictions.items())[:first]), dict(list(predictions.items())[first:])
    accuracies = [1 - sum(not item.is_correct for item in split.values()) / len(split) for split in (val, test)]
    info = {"fingerprint": "f", "synthetic": False, "train": 1000, "val": len(val), "test": len(test)}
    numbers = {"best/val_accuracy": accuracies[0], "test/accuracy": accuracies[1], "time/epoch_s_median": 1.0,
               "test/errors": round(len(test) * (1 - accuracies[1])), "model/params": 100.0 * config.n_mels,
               "model/flops": 1000.0 * config.n_mels}  # fmt: skip
    run_id = f"{config.run_name}-{seed}"
    return RunRecord(run_id, run_id, "", vars(config) | {"data_info": info}, numbers, {"epoch": [1.0]}, test, val)
