"""Publishes studies as a W&B report and a saved workspace: the content of the page, with W&B's own panels."""

import math
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from kws import metrics
from kws.analysis.narrative import answer, conclusions
from kws.analysis.records import RunRecord
from kws.analysis.study import Study
from kws.analysis.wandb_runs import wandb_path
from kws.errors import KwsError
from kws.formatting import one_line
from kws.report.content import METHODS
from kws.report.markdown import comparison_table, differences_table
from kws.training.wandb_account import access_problem

if TYPE_CHECKING:
    import wandb

TITLE = "Keyword-spotting studies"
MARK = "Made by kws report --publish."


def project_of(runs: Iterable[RunRecord], sources: Iterable[str]) -> tuple[str, str]:
    """Return (entity, project) to publish in: those of the first W&B path among the sources, else those of the runs.

    An empty entity is the account's default one. Raises KwsError if the runs name several projects.
    """
    for path in filter(None, map(wandb_path, sources)):
        return path[:2]
    named = {(run.config["entity"], run.config["project"]) for run in runs}
    if len(named) > 1:
        listed = ", ".join("/".join(filter(None, name)) for name in sorted(named))
        raise KwsError(f"--publish: the runs name several W&B projects ({one_line(listed)}); give one as the source")
    return next(iter(named))


def publish(studies: Sequence[Study], entity: str, project: str) -> dict[str, str]:
    """Save the studies' W&B report and workspace in ENTITY/PROJECT and return {"report": url, "workspace": url}.

    The runs must be on W&B (made online, or uploaded by wandb sync). Publishing again updates the same report and
    workspace: the report is found by its title, and the workspace by the address in the report's description.
    Raises KwsError without an account, without the extra `workspaces`, or if W&B is unreachable or refuses.
    """
    import requests
    import wandb

    where = f"W&B {'/'.join(filter(None, (entity, project)))}"
    try:
        reports = import_module("wandb_workspaces.reports.v2")
        workspaces = import_module("wandb_workspaces.workspaces")
    except ImportError as error:
        raise KwsError("--publish needs wandb-workspaces; run: pip install 'wandb[workspaces]'") from error
    if problem := access_problem():
        raise KwsError(f"{where}: {problem}")
    try:
        api = wandb.Api(timeout=60)
        entity = entity or api.settings["entity"] or api.default_entity or ""
        existing = _existing_report(api, entity, project)
        workspace = _workspace(workspaces, entity, project, existing)
        workspace.sections = [
            workspaces.Section(name=_title(study), panels=_panels(reports, study), is_open=True) for study in studies
        ]
        workspace.save()
        blocks, description = _blocks(reports, studies, entity, project), f"{MARK} Workspace: {_quoted(workspace.url)}"
        report = reports.Report(
            entity=entity, project=project, title=TITLE, description=description, blocks=blocks, width="fluid"
        )
        if existing:
            report.id = existing.id  # saving under the id of a report updates it
        report.save()
    except wandb.errors.AuthenticationError as error:
        reason = one_line(error, 200)
        raise KwsError(f"{where}: the API key is rejected ({reason}); run wandb login --relogin") from error
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        raise KwsError(f"{where}: the report cannot be saved ({one_line(error, 200)}); try again later") from error
    return {"report": _quoted(report.url), "workspace": _quoted(workspace.url)}


def _existing_report(api: "wandb.Api", entity: str, project: str) -> Any:
    """Return the report that publish made before, or None."""
    try:
        found = [item for item in api.reports(f"{entity}/{project}") if item.display_name == TITLE]
    except ValueError:  # there is no such project yet
        return None
    return next((item for item in found if MARK in (item.description or "")), None)


def _workspace(workspaces: ModuleType, entity: str, project: str, existing: Any) -> Any:
    """Return the workspace that the existing report names, else a new one."""
    if existing and (address := re.search(r"Workspace: (\S+)", existing.description)):
        try:
            _, _, place = unquote(address.group(1)).partition(":")
            return workspaces.Workspace.from_url(f"wandb:{place}")  # in http: a project's ";" would end the path
        except ValueError:  # someone deleted it
            pass
    return workspaces.Workspace(entity=entity, project=project, name=TITLE)


