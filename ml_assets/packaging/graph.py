"""One ONNX graph from typed columns to the answer: the encoder, the model, its links, and for an ensemble the weighted mean.

The graph's inputs are those of `packaging.inference`: (n, p) float64 with NaN for null, and (n, q) strings. Each step does what
`development.encoding`, `development.model_files` and `development.links` do, in their order and in their precision, so that
`measure` finds the same answers. A model whose graph would answer otherwise can stay outside: see `pipeline`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from ml_assets.development import links
from ml_assets.development.encoding import MOST_DEVIATIONS, Column, Encoder
from ml_assets.development.model_files import (
    CHUNK_ROWS,
    FORMATS,
    MISSING,
    REACH_TOLERANCE,
    Clusters,
    Model,
    Scores,
    Skops,
    unzipped,
)
from ml_assets.packaging.inference import ANSWER, KNOWN, NULL, NUMBERS, PIPELINE, SCORES, TEXTS, differs
from ml_assets.tasks.base import Output

OPSET, ML_OPSET, IR_VERSION = 18, 3, 8
OUTSIDE = ("ubj", "skops")
"""Formats of models that `packaging.inference` can also score without a graph."""
WHOLE = "model"
"""The name of a model that is no member of an ensemble."""
_TINY = 1e-12


class GraphError(ValueError):
    """A model has no form as a graph."""


@dataclass(frozen=True)
class Pipeline:
    """A model as graphs, by file name in `files`; `outside` tells which parts of it are none: name, format and file."""

    files: Mapping[str, bytes]
    outside: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Parity:
    """How far two ways to score `rows` rows are apart at most, by the largest score if that is above 1.

    `differing` counts the rows that differ by more than `inference.TOLERANCE`.
    """

    rows: int
    difference: float
    differing: int


def measure(found: Scores, wanted: Scores, tolerance: float) -> Parity:
    """Compare two arrays of scores of the same rows."""
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    each = np.abs(found - wanted).reshape(len(wanted), -1).max(axis=1, initial=0.0) / scale
    return Parity(len(wanted), differs(found, wanted), int((~(each <= tolerance)).sum()))


def pipeline(model: Model, *, outside: Collection[str] = ()) -> Pipeline:
    """Return the model as one graph, or as two with the parts named in `outside` between them, see `parts`.

    Equal models give equal bytes. Raises `GraphError` for a part that has no graph and is not outside.
    """
    members = parts(model)
    first = _Graph(model.encoder)
    first.columns()
    inside = {name: first.answer(part) for name, part in members.items() if name not in outside}
    if not outside:
        first.output(SCORES, first.mixed(model, inside))
        return Pipeline({PIPELINE: first.content()})
    last = _Graph(model.encoder)
    for name in outside:
        first.output(name, first.matrix(members[name]))
    if inside:
        first.output(KNOWN, first.weighted(model, inside))
    said = {name: last.finished(last.given(name), members[name]) for name in outside}
    last.output(SCORES, last.mixed(model, said, known=last.given(KNOWN) if inside else ""))
    files = {_file(name, members[name]): members[name].content for name in outside}
    told = tuple(
        {"name": name, "format": members[name].format, "file": file} for name, file in zip(outside, files, strict=True)
    )
    return Pipeline({PIPELINE: first.content(), ANSWER: last.content(), **files}, told)


def _file(name: str, part: Model) -> str:
    file = FORMATS[part.format].file
    return file if name == WHOLE else f"{name}-{file}"


def parts(model: Model) -> dict[str, Model]:
    """Return the members of an ensemble by name, and of another model the model itself as `WHOLE`."""
    return unzipped(model.content, threads=model.threads) if model.format == "ensemble" else {WHOLE: model}


def features_of(encoder: Encoder) -> list[tuple[str, str]]:
    """Return each feature with its type, in the order in which the graph reads them."""
    return list(encoder.dtypes.items())


def scored(say: Callable[[dict[str, np.ndarray]], Scores], frame: pl.DataFrame, encoder: Encoder) -> Scores:
    """Return what a `Predictor.say` answers for the rows of a frame, without going through mappings."""
    numbers, texts = ([one.name for one in columns] for columns in _by_kind(encoder))
    found = []
    for part in frame.iter_slices(CHUNK_ROWS):
        feed = {}
        if numbers:
            feed[NUMBERS] = np.ascontiguousarray(part.select(pl.col(numbers).cast(pl.Float64)).to_numpy())
        if texts:
            told = part.select(pl.col(texts).cast(pl.String).fill_null(NULL))
            feed[TEXTS] = np.array([told[name].to_numpy() for name in texts], dtype=object).T.copy()
        found.append(say(feed))
    return np.concatenate(found)


# -- the graph ---------------------------------------------------------------------------------------------------------


@dataclass
class _Graph:
    """A graph that is being written. Methods that add nodes return the name of what the last of them gives."""

    encoder: Encoder
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    made: dict[tuple[str, str], str] = field(default_factory=dict)

    # what every graph is made of

    def add(self, op: str, *inputs: str | np.ndarray | float, domain: str = "", **attributes: Any) -> str:
        """Add a node; an input that is no name becomes a constant, a number one of float64."""
        from onnx import helper

        name = f"v{len(self.nodes)}"
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self.nodes.append(helper.make_node(op, names, [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, value: np.ndarray | float) -> str:
        """Return the name of a constant."""
        from onnx import numpy_helper

        array = np.asarray(value) if isinstance(value, np.ndarray) else np.asarray(value, dtype=np.float64)
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def cast(self, value: str, dtype: type) -> str:
        """Return the value in a NumPy type."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def given(self, name: str, dtype: Any = np.float64, shape: Sequence[Any] | None = None) -> str:
        """Declare an input of the graph, once."""
        from onnx import TensorProto, helper

        if name not in [one.name for one in self.inputs]:
            kind = TensorProto.STRING if dtype is str else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str) -> None:
        """Declare an output of the graph."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self.outputs.append(helper.make_empty_tensor_value_info(name))

    def content(self) -> bytes:
        """Return the graph as a file, with the types of its outputs."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, "bundle", self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        made = helper.make_model(graph, producer_name="ml_assets", ir_version=IR_VERSION, opset_imports=opsets)
        return onnx.shape_inference.infer_shapes(made).SerializeToString(deterministic=True)

    # the columns

    def columns(self) -> None:
        """Declare the inputs that there are columns for, used or not."""
        for kind, declare in (("number", self.numbers), ("text", self.texts)):
            if self._of(kind):
                declare()

    def texts(self) -> str:
        """Declare the input of texts."""
        return self.given(TEXTS, str, ["n", len(self._of("text"))])

    def numbers(self) -> str:
        """Declare the input of numbers and booleans."""
        return self.given(NUMBERS, np.float64, ["n", len(self._of("number"))])

    def text(self, name: str) -> str:
        """Return one column of the input of texts (n, 1)."""
        names = self._of("text")
        texts = self.texts()
        return texts if len(names) == 1 else self.add("Gather", texts, np.array([names.index(name)]), axis=1)

    def number(self, name: str) -> str:
        """Return one column of the input of numbers (n, 1)."""
        return self.add("Gather", self.numbers(), np.array([self._of("number").index(name)]), axis=1)

    def _of(self, kind: str) -> list[str]:
        return [one.name for one in _by_kind(self.encoder)[kind == "text"]]

    def once(self, what: str, encoder: Encoder, make: Callable[[Encoder], str]) -> str:
        """Return what `make` adds for an encoder; members of an ensemble share it."""
        key = (what, encoder.sha256)
        if key not in self.made:
            self.made[key] = make(encoder)
        return self.made[key]

    def finite(self, encoder: Encoder) -> str:
        """Numbers as float32; what that cannot hold is null."""
        value = self.cast(self.numbers(), np.float32)
        return self.add("Where", self.add("IsInf", value), np.array(np.nan, np.float32), value)

    def codes(self, encoder: Encoder) -> str:
        """See `Encoder.codes`."""
        known, named = _by_kind(encoder)
        blocks = [self.once("finite", encoder, self.finite)] if known else []
        for column in named:
            table = {value: float(code) for code, value in enumerate(column.categories)} | {NULL: math.nan}
            blocks.append(self.labelled(self.text(column.name), table, math.nan))
        laid = [(one.name, 0) for one in (*known, *named)]
        return self.ordered(blocks, laid, [(name, 0) for name in encoder.names])

    def filled(self, encoder: Encoder) -> str:
        """See `Encoder.codes` with a number for null."""
        codes = self.once("codes", encoder, self.codes)
        return self.add("Where", self.add("IsNaN", codes), np.array(MISSING, np.float32), codes)

    def dense(self, encoder: Encoder) -> str:
        """See `Encoder.dense`."""
        known, named = _by_kind(encoder)
        blocks = [*(self._standard(encoder, known) if known else []), *(self._one_hot(one) for one in named)]
        laid = [(one.name, 0) for one in known] + [(one.name, 1) for one in known if one.nulls]
        laid += [(one.name, place) for one in named for place in range(len(one.dense_names))]
        wanted = [(one.name, place) for one in encoder.columns for place in range(len(one.dense_names))]
        return self.ordered(blocks, laid, wanted)

    def _standard(self, encoder: Encoder, known: Sequence[Column]) -> list[str]:
        value = self.once("finite", encoder, self.finite)
        missing, wide = self.add("IsNaN", value), self.cast(value, np.float64)
        median, mean, std = (np.array([[getattr(one, of) for one in known]]) for of in ("median", "mean", "std"))
        moved = self.add("Div", self.add("Sub", self.add("Where", missing, median, wide), mean), std)
        blocks = [self.cast(self.add("Clip", moved, -MOST_DEVIATIONS, MOST_DEVIATIONS), np.float32)]
        flagged = [place for place, one in enumerate(known) if one.nulls]
        if flagged:
            blocks.append(self.cast(self.add("Gather", missing, np.array(flagged), axis=1), np.float32))
        return blocks

    def _one_hot(self, column: Column) -> str:
        places = {value: min(code, column.frequent) for code, value in enumerate(column.categories)}
        places |= {NULL: column.frequent + column.nulls}
        place = self.labelled(self.text(column.name), places, column.frequent)
        depth = np.array(len(column.dense_names), np.int64)
        hot = self.add("OneHot", place, depth, np.array([0, 1], np.float32), axis=-1)
        return self.add("Squeeze", hot, np.array([1]))

    def labelled(self, keys: str, table: Mapping[Any, float], other: float) -> str:
        """Return the table's value for each text or float32 number, in float32 or int64 as `other` is."""
        known = {"keys_strings" if isinstance(next(iter(table)), str) else "keys_floats": [*table]}
        kind = "float" if isinstance(other, float) else "int64"
        told = {f"values_{kind}s": [*table.values()], f"default_{kind}": other}
        return self.add("LabelEncoder", keys, domain="ai.onnx.ml", **known, **told)

    def ordered(self, blocks: Sequence[str], laid: Sequence[Any], wanted: Sequence[Any]) -> str:
        """Return the blocks side by side, whose columns are `laid`, in the order `wanted`."""
        whole = blocks[0] if len(blocks) == 1 else self.add("Concat", *blocks, axis=1)
        places = {one: place for place, one in enumerate(laid)}
        order = [places[one] for one in wanted]
        return whole if laid == wanted else self.add("Gather", whole, np.array(order), axis=1)

    # the models

    def matrix(self, model: Model) -> str:
        """Return the matrix that the model's estimator reads."""
        what = {"ubj": self.codes, "onnx_trees": self.filled}.get(model.format, self.dense)
        return self.once(what.__name__, model.encoder, what)

    def answer(self, model: Model) -> str:
        """Return what `Model.predict` does."""
        raw = _RAW.get(model.format)
        if raw is None:
            raise GraphError(f"a model of format {model.format!r} has no graph: known are {sorted(_RAW)}")
        return self.finished(raw(self, model), model)

    def finished(self, raw: str, model: Model) -> str:
        """See `model_files.finished`."""
        return self.ranged(self.linked(raw, model.links), model.output)

    def linked(self, value: str, of: Sequence[links.Link]) -> str:
        """Return the value after the links."""
        for one in of:
            if one.kind not in _LINKS:
                raise GraphError(f"a link of kind {one.kind!r} has no graph: known are {sorted(_LINKS)}")
            value = _LINKS[one.kind](self, value, one)
        return value

    def ranged(self, value: str, output: Output) -> str:
        """Return the value in the type and range of the output."""
        if output == "cluster":
            return self.cast(value, np.int64)
        return value if output == "value" else self.add("Clip", value, 0.0, 1.0)

    def weighted(self, model: Model, said: Mapping[str, str], known: str = "") -> str:
        """Return the sum of an ensemble's members' answers by their weights."""
        weights = model.parameters["weights"]
        sums = [known] if known else []
        sums += [self.add("Mul", value, float(weights[name])) for name, value in said.items()]
        total = sums[0]
        for one in sums[1:]:
            total = self.add("Add", total, one)
        return total

    def mixed(self, model: Model, said: Mapping[str, str], known: str = "") -> str:
        """Return the answer of the whole model where its parts said `said`."""
        if model.format != "ensemble":
            return said[WHOLE]
        return self.finished(self.weighted(model, said, known), model)

    def rows(self) -> str:
        """Return the number of rows (1,)."""
        value = self.numbers() if self._of("number") else self.text(self._of("text")[0])
        return self.add("Shape", value, start=0, end=1)

    def repeated(self, value: np.ndarray) -> str:
        """Return a constant (k,) or () for every row."""
        shape = self.rows()
        if value.ndim:
            shape = self.add("Concat", shape, np.array(value.shape), axis=0)
        return self.add("Expand", value, shape)

    def last(self, value: str) -> str:
        """Return the last column (n, k) as (n,)."""
        return self.add("Gather", value, np.array(-1), axis=1)

    def affine(self, value: str, slope: np.ndarray | float, offset: np.ndarray | float) -> str:
        """Return slope times the value plus offset."""
        return self.add("Add", self.add("Mul", value, slope), offset)

    def squares(self, wide: str) -> str:
        """Return the sum of squares of each row (n, 1)."""
        return self.add("ReduceSumSquare", wide, np.array([1]), keepdims=1)


