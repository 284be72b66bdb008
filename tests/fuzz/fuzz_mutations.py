"""Mutations of valid input: of trees of plain values, of lines, of bytes; each a function of one generator."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

# What a careless program writes where another value belongs, and what a hostile one would.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.5, 1e-300, 1e300, "", " ", "x", "none", "auto",
    "é\u202e\x1b[31m", "x" * 5000, "../up", "/", "~nosuchuser", "A_T", "teacher", "ii-kd", "nan", "1e400", [], [None],
    [[]], ["x"], [1, 2, 3], {}, {"x": 1}, {"epochs": 1}, {"": None}, "2024-01-01", "%s", "{0}", "[red]x[/red]",
)  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values below the top."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated_tree(tree: Any, rng: random.Random) -> Any:
    """A copy with one to three faults: another value, a lost key, a key too many, two values swapped."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        found = list(places(tree))
        if not found:
            return rng.choice(ODD)
        path = rng.choice(found)
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.choice(("value", "value", "value", "lost", "more", "swap"))
        if kind == "lost":
            del parent[path[-1]]
        elif kind == "more" and isinstance(parent, dict):
            parent[rng.choice(("x", "seed", "epochs", "__class__", "", "train", "é"))] = rng.choice(ODD)
        elif kind == "swap":
            other = rng.choice(found)
            value: Any = tree
            try:
                for key in other:
                    value = value[key]
            except (KeyError, IndexError, TypeError):
                continue
            parent[path[-1]] = copy.deepcopy(value)
        else:
            parent[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return rng.choice(ODD) if rng.random() < 0.02 else tree


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """A copy that was cut, overwritten, doubled or flipped somewhere."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(8))
    at = rng.randrange(len(data))
    match rng.choice(("cut", "flip", "junk", "double", "zeros", "empty")):
        case "cut":
            return data[:at]
        case "flip":
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case "junk":
            return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randint(1, 40))) + data[at:]
        case "double":
            return data[:at] + data
        case "zeros":
            return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    return b""


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON file whose tree, or now and then whose bytes, were changed."""
    if rng.random() < 0.2:
        return mutated_bytes(data, rng)
    return json.dumps(mutated_tree(json.loads(data), rng)).encode("utf-8", "surrogatepass")


def mutated_lines(data: bytes, rng: random.Random) -> bytes:
    """A file of JSON lines of which a few were changed, lost, repeated or torn."""
    lines = data.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        if not lines:
            break
        at = rng.randrange(len(lines))
        match rng.choice(("tree", "tree", "bytes", "lost", "twice", "torn")):
            case "tree":
                try:
                    lines[at] = json.dumps(mutated_tree(json.loads(lines[at]), rng)).encode() + b"\n"
                except ValueError:
                    lines[at] = b"{\n"
            case "bytes":
                lines[at] = mutated_bytes(lines[at], rng)
            case "lost":
                del lines[at]
            case "twice":
                lines.insert(at, lines[at])
            case "torn":
                lines[-1] = lines[-1][: max(1, len(lines[-1]) // 2)]
    return b"".join(lines)


Mutation = Callable[[bytes, random.Random], bytes]
