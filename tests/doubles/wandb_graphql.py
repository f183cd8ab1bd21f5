"""The GraphQL operations of the stand-in W&B server.

Names and fields are those that wandb 0.31.0 sends and reads. An answer has every field that any caller selects;
GraphQL's selection is not implemented. An unknown operation is an error and is recorded in `State.unknown`.
"""

import base64
import json
import random
import re

from doubles.wandb_operations import ArtifactOperations, SweepOperations
from doubles.wandb_records import ENTITY, Agent, Artifact, Refused, Run, Sweep, edges, lookup, matches, now

HEAVY = ("config", "summaryMetrics", "systemMetrics")


class State(SweepOperations, ArtifactOperations):
    """Everything that the server received, and one method per GraphQL operation, of the same name."""

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
        """Return the `data` of the answer to a GraphQL request. Raises Refused."""
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query[:60]
        self.operations.append(name)
        public = hasattr(State, name) and not name.startswith("_")
        if not public or name in ("answer", "stream", "file_url", "requeue"):
            self.unknown.append(name)
            raise Refused(f"unknown operation {name}")
        return getattr(self, name)(variables | {"light": "fragment LightweightRunFragment" in query})

    def _id(self, length: int = 8) -> str:
        return "".join(self._chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    # The account, and what the server supports.
    def Viewer(self, v):
        viewer = {
            "id": "VXNlcjox",
            "entity": ENTITY,
            "username": ENTITY,
            "name": ENTITY,
            "flags": "{}",
            "email": f"{ENTITY}@example.org",
            "admin": False,
            "deletedAt": None,
            "teams": edges([]),
            "apiKeys": edges([]),
        }
        return {"viewer": viewer}

    GetDefaultEntity = GetViewer = Viewer

    def ServerFeaturesQuery(self, v):
        return {"serverInfo": {"features": []}}

    def OrgFeatureFlags(self, v):
        return {"organization": None}

    def OrganizationCoreWeaveOrganizationID(self, v):
        return {"entity": None}

    FetchOrgEntityFromEntity = XXHashDigestsEnabled = OrganizationCoreWeaveOrganizationID

    # Projects, reports, workspaces.
    def _project(self, name: str) -> dict:
        number = self.projects.setdefault(name, len(self.projects) + 1)
        return {
            "__typename": "Project",
            "id": f"project-{number}",
            "internalId": str(number),
            "name": name,
            "entityName": ENTITY,
            "entity": {"id": "entity-1", "name": ENTITY},
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00Z",
            "isBenchmark": False,
            "user": self.Viewer({})["viewer"],
            "description": "",
            "access": "PRIVATE",
            "views": "{}",
        }

    def _known_project(self, name: str) -> dict | None:
        return self._project(name) if name in self.projects else None

    def GetProject(self, v):
        return {"project": self._known_project(v["name"])}

    def GetProjects(self, v):
        return {"models": edges([self._project(name) for name in self.projects])}

    def CreateProject(self, v):
        project = self._project(v["input"]["name"])
        return {"result": {"project": project, "model": project, "inserted": True}}

    def ProjectInternalId(self, v):
        return {"project": self._known_project(v["projectName"])}

    def upsertView(self, v):
        key = v.get("id") or base64.b64encode(f"View:{len(self.views) + 1}".encode()).decode()
        view = self.views.setdefault(key, {"id": key, "createdAt": now(), "user": self.Viewer({})["viewer"]})
        words = ("type", "name", "displayName", "description", "spec")
        view.update({word: v[word] for word in words if word in v})
        view.update(project=self._project(v["projectName"]), updatedAt=now())
        return {"upsertView": {"view": view, "inserted": not v.get("id")}}

    UpsertView2 = upsertView

    def SpecificReport(self, v):
        return {"view": self.views.get(v["reportId"])}

    def deleteView(self, v):
        return {"deleteView": {"success": self.views.pop(v["id"], None) is not None, "pendingDrafts": []}}

    def View(self, v):
        project = v.get("project") or v["name"]
        shown = [
            view
            for view in self.views.values()
            if view["project"]["name"] == project
            and view["type"] == (v.get("viewType") or "runs")
            and v.get("viewName") in (None, view["name"])
        ]
        return {"project": {"allViews": edges(shown)}}

    ProjectViews = View

    # Runs.
    def _run(self, name: str) -> Run:
        if name not in self.runs:
            raise Refused(f"no run {name}")
        return self.runs[name]

    def _bucket(self, run: Run, light: bool = False) -> dict:
        """Return everything about a run; light: without what W&B's client then asks for run by run."""
        rows = run.rows
        bucket = {
            "id": run.storage_id,
            "name": run.id,
            "displayName": run.display_name or run.id,
            "state": run.state,
            "description": run.notes,
            "notes": run.notes,
            "config": json.dumps(run.raw_config),
            "sweepName": run.sweep,
            "group": run.group,
            "jobType": run.job_type,
            "commit": run.commit,
            "tags": run.tags,
            "readOnly": False,
            "createdAt": run.created,
            "heartbeatAt": now(),
            "systemMetrics": "{}",
            "user": self.Viewer({})["viewer"],
            "summaryMetrics": json.dumps(run.summary),
            "project": self._project(run.project),
            "projectId": str(self.projects[run.project]),
            "exitcode": run.exit_code,
            "historyLineCount": len(rows),
            "eventsLineCount": run.events,
            "logLineCount": run.console,
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]",
            "events": [],
            "historyKeys": {
                "lastStep": rows[-1]["_step"] if rows else -1,
                "keys": {key: {} for row in rows for key in row},
            },
            # A run assigned to an agent but not yet started has none: nothing to resume.
            "wandbConfig": json.dumps({"t": {}}) if "_wandb" in run.raw_config else None,
            "history": [json.dumps(row) for row in rows],
            "parquetHistory": {"parquetUrls": [], "liveData": rows},
            "stopped": run.stop_requested,
        }
        return {key: value for key, value in bucket.items() if not (light and key in HEAVY)}

    def UpsertBucket(self, v):
        by_storage_id = {run.storage_id: run for run in self.runs.values()}
        run = by_storage_id.get(v.get("id")) or self.runs.get(v.get("name"))
        if len(v.get("displayName") or "") > 128 or "" in (v.get("tags") or []):
            raise Refused("a name has at most 128 characters, a tag at least one")
        inserted = run is None
        if run is None:
            name = v.get("name") or self._id()
            self._project(v.get("project") or "uncategorized")
            run = Run(name, v.get("project") or "uncategorized", f"storage-{name}", now())
            self.runs[name] = run
        if v.get("name") and run.state != "running":  # a process started it; an edit sends an id
            run.resumed += run.state != "pending"
            run.state, run.exit_code, run.preempting, run.stop_requested = "running", None, False, False
        if v.get("config"):
            run.raw_config = json.loads(v["config"])
        if v.get("summaryMetrics"):
            run.summary = json.loads(v["summaryMetrics"])
        for word, attribute in {
            "displayName": "display_name",
            "display_name": "display_name",
            "groupName": "group",
            "jobType": "job_type",
            "notes": "notes",
            "program": "program",
            "commit": "commit",
            "sweep": "sweep",
            "tags": "tags",
        }.items():
            if v.get(word) is not None:
                setattr(run, attribute, v[word])
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def RunResumeStatus(self, v):
        run = self.runs.get(v["name"])
        return {"model": {**self._project(v["project"]), "bucket": run and self._bucket(run)}}

    def Run(self, v):
        run = self.runs.get(v.get("name") or v.get("run") or v.get("runName"))
        if run is None or run.project != v["project"]:
            return {"project": {"run": None}}
        return {"project": {**self._project(run.project), "run": self._bucket(run)}}

    RunState = RunStoppedStatus = QueryRunInfo = RunFullHistory = RunHistoryKeys = RunParquetHistory = Run

    def HistoryPage(self, v):
        rows = [row for row in self._run(v["run"]).rows if v["minStep"] <= row["_step"] < v["maxStep"]]
        return {"project": {"run": {"history": [json.dumps(row) for row in rows[: v["pageSize"]]]}}}

    def RunSampledHistory(self, v):
        specs = [json.loads(spec) for spec in v.get("specs") or [v["spec"]]]
        rows = self._run(v.get("name") or v["run"]).rows
        sampled = []
        for spec in specs:
            kept = [
                row
                for row in rows
                if all(key in row for key in spec["keys"])
                and spec.get("minStep", 0) <= row["_step"] <= spec.get("maxStep", float("inf"))
            ]
            kept = kept[: spec.get("samples", 500)]
            sampled.append([{key: row[key] for key in spec["keys"]} for row in kept])
        return {"project": {"run": {"sampledHistory": sampled}}}

    SampledHistoryPage = RunSampledHistory

    def Runs(self, v):
        found = [
            run
            for run in self.runs.values()
            if run.project == v["project"] and matches(run, json.loads(v.get("filters") or "{}"))
        ]
        order = v.get("order") or "+created_at"
        key = order.lstrip("+-")
        known = [run for run in found if lookup(run, key) is not None]
        known.sort(key=lambda run: lookup(run, key), reverse=order.startswith("-"))
        known += [run for run in found if lookup(run, key) is None]
        shown = edges([self._bucket(run, v.get("light")) for run in known], v.get("perPage"), v.get("cursor"))
        project = self._known_project(v["project"])
        return {"project": project and {**project, "runCount": len(found), "runs": shown}}

    def RunFiles(self, v):
        run = self._run(v["name"])
        files = [
            {
                "id": f"{run.id}/{name}",
                "name": name,
                "directUrl": self.file_url("run", run.id, name),
                "url": self.file_url("run", run.id, name),
                "sizeBytes": str(len(content)),
                "mimetype": "",
                "md5": "",
                "updatedAt": now(),
            }
            for name, content in sorted(run.files.items())
            if not v.get("fileNames") or name in v["fileNames"]
        ]
        shown = edges(files, v.get("fileLimit"), v.get("fileCursor"))
        return {"project": {**self._project(run.project), "run": {"fileCount": len(files), "files": shown}}}

    def CreateRunFiles(self, v):
        run = self._run(v["run"])
        files = [{"name": name, "uploadUrl": self.file_url("run", run.id, name)} for name in v["files"]]
        return {"createRunFiles": {"runID": run.storage_id, "uploadHeaders": [], "files": files}}

    def MarkRunFilesUploaded(self, v):
        self._run(v["run"]).uploaded.update(v["files"])
        return {"markRunFilesUploaded": {"success": True}}

    def StopRun(self, v):
        for run in self.runs.values():
            run.stop_requested |= run.storage_id == v["id"]
        return {"stopRun": {"success": True}}

    def NotifyScriptableRunAlert(self, v):
        self._run(v["runName"]).alerts.append((v["title"], v["text"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def file_url(self, kind: str, owner: str, name: str) -> str:
        return f"{self.url}/storage/{kind}/{owner}/{name}"

    def stream(self, name: str, sent: dict) -> dict:
        """Store one request of the file stream: history rows, summary, console lines, the end of the run."""
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
            failed = "preempted" if run.preempting else "killed" if run.stop_requested else "failed"
            run.state = failed if run.exit_code else "finished"
            if run.state == "preempted" and run.sweep in self.sweeps:
                self.requeue(run)
        return {"exitcode": run.exit_code, "limits": {}, "stopped": run.stop_requested}
