# SPDX-License-Identifier: Apache-2.0
"""The fewest layers in int16 or float that let an int8 file reach its accuracy target.

1. The codes of weights are chosen again, by a file with all activations that can be in int16: how much better one correction's are
   than another's is lost in the noise of int8 activations, but remains when they move.
2. Every rounding of the int8 file is tried alone in the float model on a few calibration samples (sensitivity.py).
3. The moves out of int8 are put in order of noise removed per multiply-accumulate that leaves it (moves.py). A move that is made for
   a layer's weights goes to float, every other one to int16 activations where the operators have them, else to float.
4. Files with more and more of the moves are made and scored until one reaches the target, then the count is halved down.
   Where int16 is not enough, the same again with every move to float.
5. Moves that turn out not to be needed are taken back, the most expensive first.

The score decides, the ranking only says what to try first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge8 import Model

from ..errors import ConvertError
from ..graph import DType, Graph, Node
from ..ops import operators
from .assemble import assemble
from .corrections import Improved
from .evaluation import Goal
from .moves import Move, Rounding, plan_moves
from .observations import source_of
from .scheme import CODED, Decision, Scheme, decide
from .sensitivity import Codebook, Probe, decibels_of
from .weights import BIAS_INPUT, WEIGHTS_INPUT, Codes, channel_axis, channel_scales, dequantise_weights, quantise_weights

__all__ = ["Found", "first_reached", "search_levels"]

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

PROBE_SAMPLES = 8
PROBE_WORK = 4e12
"""Multiply-accumulates that ranking may cost: large networks are ranked on fewer samples, at least one."""
TAKE_BACK = 8
"""Moves that are tried without, at most."""


@dataclass
class Found:
    """What a search found.

    Attributes:
        data: the file.
        decisions: per node.
        score: of the file.
        samples: calibration samples.
        tried: files made and scored.
        int8_share: share of the multiply-accumulates in int8; in int16 where the scheme asks for int16 activations.
        layers: what left int8: ``node``, ``op``, ``level``, ``macs``, ``why``, ``sqnr`` (of the outputs when only the rounding
            named in ``why`` is there).
        correction: of the weights that the search took although int8 alone gained nothing from it; "" = none.
    """

    data: bytes
    decisions: list[Decision]
    score: float
    samples: int
    tried: int = 1
    int8_share: float = 1.0
    layers: list[dict[str, Any]] = field(default_factory=list)
    correction: str = ""


def first_reached(count: int, reached: Callable[[int], bool]) -> int | None:
    """The least number of moves found to reach a target, or None: doubling from 1, then halving between the last failure and it.

    Args:
        count: of all moves; 0 moves are known to fail.
        reached: makes the file with the first ``n`` moves and says whether it reaches the target.
    """
    low, high = 0, 1
    while not reached(min(high, count)):
        low = min(high, count)
        if low == count:
            return None
        high *= 2
    high = min(high, count)
    while high - low > 1:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def _coded_users(graph: Graph, decisions: Sequence[Decision]) -> dict[str, frozenset[int]]:
    """Activation to the int8 and int16 nodes that write it or read its codes."""
    users: dict[str, set[int]] = {}
    for i, node in enumerate(graph.nodes):
        if decisions[i].domain not in CODED:
            continue
        wide = decisions[i].domain == "int16"
        form = operators()[node.op].int16_quantisation(node, graph) if wide else operators()[node.op].quantisation(node, graph)
        read = [node.inputs[p] for p in form.data if p < len(node.inputs) and node.inputs[p]]
        for name in [*read, *node.outputs]:
            if not graph.tensors[name].constant:
                users.setdefault(name, set()).add(i)
    return {name: frozenset(nodes) for name, nodes in users.items()}


def _probe_samples(graph: Graph, samples: Iterable[Sample], roundings: int, macs: int) -> list[Sample]:
    most = int(np.clip(PROBE_WORK / max(1, macs * roundings), 1, PROBE_SAMPLES))
    kept: list[Sample] = []
    for sample in samples:
        kept.append({name: np.array(x) for name, x in sample.items()})
        if len(kept) == most:
            break
    return kept


def _codes_of(data: bytes, graph: Graph) -> dict[str, Codebook]:
    """Quantised activations of a calibrated file by the name that they have in the float graph; the coarsest of a name's."""
    books: dict[str, Codebook] = {}
    for t in sorted((t for t in Model(data).tensors if not t.constant and t.scale > 0), key=lambda t: (t.dtype.itemsize, len(t.name))):
        name = source_of(t.name, graph.tensors.__contains__)
        if name is not None:
            books.setdefault(name, Codebook(t.scale, t.zero_point, np.iinfo(t.dtype).min, np.iinfo(t.dtype).max))
    return books