def _by_kind(encoder: Encoder) -> tuple[list[Column], list[Column]]:
    """Return the columns that are numbers or booleans, and those that are texts."""
    named = [one for one in encoder.columns if one.kind == "category"]
    return [one for one in encoder.columns if one.kind != "category"], named


def _prior(graph: _Graph, model: Model) -> str:
    return graph.repeated(np.array(json.loads(model.content)["prior"], dtype=np.float64))


def _lookup(graph: _Graph, model: Model) -> str:
    told = json.loads(model.content)
    column = next(one for one in model.encoder.columns if one.name == told["column"])
    if told["table"] is None:
        value = graph.last(graph.number(column.name))
        odd = graph.add("Or", graph.add("IsNaN", value), graph.add("IsInf", value))
        return graph.add("Where", odd, float(told["fallback"]), value)
    rows = np.array([*told["table"].values(), told["fallback"]], dtype=np.float64)
    places = list(enumerate(told["table"]))
    table: dict[Any, int] = {NULL if column.kind == "category" else math.inf: len(rows) - 1}
    if column.kind == "category":
        value = graph.text(column.name)
        table |= {key: place for place, key in places}
    else:
        value = graph.cast(graph.number(column.name), np.float32)
        table |= {float(key): place for place, key in places if key != "NaN"}  # a request has null for NaN
    return graph.add("Gather", rows, graph.last(graph.labelled(value, table, len(rows) - 1)), axis=0)