def _quoted(address: str) -> str:
    """Return an address with the characters of a project's name that addresses cannot have as escapes."""
    return quote(address, safe=":/?=&+")


def _title(study: Study) -> str:
    return f"{study.title} ({'synthetic' if study.synthetic else 'real speech'})"


def _blocks(reports: ModuleType, studies: Iterable[Study], entity: str, project: str) -> list[Any]:
    blocks = [reports.TableOfContents()]
    for study in studies:
        blocks += [reports.H1(study.question), reports.P(" ".join(answer(study)))]
        if study.synthetic:
            blocks.append(reports.CalloutBlock("Synthetic data: these numbers say little about real voices."))
        blocks.append(reports.MarkdownBlock(comparison_table(study)))
        runset = reports.Runset(entity=entity, project=project, name=_title(study), filters=_filters(study))
        blocks.append(reports.PanelGrid(runsets=[runset], panels=_panels(reports, study)))
        if study.comparisons:
            blocks += [reports.H2("Differences"), reports.MarkdownBlock(differences_table(study))]
        if lines := conclusions(study):
            blocks += [reports.H2("Conclusions"), reports.UnorderedList(lines)]
    return [*blocks, reports.H2("Methods"), reports.P(" ".join(METHODS.split()))]


def _filters(study: Study) -> list[Any]:
    """Return W&B's filters for the study's runs: finished, of this study, on this kind of data, made by its code."""
    from wandb_workspaces import expr

    settings = {"study": study.name, "data": study.runs[0].config["data"], "code_version": study.code.kws}
    settings |= {name: list(value) if isinstance(value, tuple) else value for name, value in study.variant.items()}
    filters = [expr.Config(name) == _escaped(value) for name, value in settings.items()]
    return [*filters, expr.Metric("State") == "finished"]


def _escaped(value: Any) -> Any:
    """Return a filter's value with characters of text as escapes: the library parses it as Python, within quotes."""
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return "".join(c if c.isalnum() else f"\\U{ord(c):08x}" for c in value) if isinstance(value, str) else value


def _panels(reports: ModuleType, study: Study) -> list[Any]:
    """Return the study's panels; curves and bars are grouped by the scientific parameter, with the range over seeds."""
    grouped: dict[str, Any] = {}
    if study.parameters and not study.is_search:
        by = reports.Config(study.parameters[0])
        grouped = {"groupby": by, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    comparable = not math.isnan(study.best.epoch_s.mean)
    times = {"Seconds per epoch": metrics.EPOCH_S_MEDIAN} if comparable else {}
    bars = {"Test accuracy": metrics.TEST_ACCURACY, "Parameters": metrics.PARAMS, "FLOPs per clip": metrics.FLOPS}
    accuracy, flops = reports.SummaryMetric(metrics.BEST_VAL_ACCURACY), reports.SummaryMetric(metrics.FLOPS)
    columns = [reports.Config(name) for name in (*study.parameters, "seed")]
    columns += [flops, *map(reports.SummaryMetric, times.values()), accuracy]
    loss, val = ({"x": metrics.EPOCH, "y": [name]} | grouped for name in (metrics.TRAIN_LOSS, metrics.VAL_ACCURACY))
    panels = [
        reports.LinePlot(title="Training loss by epoch", log_y=True, **loss),
        reports.LinePlot(title="Validation accuracy by epoch", **val),
    ]
    for title, key in (bars | times).items():
        panels.append(reports.BarPlot(title=title, metrics=[reports.SummaryMetric(key)], orientation="v", **grouped))
    for name in study.parameters:
        title = f"Validation accuracy by {name}"
        panels.append(reports.ScatterPlot(title=title, x=reports.Config(name), y=accuracy))
    title, parallel = "Settings and validation accuracy of every run", reports.ParallelCoordinatesPlotColumn
    panels += [
        reports.ScatterPlot(title="Validation accuracy against FLOPs", x=flops, y=accuracy, log_x=True),
        reports.ParallelCoordinatesPlot(title=title, columns=[parallel(metric=metric) for metric in columns]),
    ]
    for place, panel in enumerate(panels):  # W&B's grid is 24 wide: three panels per row
        panel.layout = reports.Layout(x=8 * (place % 3), y=8 * (place // 3), w=8, h=8)
    return panels
