"""PromQL read for what it takes for granted: which series there are, and which labels they have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property

import promql_parser as promql

SCRAPED = {"instance", "job"}
"""The labels that Prometheus gives to what it scrapes."""

Exposed = Mapping[str, tuple[str, AbstractSet[str]]]
"""By the name of a metric its type and its labels."""


class Vocabulary:
    """What queries may speak of: metrics that are exposed, and series that rules record."""

    def __init__(self, exposed: Exposed, recorded: Mapping[str, str]) -> None:
        self._exposed = exposed
        self._recorded = recorded

    @cached_property
    def recorded(self) -> dict[str, AbstractSet[str]]:
        """The labels of each recorded series."""
        return {name: self.labels(query) for name, query in self._recorded.items()}

    def labels(self, query: str) -> AbstractSet[str]:
        """The labels of a query's answer; raises `AssertionError` if it asks for what there is not."""
        return self._labels(promql.parse(query)) or set()

    def _labels(self, part: promql.Expr) -> AbstractSet[str] | None:
        """As `labels`, of a part of a query; None for a number."""
        match part:
            case promql.VectorSelector():
                return self._selected(part)
            case promql.MatrixSelector():
                return self._selected(part.vector_selector)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._labels(part.expr)
            case promql.AggregateExpr():
                return self._aggregated(part)
            case promql.Call():
                return self._called(part)
            case promql.BinaryExpr():
                return self._combined(part)
            case promql.NumberLiteral():
                return None
        raise AssertionError(f"what is {part}?")

    def _selected(self, selector: promql.VectorSelector) -> AbstractSet[str]:
        assert selector.name is not None, str(selector)
        found = self._series(selector.name)
        named = {matcher.name for matcher in selector.matchers.matchers}
        assert named <= found, f"{selector.name} has no {named - found}"
        return found

    def _series(self, name: str) -> AbstractSet[str]:
        if name in self._recorded:
            return self.labels(self._recorded[name])
        family = re.sub("_(bucket|sum|count)$", "", name)
        assert name in self._exposed or family in self._exposed, f"there is no {name}"
        kind, labels = self._exposed.get(name) or self._exposed[family]
        assert (kind == "histogram") == (name != family), f"{name} is a {kind}"
        return {*labels, *SCRAPED} | ({"le"} if name.endswith("_bucket") else set())

    def _aggregated(self, part: promql.AggregateExpr) -> AbstractSet[str]:
        inside = self._labels(part.expr)
        assert inside is not None, str(part)
        if part.modifier is None:
            return set()
        assert part.modifier.type == promql.AggModifierType.By, str(part)
        kept = set(part.modifier.labels)
        assert kept <= inside, f"{kept - inside} in {part}"
        return kept

    def _called(self, part: promql.Call) -> AbstractSet[str] | None:
        [inside] = [
            self._labels(one) for one in part.args if not isinstance(one, promql.StringLiteral | promql.NumberLiteral)
        ]
        assert inside is not None, str(part)
        match part.func.name:
            case "absent":
                return set()
            case "histogram_quantile":
                assert "le" in inside, str(part)
                return inside - {"le"}
            case "label_replace":
                new, source = part.args[1].val, part.args[3].val
                assert source in inside, str(part)
                return inside | {new}
        return inside

    def _combined(self, part: promql.BinaryExpr) -> AbstractSet[str] | None:
        left, right = self._labels(part.lhs), self._labels(part.rhs)
        if left is None or right is None:
            return right if left is None else left
        matching = part.modifier.matching if part.modifier else None
        if matching is None:
            assert left == right, f"only one side of {part} has {left ^ right}"
            return left
        assert matching.type == promql.LabelModifierType.Include, str(part)
        on = set(matching.labels)
        assert on <= left & right, f"{on - (left & right)} in {part}"
        return left if str(part.op) in {"and", "or", "unless"} else on