def _spliced(graph: _Graph, model: Model) -> str:
    """Return the last output of the model's own graph, which becomes a part of this one."""
    import onnx

    own = onnx.load_from_string(model.content).graph
    prefix, matrix = f"m{len(graph.nodes)}_", graph.matrix(model)
    renamed = {one.name: matrix for one in own.input} | {"": ""}
    for node in own.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.input[:], copied.output[:]
        copied.input.extend(renamed.get(name, prefix + name) for name in node.input)
        copied.output.extend(name and prefix + name for name in node.output)
        copied.name = f"{prefix}{node.name}"
        graph.nodes.append(copied)
    for one in own.initializer:
        array = onnx.TensorProto()
        array.CopyFrom(one)
        array.name = prefix + one.name
        graph.constants[array.name] = array
    said = graph.cast(prefix + own.output[-1].name, np.float64)
    shape = own.output[-1].type.tensor_type.shape.dim
    return graph.last(said) if len(shape) == 2 and shape[1].dim_value <= 2 else said


def _boosted(graph: _Graph, model: Model) -> str:
    """Return what XGBoost says; see `_Trees` for its trees."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(model.content))
    told = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective, kind = told["objective"]["name"], told["gradient_booster"]["name"]
    if kind != "gbtree" or objective not in _OBJECTIVES:
        raise GraphError(f"a booster {kind} of {objective} has no graph: known are trees of {sorted(_OBJECTIVES)}")
    base, activation = (
        np.array(json.loads(told["learner_model_param"]["base_score"]), np.float64),
        _OBJECTIVES[objective],
    )
    if activation == "Sigmoid":
        base = np.log(base / (1 - base))  # stored as a probability
    trees = _Trees(len(base))
    for target, value in enumerate(
        base.astype(np.float32)
    ):  # first, as XGBoost adds: another order costs the sixth digit
        trees.leaf(value, target=target)
    for number, tree in enumerate(told["gradient_booster"]["model"]["trees"]):
        trees.add(tree, target=told["gradient_booster"]["model"]["tree_info"][number])
    said = graph.add("TreeEnsembleRegressor", graph.matrix(model), domain="ai.onnx.ml", **trees.attributes())
    said = graph.cast(said, np.float64)
    said = said if activation == "Softmax" else graph.last(said)
    return graph.add(activation, said) if activation else said


_OBJECTIVES = {
    "binary:logistic": "Sigmoid",
    "multi:softprob": "Softmax",
    "reg:squarederror": "",
    "reg:absoluteerror": "",
    "reg:quantileerror": "",
}


_NODE = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_modes",
    "nodes_featureids",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAF = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


@dataclass
class _Trees:
    """XGBoost's trees as the attributes of a TreeEnsembleRegressor with so many targets.

    XGBoost goes left where a number is below the condition, or where a category is not among those of the split. A set of
    categories becomes a chain of nodes that each ask for one of them, and all lead to the same child.
    """

    targets: int
    nodes: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _NODE})
    leaves: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _LEAF})
    count: int = 0

    def add(self, tree: Mapping[str, Any], *, target: int) -> None:
        """Add one tree of XGBoost's JSON."""
        starts = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
        sets = {node: tree["categories"][start : start + size] for node, start, size in starts}
        following, waiting = len(tree["left_children"]), [0]
        while waiting:
            at = waiting.pop()
            left, right, missing = (tree[name][at] for name in ("left_children", "right_children", "default_left"))
            if left < 0:
                self._node(at, "LEAF", 0, 0.0, 0, 0, 0)
                for name, value in zip(_LEAF, (self.count, at, target, tree["split_conditions"][at]), strict=True):
                    self.leaves[name].append(value)
                continue
            waiting += [left, right]
            column = tree["split_indices"][at]
            if at not in sets:
                self._node(at, "BRANCH_LT", column, tree["split_conditions"][at], left, right, missing)
                continue
            ids = [at, *range(following, following + len(sets[at]) - 1), left]
            following += len(sets[at]) - 1
            for place, category in enumerate(sets[at]):
                self._node(ids[place], "BRANCH_EQ", column, float(category), right, ids[place + 1], 1 - missing)
        self.count += 1

    def _node(self, *told: Any) -> None:
        for name, value in zip(_NODE, (self.count, *told), strict=True):
            self.nodes[name].append(value)

    def leaf(self, value: float, *, target: int) -> None:
        """Add a tree that says the same of every row."""
        only = {"left_children": [-1], "right_children": [-1], "split_conditions": [float(value)], "default_left": [0]}
        self.add({**only, "categories_nodes": [], "categories_segments": [], "categories_sizes": []}, target=target)

    def attributes(self) -> dict[str, Any]:
        """Return what the node is declared with."""
        return {**self.nodes, **self.leaves, "n_targets": self.targets}


