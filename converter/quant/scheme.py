# SPDX-License-Identifier: Apache-2.0
"""Which tensors become int8 or int16, and why the others do not.

`apply` turns a float graph into a quantised one: weights become codes, activations of int8 and int16 operators get the type INT8 or
INT16 (their scales are found by calibration), Quantize/Dequantize stand where coded and float operators meet, and Quantize where int8
and int16 ones do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConvertError
from ..evaluate import weights as real_weights
from ..graph import DType, Graph, Node
from ..linear import DEPTH_LIMIT
from ..ops import operators
from ..ops.base import Quantisation, Scales
from .borders import CODE_TYPES, insert_borders
from .bounded_weights import CHOICES, bounded_codes, profits
from .sharing import share_scales
from .weights import NO_GROUPS, TABLE_INPUT, WEIGHTS_INPUT, Codes, quantise_node, quantise_table

__all__ = ["ACTIVATIONS", "CODED", "ENTROPY", "MODES", "Decision", "Scheme", "apply", "bounds", "decide", "matches"]

MODES = ("full", "weight", "dynamic", "float")
ACTIVATIONS = ("int8", "int16")
ENTROPY = ("off", "auto", "on")
CODED = frozenset(ACTIVATIONS)
"""Domains of a `Decision` whose activations are codes."""
# Operators with a multiply-accumulate loop: int8 pays for itself there, and data movement around them follows.
_HEAVY = frozenset({*WEIGHTS_INPUT, "MatMul"})


@dataclass(frozen=True)
class Scheme:
    """What the user asked for.

    Attributes:
        mode: ``"full"`` (weights and activations), ``"weight"`` (weights only, float32 compute), ``"dynamic"`` (as ``"weight"``, but
            matrix products quantise each row of their input when they run) or ``"float"``.
        bits: width of weights, 1 to 16; full and dynamic quantisation take 8.
        group: inputs that share a weight scale, a multiple of 4; 0 = a scale per output channel.
        weights_method: ``"max"`` or ``"mse"``, see `weights.channel_scales`; ``"auto"`` is mse below 8 bits.
        min_elements: weights with no more elements than this stay float (weights and dynamic quantisation).
        min_channels: weights with no more output channels than this stay float (weights and dynamic quantisation).
        skip: nodes that stay float: a node name, ``type:<operator>`` or ``re:<regular expression on names>``.
        io: ``"float32"`` keeps the model's own input and output types, ``"int8"`` and ``"int16"`` leave those of that type as codes.
        calibratable: weights quantisation marks the activations so that calibration can complete the file later.
        node_bits: width of weights where it differs from ``bits``, by the name of the node's first output (node names may repeat).
        levels: reason by the name of a node's first output: these nodes stay float (found by the search for an accuracy target).
        activations: ``"int8"`` or ``"int16"``: the type of quantised activations. Operators without an int16 form stay float then.
        int16: what takes int16 although ``activations`` says int8: nodes as in ``skip``, or ``tensor:NAME``, which means the nodes that
            write and read this tensor of the float graph. Nodes without an int16 form keep int8.
        wide: reason by the name of a node's first output: these nodes take int16 too, where they have an int16 form.
        entropy: of `ENTROPY`: which weights the file holds entropy-coded.
        bounded_weights: of `bounded_weights.CHOICES`; ``"auto"`` is decided by `corrections.improve`, and ``"off"`` until then.
    """

    mode: str = "full"
    bits: int = 8
    group: int = 0
    weights_method: str = "auto"
    min_elements: int = 0
    min_channels: int = 0
    skip: tuple[str, ...] = ()
    io: str = "float32"
    calibratable: bool = False
    node_bits: dict[str, int] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    activations: str = "int8"
    int16: tuple[str, ...] = ()
    wide: dict[str, str] = field(default_factory=dict)
    entropy: str = "off"
    bounded_weights: str = "off"

    def __post_init__(self) -> None:
        """Refuse unknown words and numbers out of range."""
        if self.mode not in MODES:
            raise ConvertError(f"unknown quantisation {self.mode!r}", rule="quant.mode", where="--quant", hint=f"Known: {', '.join(MODES)}")
        for word, known, rule, where in (
            (self.io, ("float32", *ACTIVATIONS), "quant.io", "--io"),
            (self.activations, ACTIVATIONS, "quant.activations", "--activations"),
        ):
            if word not in known:
                raise ConvertError(f"unknown type {word!r}", rule=rule, where=where, hint=f"Known: {', '.join(known)}")
        if self.entropy not in ENTROPY:
            raise ConvertError(
                f"unknown choice {self.entropy!r}", rule="quant.entropy", where="--entropy", hint=f"Known: {', '.join(ENTROPY)}"
            )
        if self.bounded_weights not in CHOICES:
            raise ConvertError(
                f"unknown choice {self.bounded_weights!r}",
                rule="quant.bounded",
                where="--bounded-weights",
                hint=f"Known: {', '.join(CHOICES)}",
            )
        if self.bounded_weights != "off" and self.mode != "full":
            raise ConvertError(
                f"bounded weights belong to full quantisation, not {self.mode}",
                rule="quant.bounded",
                where="--bounded-weights",
                hint="Use --quant full",
            )
        if self.mode == "float" and self.entropy != "off":
            raise ConvertError("a float model has no codes", rule="quant.entropy", where="--entropy", hint="Leave it out")
        if self.mode in ("float", "dynamic") and (self.int16 or self.wide or self.activations != "int8"):
            raise ConvertError(
                f"a {self.mode} model stores no quantised activations",
                rule="quant.activations",
                where="--activations",
                hint="Use --quant full",
            )
        for name, bits in [("--bits", self.bits), *self.node_bits.items()]:
            if not 1 <= bits <= 16:
                raise ConvertError(f"{bits} bits per weight are outside 1 to 16", rule="quant.bits", where=name, hint="Choose 1 to 16")
        if self.mode in ("full", "dynamic") and self.bits != 8:
            raise ConvertError(
                f"{self.mode} quantisation takes 8-bit weights, not {self.bits}",
                rule="quant.bits",
                where="--bits",
                hint="Use --quant weight",
            )
        if self.group < 0 or (self.group and self.mode in ("full", "dynamic")):
            raise ConvertError(
                "groups of weights need weights quantisation", rule="quant.group", where="--group", hint="Use --quant weight"
            )
        if self.group % 4:
            raise ConvertError(
                f"groups of {self.group} are no multiple of 4", rule="quant.group", where="--group", hint="Use 32, 64 or 128"
            )
        for what, number in (("--min-elements", self.min_elements), ("--min-channels", self.min_channels)):
            if number < 0:
                raise ConvertError(f"{number} is negative", rule="quant.threshold", where=what)


@dataclass(frozen=True)
class Decision:
    """How one node runs: ``domain`` is ``"int8"``, ``"int16"``, ``"dynamic"`` (int8 within the operator), ``"weight"`` (coded weights,
    float compute) or ``"float"``; ``reason``: why it does not run in the type asked for."""

    node: str
    op: str
    domain: str
    reason: str = ""


def matches(node: Node, pattern: str, flag: str = "skip") -> bool:
    """Whether a pattern of ``--skip`` or ``--int16`` names the node: its exact name, ``type:Operator`` or ``re:expression``."""
    if pattern.startswith("type:"):
        return node.op.lower() == pattern[5:].lower()
    if pattern.startswith("re:"):
        try:
            return re.search(pattern[3:], node.name) is not None
        except re.error as error:
            raise ConvertError(f"not a regular expression: {error}", rule=f"quant.{flag}", where=f"--{flag} {pattern}") from error
    return node.name == pattern


def _near(graph: Graph, pattern: str) -> str:
    """What a pattern without a match may have meant."""
    if pattern.startswith(("re:", "tensor:")):
        return "`edge8 report` and `convert --report` list the node names" + (" and tensors" if pattern.startswith("tensor:") else "")
    prefix = "type:" if pattern.startswith("type:") else ""
    known = list(dict.fromkeys(node.op if prefix else node.name for node in graph.nodes if node.name or prefix))
    word = pattern[len(prefix) :].lower()
    close = difflib.get_close_matches(word, [name.lower() for name in known], n=3, cutoff=0.5)
    close += [name.lower() for name in known if word and word in name.lower()][: 3 - len(close)]
    found = [prefix + name for name in known if name.lower() in close]
    types = [f"type:{node.op}" for node in graph.nodes if not prefix and node.op.lower() == word]
    found = types[:1] + found[:3]
    if found:
        return f"Did you mean {', '.join(found)}?"
    return f"The operators are {', '.join(sorted(known))}" if prefix else "`edge8 report` and `convert --report` list the node names"


def _named(graph: Graph, patterns: Sequence[str], flag: str) -> dict[int, str]:
    """Node index to the pattern of ``--skip`` or ``--int16`` that names it; every pattern must name a node."""
    found: dict[int, str] = {}
    for pattern in patterns:
        if flag == "int16" and pattern.startswith("tensor:"):
            hits = [i for i, node in enumerate(graph.nodes) if pattern[7:] in (*node.inputs, *node.outputs)]
        else:
            hits = [i for i, node in enumerate(graph.nodes) if matches(node, pattern, flag)]
        if not hits:
            raise ConvertError("no node matches", rule=f"quant.{flag}", where=f"--{flag} {pattern}", hint=_near(graph, pattern))
        for i in hits:
            found.setdefault(i, pattern)
    return found


def _no_coded_form(graph: Graph, node: Node, form: Quantisation) -> str:
    """Why a node cannot run on codes, or the empty string."""
    if form.scales is Scales.FLOAT:
        return form.reason or f"{node.op} has no int8 form"
    position = WEIGHTS_INPUT.get(node.op)
    if position is not None:
        weights = graph.tensors[node.inputs[position]]
        if not weights.constant:
            return "its weights are computed at run time"
        if weights.dtype not in (DType.FLOAT32, DType.INT8):
            return f"its weights are {weights.dtype.name.lower()}"
    data = [graph.tensors[node.inputs[i]] for i in form.data if i < len(node.inputs) and node.inputs[i]]
    if data and all(t.constant for t in data):
        return "all its data are constants"
    for tensor in [*data, *(graph.tensors[name] for name in node.outputs)]:
        if tensor.dtype not in (DType.FLOAT32, DType.INT8):
            return f"tensor {tensor.name!r} is {tensor.dtype.name.lower()}"
    return ""


def _asked_types(graph: Graph, scheme: Scheme) -> list[str]:
    """The type of each node's codes: what the scheme asks for, int8 where a node named by ``int16`` or ``wide`` has no int16 form."""
    named = set(_named(graph, scheme.int16, "int16"))
    named |= {i for i, node in enumerate(graph.nodes) if node.outputs[0] in scheme.wide}
    types = [scheme.activations] * len(graph.nodes)
    for i in named:
        if operators()[graph.nodes[i].op].int16_quantisation(graph.nodes[i], graph).scales is not Scales.FLOAT:
            types[i] = "int16"
    return types


