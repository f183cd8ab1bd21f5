"""The sweep, agent and artifact operations of the stand-in W&B server; see wandb_graphql.py."""

import json
from collections import deque

import yaml
from doubles.wandb_records import Agent, Artifact, Refused, Run, Sweep, draw, edges, grid, now


class SweepOperations:
    """Sweeps and their agents: every trial is assigned once, and again if its run was preempted."""

    def UpsertSweep(self, v):
        if v.get("id") in self.sweeps:
            sweep = self.sweeps[v["id"]]
            sweep.state = v.get("state") or sweep.state
            for run in self.runs.values():
                run.stop_requested |= sweep.state == "CANCELED" and run.sweep == sweep.id
        else:
            config = yaml.safe_load(v["config"])
            project = v.get("projectName") or config.get("project") or "uncategorized"
            self._project(project)
            trials = grid(config["parameters"]) if config["method"] == "grid" else []
            waiting = deque((self._id(), trial) for trial in trials)
            sweep = Sweep(self._id(), project, config, v["config"], waiting)
            self.sweeps[sweep.id] = sweep
        answer = {"name": sweep.id, "project": self._project(sweep.project)}
        return {"upsertSweep": {"sweep": answer, "configValidationWarnings": []}}

    def SweepWithRuns(self, v):
        sweep = self.sweeps.get(v.get("sweep") or v.get("name"))
        if sweep is None or sweep.project != v["project"]:
            return {"project": {**self._project(v["project"]), "sweep": None}}
        runs = [self._bucket(run) for run in self.runs.values() if run.sweep == sweep.id]
        agents = [self._agent(agent) for agent in self.agents.values() if agent.sweep == sweep.id]
        named = next((agent for agent in agents if agent["name"] == v.get("agentID")), None)
        answer = {
            "__typename": "Sweep",
            "id": sweep.id,
            "name": sweep.id,
            "displayName": sweep.config.get("name"),
            "method": sweep.config["method"],
            "state": sweep.state,
            "description": sweep.config.get("description"),
            "bestLoss": None,
            "config": sweep.text,
            "createdAt": "2026-01-01T00:00:00Z",
            "heartbeatAt": now(),
            "updatedAt": now(),
            "runCount": len(runs),
            "controller": None,
            "scheduler": None,
            "runs": edges(runs),
            "runCountExpected": None if sweep.is_unbounded else len(grid(sweep.config["parameters"])),
            "agents": edges(agents),
            "agent": named,
            "controllerRunName": None,
        }
        return {"project": {**self._project(sweep.project), "sweep": answer}}

    GetSweep = GetSweepState = GetSweepAgent = GetSweepAgents = GetAgentRuns = SweepConfig = SweepWithRuns

    def GetSweeps(self, v):
        found = [
            self.SweepWithRuns({"sweep": sweep.id, "project": sweep.project})["project"]["sweep"]
            for sweep in self.sweeps.values()
            if sweep.project == v["project"]
        ]
        project = self._known_project(v["project"])
        return {"project": project and {**project, "totalSweeps": len(found), "sweeps": edges(found)}}

    def _agent(self, agent: Agent) -> dict:
        runs = [self._bucket(self.runs[run]) for run in agent.runs]
        return {
            "id": agent.id,
            "name": agent.id,
            "host": "localhost",
            "state": "RUNNING",
            "totalRuns": len(runs),
            "createdAt": now(),
            "heartbeatAt": now(),
            "runs": edges(runs),
        }

    def CreateAgent(self, v):
        if v["sweep"] not in self.sweeps:
            raise Refused(f"no sweep {v['sweep']}")
        agent = Agent(f"agent-{len(self.agents) + 1}", v["sweep"])
        self.agents[agent.id] = agent
        return {"createAgent": {"agent": {"id": agent.id}}}

    def Heartbeat(self, v):
        agent = self.agents[v["id"]]
        commands = json.dumps(self._commands(agent, json.loads(v["runState"])))
        return {"agentHeartbeat": {"agent": {"id": agent.id}, "commands": commands}}

    def _commands(self, agent: Agent, alive: dict) -> list[dict]:
        """Return the next commands for an agent, which does one run at a time."""
        sweep = self.sweeps[agent.sweep]
        if any(alive.values()):
            return [{"type": "stop", "run_id": run} for run in alive if self.runs[run].stop_requested]
        if agent.run is not None:
            run, agent.run = self.runs[agent.run], None
            if run.state in ("pending", "running"):  # the process ended without reporting a state
                run.state = "crashed"
        limit = sweep.config.get("run_cap", float("inf"))
        if sweep.is_unbounded and not sweep.waiting and len(set(sweep.assigned)) < limit:
            sweep.waiting.append((self._id(), draw(sweep.config["parameters"], self._chance)))
        if sweep.state in ("STOPPED", "CANCELED"):
            return [{"type": "exit"}]
        if sweep.waiting:
            return [self._assign(sweep, agent)]
        if any(self.runs[run].state in ("pending", "running") for run in sweep.assigned):
            return []  # another agent's run may still be preempted and requeued
        sweep.state = "FINISHED"
        return [{"type": "exit"}]

    def requeue(self, run: Run):
        """Queue a preempted run for the next agent, with its complete config, `_wandb` included."""
        keys = [*self.sweeps[run.sweep].config["parameters"], "_wandb"]
        self.sweeps[run.sweep].waiting.append((run.id, {key: run.raw_config[key] for key in keys}))

    def _assign(self, sweep: Sweep, agent: Agent) -> dict:
        name, trial = sweep.waiting.popleft()
        requeued = name in self.runs
        if not requeued:
            self.runs[name] = Run(name, sweep.project, f"storage-{name}", now(), "pending", dict(trial))
            self.runs[name].sweep = sweep.id
        sweep.state, agent.run = "RUNNING", name
        sweep.assigned.append(name)
        agent.runs.append(name)
        return {
            "type": "resume" if requeued else "run",
            "run_id": name,
            "args": trial,
            "program": sweep.config.get("program", ""),
        }