def _machine(graph: _Graph, model: Model) -> str:
    """Return the decision values of a support vector machine, of all that `candidates.svm` makes."""
    estimator = Skops.estimator(model.content)
    wide = graph.cast(graph.matrix(model), np.float64)
    if hasattr(estimator, "steps"):
        kernel, linear = (step for _, step in estimator.steps)
        near = _near(graph, wide, kernel.components_, kernel.gamma)
        weights = np.asarray(kernel.normalization_.T, np.float64) @ np.atleast_2d(linear.coef_).T
        said, ways = graph.add("MatMul", near, weights), weights.shape[1]
        said = graph.add("Add", said, np.asarray(linear.intercept_, np.float64).reshape(1, -1))
        return said if ways > 1 else graph.last(said)
    near = _near(graph, wide, estimator.support_vectors_, estimator._gamma)
    if len(estimator.dual_coef_) == 1:
        said = graph.add("MatMul", near, np.asarray(estimator.dual_coef_.T, np.float64))
        return graph.last(graph.add("Add", said, np.asarray(estimator.intercept_, np.float64).reshape(1, -1)))
    return _one_against_rest(graph, near, estimator)


def _near(graph: _Graph, wide: str, centres: Any, gamma: float) -> str:
    """Return exp(-gamma distance²) of each row to each of the centres (m, d), as (n, m)."""
    centres = np.asarray(centres, np.float64)
    squares = np.einsum("md,md->m", centres, centres)[None]
    twice = graph.add("MatMul", wide, -2 * centres.T)
    far = graph.add("Max", graph.add("Add", graph.add("Add", twice, squares), graph.squares(wide)), 0.0)
    return graph.add("Exp", graph.add("Mul", far, -float(gamma)))


