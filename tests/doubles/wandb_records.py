"""The records of the stand-in W&B server, and the filters of `wandb.Api().runs` on them."""

import itertools
import random
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone

ENTITY = "tester"


class Refused(Exception):
    """The operation is unknown, or the object that it names does not exist."""


@dataclass
class Run:
    """One run as received. `history` maps the offset of a row to the row."""

    id: str
    project: str
    storage_id: str
    created: str
    state: str = "running"
    raw_config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    rewritten: list = field(default_factory=list)  # offsets received twice with different rows
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
        """The config without W&B's own `_wandb` entry."""
        return {key: entry.get("value") for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def rows(self) -> list:
        return [self.history[offset] for offset in sorted(self.history)]

    @property
    def gaps(self) -> list:
        """Offsets below the highest one that were never received."""
        return sorted(set(range(max(self.history, default=-1) + 1)) - set(self.history))


@dataclass
class Sweep:
    """A sweep: its waiting trials (run id, arguments), and the run ids assigned to agents, in order."""

    id: str
    project: str
    config: dict
    text: str
    waiting: deque
    assigned: list = field(default_factory=list)
    state: str = "PENDING"

    @property
    def is_unbounded(self) -> bool:
        return self.config["method"] != "grid"


@dataclass
class Agent:
    id: str
    sweep: str
    run: str | None = None
    runs: list = field(default_factory=list)


@dataclass
class Artifact:
    """One version of an artifact. `files` maps a path to its bytes; `manifest` is W&B's own JSON."""

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
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def edges(nodes: list, first: int | None = None, after: str | None = None) -> dict:
    """Return a GraphQL connection over `nodes`; the cursor of a node is its position, counted from 1."""
    start = int(after or 0)
    shown = nodes[start : start + first] if first else nodes[start:]
    end = start + len(shown)
    return {
        "totalCount": len(nodes),
        "edges": [{"node": node, "cursor": str(start + i + 1)} for i, node in enumerate(shown)],
        "pageInfo": {"__typename": "PageInfo", "endCursor": str(end), "hasNextPage": end < len(nodes)},
    }


def grid(parameters: dict) -> list[dict]:
    """Return the trials of a grid search as `{key: {"value": value}}`, constants included."""
    axes = [spec["values"] if "values" in spec else [spec["value"]] for spec in parameters.values()]
    return [
        {key: {"value": value} for key, value in zip(parameters, trial, strict=True)}
        for trial in itertools.product(*axes)
    ]


def draw(parameters: dict, chance: random.Random) -> dict:
    """Return one trial of a random search: listed values, integer and uniform ranges, log-uniform values."""
    trial = {}
    for key, spec in parameters.items():
        if "min" not in spec:
            value = chance.choice(spec["values"]) if "values" in spec else spec["value"]
        elif spec.get("distribution") == "int_uniform":
            value = chance.randint(spec["min"], spec["max"])
        elif spec.get("distribution") == "log_uniform_values":
            value = spec["min"] * (spec["max"] / spec["min"]) ** chance.random()
        else:
            value = chance.uniform(spec["min"], spec["max"])
        trial[key] = {"value": value}
    return trial


def lookup(run: Run, path: str):
    """Return the value of a run for the key of a filter or an order, such as `config.n_mels.value`."""
    head, _, rest = path.partition(".")
    if head in ("config", "summary_metrics"):
        values = run.config if head == "config" else run.summary
        return values.get(rest.removesuffix(".value"), values.get(rest))
    names = {
        "display_name": "display_name",
        "displayName": "display_name",
        "name": "id",
        "sweep": "sweep",
        "sweepName": "sweep",
        "state": "state",
        "group": "group",
        "tags": "tags",
        "created_at": "created",
        "createdAt": "created",
        "heartbeat_at": "created",
        "jobType": "job_type",
    }
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
    """Whether the run matches a MongoDB filter as `wandb.Api().runs(filters=...)` takes it."""
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
