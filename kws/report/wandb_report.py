"""The study object as a W&B report and a saved workspace, made by code: the page's story with W&B's own panels."""

import re

from kws import metrics
from kws.analysis.narrative import answer, conclusions
from kws.analysis.wandb_runs import wandb_path
from kws.errors import KwsError
from kws.formatting import one_line
from kws.report.markdown import comparison_table, differences_table
from kws.report.page import METHODS

TITLE = "Keyword-spotting studies"
MARK = "Made by kws report --publish."


def project_of(runs, sources):
    """Return (entity, project) to publish in: those of the first W&B path among the sources, else those of the runs.

    An empty entity is the account's default one. Raises KwsError where the runs name several projects.
    """
    if paths := list(filter(None, map(wandb_path, sources))):
        return paths[0][:2]
    named = {(run.config["entity"], run.config["project"]) for run in runs}
    if len(named) > 1:
        listed = ", ".join("/".join(filter(None, name)) for name in sorted(named))
        raise KwsError(f"--publish: the runs name several W&B projects ({one_line(listed)}); give one as the source")
    return next(iter(named))


def publish(studies, entity, project):
    """Save the studies' W&B report and workspace in ENTITY/PROJECT and return {"report": url, "workspace": url}.

    The runs must be there (made online, or uploaded by wandb sync). Publishing again updates the same report and
    workspace: the report is found by its title, and the workspace by the address that the report's description holds.
    Raises KwsError without an account, without the extra `workspaces`, or where W&B cannot be reached or refuses.
    """
    import requests
    import wandb

    where = f"W&B {'/'.join(filter(None, (entity, project)))}"
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise KwsError("--publish needs wandb-workspaces: pip install 'wandb[workspaces]'") from error
    try:
        if not wandb.login(prompt=False, verify=False):
            raise KwsError(f"{where}: no account is set up here; wandb login or $WANDB_API_KEY does that")
        api = wandb.Api(timeout=60)
        entity = entity or api.default_entity
        existing = _existing_report(api, entity, project)
        workspace = _workspace(workspaces, reports, studies, entity, project, existing)
        workspace.save()
        report = reports.Report(
            entity=entity,
            project=project,
            title=TITLE,
            description=f"{MARK} Workspace: {workspace.url}",
            blocks=_blocks(reports, studies, entity, project),
            width="fluid",
        )
        if existing:
            report.id = existing.id  # saving under the id of a report updates it
        report.save()
    except wandb.errors.AuthenticationError as error:
        raise KwsError(
            f"{where}: the key is not taken ({one_line(error, 200)}); wandb login --relogin sets it"
        ) from error
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        raise KwsError(f"{where}: the report cannot be saved ({one_line(error, 200)}); try again later") from error
    return {"report": report.url, "workspace": workspace.url}


def _existing_report(api, entity, project):
    try:
        found = [item for item in api.reports(f"{entity}/{project}") if item.display_name == TITLE]
    except ValueError:  # the project is not there yet
        return None
    return next((item for item in found if MARK in (item.description or "")), None)


def _workspace(workspaces, reports, studies, entity, project, existing):
    """Return the workspace that the report names, else a new one, with one open section a study."""
    address = re.search(r"Workspace: (\S+)", existing.description) if existing else None
    workspace = workspaces.Workspace(entity=entity, project=project, name=TITLE)
    if address:
        try:
            workspace = workspaces.Workspace.from_url(address.group(1))
        except ValueError:  # someone deleted it
            pass
    workspace.sections = [
        workspaces.Section(name=_title(study), panels=_panels(reports, study), is_open=True) for study in studies
    ]
    return workspace


def _title(study):
    return f"{study.title} ({'synthetic' if study.synthetic else 'real speech'})"


def _blocks(reports, studies, entity, project):
    blocks = [reports.TableOfContents()]
    for study in studies:
        blocks += [reports.H1(study.question), reports.P(" ".join(answer(study)))]
        if study.synthetic:
            blocks.append(reports.CalloutBlock("Synthetic data: these numbers say little about real voices."))
        blocks.append(reports.MarkdownBlock(comparison_table(study)))
        runset = reports.Runset(entity=entity, project=project, name=_title(study), filters=_filters(study))
        blocks.append(reports.PanelGrid(runsets=[runset], panels=_panels(reports, study)))
        if study.recommends:
            blocks += [reports.H2("Differences"), reports.MarkdownBlock(differences_table(study))]
        if lines := conclusions(study):
            blocks += [reports.H2("Conclusions"), reports.UnorderedList(lines)]
    return [*blocks, reports.H2("How this was computed"), reports.P(" ".join(METHODS.split()))]


def _filters(study):
    """Return W&B's filters for the study's runs: finished, of this study, on this kind of data."""
    from wandb_workspaces import expr

    data = study.runs[0].config["data"]
    settings = {"study": study.name, "data": data} | study.variant
    return [*(expr.Config(name) == value for name, value in settings.items()), expr.Metric("State") == "finished"]


def _panels(reports, study):
    """Return the study's panels; curves and bars are grouped by the scientific parameter, with the range over seeds."""
    grouped = {}
    if study.parameters and not study.is_search:
        by = reports.Config(study.parameters[0])
        grouped = {"groupby": by, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    curves = [
        reports.LinePlot(title="Training loss by epoch", x="epoch", y=[metrics.TRAIN_LOSS], log_y=True, **grouped),
        reports.LinePlot(title="Validation accuracy by epoch", x="epoch", y=[metrics.VAL_ACCURACY], **grouped),
    ]
    bars = [
        reports.BarPlot(title=title, metrics=[reports.SummaryMetric(key)], orientation="v", **grouped)
        for title, key in (
            ("Test accuracy", metrics.TEST_ACCURACY),
            ("Parameters", metrics.PARAMS),
            ("FLOPs a clip", metrics.FLOPS),
            ("Seconds an epoch", metrics.EPOCH_S_MEDIAN),
        )
    ]
    accuracy = reports.SummaryMetric(metrics.BEST_VAL_ACCURACY)
    scatters = [
        reports.ScatterPlot(title=f"Validation accuracy by {name}", x=reports.Config(name), y=accuracy)
        for name in study.parameters
    ]
    scatters.append(
        reports.ScatterPlot(
            title="Validation accuracy against FLOPs", x=reports.SummaryMetric(metrics.FLOPS), y=accuracy, log_x=True
        )
    )
    columns = [reports.Config(name) for name in (*study.parameters, "seed")]
    columns += [
        reports.SummaryMetric(key) for key in (metrics.FLOPS, metrics.EPOCH_S_MEDIAN, metrics.BEST_VAL_ACCURACY)
    ]
    parallel = reports.ParallelCoordinatesPlot(
        title="Every run, from its settings to validation accuracy",
        columns=[reports.ParallelCoordinatesPlotColumn(metric=metric) for metric in columns],
    )
    panels = [*curves, *bars, *scatters, parallel]
    for place, panel in enumerate(panels):  # W&B's grid is 24 wide: three panels a row
        panel.layout = reports.Layout(x=8 * (place % 3), y=8 * (place // 3), w=8, h=8)
    return panels