def _one_against_rest(graph: _Graph, near: str, estimator: Any) -> str:
    """Return decisions (n, classes) of a machine that has one for each pair of classes, as scikit-learn joins them."""
    classes, starts = len(estimator.classes_), np.cumsum([0, *estimator.n_support_])
    pairs = [(one, other) for one in range(classes) for other in range(one + 1, classes)]
    weights = np.zeros((starts[-1], len(pairs)))
    first, second = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for place, (one, other) in enumerate(pairs):
        own, others = slice(starts[one], starts[one + 1]), slice(starts[other], starts[other + 1])
        weights[own, place] = estimator.dual_coef_[other - 1, own]
        weights[others, place] = estimator.dual_coef_[one, others]
        first[place, one], second[place, other] = 1, 1
    said = graph.add("Add", graph.add("MatMul", near, weights), estimator.intercept_.reshape(1, -1))
    for_second = graph.cast(graph.add("Less", said, 0.0), np.float64)
    votes = graph.add("Add", graph.add("MatMul", for_second, second - first), first.sum(axis=0)[None])
    sums = graph.add("MatMul", said, first - second)
    return graph.add("Add", votes, graph.add("Div", sums, graph.affine(graph.add("Abs", sums), 3.0, 3.0)))


def _clusters(graph: _Graph, model: Model) -> str:
    arrays = Clusters.arrays(model.content)
    kind = str(arrays.pop("kind"))
    return _CLUSTERINGS[kind](graph, graph.cast(graph.matrix(model), np.float64), arrays)


