#!/usr/bin/env python3
"""Write an hour of a run's test clips in background noise as OUT.wav, and what is said when as OUT.csv.

    scripts/make_hour.py runs/RUN_ID hour
    kws listen hour.wav --model RUN_ID --evaluate hour.csv

The hour has 200 keywords and 250 other words of the test clips (some twice, if there are fewer), one every 8 s, in the
last tenth of each background recording at 3 to 30 % of its level: parts that a run with the label _silence_ has neither
trained on nor validated with. The same run gives the same hour.
"""

import argparse
import csv
from dataclasses import replace

import soundfile

from kws.data.audio import SAMPLE_RATE
from kws.inference.material import Material
from kws.training.checkpoints import load_model
from kws.training.run_folder import find_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="RUN", help="a run folder, a run id in runs/, or a best.pt")
    parser.add_argument("out", metavar="OUT", help="the two files' path without .wav and .csv")
    parser.add_argument("--data_dir", help="where the run's data is (default: as in the run)")
    parser.add_argument("--hours", type=float, default=1)
    options = parser.parse_args()
    config, _ = load_model(find_checkpoint(options.model, "runs"))
    material = Material(replace(config, data_dir=options.data_dir or config.data_dir), "testing", options.hours)
    with soundfile.SoundFile(f"{options.out}.wav", "w", SAMPLE_RATE, 1, "PCM_16") as sound:
        for block in material.blocks():
            sound.write(block)
    with open(f"{options.out}.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "time", "label"))
        rows.writerows((f"{options.out}.wav", keyword.time_s, keyword.word) for keyword in material.keywords)
    print(f"{options.out}.wav and {options.out}.csv: {len(material.keywords)} keywords, {material.others} other words")


if __name__ == "__main__":
    main()
