"""Reads the pickles that CIFAR is published in, and executes nothing.

A pickle is a program for a small stack machine; a real unpickler imports and calls whatever it names. This
one is an interpreter of its own for the few instructions that the published files consist of (protocol 2 as
Python 2 wrote it, and what Python 3 writes for the same content in protocols 0 to 2): dictionaries, lists,
tuples, strings, integers and `uint8` arrays. Names of functions are compared with a short list and stand for
a marker; no name is ever looked up, no object of a named class is made, and whatever else occurs is an error
that says so.

Instructions: https://github.com/python/cpython/blob/main/Lib/pickletools.py describes each.
"""

import enum
import math
import struct
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from rolewise.errors import InputError

# One instruction can make an object of some hundred bytes from one byte of the file: their number bounds the
# memory.
MAX_INSTRUCTIONS = 1_000_000
_MAX_INTEGER_TEXT = 18  # digits; fits 64 bits
_MAX_KEY = 100


class _Known(enum.Enum):
    """What the accepted names stand for on the stack."""

    RECONSTRUCT = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()
    ENCODE = enum.auto()
    UINT8 = enum.auto()  # dtype("u1"), made by calling DTYPE
    EMPTY_ARRAY = enum.auto()  # made by calling RECONSTRUCT, filled by BUILD


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Known.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Known.RECONSTRUCT,  # since NumPy 2
    ("numpy", "ndarray"): _Known.NDARRAY,
    ("numpy", "dtype"): _Known.DTYPE,
    ("_codecs", "encode"): _Known.ENCODE,  # how Python 3 writes bytes below protocol 3
}


def read_pickle(data: bytes, source: str) -> object:
    """The object that a pickle of the CIFAR kind describes.

    Args:
        data: the whole file; the caller has bounded its size.
        source: the file's name, for error messages.
    Returns:
        nested dict, list, tuple, str, bytes (a string of Python 2), int, bool, None and uint8 arrays; keys of
        a dictionary are str.
    Raises:
        InputError: truncated, malformed, too many instructions, or anything that this kind of file has no
            need of.
    """
    machine = _Machine(data, source)
    try:
        return machine.run()
    except InputError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error, MemoryError) as error:
        # Popping an empty stack, a memo entry that does not exist, a length past the end: a malformed
        # program.
        raise machine.refuse(f"the pickle is truncated or malformed ({type(error).__name__})") from None


