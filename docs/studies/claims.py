"""The earlier report's claims (one run a value, no seeds) against what was measured here.

Each claim is judged only in the study that it is about, and only with enough seeds for the verdict to mean something.
"""

import math
from dataclasses import dataclass

from kws.analysis.statistics import holm, paired_difference
from kws.analysis.study import FEWEST_SEEDS, SIGNIFICANT, last_epochs_spread
from kws.formatting import count, p_text, percent, percentage_points, seconds, value_text

ABOUT_EQUAL = 0.005  # half a percentage point of test accuracy
EQUAL_TIME = 0.1  # a tenth
CONFIRMED, NOT_CONFIRMED, REFUTED = "confirmed", "not confirmed", "refuted"


@dataclass(frozen=True)
class Claim:
    """A claim of the earlier report, the verdict on it, and the numbers in a sentence."""

    text: str
    verdict: str
    evidence: str


def claims(study):
    """Return the Claims that concern this study: the n_mels study's three, the groups study's three, or none."""
    if study.is_search or len(study.compared) < 2:
        return []
    configurations = {
        configuration.values.get(name): configuration for name in study.parameters for configuration in study.compared
    }
    if study.parameters == ["n_mels"]:
        found = [_about_equal(study)]
        if 80 in configurations:
            found.append(_less_stable(study, configurations[80]))
        if 20 in configurations:
            found.append(_best(study, configurations[20]))
        return found
    if study.parameters == ["groups"]:
        return [_equal_time(study), _halving(study), _doubling(study)]
    return []


def _about_equal(study):
    text = "All n_mels give about the same test accuracy."
    pairs = _all_pairs(study, lambda run: run.summary["test/accuracy"], 1 / max(study.data_info["test"], 1))
    widest = max(pairs, key=lambda pair: abs(pair[2].mean))
    numbers = f"The widest gap is {_gap(widest)}; about the same is taken as within {percentage_points(ABOUT_EQUAL, 1)} points."
    if _too_few(pairs):
        return Claim(text, NOT_CONFIRMED, f"{numbers} {_few_seeds(pairs)}")
    if all(-ABOUT_EQUAL < item.low and item.high < ABOUT_EQUAL for _, _, item, _ in pairs):
        return Claim(text, CONFIRMED, f"{numbers} Every interval lies within it.")
    if any(p < SIGNIFICANT and abs(item.mean) > ABOUT_EQUAL for _, _, item, p in pairs):
        return Claim(text, REFUTED, f"{numbers} That gap is larger and not chance.")
    return Claim(text, NOT_CONFIRMED, f"{numbers} The intervals reach beyond it: neither equal nor different is shown.")


def _less_stable(study, cell_80):
    text = "n_mels 80 trains less stably."
    spread_80 = {run.seed: last_epochs_spread(run) for run in cell_80.runs}
    others = [configuration for configuration in study.compared if configuration is not cell_80]
    spread_others = {
        seed: sum(spreads) / len(spreads)
        for seed in study.seeds
        if len(
            spreads := [
                last_epochs_spread(run) for configuration in others for run in configuration.runs if run.seed == seed
            ]
        )
        == len(others)
    }
    difference = paired_difference(spread_others, spread_80)
    if difference.n < FEWEST_SEEDS:
        return Claim(text, NOT_CONFIRMED, f"Spread over the last epochs: {_few_seeds([(0, 0, difference, 0)])}")
    if math.isnan(difference.p):
        return Claim(text, NOT_CONFIRMED, "A run of one epoch has no spread over its last epochs.")
    numbers = (
        f"Over a run's last epochs the standard deviation of validation accuracy is {percentage_points(cell_80.stability.mean)} "
        f"points at 80 and {percentage_points(sum(spread_others.values()) / len(spread_others))} at the others in the mean "
        f"(difference {percentage_points(difference.mean)}, 95 % interval {percentage_points(difference.low)} to {percentage_points(difference.high)}, "
        f"{p_text(difference.p)}, {difference.n} seeds)."
    )
    if difference.p >= SIGNIFICANT:
        return Claim(text, NOT_CONFIRMED, numbers)
    return Claim(text, CONFIRMED if difference.mean > 0 else REFUTED, numbers)


def _best(study, cell_20):
    text = "n_mels 20 is the best."
    pairs = _all_pairs(study, lambda run: run.summary["test/accuracy"], 1 / max(study.data_info["test"], 1))
    mine = [pair for pair in pairs if cell_20 in pair[:2]]
    # Differences turned so that they read: 20 minus the other.
    leads = [(item.mean if b is cell_20 else -item.mean, p) for a, b, item, p in mine]
    means = ", ".join(
        f"{configuration.short_label}: {percent(configuration.test.mean)}" for configuration in study.compared
    )
    closest = min(mine, key=lambda pair: abs(pair[2].mean))
    numbers = f"Mean test accuracy is {means}; the nearest pair is {_gap(closest)}."
    if _too_few(mine):
        return Claim(text, NOT_CONFIRMED, f"{numbers} {_few_seeds(mine)}")
    if all(lead > 0 and p < SIGNIFICANT for lead, p in leads):
        return Claim(text, CONFIRMED, numbers)
    if any(lead < 0 and p < SIGNIFICANT for lead, p in leads):
        return Claim(text, REFUTED, numbers)
    leads = [round(lead, 9) for lead, _ in leads]
    stands = f"{'shares' if 0 in leads else 'stands in'} place {sum(lead < 0 for lead in leads) + 1}"
    return Claim(text, NOT_CONFIRMED, f"{numbers} 20 {stands}, but its lead or lag may be chance.")