def _forms(graph: Graph, types: Sequence[str]) -> list[Quantisation]:
    """The int8 or int16 form of each node."""
    known = operators()
    return [
        known[node.op].int16_quantisation(node, graph) if kind == "int16" else known[node.op].quantisation(node, graph)
        for node, kind in zip(graph.nodes, types, strict=True)
    ]


def _widen_movers(graph: Graph, forms: list[Quantisation], reasons: list[str | None], types: list[str]) -> None:
    """Operators that only move codes take int16 between an int16 operator and one that is int16 or float, so that nothing is lost
    on the way."""
    producer = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(i)

    def moves(i: int) -> bool:
        return forms[i].scales is Scales.SAME and reasons[i] is None and types[i] == "int8"

    wide_source, wide_reader = set(), set()
    for i, node in enumerate(graph.nodes):
        sources = [producer.get(node.inputs[p], -1) for p in forms[i].data if p < len(node.inputs)]
        if moves(i) and any(s >= 0 and reasons[s] is None and (types[s] == "int16" or s in wide_source) for s in sources):
            wide_source.add(i)
    for i in reversed(range(len(graph.nodes))):
        names = graph.nodes[i].outputs
        users = [u for name in names for u in readers.get(name, [])]
        wide = any(reasons[u] is not None or types[u] == "int16" or u in wide_reader for u in users)
        if moves(i) and (wide or any(name in graph.outputs for name in names)):
            wide_reader.add(i)
    for i in wide_source & wide_reader:
        if operators()[graph.nodes[i].op].int16_quantisation(graph.nodes[i], graph).scales is Scales.SAME:
            types[i] = "int16"


