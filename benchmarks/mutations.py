"""Small wrong changes of a source file, each in one place, found in its syntax tree; the standard library only."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    **{ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Lt: ("<", "<="), ast.LtE: ("<=", "<")},
    **{ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in")},
    **{ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.And: ("and", "or"), ast.Or: ("or", "and")},
    **{ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")},
}
FUNCTIONS = {
    **{"min": "max", "amin": "amax", "argmin": "argmax", "minimum": "maximum", "floor": "ceil", "any": "all"},
    **{"max": "min", "amax": "amin", "argmax": "argmin", "maximum": "minimum", "ceil": "floor", "all": "any"},
}
NOT_NUMBERS = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple, ast.Dict)
"""What + joins and - can't subtract: a change there fails by itself wherever the line runs."""
UNSEEN_ARGUMENTS = {"stacklevel", "strict"}


@dataclass(frozen=True)
class Change:
    """``before``, at a byte offset of a file, becomes ``after``."""

    path: Path
    line: int
    start: int
    before: str
    after: str

    def __call__(self, source: str) -> str:
        """The source with the change."""
        whole, before = source.encode(), self.before.encode()
        end = self.start + len(before)
        assert whole[self.start : end] == before, f"{self.path} is not what it was"
        return (whole[: self.start] + self.after.encode() + whole[end:]).decode()

    def lines(self, source: str) -> tuple[str, str]:
        """The line it is on, before and after."""
        return self._line(source), self._line(self(source))

    def _line(self, source: str) -> str:
        return source.splitlines()[self.line - 1].strip()


class _Finder:
    """Walks what runs, leaving out annotations, decorators, strings and blocks for type checkers."""

    def __init__(self, path: Path, source: str):
        self.path, self.source = path, source.encode()
        lengths = [len(line) for line in self.source.splitlines(keepends=True)]
        self.starts = [sum(lengths[:row]) for row in range(len(lengths))]

    def walk(self, node: ast.AST) -> Iterator[Change]:
        yield from self.here(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not self.left_out(child):
                    yield from self.walk(child)

    @staticmethod
    def left_out(node: ast.AST) -> bool:
        if isinstance(node, ast.If):
            return ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in UNSEEN_ARGUMENTS)

    def here(self, node: ast.AST) -> Iterator[Change]:
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
                for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
                    yield from self.between(left, operator, right)
            case ast.BoolOp():
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self.between(left, node.op, right)
            case ast.BinOp() if not (_no_number(node.left) or _no_number(node.right)):
                yield from self.between(node.left, node.op, node.right)
            case ast.AugAssign() if not _no_number(node.value):
                yield from self.between(node.target, node.op, node.value)
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                start, end = self.offset(node), self.offset(node.operand)
                yield from self.change(start, re.match(rb"not\s*|-", self.source[start:end]), "")
            case ast.Constant(value=bool() | int() as value):
                after = str(not value) if isinstance(value, bool) else str(value + 1)
                start = self.offset(node)
                yield from self.change(start, re.match(rb"\w+", self.source[start:]), after)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in FUNCTIONS:
                start = self.end(node.func) - len(name)
                yield from self.change(start, re.match(rb"\w+", self.source[start:]), FUNCTIONS[name])

    def between(self, left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[Change]:
        before, after = OPERATORS.get(type(operator), ("", ""))
        start = self.end(left)
        gap = self.source[start : self.offset(right)]
        if before and b"#" not in gap:
            yield from self.change(start, re.search(re.escape(before.encode()).replace(rb"\ ", rb"\s+"), gap), after)

    def change(self, start: int, found: re.Match[bytes] | None, after: str) -> Iterator[Change]:
        if found:
            start += found.start()
            yield Change(self.path, self.source.count(b"\n", 0, start) + 1, start, found[0].decode(), after)

    def offset(self, node: ast.expr) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset


def _no_number(node: ast.expr) -> bool:
    return isinstance(node, NOT_NUMBERS) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def changes(path: Path, source: str) -> list[Change]:
    """Every change of the file, in its order: no docstring, annotation, decorator or message is touched."""
    return sorted(_Finder(path, source).walk(ast.parse(source)), key=lambda change: change.start)


def rooms(package: Path) -> dict[str, list[Path]]:
    """The files of every top-level subpackage and module."""
    return {
        each.stem: sorted(each.rglob("*.py")) if each.is_dir() else [each]
        for each in sorted(package.iterdir())
        if each.suffix == ".py" or (each / "__init__.py").exists()
    }


def sample(root: Path, count: int, seed: int, room: str | None = None) -> list[tuple[str, Change]]:
    """Changes below ``root/src``, in rounds that take one from every room (or all from the one that is named).

    A longer sample of the same seed begins with the shorter.
    """
    generator = random.Random(seed)
    queues = {}
    for name, files in rooms(root / "src" / "upweight").items():
        if room in (None, name):
            each = [(file.relative_to(root), file.read_text(encoding="utf-8")) for file in files]
            queues[name] = [change for path, source in each for change in changes(path, source)]
            generator.shuffle(queues[name])
    queues = {name: found for name, found in queues.items() if found}
    chosen: list[tuple[str, Change]] = []
    while queues and len(chosen) < count:
        for name in generator.sample(sorted(queues), len(queues)):
            chosen.append((name, queues[name].pop()))
            if not queues[name]:
                del queues[name]
    return chosen[:count]