def _nearest_centre(graph: _Graph, wide: str, arrays: Mapping[str, np.ndarray]) -> str:
    return graph.add("ArgMin", _distances(graph, wide, arrays["centres"]), axis=1, keepdims=0)


def _distances(graph: _Graph, wide: str, others: np.ndarray) -> str:
    """Return squared distances less what is the same for a whole row, (n, m)."""
    others = np.asarray(others, np.float64)
    return graph.add("Sub", np.einsum("md,md->m", others, others)[None], graph.add("MatMul", wide, 2 * others.T))


def _likeliest_component(graph: _Graph, wide: str, arrays: Mapping[str, np.ndarray]) -> str:
    logs = []
    for weight, mean, factor in zip(arrays["log_weights"], arrays["means"], arrays["precisions"], strict=True):
        moved = graph.add("Sub", wide, mean[None])
        moved = graph.add("MatMul" if factor.ndim == 2 else "Mul", moved, factor if factor.ndim == 2 else factor[None])
        diagonal = np.diag(factor) if factor.ndim == 2 else factor
        logs.append(graph.affine(graph.squares(moved), -0.5, float(weight + np.log(diagonal).sum())))
    return graph.add("ArgMax", graph.add("Concat", *logs, axis=1), axis=1, keepdims=0)


def _within_density(graph: _Graph, wide: str, arrays: Mapping[str, np.ndarray]) -> str:
    rows, labels = np.asarray(arrays["rows"], np.float64), arrays["labels"].astype(np.int64)
    if not (labels >= 0).any():
        return graph.repeated(np.array(-1, np.int64))
    distances = _distances(graph, wide, rows)
    barred = graph.add("Add", distances, np.where(labels >= 0, 0.0, np.inf)[None])
    place = graph.add("ArgMin", barred, axis=1, keepdims=0)
    rank = np.array([min(int(arrays["neighbours"]), len(rows))])
    graph.add("TopK", distances, rank, axis=1, largest=0, sorted=1)
    graph.nodes[-1].output.append(f"{graph.nodes[-1].name}_at")
    own = graph.last(graph.nodes[-1].output[1])
    far = [_length(graph, graph.add("Sub", wide, graph.add("Gather", rows, at, axis=0))) for at in (place, own)]
    label = graph.add("Gather", labels, place, axis=0)
    reach = graph.add("Gather", arrays["reach"].astype(np.float64) * (1 + REACH_TOLERANCE), label, axis=0)
    inside = graph.add("LessOrEqual", graph.add("Max", *far), reach)
    return graph.add("Where", inside, label, np.array(-1, np.int64))


