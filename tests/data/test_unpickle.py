"""The pickle reader that executes nothing."""

import builtins
import os
import pickle
import pickletools
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from peak_memory import peak

from rolewise.data import unpickle
from rolewise.data.unpickle import read_pickle
from rolewise.errors import InputError

ARRAY = np.arange(60, dtype=np.uint8).reshape(5, 12)


def batch() -> dict[object, object]:
    return {
        "batch_label": "training batch 1 of 5",
        "labels": [3, 0, 255, 256, 70000],
        "data": ARRAY,
        "filenames": ["a.png", "bärin.png"],
        b"raw": bytes(range(256)),
        "more": [None, True, False, -1, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}],
    }


def refused(raw: bytes, words: str = "") -> str:
    with pytest.raises(InputError) as caught:
        read_pickle(raw, "batch")
    assert words in str(caught.value)
    assert str(caught.value).startswith("batch: ")
    assert "nothing of it was executed" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("numpy_name", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_reads_what_python_writes(protocol: int, numpy_name: bytes) -> None:
    raw = pickle.dumps(batch(), protocol).replace(b"numpy._core.multiarray", numpy_name)
    assert numpy_name in raw
    got = read_pickle(raw, "batch")
    assert isinstance(got, dict)
    assert got.keys() == {"batch_label", "labels", "data", "filenames", "raw", "more"}
    assert np.array_equal(got.pop("data"), ARRAY)
    expected = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch().items()}
    del expected["data"]
    assert got == expected


def test_reads_an_array_in_fortran_order() -> None:
    got = read_pickle(pickle.dumps(np.asfortranarray(ARRAY), 2), "batch")
    assert np.array_equal(got, ARRAY)  # type: ignore[arg-type]


def test_reads_what_python_2_wrote() -> None:
    # A published batch in small: SHORT_BINSTRING keys, BINSTRING pixels, memo entries throughout.
    raw = (
        b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x06K\x09eU\x04dataq\x04"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x06\x00\x00\x00abcdeftbu."
    )
    got = read_pickle(raw, "batch")
    assert isinstance(got, dict)
    assert got["labels"] == [6, 9]
    assert got["data"].tolist() == [[97, 98, 99], [100, 101, 102]]


class Gadget:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_gadgets_are_refused_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    gadgets = [
        Gadget(os.system, f"touch {canary}"),
        Gadget(builtins.exec, f"open({str(canary)!r}, 'w')"),
        Gadget(builtins.eval, f"open({str(canary)!r}, 'w')"),
        Gadget(open, str(canary), "w"),
        Gadget(subprocess.check_output, ["touch", str(canary)]),
        Gadget(os.mkdir, str(canary)),
        Gadget(getattr, "text", "upper"),
        Gadget(np.save, str(canary), 1),
        Gadget(np.ndarray, (2**40,)),
        Gadget(np.ndarray, (4,), np.dtype("u1")),
        Gadget(np.dtype, "O"),
        Gadget(np.dtype, [("a", "u1", (2**30,))]),
    ]
    count = 0
    for gadget in gadgets:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for content in (gadget, {"data": gadget}, {"labels": [1, gadget]}, [(gadget,)]):
                refused(pickle.dumps(content, protocol))
                count += 1
    assert count == len(gadgets) * 24
    assert not canary.exists()
    function, arguments = gadgets[0].call
    function(*arguments)  # that is what running it would have done
    assert canary.exists()


def test_the_message_names_what_was_asked_for() -> None:
    words = refused(b"\x80\x02cos\nsystem\n(U\x02lstR.", 'the pickle asks for "os.system"')
    assert words == (
        'batch: the pickle asks for "os.system", which image data do not need, at byte 13 of 21. '
        "It is not a file of CIFAR as published; nothing of it was executed. Delete it and fetch again."
    )


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
EMPTY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
UINT8 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"


def array(
    shape: bytes, dtype: bytes = UINT8, content: bytes = b"U\x04abcd", version: bytes = b"K\x01"
) -> bytes:
    return b"\x80\x02" + EMPTY + b"(" + version + shape + dtype + b"\x89" + content + b"tb."