def _follow_neighbours(graph: Graph, forms: list[Quantisation], reasons: list[str | None]) -> None:
    """Operators that only move data run in int8 where their data is int8 already, or where only int8 operators read them."""
    producer = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for position, name in enumerate(node.inputs):
            if name:
                readers.setdefault(name, []).append(i if position in forms[i].data else -1)
    movers = [i for i, form in enumerate(forms) if form.scales is Scales.SAME and reasons[i] is None]
    waiting = set(movers)

    def is_int8(i: int) -> bool:
        return reasons[i] is None and i not in waiting

    for i in movers:
        sources = [producer.get(graph.nodes[i].inputs[p], -1) for p in forms[i].data if p < len(graph.nodes[i].inputs)]
        if any(s >= 0 and is_int8(s) for s in sources):
            waiting.discard(i)
    for i in reversed(movers):
        users = [u for name in graph.nodes[i].outputs for u in readers.get(name, [])]
        outside = any(name in graph.outputs for name in graph.nodes[i].outputs)
        if users and not outside and all(u >= 0 and is_int8(u) for u in users):
            waiting.discard(i)
    for i in waiting:
        reasons[i] = "only moves data between float operators"


def _drop_light_islands(graph: Graph, forms: list[Quantisation], reasons: list[str | None]) -> None:
    """Int8 regions without any multiply-accumulate operator cost two conversions and gain nothing: they stay float.

    A graph without such operators at all is left as it is.
    """
    if not any(reasons[i] is None and node.op in _HEAVY for i, node in enumerate(graph.nodes)):
        return
    region = list(range(len(graph.nodes)))

    def find(i: int) -> int:
        while region[i] != i:
            region[i] = region[region[i]]
            i = region[i]
        return i

    producer = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
    for i, node in enumerate(graph.nodes):
        if reasons[i] is not None:
            continue
        for position in forms[i].data:
            source = producer.get(node.inputs[position], -1) if position < len(node.inputs) else -1
            if source >= 0 and reasons[source] is None:
                region[find(i)] = find(source)
    heavy = {find(i) for i, node in enumerate(graph.nodes) if reasons[i] is None and node.op in _HEAVY}
    for i in range(len(graph.nodes)):
        if reasons[i] is None and find(i) not in heavy:
            reasons[i] = "an int8 island without multiply-accumulate operators would only add conversions"


