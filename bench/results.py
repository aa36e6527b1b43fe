"""What a run has measured, kept as it was measured, and the statistics over it."""

import dataclasses
import json
import pathlib
import statistics
from typing import Dict, List, Optional, Sequence, Tuple

from measure import Window
from starts import Start

# Lower quartile, median, upper quartile.
Quartiles = Tuple[float, float, float]

# Peers by name, then side (see processes.sides), then call: calls per request.
Calls = Dict[str, Dict[str, float]]


def quartiles(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(above: Sequence[float], below: Sequence[float]) -> Quartiles:
    """Quartiles of the ratios round by round: what drifts in the machine hits both alike."""
    return quartiles([a / b for a, b in zip(above, below)])


@dataclasses.dataclass
class Results:
    """By peer name and workload name; what was not asked for is missing."""

    command: str
    versions: str
    rounds: int
    seconds: int
    # In the tables' order: titles, and the name of each peer's rival.
    peers: Dict[str, str]
    rivals: Dict[str, str]
    workloads: Dict[str, str]
    windows: Dict[str, Dict[str, List[Window]]] = dataclasses.field(default_factory=dict)
    # With one request at a time, and at the workload's connections.
    syscalls: Dict[str, Tuple[Calls, Calls]] = dataclasses.field(default_factory=dict)
    # Inside httpd's request processing, and of the whole process.
    instructions: Dict[str, Tuple[float, float]] = dataclasses.field(default_factory=dict)
    starts: Dict[str, List[Start]] = dataclasses.field(default_factory=dict)
    # Resident megabytes of a plain interpreter with the application imported.
    interpreter: Optional[float] = None
    # Computations per second with one lane and with two, by the title of the way.
    lanes: Dict[str, Tuple[List[float], List[float]]] = dataclasses.field(default_factory=dict)

    def add(self, peer: str, workload: str, window: Window) -> None:
        self.windows.setdefault(workload, {}).setdefault(peer, []).append(window)

    def of(self, peer: str, workload: str, what: str = "cpu_us") -> List[float]:
        """One figure of every round; empty if the peer had no part in the workload."""
        return [getattr(w, what) for w in self.windows.get(workload, {}).get(peer, [])]

    def ratio(
        self, above: str, below: str, workload: str, what: str = "cpu_us"
    ) -> Optional[Quartiles]:
        a, b = self.of(above, workload, what), self.of(below, workload, what)
        return ratios(a, b) if a and b and above != below else None

    def again(self) -> Optional[Tuple[str, str]]:
        """The peer that stands in twice: the name of the second, and of the first."""
        for name in self.peers:
            if name.endswith("-again"):
                return name, name[: -len("-again")]
        return None

    def noise(self, workload: str) -> Optional[float]:
        """How far from 1 the quartiles of one peer against itself lie."""
        names = self.again()
        spread = self.ratio(*names, workload) if names else None
        return max(abs(spread[0] - 1), abs(spread[2] - 1)) if spread else None

    def calls(self, peer: str) -> Optional[float]:
        """System calls per request on both sides together, one request at a time."""
        if peer not in self.syscalls:
            return None
        return sum(sum(side.values()) for side in self.syscalls[peer][0].values())

    def errors(self) -> List[str]:
        return [
            "%s, %s: %d errors" % (self.peers[peer], self.workloads[workload], total)
            for workload, peers in self.windows.items()
            for peer, windows in peers.items()
            for total in [sum(window.errors for window in windows)]
            if total
        ]

    def save(self, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, path: pathlib.Path) -> "Results":
        data = json.loads(path.read_text())
        data["windows"] = {
            workload: {peer: [Window(**w) for w in windows] for peer, windows in peers.items()}
            for workload, peers in data["windows"].items()
        }
        data["starts"] = {
            peer: [Start(**start) for start in starts] for peer, starts in data["starts"].items()
        }
        return cls(**data)