def _length(graph: _Graph, wide: str) -> str:
    return graph.add("Sqrt", graph.last(graph.squares(wide)))


_CLUSTERINGS = {"centres": _nearest_centre, "mixture": _likeliest_component, "density": _within_density}
_RAW: dict[str, Callable[[_Graph, Model], str]] = {
    "prior": _prior,
    "lookup": _lookup,
    "onnx": _spliced,
    "onnx_trees": _spliced,
    "ubj": _boosted,
    "skops": _machine,
    "clusters": _clusters,
}


# -- the links ---------------------------------------------------------------------------------------------------------


def _platt(graph: _Graph, value: str, one: links.Platt) -> str:
    return graph.add("Sigmoid", graph.affine(value, one.slope, one.offset))


def _platt_each(graph: _Graph, value: str, one: links.PlattEach) -> str:
    shares = graph.add("Sigmoid", graph.affine(value, np.array([one.slopes]), np.array([one.offsets])))
    sums = graph.add("ReduceSum", shares, np.array([1]), keepdims=1)
    some = graph.add("Greater", sums, 0.0)
    divided = graph.add("Div", shares, graph.add("Where", some, sums, 1.0))
    return graph.add("Where", some, divided, 1 / len(one.slopes))


def _spread(graph: _Graph, value: str, one: links.Spread) -> str:
    if len(one.known) == 2:  # one number says both
        both = [graph.add("Unsqueeze", part, np.array([1])) for part in (graph.add("Sub", 1.0, value), value)]
        value = graph.add("Concat", *both, axis=1)
    return graph.add("MatMul", value, np.eye(one.classes)[list(one.known)])


def _logistic(graph: _Graph, value: str, one: links.Logistic) -> str:
    inside = graph.add("Clip", value, _TINY, 1 - _TINY)
    odds = graph.add("Log", graph.add("Div", inside, graph.add("Sub", 1.0, inside)))
    return graph.add("Sigmoid", graph.affine(odds, one.slope, one.offset))


def _temperature(graph: _Graph, value: str, one: links.Temperature) -> str:
    logs = graph.add("Log", graph.add("Clip", value, _TINY, 1.0))
    return graph.add("Softmax", graph.add("Div", logs, one.temperature), axis=1)


def _isotonic(graph: _Graph, value: str, one: links.Isotonic) -> str:
    x, y = np.array(one.x), np.array(one.y)
    width = np.append(np.diff(x), 0.0)
    slopes = np.divide(np.append(np.diff(y), 0.0), width, out=np.zeros_like(x), where=width > 0)
    inside = graph.add("Clip", value, float(x[0]), float(x[-1]))
    reached = graph.add("GreaterOrEqual", graph.add("Unsqueeze", inside, np.array([1])), x[None])
    count = graph.add("ReduceSum", graph.cast(reached, np.int64), np.array([1]), keepdims=0)
    at = graph.add("Sub", count, np.array(1, np.int64))
    start, slope, low = (graph.add("Gather", points, at, axis=0) for points in (x, slopes, y))
    return graph.add("Add", low, graph.add("Mul", slope, graph.add("Sub", inside, start)))


def _target(graph: _Graph, value: str, one: links.Target) -> str:
    shaped = graph.affine(value, one.scale, one.center)
    if not one.log:
        return shaped
    inside = graph.add("Clip", shaped, 0.0, one.center + 10 * one.scale)
    return graph.affine(graph.add("Sub", graph.add("Exp", inside), 1.0), one.smear, one.low)


_LINKS: dict[str, Callable[[_Graph, str, Any], str]] = {
    "platt": _platt,
    "platt_each": _platt_each,
    "spread": _spread,
    "logistic": _logistic,
    "temperature": _temperature,
    "isotonic": _isotonic,
    "target": _target,
}