class ArtifactOperations:
    """Versions of artifacts, from creation to commit, and reading them."""

    def _artifact(self, artifact: Artifact | None) -> dict | None:
        if artifact is None:
            return None
        project = self._project(artifact.project)
        collection = {
            "__typename": "ArtifactSequence",
            "id": f"sequence-{artifact.name}",
            "name": artifact.name,
            "project": project,
        }
        aliases = [
            {
                "__typename": "ArtifactAlias",
                "id": f"{artifact.id}-{alias}",
                "alias": alias,
                "artifactCollection": collection,
            }
            for alias in artifact.aliases
        ]
        manifest = {"file": {"directUrl": self.file_url("manifest", artifact.id, "wandb_manifest.json")}}
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": collection,
            "tags": [],
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "aliases": aliases,
            "description": artifact.description,
            "metadata": artifact.metadata or "{}",
            "state": artifact.state,
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "historyStep": None,
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "",
            "fileCount": len(artifact.files),
            "createdAt": artifact.created,
            "size": sum(map(len, artifact.files.values())),
            "updatedAt": None,
            "currentManifest": manifest,
        }

    def _named(self, project: str, name: str) -> Artifact | None:
        """Return the artifact `collection:alias` or `collection:vN`."""
        collection, _, alias = name.partition(":")
        for artifact in reversed(self.artifacts.values()):
            names = [*artifact.aliases, f"v{artifact.version}"]
            if (artifact.project, artifact.name) == (project, collection) and (alias or "latest") in names:
                return artifact
        return None

    def CreateArtifact(self, v):
        sent = v["input"]
        project, name = sent["projectName"], sent["artifactCollectionName"]
        earlier = [one for one in self.artifacts.values() if (one.project, one.name) == (project, name)]
        same = next((one for one in earlier if sent["digest"] == one.digest), None)
        artifact = same or Artifact(
            f"artifact-{len(self.artifacts) + 1}",
            name,
            len(earlier),
            sent["artifactTypeName"],
            project,
            sent.get("runName"),
            sent["digest"],
            sent.get("clientID"),
            now(),
            description=sent.get("description"),
            metadata=sent.get("metadata"),
        )
        self.artifacts[artifact.id] = artifact
        for alias in (one["alias"] for one in sent.get("aliases") or []):
            for one in earlier:
                one.aliases = [kept for kept in one.aliases if kept != alias]
            artifact.aliases.append(alias)
        latest = {"id": earlier[-1].id} if earlier else None
        answer = {"id": artifact.id, "state": artifact.state, "artifactSequence": {"latestArtifact": latest}}
        return {"createArtifact": {"artifact": answer}}

    def CreateArtifactManifest(self, v):
        manifest = f"manifest-{v['artifactID']}"
        upload = {
            "id": f"file-{manifest}",
            "uploadHeaders": [],
            "uploadUrl": self.file_url("manifest", v["artifactID"], v["name"]),
        }
        return {"createArtifactManifest": {"artifactManifest": {"id": manifest, "file": upload}}}

    def CreateArtifactFiles(self, v):
        files = []
        for one in v["input"]["artifactFiles"]:
            stored = one["name"] in self.artifacts[one["artifactID"]].files
            url = None if stored else self.file_url("artifact", one["artifactID"], one["name"])
            files.append(
                {
                    "storagePath": f"{one['artifactID']}/{one['name']}",
                    "uploadUrl": url,
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": one["artifactID"]},
                }
            )
        return {"createArtifactFiles": {"files": edges(files)}}

    def CommitArtifact(self, v):
        artifact = self.artifacts[v["artifactID"]]
        missing = set((artifact.manifest or {"contents": {"manifest": 0}})["contents"]) - set(artifact.files)
        if missing:
            raise Refused(f"artifact {artifact.name} committed without {sorted(missing)}")
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def ArtifactByID(self, v):
        return {"artifact": self._artifact(self.artifacts.get(v.get("id") or v.get("artifact_id")))}

    FetchArtifactManifest = ArtifactManifest = ArtifactByID

    def ClientIDMapping(self, v):
        found = next((one for one in self.artifacts.values() if one.client_id == v["clientID"]), None)
        return {"clientIDMapping": found and {"serverID": found.id}}

    def UseArtifact(self, v):
        return {"useArtifact": {"artifact": {"id": v["input"]["artifactID"]}}}

    def ArtifactType(self, v):
        return {"project": {"artifact": self._artifact(self._named(v["project"], v["name"]))}}

    def ArtifactMembershipByName(self, v):
        artifact = self._artifact(self._named(v["project"], v["name"]))
        return {
            "project": {
                "artifactCollectionMembership": artifact
                and {
                    "__typename": "ArtifactCollectionMembership",
                    "id": f"membership-{artifact['id']}",
                    "artifact": artifact,
                    "versionIndex": artifact["versionIndex"],
                    "createdAt": artifact["createdAt"],
                    "aliases": artifact["aliases"],
                    "artifactCollection": artifact["artifactSequence"],
                }
            }
        }

    def GetArtifactMembershipFileUrls(self, v):
        artifact = self._named(v["project"], f"{v['collection']}:{v['alias']}")
        url = self.file_url
        files = [
            {"__typename": "File", "name": name, "directUrl": url("artifact", artifact.id, name)}
            for name in artifact.files
        ]
        shown = edges(files, v.get("perPage"), v.get("cursor"))
        return {
            "project": {
                "artifactCollection": {"__typename": "ArtifactSequence", "artifactMembership": {"files": shown}}
            }
        }

    def ArtifactFileURLsByManifestEntries(self, v):
        files = [
            {"name": one["name"], "directUrl": self.file_url("artifact", v["id"], one["name"])} for one in v["entries"]
        ]
        return {"artifact": {"filesByManifestEntries": edges(files)}}

    def RunOutputArtifacts(self, v):
        found = [self._artifact(one) for one in self.artifacts.values() if one.run == v["run"]]
        return {"project": {"run": {"artifacts": edges(found, v.get("perPage"), v.get("cursor"))}}}