class _Machine:
    """The stack machine: `stack`, the stacks below each mark, and the memo."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data = data
        self.source = source
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.to_encode = len(data)

    def refuse(self, what: str) -> InputError:
        return InputError(
            f"{self.source}: {what}, at byte {self.position} of {len(self.data)}. "
            "It is not a file of CIFAR as published; nothing of it was executed. Delete it and fetch again."
        )

    def run(self) -> object:
        data, handlers = self.data, _HANDLERS
        for _ in range(MAX_INSTRUCTIONS):
            code = data[self.position]
            self.position += 1
            # The four that a file holds by the ten thousand are done here, without a call.
            if code == _SMALL_INTEGER:
                self.stack.append(data[self.position])
                self.position += 1
                continue
            if code == _SHORT_STRING:
                start = self.position + 1
                self.position = start + data[start - 1]
                if self.position > len(data):
                    raise self.refuse("the pickle is truncated within a string")
                self.stack.append(data[start : self.position])
                continue
            if code in _MEMO_WIDTH:
                width = _MEMO_WIDTH[code]
                raw = data[self.position : self.position + width]
                self.position += width
                self.memo[int.from_bytes(raw, "little")] = self.stack[-1]
                continue
            if code == _STOP:
                if len(self.stack) != 1 or self.below or self.position != len(data):
                    raise self.refuse("the pickle stops where it should not")
                return self.stack[0]
            handler = handlers.get(code)
            if handler is None:
                raise self.refuse(
                    f"the pickle holds the instruction {bytes([code])!r}, which image data do not need"
                )
            handler(self)
        raise self.refuse(f"the pickle has more than {MAX_INSTRUCTIONS:,} instructions")

    # ------------------------------------------------------------ reading

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise self.refuse(f"the pickle is truncated or malformed ({count} bytes announced)")
        raw = self.data[self.position : end]
        self.position = end
        return raw

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.position)
        raw = self.data[self.position : end]
        self.position = end + 1
        return raw

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def signed(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def integer_line(self) -> int:
        raw = self.line()
        if len(raw) > _MAX_INTEGER_TEXT:
            raise self.refuse(f"an integer of {len(raw)} digits")
        return int(raw)

    def marked(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def push(self, value: object) -> None:
        self.stack.append(value)

    # ------------------------------------------------------------ instructions

    def protocol(self) -> None:
        if (number := self.unsigned(1)) > 2:
            raise self.refuse(f"pickle protocol {number}; the published files have 2")

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def text_integer(self) -> None:
        raw = self.data[self.position : self.position + 3]
        if raw in (b"00\n", b"01\n"):  # False and True below protocol 2
            self.position += 3
            self.push(raw == b"01\n")
        else:
            self.push(self.integer_line())

    def name(self) -> None:
        module, name = self.line(), self.line()
        known = _NAMES.get((module.decode("latin-1"), name.decode("latin-1")))
        if known is None:
            wanted = ascii((module[:60] + b"." + name[:60]).decode("latin-1"))[1:-1]
            raise self.refuse(f'the pickle asks for "{wanted}", which image data do not need')
        self.push(known)

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise self.refuse("the pickle appends to something that is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise self.refuse("the pickle sets items of something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a deeply nested tuple would recurse, hashing a long string again and again take hours.
            if not isinstance(key, str | bytes) or len(key) > _MAX_KEY:
                raise self.refuse("the pickle has a dictionary key that is no short string")
            target[key.decode("ascii") if isinstance(key, bytes) else key] = value

    def dictionary(self) -> None:
        items = self.marked()
        self.push({})
        self.set_items(items)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple:
            raise self.refuse("the pickle calls a function without a tuple of arguments")
        if function is _Known.RECONSTRUCT and _same(arguments, (_Known.NDARRAY, (0,), "b")):
            self.push(_Known.EMPTY_ARRAY)
        elif function is _Known.DTYPE and _same(arguments, ("u1", 0, 1)):
            self.push(_Known.UINT8)
        elif function is _Known.ENCODE and len(arguments) == 2 and _same(arguments[1:], ("latin1",)):
            self.push(self.encoded(arguments[0]))
        else:
            self.bad_array()

    def encoded(self, text: object) -> bytes:
        if type(text) is not str:
            self.bad_array()
        raw = str(text).encode("latin-1")
        # Each text of a real file is encoded once; one text from the memo, encoded often, would fill the memory.
        self.to_encode -= len(raw)
        if self.to_encode < 0:
            raise self.refuse("the pickle makes more bytes than it has")
        return raw

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if target is _Known.UINT8 and _same(state, (3, "|", None, None, None, -1, -1, 0)):
            return
        if target is not _Known.EMPTY_ARRAY or type(state) is not tuple or len(state) != 5:
            self.bad_array()
        _, shape, dtype, fortran, content = state
        if type(shape) is not tuple or len(shape) > 4 or any(type(n) is not int or n < 0 for n in shape):
            self.bad_array()
        if dtype is not _Known.UINT8 or type(content) is not bytes or fortran not in (0, 1):
            self.bad_array()
        if math.prod(shape) != len(content):
            raise self.refuse(f"an array of shape {shape} holds {len(content)} bytes")
        # A view of the bytes that are there already: no size in the file makes this allocate anything.
        self.stack[-1] = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")

    def bad_array(self) -> Any:
        raise self.refuse("the pickle makes something other than an array of uint8")


def _same(value: object, wanted: Hashable) -> bool:
    """Equality with a pattern, no deeper than the pattern; strings of Python 2 (bytes) equal text."""
    if isinstance(wanted, tuple):
        return type(value) is tuple and len(value) == len(wanted) and all(map(_same, value, wanted))
    if isinstance(wanted, str):
        return type(value) in (str, bytes) and value in (wanted, wanted.encode())
    if isinstance(wanted, int):
        return isinstance(value, int) and value == wanted
    return value is wanted


_STOP, _SMALL_INTEGER, _SHORT_STRING = b".KU"
_MEMO_WIDTH = {ord("q"): 1, ord("r"): 4}  # bytes of the memo's index
_HANDLERS: dict[int, Callable[[_Machine], None]] = {
    code[0]: handler
    for code, handler in {
        b"\x80": _Machine.protocol,
        b"(": _Machine.mark,
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"I": _Machine.text_integer,
        b"J": lambda m: m.push(m.signed()),
        b"M": lambda m: m.push(m.unsigned(2)),
        b"T": lambda m: m.push(m.take(m.signed())),
        b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        b"X": lambda m: m.push(m.take(m.unsigned(4)).decode("utf-8", "surrogatepass")),
        b"]": lambda m: m.push([]),
        b"l": lambda m: m.push(m.marked()),
        b"a": lambda m: m.append([m.stack.pop()]),
        b"e": lambda m: m.append(m.marked()),
        b"}": lambda m: m.push({}),
        b"d": _Machine.dictionary,
        b"s": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
        b"u": lambda m: m.set_items(m.marked()),
        b")": lambda m: m.push(()),
        b"t": lambda m: m.push(tuple(m.marked())),
        b"\x85": lambda m: m.push((m.stack.pop(),)),
        b"\x86": lambda m: m.push((m.stack.pop(-2), m.stack.pop())),
        b"\x87": lambda m: m.push((m.stack.pop(-3), m.stack.pop(-2), m.stack.pop())),
        b"p": lambda m: m.memo.__setitem__(m.integer_line(), m.stack[-1]),
        b"g": lambda m: m.push(m.memo[m.integer_line()]),
        b"h": lambda m: m.push(m.memo[m.unsigned(1)]),
        b"j": lambda m: m.push(m.memo[m.unsigned(4)]),
        b"c": _Machine.name,
        b"R": _Machine.call,
        b"b": _Machine.build,
    }.items()
}