def _equal_time(study):
    text = "Epoch time does not change with groups."
    pairs = _all_pairs(study, lambda run: math.log(run.summary["time/epoch_s_median"]))
    a, b, item, p = max(pairs, key=lambda pair: abs(pair[2].mean))
    times = ", ".join(
        f"{configuration.short_label}: {seconds(configuration.epoch_s.mean)}" for configuration in study.configurations
    )
    numbers = (
        f"Mean epoch time by groups is {times}; {b.label} takes {math.exp(item.mean):.2f} times as long as {a.label}"
    )
    if _too_few(pairs):
        return Claim(text, NOT_CONFIRMED, f"{numbers}. {_few_seeds(pairs)}")
    numbers += f" (95 % interval {math.exp(item.low):.2f} to {math.exp(item.high):.2f}, Holm-corrected {p_text(p)})."
    margin = math.log(1 + EQUAL_TIME)
    if all(-margin < item.low and item.high < margin for _, _, item, _ in pairs):
        return Claim(text, CONFIRMED, f"{numbers} Every ratio is within a tenth.")
    if any(p < SIGNIFICANT and abs(item.mean) > margin for _, _, item, p in pairs):
        return Claim(text, REFUTED, numbers)
    return Claim(text, NOT_CONFIRMED, numbers)


def _halving(study):
    text = "Parameters halve with each doubling of groups."
    ratios = _doublings(study, "params")
    numbers = f"From groups {_chain(study)} the parameters are {', '.join(count(configuration.params) for configuration in study.configurations)}"
    if not ratios:
        return Claim(text, NOT_CONFIRMED, f"{numbers}; no value is the double of another.")
    numbers += f"; each doubling multiplies them by {', '.join(f'{ratio:.2f}' for ratio in ratios)}."
    if all(0.45 < ratio < 0.55 for ratio in ratios):
        return Claim(text, CONFIRMED, numbers)
    why = "They fall, but the first convolution stays dense and the rest does not shrink with groups."
    return Claim(text, REFUTED, f"{numbers} {why}" if all(ratio < 1 for ratio in ratios) else numbers)


def _doubling(study):
    text = "FLOPs double with each doubling of groups."
    ratios = _doublings(study, "flops")
    numbers = f"From groups {_chain(study)} the FLOPs are {', '.join(count(configuration.flops) for configuration in study.configurations)}"
    if not ratios:
        return Claim(text, NOT_CONFIRMED, f"{numbers}; no value is the double of another.")
    numbers += f"; each doubling multiplies them by {', '.join(f'{ratio:.2f}' for ratio in ratios)}."
    if all(1.8 < ratio < 2.2 for ratio in ratios):
        return Claim(text, CONFIRMED, numbers)
    contradiction = " They fall: the earlier report has it the wrong way round." if all(r < 1 for r in ratios) else ""
    return Claim(text, REFUTED, numbers + contradiction)


def _chain(study):
    return ", ".join(value_text(configuration.values["groups"]) for configuration in study.configurations)


def _doublings(study, what):
    return [
        getattr(b, what) / getattr(a, what)
        for a in study.configurations
        for b in study.configurations
        if b.values["groups"] == 2 * a.values["groups"]
    ]


def _all_pairs(study, value, resolution=0.0):
    """Return (a, b, Difference b - a, Holm-corrected p) for every two configurations."""
    pairs = []
    for index, a in enumerate(study.compared):
        for b in study.compared[index + 1 :]:
            values = ({run.seed: value(run) for run in configuration.runs} for configuration in (a, b))
            pairs.append((a, b, paired_difference(*values, resolution)))
    return [(*pair, p) for pair, p in zip(pairs, holm([item.p for _, _, item in pairs]), strict=True)]


def _gap(pair):
    a, b, item, p = pair
    low, high = (a, b) if item.mean >= 0 else (b, a)
    if not item.n:
        return f"unknown: {low.label} and {high.label} share no seed"
    if math.isnan(item.p):
        return f"{percentage_points(abs(item.mean))} points between {low.label} and {high.label} (no interval)"
    bounds = (item.low, item.high) if item.mean >= 0 else (-item.high, -item.low)
    return (
        f"{percentage_points(abs(item.mean))} points between {low.label} and {high.label} "
        f"(95 % interval {percentage_points(bounds[0])} to {percentage_points(bounds[1])}, Holm-corrected {p_text(p)})"
    )


def _too_few(pairs):
    return min(item.n for _, _, item, _ in pairs) < FEWEST_SEEDS


def _few_seeds(pairs):
    fewest = min(item.n for _, _, item, _ in pairs)
    return f"{fewest} equal seed{'' if fewest == 1 else 's'} cannot tell; at least {FEWEST_SEEDS} are needed."