def _weights_reason(graph: Graph, node: Node, scheme: Scheme) -> str:
    """Why a node's weights stay float in weights quantisation, or the empty string."""
    position = TABLE_INPUT if node.op == "Gather" else WEIGHTS_INPUT.get(node.op)
    if position is None:
        return "no weights"
    weights = graph.tensors[node.inputs[position]]
    if not weights.constant or weights.dtype is not DType.FLOAT32:
        return "its weights are not float constants"
    if node.op == "Gather":
        if node.params.get("axis", 0) != 0 or len(weights.shape) < 2:
            return "its table is not picked by the row"
        if scheme.bits > 8:
            return f"tables have codes of 8 bits, fewer than --bits {scheme.bits}"
    channels = weights.shape[-1 if node.op == "DepthwiseConv2D" else 0]
    if weights.elements <= scheme.min_elements:
        return f"{weights.elements} weights are not more than --min-elements {scheme.min_elements}"
    if channels <= scheme.min_channels:
        return f"{channels} output channels are not more than --min-channels {scheme.min_channels}"
    return ""


def _decision(graph: Graph, index: int, scheme: Scheme, coded_type: str, reason: str | None, skipped: bool) -> Decision:
    """Int8 or int16, or else codes for the weights alone where nothing forbids them, or else float."""
    node = graph.nodes[index]
    if reason is None:
        return Decision(node.name, node.op, coded_type, scheme.wide.get(node.outputs[0], "") if coded_type == "int16" else "")
    coded = not skipped and not _weights_reason(graph, node, scheme)
    return Decision(node.name, node.op, "weight" if coded else "float", reason)


def decide(graph: Graph, scheme: Scheme) -> list[Decision]:
    """How each node of a float graph will run, in order, without changing the graph.

    Raises:
        ConvertError: a ``skip`` pattern names no node.
    """
    skipped = _named(graph, scheme.skip, "skip")
    if scheme.mode == "float":
        return [Decision(node.name, node.op, "float", "float model") for node in graph.nodes]
    types = _asked_types(graph, scheme)
    forms = _forms(graph, types)
    reasons: list[str | None] = []
    for i, node in enumerate(graph.nodes):
        reason = f"named by --skip {skipped[i]}" if i in skipped else _no_coded_form(graph, node, forms[i])
        if not reason and node.outputs[0] in scheme.levels:
            reason = scheme.levels[node.outputs[0]]
        if not reason and scheme.mode == "weight" and node.op in WEIGHTS_INPUT:
            reason = _weights_reason(graph, node, scheme)
        reasons.append(reason or None)
    if scheme.mode == "full" or scheme.calibratable:
        _follow_neighbours(graph, forms, reasons)
        _drop_light_islands(graph, forms, reasons)
        _widen_movers(graph, forms, reasons, types)
        real = {i for i, node in enumerate(graph.nodes) if i in skipped or node.outputs[0] in scheme.levels}
        return [_decision(graph, i, scheme, types[i], reasons[i], i in real) for i in range(len(graph.nodes))]
    decisions = []
    for i, node in enumerate(graph.nodes):
        reason = f"named by --skip {skipped[i]}" if i in skipped else _weights_reason(graph, node, scheme)
        domain = "float" if reason else "weight"
        if scheme.mode == "dynamic" and not reason:
            reason = _no_dynamic_form(graph, node)
            domain = "weight" if reason else "dynamic"
        if scheme.group and domain == "weight" and node.op in NO_GROUPS:
            reason = f"{node.op} has a scale per channel instead of groups of {scheme.group}: {NO_GROUPS[node.op]}"
        decisions.append(Decision(node.name, node.op, domain, reason))
    return decisions