def find_roundings(
    improved: Improved, data: bytes, decisions: Sequence[Decision], samples: Iterable[Sample], threads: int
) -> tuple[list[Rounding], list[int]]:
    """Every rounding of an int8 file with its noise, and the multiply-accumulates of each node."""
    graph = improved.base
    users, codes = _coded_users(graph, decisions), _codes_of(data, graph)
    users = {name: nodes for name, nodes in users.items() if name in codes}
    linear = [i for i, node in enumerate(graph.nodes) if decisions[i].domain in CODED and node.op in WEIGHTS_INPUT]
    kept = _probe_samples(graph, samples, len(users) + len(linear), Model(data).macs)
    probe = Probe(graph, kept, threads)
    roundings = [Rounding(f"tensor {name!r}", probe.activations({name: codes[name]}), nodes) for name, nodes in users.items()]
    coded = {node.outputs[0]: node for node in improved.graph.nodes}
    for i in linear:
        node = graph.nodes[i]
        weights = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]]
        if weights.dtype is DType.FLOAT32 and weights.data is not None:
            values, shift = _coded_weights(graph, node, improved.graph, coded[node.outputs[0]])
            roundings.append(Rounding("its weights", probe.weights(node, values, shift), frozenset([i]), weights=True))
    return roundings, probe.macs


def _coded_weights(base: Graph, node: Node, graph: Graph, other: Node) -> tuple[Array, Array | None]:
    """The numbers that the codes of a node's weights stand for, and by how much its bias is lower than in the float model.

    Args:
        base, node: the float model's.
        graph, other: the corrected ones; where the weights are float still, they are rounded to the nearest codes.
    """
    axis = channel_axis(node.op)
    weights = base.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].data
    stored = graph.tensors[other.inputs[WEIGHTS_INPUT[node.op]]]
    assert weights is not None
    if stored.dtype is not DType.INT8 or stored.data is None or stored.scale is None:
        return dequantise_weights(quantise_weights(weights, channel_scales(weights, axis=axis), axis=axis), axis=axis), None
    biases = [
        g.tensors[n.inputs[BIAS_INPUT]].data if len(n.inputs) > BIAS_INPUT and n.inputs[BIAS_INPUT] else None
        for g, n in ((base, node), (graph, other))
    ]
    shift = None if biases[0] is None or biases[1] is None else biases[0] - biases[1]
    return dequantise_weights(Codes(stored.data, stored.scale), axis=axis), shift


class _Trials:
    """Makes and scores files; remembers the best one."""

    def __init__(self, improved: Improved, scheme: Scheme, goal: Goal, assembling: dict[str, Any], say: Callable[[str], None]) -> None:
        self.improved, self.scheme, self.goal, self.assembling, self.say = improved, scheme, goal, assembling, say
        self.tried = 0
        self.best: tuple[Found, list[Move]] | None = None
        graph = improved.base
        self._widest = replace(scheme, wide={node.outputs[0]: "" for node in graph.nodes})
        already = [d.domain == "int16" for d in decide(graph, scheme)]
        wide = [d.domain == "int16" for d in decide(graph, self._widest)]
        self._wide = [can and not has for can, has in zip(wide, already, strict=True)]

    def __call__(self, moves: Sequence[Move], *, only_float: bool = False) -> tuple[Found, bool]:
        graph = self.improved.base
        levels: dict[str, str] = {}
        wide: dict[str, str] = {}
        for move in moves:
            for i in move.nodes:
                to_float = only_float or move.why.weights or not self._wide[i]
                (levels if to_float else wide)[graph.nodes[i].outputs[0]] = _reason("float" if to_float else "int16", move.why)
        scheme = replace(self.scheme, levels=levels, wide={**self.scheme.wide, **wide})
        data, decisions, count = assemble(self.improved, scheme, **self.assembling)
        self.tried += 1
        found = Found(data, decisions, self.goal.score(data), count)
        found.int8_share = _coded_share(graph, decisions, self.scheme)
        share = f"{100 * found.int8_share:.1f} % of the MACs in {self.scheme.activations}"
        self.say(f"{len(wide)} layers in int16, {len(levels)} in float, {share}: {self.goal.say(found.score)}")
        if self.best is None or found.score > self.best[0].score:
            self.best = found, list(moves)
        return found, self.goal.reached(found.score)

    def choose_codes(self) -> str:
        """Go on with that correction of the weights which suits a file without int8 activations best, and give its name.

        Files are compared by `Goal.compared`, so that one unlucky sample does not decide. Without a better one nothing changes: "".
        """
        if not self.improved.rejected:
            return ""
        graphs = {"": self.improved.graph, **self.improved.rejected}
        choices = {name: replace(self.improved, graph=graph) for name, graph in graphs.items()}
        scores = {name: self.goal.compared(assemble(choice, self._widest, **self.assembling)[0]) for name, choice in choices.items()}
        self.tried += len(scores)
        best = max(scores, key=lambda name: scores[name])
        self.improved = choices[best]
        if best:
            self.say(f"going on with the weights of the correction {best!r}: without int8 activations they are better")
        return best


def _reason(level: str, why: Rounding) -> str:
    return f"in {level} for the accuracy target: rounding {why.what} alone leaves {decibels_of(why.noise):.1f} dB"


def _stays(decision: Decision, scheme: Scheme) -> bool:
    """Whether a node has the type that the scheme asks for; with int16 activations, nodes without that form may have int8."""
    return decision.domain in (CODED if scheme.activations == "int16" else ("int8",))


