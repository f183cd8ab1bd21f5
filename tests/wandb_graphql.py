"""What the stand-in W&B server remembers, and its answers to the client's GraphQL operations.

The names and fields are those that wandb 0.31.0 was seen to send and to read. An answer holds every field that any
caller selects; GraphQL's selection itself is not carried out. An operation that is not here is an error and is
written to `State.unknown`.
"""

import itertools
import json
import random
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

import yaml

ENTITY = "tester"


class Refused(Exception):
    """The operation is unknown, or what it names does not exist."""


@dataclass
class Run:
    """One run as it arrived. `history` maps the offset of a row to the row."""

    id: str
    project: str
    storage_id: str
    created: str
    state: str = "running"
    raw_config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    rewritten: list = field(default_factory=list)  # offsets that came twice with different rows
    events: int = 0
    console: int = 0
    files: dict = field(default_factory=dict)
    uploaded: set = field(default_factory=set)
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    program: str | None = None
    commit: str | None = None
    sweep: str | None = None
    tags: list = field(default_factory=list)
    exit_code: int | None = None
    preempting: bool = False
    stop_requested: bool = False
    resumed: int = 0
    alerts: list = field(default_factory=list)

    @property
    def config(self) -> dict:
        """The settings without W&B's own `_wandb` entry."""
        return {key: entry.get("value") for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def rows(self) -> list:
        return [self.history[offset] for offset in sorted(self.history)]

    @property
    def gaps(self) -> list:
        """Offsets below the highest one that never arrived."""
        return sorted(set(range(max(self.history, default=-1) + 1)) - set(self.history))


@dataclass
class Sweep:
    """A sweep: its cells that wait (run id, arguments), and the runs that were handed out, in order."""

    id: str
    project: str
    config: dict
    text: str
    waiting: deque
    handed_out: list = field(default_factory=list)
    state: str = "PENDING"

    @property
    def drawn_for_ever(self) -> bool:
        return self.config["method"] != "grid"


@dataclass
class Agent:
    id: str
    sweep: str
    run: str | None = None
    runs: list = field(default_factory=list)


@dataclass
class Artifact:
    """One version. `files` maps a path to its bytes; `manifest` is W&B's own JSON."""

    id: str
    name: str
    version: int
    type: str
    project: str
    run: str | None
    digest: str
    client_id: str | None
    created: str
    state: str = "PENDING"
    aliases: list = field(default_factory=list)
    description: str | None = None
    metadata: str | None = None
    manifest: dict | None = None
    files: dict = field(default_factory=dict)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def edges(nodes: list, first: int | None = None, after: str | None = None) -> dict:
    """A GraphQL connection over `nodes`; the cursor is the number of nodes before and with it."""
    start = int(after or 0)
    shown = nodes[start:start + first] if first else nodes[start:]
    end = start + len(shown)
    return {
        "totalCount": len(nodes),
        "edges": [{"node": node, "cursor": str(start + i + 1)} for i, node in enumerate(shown)],
        "pageInfo": {"__typename": "PageInfo", "endCursor": str(end), "hasNextPage": end < len(nodes)},
    }


def grid(parameters: dict) -> list[dict]:
    """Every cell of a grid search as `{key: {"value": value}}`, constants included."""
    axes = [spec["values"] if "values" in spec else [spec["value"]] for spec in parameters.values()]
    return [{key: {"value": value} for key, value in zip(parameters, cell, strict=True)}
            for cell in itertools.product(*axes)]


def draw(parameters: dict, chance: random.Random) -> dict:
    """One cell of a random search: listed values, integer and uniform ranges, log-uniform values."""
    cell = {}
    for key, spec in parameters.items():
        if "min" not in spec:
            value = chance.choice(spec["values"]) if "values" in spec else spec["value"]
        elif spec.get("distribution") == "int_uniform":
            value = chance.randint(spec["min"], spec["max"])
        elif spec.get("distribution") == "log_uniform_values":
            value = spec["min"] * (spec["max"] / spec["min"]) ** chance.random()
        else:
            value = chance.uniform(spec["min"], spec["max"])
        cell[key] = {"value": value}
    return cell


def lookup(run: Run, path: str):
    """The value of a run that a filter's or an order's key means, such as `config.n_mels.value`."""
    head, _, rest = path.partition(".")
    if head in ("config", "summary_metrics"):
        values = run.config if head == "config" else run.summary
        return values.get(rest.removesuffix(".value"), values.get(rest))
    names = {"display_name": "display_name", "displayName": "display_name", "name": "id", "sweep": "sweep",
             "sweepName": "sweep", "state": "state", "group": "group", "tags": "tags", "created_at": "created",
             "createdAt": "created", "heartbeat_at": "created", "jobType": "job_type"}
    if head not in names:
        raise Refused(f"no filter or order by {path}")
    return getattr(run, names[head])


COMPARISONS = {
    "$eq": lambda have, want: want in have if isinstance(have, list) else have == want,
    "$ne": lambda have, want: want not in have if isinstance(have, list) else have != want,
    "$in": lambda have, want: any(one in want for one in (have if isinstance(have, list) else [have])),
    "$nin": lambda have, want: all(one not in want for one in (have if isinstance(have, list) else [have])),
    "$gt": lambda have, want: have is not None and have > want,
    "$gte": lambda have, want: have is not None and have >= want,
    "$lt": lambda have, want: have is not None and have < want,
    "$lte": lambda have, want: have is not None and have <= want,
    "$exists": lambda have, want: (have is not None) == want,
    "$regex": lambda have, want: have is not None and re.search(want, have) is not None,
}


def matches(run: Run, wanted: dict) -> bool:
    """Whether the run satisfies a filter in the MongoDB words that `wandb.Api().runs(filters=...)` takes."""
    for key, want in (wanted or {}).items():
        if key in ("$and", "$or"):
            if not (all if key == "$and" else any)(matches(run, part) for part in want):
                return False
        elif not isinstance(want, dict):
            if not COMPARISONS["$eq"](lookup(run, key), want):
                return False
        elif not all(COMPARISONS[word](lookup(run, key), value) for word, value in want.items()):
            return False
    return True


class State:
    """Everything that arrived, and one method for each GraphQL operation, named like it."""

    def __init__(self, url: str, seed: int = 0):
        self.url = url
        self.projects: dict[str, int] = {}
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.agents: dict[str, Agent] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.views: dict[str, dict] = {}
        self.unknown: list[str] = []
        self.operations: list[str] = []
        self._chance = random.Random(seed)

    def answer(self, query: str, variables: dict) -> dict:
        """The `data` of a GraphQL request. Raises Refused."""
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query[:60]
        self.operations.append(name)
        operation = getattr(self, name, None) if name[0].isalpha() and name not in vars(self) else None
        if operation is None or name in ("answer", "stream"):
            self.unknown.append(name)
            raise Refused(f"unknown operation {name}")
        return operation(variables)

    def _id(self, length: int = 8) -> str:
        return "".join(self._chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    # Who is asking.
    def Viewer(self, v):  # noqa: N802
        viewer = {"id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "flags": "{}",
                  "email": f"{ENTITY}@example.org", "admin": False, "deletedAt": None,
                  "teams": edges([]), "apiKeys": edges([])}
        return {"viewer": viewer}

    GetDefaultEntity = GetViewer = Viewer

    def ServerFeaturesQuery(self, v):  # noqa: N802
        return {"serverInfo": {"features": []}}

    def OrgFeatureFlags(self, v):  # noqa: N802
        return {"organization": None}

    def OrganizationCoreWeaveOrganizationID(self, v):  # noqa: N802
        return {"entity": None}

    FetchOrgEntityFromEntity = XXHashDigestsEnabled = OrganizationCoreWeaveOrganizationID

    # Projects, reports, workspaces.
    def _project(self, name: str) -> dict:
        number = self.projects.setdefault(name, len(self.projects) + 1)
        return {"__typename": "Project", "id": f"project-{number}", "internalId": str(number), "name": name,
                "entityName": ENTITY, "entity": {"id": "entity-1", "name": ENTITY}, "readOnly": False,
                "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": self.Viewer({})["viewer"],
                "description": "", "access": "PRIVATE", "views": "{}"}

    def _known_project(self, name: str) -> dict | None:
        return self._project(name) if name in self.projects else None

    def GetProject(self, v):  # noqa: N802
        return {"project": self._known_project(v["name"])}

    def GetProjects(self, v):  # noqa: N802
        return {"models": edges([self._project(name) for name in self.projects])}

    def CreateProject(self, v):  # noqa: N802
        project = self._project(v["input"]["name"])
        return {"result": {"project": project, "model": project, "inserted": True}}

    def ProjectInternalId(self, v):  # noqa: N802
        return {"project": self._known_project(v["projectName"])}

    def upsertView(self, v):  # noqa: N802
        key = v.get("id") or f"view-{len(self.views) + 1}"
        view = self.views.setdefault(key, {"id": key, "createdAt": now(), "user": self.Viewer({})["viewer"]})
        view.update({word: v[word] for word in ("type", "name", "displayName", "description", "spec") if word in v})
        view.update(project=self._project(v["projectName"]), updatedAt=now())
        return {"upsertView": {"view": view, "inserted": not v.get("id")}}

    UpsertView2 = upsertView

    def SpecificReport(self, v):  # noqa: N802
        return {"view": self.views.get(v["reportId"])}

    def deleteView(self, v):  # noqa: N802
        return {"deleteView": {"success": self.views.pop(v["id"], None) is not None, "pendingDrafts": []}}

    def View(self, v):  # noqa: N802
        project = v.get("project") or v["name"]
        shown = [view for view in self.views.values() if view["project"]["name"] == project
                 and view["type"] == (v.get("viewType") or "runs") and v.get("viewName") in (None, view["name"])]
        return {"project": {"allViews": edges(shown)}}

    ProjectViews = View

    # Runs.
    def _run(self, name: str) -> Run:
        if name not in self.runs:
            raise Refused(f"no run {name}")
        return self.runs[name]

    def _bucket(self, run: Run) -> dict:
        rows = run.rows
        return {
            "id": run.storage_id, "name": run.id, "displayName": run.display_name or run.id, "state": run.state,
            "description": run.notes, "notes": run.notes, "config": json.dumps(run.raw_config), "sweepName": run.sweep,
            "group": run.group, "jobType": run.job_type, "commit": run.commit, "tags": run.tags, "readOnly": False,
            "createdAt": run.created, "heartbeatAt": now(), "systemMetrics": "{}", "user": self.Viewer({})["viewer"],
            "summaryMetrics": json.dumps(run.summary), "project": self._project(run.project),
            "projectId": str(self.projects[run.project]), "exitcode": run.exit_code,
            "historyLineCount": len(rows), "eventsLineCount": run.events, "logLineCount": run.console,
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]), "eventsTail": "[]",
            "historyKeys": {"lastStep": rows[-1].get("_step", -1) if rows else -1,
                            "keys": {key: {} for row in rows for key in row}},
            # A run that an agent was told of but that has not begun has none: nothing to resume.
            "wandbConfig": json.dumps({"t": run.raw_config["_wandb"]["value"].get("t", {})})
            if "_wandb" in run.raw_config else None,
            "history": [json.dumps(row) for row in rows], "events": [], "sampledHistory": [rows],
            "parquetHistory": {"parquetUrls": [], "liveData": rows}, "stopped": run.stop_requested,
        }

    def UpsertBucket(self, v):  # noqa: N802
        by_storage_id = {run.storage_id: run for run in self.runs.values()}
        run = by_storage_id.get(v.get("id")) or self.runs.get(v.get("name"))
        inserted = run is None
        if run is None:
            name = v.get("name") or self._id()
            self._project(v.get("project") or "uncategorized")
            run = Run(name, v.get("project") or "uncategorized", f"storage-{name}", now())
            self.runs[name] = run
        if v.get("name") and run.state != "running":  # a process began it; an edit through wandb.Api sends an id
            run.resumed += run.state != "pending"
            run.state, run.exit_code, run.preempting = "running", None, False
        if v.get("config"):
            run.raw_config = json.loads(v["config"])
        if v.get("summaryMetrics"):
            run.summary = json.loads(v["summaryMetrics"])
        for word, attribute in {"displayName": "display_name", "display_name": "display_name", "groupName": "group",
                                "jobType": "job_type", "notes": "notes", "program": "program", "commit": "commit",
                                "sweep": "sweep", "tags": "tags"}.items():
            if v.get(word) is not None:
                setattr(run, attribute, v[word])
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def RunResumeStatus(self, v):  # noqa: N802
        run = self.runs.get(v["name"])
        return {"model": {**self._project(v["project"]), "bucket": run and self._bucket(run)}}

    def Run(self, v):  # noqa: N802
        run = self.runs.get(v.get("name") or v.get("run") or v.get("runName"))
        if run is None or run.project != v["project"]:
            return {"project": {"run": None}}
        return {"project": {**self._project(run.project), "run": self._bucket(run)}}

    RunState = QueryRunInfo = RunFullHistory = RunHistoryKeys = RunParquetHistory = Run

    def HistoryPage(self, v):  # noqa: N802
        rows = [row for row in self._run(v["run"]).rows if v["minStep"] <= row["_step"] < v["maxStep"]]
        return {"project": {"run": {"history": [json.dumps(row) for row in rows[:v["pageSize"]]]}}}

    def RunSampledHistory(self, v):  # noqa: N802
        specs = [json.loads(spec) for spec in v.get("specs") or [v["spec"]]]
        rows = self._run(v.get("name") or v["run"]).rows
        sampled = []
        for spec in specs:
            kept = [row for row in rows if all(key in row for key in spec["keys"])
                    and spec.get("minStep", 0) <= row["_step"] < spec.get("maxStep", float("inf"))]
            sampled.append([{key: row[key] for key in spec["keys"]} for row in kept[:spec.get("samples", 500)]])
        return {"project": {"run": {"sampledHistory": sampled}}}

    SampledHistoryPage = RunSampledHistory

    def Runs(self, v):  # noqa: N802
        found = [run for run in self.runs.values()
                 if run.project == v["project"] and matches(run, json.loads(v.get("filters") or "{}"))]
        order = v.get("order") or "+created_at"
        key = order.lstrip("+-")
        known = [run for run in found if lookup(run, key) is not None]
        known.sort(key=lambda run: lookup(run, key), reverse=order.startswith("-"))
        known += [run for run in found if lookup(run, key) is None]
        shown = edges([self._bucket(run) for run in known], v.get("perPage"), v.get("cursor"))
        project = self._known_project(v["project"])
        return {"project": project and {**project, "runCount": len(found), "runs": shown}}

    def RunFiles(self, v):  # noqa: N802
        run = self._run(v["name"])
        files = [{"id": f"{run.id}/{name}", "name": name, "directUrl": self.file_url("run", run.id, name),
                  "url": self.file_url("run", run.id, name), "sizeBytes": str(len(content)), "mimetype": "",
                  "md5": "", "updatedAt": now()}
                 for name, content in sorted(run.files.items()) if not v.get("fileNames") or name in v["fileNames"]]
        shown = edges(files, v.get("fileLimit"), v.get("fileCursor"))
        return {"project": {**self._project(run.project), "run": {"fileCount": len(files), "files": shown}}}

    def CreateRunFiles(self, v):  # noqa: N802
        run = self._run(v["run"])
        files = [{"name": name, "uploadUrl": self.file_url("run", run.id, name)} for name in v["files"]]
        return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}

    def MarkRunFilesUploaded(self, v):  # noqa: N802
        self._run(v["run"]).uploaded.update(v["files"])
        return {"markRunFilesUploaded": {"success": True}}

    def StopRun(self, v):  # noqa: N802
        for run in self.runs.values():
            run.stop_requested |= run.storage_id == v["id"]
        return {"stopRun": {"success": True}}

    def NotifyScriptableRunAlert(self, v):  # noqa: N802
        self._run(v["runName"]).alerts.append((v["title"], v["text"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def file_url(self, kind: str, owner: str, name: str) -> str:
        return f"{self.url}/storage/{kind}/{owner}/{name}"

    def stream(self, name: str, sent: dict) -> dict:
        """One request of the file stream: rows of history, the summary, console lines, the end of the run."""
        run = self._run(name)
        for file, chunk in (sent.get("files") or {}).items():
            offset, lines = chunk["offset"], chunk["content"]
            if file == "wandb-history.jsonl":
                for i, row in enumerate(map(json.loads, lines), start=offset):
                    if run.history.get(i, row) != row:
                        run.rewritten.append(i)
                    run.history[i] = row
            elif file == "wandb-summary.json":
                run.summary = json.loads(lines[-1])
            elif file == "wandb-events.jsonl":
                run.events = max(run.events, offset + len(lines))
            elif file == "output.log":
                run.console = max(run.console, offset + len(lines))
        run.uploaded.update(sent.get("uploaded") or [])
        run.preempting |= bool(sent.get("preempting"))
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode", 0)
            run.state = "finished" if run.exit_code == 0 else "preempted" if run.preempting else "failed"
        return {"exitcode": run.exit_code, "limits": {}, "stopped": run.stop_requested}

    # Sweeps and agents.
    def UpsertSweep(self, v):  # noqa: N802
        if v.get("id") in self.sweeps:
            sweep = self.sweeps[v["id"]]
            sweep.state = v.get("state") or sweep.state
        else:
            config = yaml.safe_load(v["config"])
            project = v.get("projectName") or config.get("project") or "uncategorized"
            self._project(project)
            cells = grid(config["parameters"]) if config["method"] == "grid" else []
            waiting = deque((self._id(), cell) for cell in cells)
            sweep = Sweep(self._id(), project, config, v["config"], waiting)
            self.sweeps[sweep.id] = sweep
        answer = {"name": sweep.id, "project": self._project(sweep.project)}
        return {"upsertSweep": {"sweep": answer, "configValidationWarnings": []}}

    def SweepWithRuns(self, v):  # noqa: N802
        sweep = self.sweeps.get(v.get("sweep") or v.get("name"))
        if sweep is None or sweep.project != v["project"]:
            return {"project": {**self._project(v["project"]), "sweep": None}}
        runs = [self._bucket(run) for run in self.runs.values() if run.sweep == sweep.id]
        agents = [self._agent(agent) for agent in self.agents.values() if agent.sweep == sweep.id]
        named = next((agent for agent in agents if agent["name"] == v.get("agentID")), None)
        answer = {
            "__typename": "Sweep", "id": sweep.id, "name": sweep.id, "displayName": sweep.config.get("name"),
            "method": sweep.config["method"], "state": sweep.state, "description": sweep.config.get("description"),
            "bestLoss": None, "config": sweep.text, "createdAt": "2026-01-01T00:00:00Z", "heartbeatAt": now(),
            "updatedAt": now(), "runCount": len(runs), "controller": None, "scheduler": None, "runs": edges(runs),
            "runCountExpected": None if sweep.drawn_for_ever else len(grid(sweep.config["parameters"])),
            "agents": edges(agents), "agent": named, "controllerRunName": None,
        }
        return {"project": {**self._project(sweep.project), "sweep": answer}}

    GetSweep = GetSweepState = GetSweepAgent = GetSweepAgents = GetAgentRuns = SweepConfig = SweepWithRuns

    def GetSweeps(self, v):  # noqa: N802
        found = [self.SweepWithRuns({"sweep": sweep.id, "project": sweep.project})["project"]["sweep"]
                 for sweep in self.sweeps.values() if sweep.project == v["project"]]
        project = self._known_project(v["project"])
        return {"project": project and {**project, "totalSweeps": len(found), "sweeps": edges(found)}}

    def _agent(self, agent: Agent) -> dict:
        runs = [self._bucket(self.runs[run]) for run in agent.runs]
        return {"id": agent.id, "name": agent.id, "host": "localhost", "state": "RUNNING", "totalRuns": len(runs),
                "createdAt": now(), "heartbeatAt": now(), "runs": edges(runs)}

    def CreateAgent(self, v):  # noqa: N802
        if v["sweep"] not in self.sweeps:
            raise Refused(f"no sweep {v['sweep']}")
        agent = Agent(f"agent-{len(self.agents) + 1}", v["sweep"])
        self.agents[agent.id] = agent
        return {"createAgent": {"agent": {"id": agent.id}}}

    def Heartbeat(self, v):  # noqa: N802
        agent = self.agents[v["id"]]
        commands = json.dumps(self._commands(agent, json.loads(v["runState"])))
        return {"agentHeartbeat": {"agent": {"id": agent.id}, "commands": commands}}

    def _commands(self, agent: Agent, alive: dict) -> list[dict]:
        """What the agent is to do next; it works on one run at a time."""
        sweep = self.sweeps[agent.sweep]
        if any(alive.values()):
            stops = [run for run in alive if self.runs[run].stop_requested or sweep.state in ("STOPPED", "CANCELED")]
            return [{"type": "stop", "run_id": run} for run in stops]
        if agent.run is not None:
            run, agent.run = self.runs[agent.run], None
            if run.state == "preempted":
                sweep.waiting.append((run.id, {k: v for k, v in run.raw_config.items()
                                               if k in sweep.config["parameters"]}))
            elif run.state in ("pending", "running"):
                run.state = "crashed"
        limit = sweep.config.get("run_cap", float("inf"))
        if sweep.drawn_for_ever and not sweep.waiting and len(set(sweep.handed_out)) < limit:
            sweep.waiting.append((self._id(), draw(sweep.config["parameters"], self._chance)))
        if sweep.state in ("STOPPED", "CANCELED"):
            return [{"type": "exit"}]
        if sweep.waiting:
            return [self._hand_out(sweep, agent)]
        if any(other.run for other in self.agents.values() if other.sweep == sweep.id):
            return []  # another agent's run may yet be preempted and come back
        sweep.state = "FINISHED"
        return [{"type": "exit"}]

    def _hand_out(self, sweep: Sweep, agent: Agent) -> dict:
        name, cell = sweep.waiting.popleft()
        requeued = name in self.runs
        if not requeued:
            self.runs[name] = Run(name, sweep.project, f"storage-{name}", now(), "pending", dict(cell), sweep=sweep.id)
        sweep.state, agent.run = "RUNNING", name
        sweep.handed_out.append(name)
        agent.runs.append(name)
        return {"type": "resume" if requeued else "run", "run_id": name, "args": cell,
                "program": sweep.config.get("program", "")}

    # Artifacts.
    def _artifact(self, artifact: Artifact | None) -> dict | None:
        if artifact is None:
            return None
        project = self._project(artifact.project)
        collection = {"__typename": "ArtifactSequence", "id": f"sequence-{artifact.name}", "name": artifact.name,
                      "project": project}
        aliases = [{"__typename": "ArtifactAlias", "id": f"{artifact.id}-{alias}", "alias": alias,
                    "artifactCollection": collection} for alias in artifact.aliases]
        manifest = {"file": {"directUrl": self.file_url("manifest", artifact.id, "wandb_manifest.json")}}
        return {"__typename": "Artifact", "id": artifact.id, "artifactSequence": collection, "tags": [],
                "versionIndex": artifact.version, "artifactType": {"name": artifact.type}, "aliases": aliases,
                "description": artifact.description, "metadata": artifact.metadata or "{}", "state": artifact.state,
                "ttlDurationSeconds": -2, "ttlIsInherited": True, "historyStep": None, "digest": artifact.digest,
                "digestAlgorithm": "MANIFEST_MD5", "commitHash": "", "fileCount": len(artifact.files),
                "size": sum(map(len, artifact.files.values())), "createdAt": artifact.created, "updatedAt": None,
                "currentManifest": manifest}

    def _named(self, project: str, name: str) -> Artifact | None:
        """The artifact of `collection:alias`, or of `collection:vN`."""
        collection, _, alias = name.partition(":")
        for artifact in reversed(self.artifacts.values()):
            names = [*artifact.aliases, f"v{artifact.version}"]
            if (artifact.project, artifact.name) == (project, collection) and (alias or "latest") in names:
                return artifact
        return None

    def CreateArtifact(self, v):  # noqa: N802
        sent = v["input"]
        name = sent["artifactCollectionName" if "artifactCollectionName" in sent else "artifactCollectionNames"]
        name = name if isinstance(name, str) else name[0]
        earlier = [one for one in self.artifacts.values() if (one.project, one.name) == (sent["projectName"], name)]
        same = next((one for one in earlier if sent["digest"] == one.digest), None)
        artifact = same or Artifact(
            f"artifact-{len(self.artifacts) + 1}", name, len(earlier), sent["artifactTypeName"], sent["projectName"],
            sent.get("runName"), sent["digest"], sent.get("clientID"), now(), description=sent.get("description"),
            metadata=sent.get("metadata"))
        self.artifacts[artifact.id] = artifact
        for alias in (one["alias"] for one in sent.get("aliases") or []):
            for one in earlier:
                one.aliases = [kept for kept in one.aliases if kept != alias]
            artifact.aliases.append(alias)
        latest = {"id": earlier[-1].id} if earlier else None
        answer = {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": latest}}
        return {"createArtifact": {"artifact": answer}}

    def CreateArtifactManifest(self, v):  # noqa: N802
        manifest = f"manifest-{v['artifactID']}"
        upload = {"id": f"file-{manifest}", "uploadHeaders": [],
                  "uploadUrl": self.file_url("manifest", v["artifactID"], v["name"])}
        return {"createArtifactManifest": {"artifactManifest": {"id": manifest, "file": upload}}}

    def CreateArtifactFiles(self, v):  # noqa: N802
        files = []
        for one in v["input"]["artifactFiles"]:
            stored = one["name"] in self.artifacts[one["artifactID"]].files
            url = None if stored else self.file_url("artifact", one["artifactID"], one["name"])
            files.append({"storagePath": f"{one['artifactID']}/{one['name']}", "uploadUrl": url, "uploadHeaders": [],
                          "uploadMultipartUrls": None, "artifact": {"id": one["artifactID"]}})
        return {"createArtifactFiles": {"files": edges(files)}}

    def CommitArtifact(self, v):  # noqa: N802
        artifact = self.artifacts[v["artifactID"]]
        missing = set((artifact.manifest or {"contents": {"manifest": 0}})["contents"]) - set(artifact.files)
        if missing:
            raise Refused(f"artifact {artifact.name} committed without {sorted(missing)}")
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def ArtifactByID(self, v):  # noqa: N802
        return {"artifact": self._artifact(self.artifacts.get(v.get("id") or v.get("artifact_id")))}

    FetchArtifactManifest = ArtifactManifest = ArtifactByID

    def ClientIDMapping(self, v):  # noqa: N802
        found = next((one for one in self.artifacts.values() if one.client_id == v["clientID"]), None)
        return {"clientIDMapping": found and {"serverID": found.id}}

    def UseArtifact(self, v):  # noqa: N802
        return {"useArtifact": {"artifact": {"id": v["input"]["artifactID"]}}}

    def ArtifactType(self, v):  # noqa: N802
        return {"project": {"artifact": self._artifact(self._named(v["project"], v["name"]))}}

    def ArtifactMembershipByName(self, v):  # noqa: N802
        artifact = self._artifact(self._named(v["project"], v["name"]))
        return {"project": {"artifactCollectionMembership": artifact and {
            "__typename": "ArtifactCollectionMembership", "id": f"membership-{artifact['id']}", "artifact": artifact,
            "versionIndex": artifact["versionIndex"], "createdAt": artifact["createdAt"],
            "aliases": artifact["aliases"], "artifactCollection": artifact["artifactSequence"]}}}

    def GetArtifactMembershipFileUrls(self, v):  # noqa: N802
        artifact = self._named(v["project"], f"{v['collection']}:{v['alias']}")
        files = [{"__typename": "File", "name": name, "directUrl": self.file_url("artifact", artifact.id, name)}
                 for name in artifact.files]
        shown = edges(files, v.get("perPage"), v.get("cursor"))
        return {"project": {"artifactCollection": {"__typename": "ArtifactSequence",
                                                   "artifactMembership": {"files": shown}}}}

    def ArtifactFileURLsByManifestEntries(self, v):  # noqa: N802
        files = [{"name": one["name"], "directUrl": self.file_url("artifact", v["id"], one["name"])}
                 for one in v["entries"]]
        return {"artifact": {"filesByManifestEntries": edges(files)}}

    def RunOutputArtifacts(self, v):  # noqa: N802
        found = [self._artifact(one) for one in self.artifacts.values() if one.run == v["run"]]
        return {"project": {"run": {"artifacts": edges(found, v.get("perPage"), v.get("cursor"))}}}