def test_the_array_of_the_next_test_is_a_good_one() -> None:
    assert read_pickle(array(b"K\x02K\x02\x86"), "batch").tolist() == [[97, 98], [99, 100]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (array(b"I1099511627776\n\x85"), "an array of shape (1099511627776,) holds 4 bytes"),
        (array(b"K\x03K\x02\x86"), "an array of shape (3, 2) holds 4 bytes"),
        (array(b"J\xff\xff\xff\xffJ\xfc\xff\xff\xff\x86"), "something other than an array of uint8"),
        (array(b")"), "an array of shape () holds 4 bytes"),
        (array(b"K\x04"), "something other than an array of uint8"),
        (array(b"\x88K\x04\x86"), "something other than an array of uint8"),
        (array(b"K\x04\x85", dtype=b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"), "other than an array of uint8"),
        (array(b"K\x04\x85", dtype=b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R"), "other than an array of uint8"),
        (array(b"K\x04\x85", dtype=b"U\x02u1"), "something other than an array of uint8"),
        (array(b"K\x04\x85", content=b"](NNNNe"), "something other than an array of uint8"),
        (array(b"K\x04\x85", content=b"N"), "something other than an array of uint8"),
        (array(b"K\x04\x85", version=b"K\x01K\x01"), "something other than an array of uint8"),
        (
            b"\x80\x02" + UINT8 + b"(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
            "other than an array",
        ),
        (b"\x80\x02" + RECONSTRUCT + b"cnumpy\ndtype\nK\x00\x85U\x01b\x87R.", "other than an array of uint8"),
        (
            b"\x80\x02" + RECONSTRUCT + b"cnumpy\nndarray\nK\x09\x85U\x01b\x87R.",
            "other than an array of uint8",
        ),
        (b"\x80\x02cnumpy\nndarray\n(K\x04tR.", "something other than an array of uint8"),
        (b"\x80\x02cnumpy\nndarray\nK\x04R.", "calls a function without a tuple of arguments"),
        (b"\x80\x02K\x04)R.", "something other than an array of uint8"),
        (b"\x80\x02c_codecs\nencode\nK\x04U\x06latin1\x86R.", "something other than an array of uint8"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x03zip\x86R.",
            "something other than an array of uint8",
        ),
        (b"\x80\x02c_codecs\ndecode\n.", 'asks for "_codecs.decode"'),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", 'asks for "numpy.core.multiarray.fromfile"'),
        (b"\x80\x02}K\x01K\x02s.", "a dictionary key that is no short string"),
        (b"\x80\x02}U\xc8" + b"k" * 200 + b"K\x02s.", "a dictionary key that is no short string"),
        (b"\x80\x02cos\x1b[2J\nx\n.", 'the pickle asks for "os\\x1b[2J.x"'),
        (b"\x80\x02}U\x01\xffK\x02s.", "truncated or malformed (UnicodeDecodeError)"),
        (b"\x80\x02](K\x01u.", "sets items of something that is no dictionary"),
        (b"\x80\x02}(U\x01au.", "sets items of something that is no dictionary"),
        (b"\x80\x02}K\x01a.", "appends to something that is no list"),
        (b"\x80\x02I" + b"9" * 19 + b"\n.", "an integer of 19 digits"),
        (b"\x80\x02IX\n.", "truncated or malformed (ValueError)"),
        (b"\x80\x02h\x05.", "truncated or malformed (KeyError)"),
        (b"\x80\x02.", "stops where it should not"),
        (b"\x80\x02NN.", "stops where it should not"),
        (b"\x80\x02(N.", "stops where it should not"),
        (b"\x80\x02N.N", "stops where it should not"),
        (b"\x80\x04N.", "pickle protocol 4; the published files have 2"),
        (b"\x80\x02T\xff\xff\xff\xff.", "(-1 bytes announced)"),
        (b"\x80\x02T\xff\xff\xff\x7f.", "(2147483647 bytes announced)"),
        (b"\x80\x02t.", "truncated or malformed (IndexError)"),
        (b"", "truncated or malformed (IndexError)"),
    ],
)
def test_hostile_streams(raw: bytes, words: str) -> None:
    refused(raw, words)


def test_every_other_instruction_is_refused() -> None:
    known = {chr(code) for code in unpickle._HANDLERS} | set(".KUqr")
    others = [op.code for op in pickletools.opcodes if op.code not in known]
    for code in others:
        refused(b"\x80\x02NN" + code.encode("latin-1") + b"N" * 20, "which image data do not need")
    assert len(others) == len(pickletools.opcodes) - len(known)
    assert {"i", "o", "\x81", "\x82", "P", "Q", "\x93"} <= set(others)  # all that make or find objects


@pytest.mark.parametrize("protocol", [0, 2])
def test_truncation_anywhere_is_an_error(protocol: int) -> None:
    raw = pickle.dumps(batch(), protocol)
    for length in range(len(raw)):
        refused(raw[:length])


def test_damaged_bytes_give_a_result_or_an_error_and_nothing_else() -> None:
    rng = random.Random(0)
    raws = [pickle.dumps(batch(), protocol) for protocol in (0, 1, 2)]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(2000):
        raw = bytearray(rng.choice(raws))
        for _ in range(rng.choice((1, 1, 2, 5))):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            read_pickle(bytes(raw), "batch")
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 200


@pytest.mark.parametrize("unit", [b"}", b"]", b"(", b"K\x05\x85", b"Nr%c%c\x00\x00"])
def test_the_number_of_instructions_bounds_the_memory(monkeypatch: pytest.MonkeyPatch, unit: bytes) -> None:
    assert unpickle.MAX_INSTRUCTIONS <= 1_000_000
    monkeypatch.setattr(unpickle, "MAX_INSTRUCTIONS", 10_000)
    units = [unit.replace(b"%c%c", n.to_bytes(2, "little")) for n in range(10_000)]
    raw = b"\x80\x02" + b"".join(units)
    took = peak(lambda: refused(raw, "more than 10,000 instructions"))
    assert took < 10_000 * 250  # bytes, so less than 250 MB at the real limit


def test_one_text_is_not_encoded_again_and_again() -> None:
    text = b"X" + (10_000).to_bytes(4, "little") + b"a" * 10_000 + b"q\x010"
    again = b"h\x02h\x01U\x06latin1\x86R"
    raw = b"\x80\x02c_codecs\nencode\nq\x02" + text.replace(b"q\x010", b"q\x01") + again * 50 + b"."
    refused(raw, "the pickle makes more bytes than it has")


def test_a_list_that_holds_itself_is_harmless() -> None:
    got = read_pickle(b"\x80\x02]q\x01h\x01a.", "batch")
    assert isinstance(got, list)
    assert got[0] is got
