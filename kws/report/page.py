"""The page: one HTML file that contains its style, scripts, data, pictures and audio, and fetches nothing."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined

from kws import metrics
from kws.analysis.narrative import answer, conclusions
from kws.analysis.records import Excluded, RunRecord
from kws.analysis.statistics import accuracy_interval
from kws.analysis.study import Study
from kws.formatting import percent, percentage_points, script_digest, seconds, value_text
from kws.report import content, vega
from kws.report.misclassified import misclassified
from kws.report.vega import Figure

MOST_ROWS = 20  # of a search's comparison: the best ones
RUN_METRICS = (
    ("best epoch", metrics.BEST_EPOCH, value_text),
    ("validation", metrics.BEST_VAL_ACCURACY, percent),
    ("test", metrics.TEST_ACCURACY, percent),
    ("test errors", metrics.TEST_ERRORS, value_text),
    ("epoch time", metrics.EPOCH_S_MEDIAN, seconds),
)
Table = tuple[Any, ...]  # arguments of the template's macro `table`


def page(
    drawn: Sequence[tuple[Study, list[Figure]]],
    without_result: Sequence[Excluded] = (),
    data_dir: str | Path | None = None,
    demos: Mapping[str, str] = {},
) -> str:
    """Return the page's HTML for [(study, its figures)]. Every text that comes from runs is escaped.

    without_result: the excluded runs of studies without a finished run. demos: the path of the demo of a study's key.
    """
    # With autoescape no text of a run can become markup; trim_blocks and lstrip_blocks keep the file small.
    environment = Environment(
        loader=PackageLoader("kws.report", "static"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["script_digest"] = script_digest
    environment.globals["percent"] = percent
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    specs = {figure.id: figure.spec() for _, figures in drawn for figure in figures}
    return (
        environment.get_template("page.html.j2")
        .render(
            articles=[_article(study, figures, data_dir) | {"demo": demos.get(study.key)} for study, figures in drawn],
            data={"config": json.loads(vega.static("theme.json")), "locale": vega.LOCALE, "specs": specs},
            methods=content.METHODS,
            now=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            scripts=[_vega(), vega.static("page.js")],
            style=vega.static("page.css"),
            without_result=without_result,
        )
        .lstrip()
    )


@cache
def _vega() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, for an inline script."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _article(study: Study, figures: Sequence[Figure], data_dir: str | Path | None) -> dict[str, Any]:
    """Return what the template's macro `article` shows of a study."""
    run = study.chosen_run
    test_accuracy = run.summary[metrics.TEST_ACCURACY]
    settings = [*study.parameters, "seed"]
    row = study.recommended.test_answers[[study.recommended.runs.index(run)]]
    of_model = accuracy_interval(row, study.test_speakers)
    return {
        "study": study,
        "figures": figures,
        "answer": answer(study),
        "facts": content.facts(study),
        "comparison": _comparison(study),
        "differences": _differences(study),
        "conclusions": conclusions(study),
        "val_accuracy": run.summary[metrics.BEST_VAL_ACCURACY],
        "test_accuracy": test_accuracy,
        "recalls": content.recalls(run),
        "interval": f"{percentage_points(of_model.low)} to {percentage_points(of_model.high)}",
        "confusion": _confusion(run),
        "layers": [
            [layer["layer"], layer["output_shape"] or "1", f"{layer['params']:,}", f"{layer['macs']:,}"]
            for layer in run.layers
        ],
        "misclassified": (*misclassified(study, data_dir), len(study.runs)),
        "run_heads": ["run", *(f"{name}#" for name in (*settings, *(name for name, _, _ in RUN_METRICS))), "where"],
        "runs": list(_run_rows(study.runs, settings)),
    }


def _comparison(study: Study) -> Table:
    shown = study.configurations
    if study.is_search:
        shown = sorted(shown, key=lambda item: -item.val.mean)[:MOST_ROWS]
    marks = [index for index, item in enumerate(shown) if content.is_marked(study, item)]
    caption = "Mean ± standard deviation over seeds, and the 95 % interval of the mean"
    caption += "; the recommended configuration is highlighted" if marks else ""
    if len(shown) < len(study.configurations):
        best = f"The {len(shown)} best of {len(study.configurations)} configurations by validation accuracy"
        caption = f"{best}. {caption}"
    return caption, content.comparison_heads(study), content.comparison_rows(shown), "cards", marks


def _differences(study: Study) -> Table:
    which = "the recommended configuration" if study.recommends else "the best so far"
    caption = (
        f"Each configuration minus {study.recommended.label}, {which}: percentage points over equal seeds and clips, "
        "95 % interval, Holm-corrected p"
    )
    return caption, content.difference_heads(study), content.difference_rows(study)


def _confusion(run: RunRecord) -> list[list[int]]:
    """Return the number of test clips by label and predicted label."""
    n = len(run.labels)
    counts = [[0] * n for _ in range(n)]
    for prediction in run.predictions.values():
        counts[prediction.label][prediction.predicted] += 1
    return counts


def _run_rows(runs: Iterable[RunRecord], settings: Sequence[str]) -> Iterable[list[str]]:
    for run in runs:
        numbers = (text(run.summary[key]) if key in run.summary else "" for _, key, text in RUN_METRICS)
        yield [run.name, *(value_text(run.config[name]) for name in settings), *numbers, run.where]