def _coded_share(graph: Graph, decisions: Sequence[Decision], scheme: Scheme) -> float:
    work = [
        operators()[n.op].macs(n, [graph.tensors[i] if i else None for i in n.inputs], [graph.tensors[o] for o in n.outputs])
        for n in graph.nodes
    ]
    return sum(w for w, d in zip(work, decisions, strict=True) if _stays(d, scheme)) / max(1, sum(work))


def _allowed(moves: Sequence[Move], macs: Sequence[int], stays: Sequence[bool], least: float) -> list[Move]:
    """The moves that leave at least the share ``least`` of the multiply-accumulates in nodes that ``stay``, in order; dearer ones are
    passed over."""
    counted = [work if stay else 0 for work, stay in zip(macs, stays, strict=True)]
    allowed, left, total = [], sum(counted), max(1, sum(macs))
    for move in moves:
        lost = sum(counted[i] for i in move.nodes)
        if lost == 0 or (left - lost) / total >= least - 1e-12:
            allowed.append(move)
            left -= lost
    return allowed


def search_levels(
    improved: Improved,
    scheme: Scheme,
    goal: Goal,
    samples: Callable[[], Iterable[Sample]],
    *,
    method: str = "auto",
    percentile: float = 99.99,
    threads: int = 1,
    min_int8: float = 0.5,
    best_effort: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Found:
    """Take layers out of int8 until a file reaches its target.

    Args:
        improved: the network, corrected.
        scheme: of full quantisation.
        goal: the target.
        samples: gives the calibration samples, as often as it is called.
        method, percentile: how activation ranges are chosen.
        threads: of the runs.
        min_int8: share of the multiply-accumulates that must stay in int8.
        best_effort: give the best file where no file reaches the target.
        say: called with a line for each file tried.

    Raises:
        ConvertError: the target is not reached, unless ``best_effort``.
    """
    trials = _Trials(improved, scheme, goal, {"samples": samples, "method": method, "percentile": percentile, "threads": threads}, say)
    start, good = trials([])
    if good:
        return start
    graph = improved.base
    correction = trials.choose_codes()
    improved = trials.improved
    say("measuring what each rounding costs")
    roundings, macs = find_roundings(improved, start.data, start.decisions, samples(), threads)
    moves = _allowed(plan_moves(roundings, macs), macs, [_stays(d, scheme) for d in start.decisions], min_int8)
    for only_float in (False, True) if scheme.activations == "int8" else (True,):
        done = _fewest(trials, moves, only_float=only_float)
        if done is not None:
            kept, found = _take_back(trials, *done, only_float=only_float)
            break
    else:
        if not best_effort:
            raise _unreached(trials, goal, min_int8, scheme)
        assert trials.best is not None
        found, kept = trials.best
    found.tried = trials.tried
    found.correction = correction
    found.layers = _explained(graph, kept, macs, found.decisions)
    return found


def _fewest(trials: _Trials, moves: list[Move], *, only_float: bool) -> tuple[list[Move], Found] | None:
    """The fewest of the ordered moves that reach the target, and their file."""
    done: dict[int, Found] = {}

    def reached(count: int) -> bool:
        done[count], good = trials(moves[:count], only_float=only_float)
        return good

    count = first_reached(len(moves), reached) if moves else None
    return None if count is None else (moves[:count], done[count])


def _take_back(trials: _Trials, moves: list[Move], found: Found, *, only_float: bool) -> tuple[list[Move], Found]:
    """Leave out moves that the target does not need, those with the most multiply-accumulates for their use first."""
    for move in sorted(moves, key=lambda m: m.removed / max(1, m.macs))[:TAKE_BACK]:
        fewer = [m for m in moves if m is not move]
        if not fewer:
            break
        tried, good = trials(fewer, only_float=only_float)
        if good:
            moves, found = fewer, tried
    return moves, found


def _unreached(trials: _Trials, goal: Goal, min_int8: float, scheme: Scheme) -> ConvertError:
    assert trials.best is not None
    found, moves = trials.best
    left = sum(len(move.nodes) for move in moves)
    return ConvertError(
        f"the target is {goal}, the best of {trials.tried} files is {goal.say(found.score)} with {left} layers in int16 or float and "
        f"{100 * found.int8_share:.0f} % of the MACs in {scheme.activations}; nothing is written",
        rule="goal.reached",
        where=goal.flag,
        hint=f"Ask for less, let more layers leave {scheme.activations} (--min-int8, now {100 * min_int8:g}), or take the best with "
        "--best-effort",
    )


def _explained(graph: Graph, moves: Sequence[Move], macs: Sequence[int], decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """For the report: each layer that left int8 and why, in the order of the network."""
    why = {i: move.why for move in moves for i in move.nodes}
    return [
        {
            "node": graph.nodes[i].name,
            "op": graph.nodes[i].op,
            "level": decisions[i].domain,
            "macs": macs[i],
            "why": f"rounding {why[i].what}",
            "sqnr": round(decibels_of(why[i].noise), 2),
        }
        for i in sorted(why)
    ]