def _no_dynamic_form(graph: Graph, node: Node) -> str:
    """Why a node with coded weights does not quantise its input at run time, or the empty string."""
    if node.op == "Gather":
        return "rows of its int8 table are read as float32"
    if node.op != "FullyConnected":
        return f"{node.op} computes in float32 on int8 weights: only products with a matrix of weights have rows to quantise"
    depth = graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].shape[1]
    if depth > DEPTH_LIMIT:
        return f"{depth} products per output could overflow int32 (limit {DEPTH_LIMIT})"
    return ""


def _take_codes(graph: Graph, node: Node, as_float: bool) -> None:
    """Weights that the model itself stores in int8 keep their codes, or become the numbers that these stand for."""
    position = WEIGHTS_INPUT[node.op]
    weights = graph.tensors[node.inputs[position]]
    if weights.data is None or weights.dtype is not DType.INT8 or weights.scale is None:
        return
    if as_float:
        node.inputs[position] = graph.constant(real_weights(graph, node, weights.name), f"{weights.name}_float32")
    else:
        quantise_node(graph, node, codes=Codes(weights.data, weights.scale))


def bounds(graph: Graph, node: Node, scheme: Scheme, decision: Decision) -> bool:
    """Whether the weights of a node have to keep the bound of bounded_weights.py."""
    return scheme.bounded_weights == "on" and decision.domain == "int8" and profits(graph, node)


def apply(graph: Graph, scheme: Scheme) -> list[Decision]:
    """Quantise a float graph in place: weights to codes, activation types, borders, shared scales.

    Activations of type INT8 and INT16 have no scale afterwards, unless the model gave all of them: `write` makes a calibratable file
    of them.

    Returns:
        A decision per node of the graph as it was given.

    Raises:
        ConvertError: a skip pattern names no node.
    """
    decisions = decide(graph, scheme)
    if scheme.mode != "full" and not scheme.calibratable:
        for tensor in graph.activations():
            tensor.scale, tensor.zero_point = None, 0
    for node, decision in zip(graph.nodes, decisions, strict=True):
        if node.op in WEIGHTS_INPUT:
            _take_codes(graph, node, decision.domain == "float")
    if scheme.mode == "float":
        graph.prune()
        return decisions
    forms = _forms(graph, [d.domain for d in decisions])
    nodes = list(graph.nodes)
    types = [CODE_TYPES.get(d.domain) for d in decisions]
    for node, decision in zip(nodes, decisions, strict=True):
        if node.op == "Gather" and decision.domain == "weight":
            quantise_table(graph, node)
        if decision.domain == "float" or node.op not in WEIGHTS_INPUT:
            continue
        if graph.tensors[node.inputs[WEIGHTS_INPUT[node.op]]].dtype is DType.FLOAT32:
            bits = scheme.node_bits.get(node.outputs[0], scheme.bits)
            method = scheme.weights_method if scheme.weights_method != "auto" else "mse" if bits < 8 else "max"
            codes = bounded_codes(graph, node) if bounds(graph, node, scheme, decision) else None
            quantise_node(graph, node, bits=bits, group=scheme.group, method=method, codes=codes)
        if decision.domain == "dynamic":
            node.params["dynamic"] = True
    if any(types):
        by_node = {id(node): form for node, form, chosen in zip(nodes, forms, types, strict=True) if chosen}
        insert_borders(graph, types, forms, scheme.io)
        share_scales(graph, by_node)
    graph.prune()
    graph.check()
    return decisions
