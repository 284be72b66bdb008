"""`FILE.py:function` as a data set, and what is said of own code that fails."""

import hashlib

import numpy as np
import pytest

from rolewise.data import check_data_name, load_data, names_of_data, title_of
from rolewise.errors import InputError, InputTypeError
from rolewise.own_code import load_own_code

TEXT = """
import numpy as np

from rolewise.data import Data

COUNT = 12


def make(root=None, bright=0):
    images = np.full((COUNT, 8, 8, 3), 10 + bright, np.uint8)
    part = (images, np.arange(COUNT) % 3)
    return Data.from_arrays(part, part, name=str(root))


def wrong():
    return 3


def fails():
    return np.zeros(3)[7]


def deep():
    return sorted([1, "a"])
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    return path


def test_own_code_makes_a_data_set(file, tmp_path):
    data = load_data(f"{file}:make", tmp_path, arguments={"bright": 5})
    assert len(data.train) == 12
    assert int(data.train.images[0, 0, 0, 0]) == 15
    assert data.name == str(tmp_path)
    code = load_own_code(f"{file}:make", "data set")
    assert code.record() == {
        "path": str(file),
        "name": "make",
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    }
    assert title_of(f"{file}:make") == "mine.py"
    assert title_of("folder") == "Folder"  # it begins the title of a report
    check_data_name(f"{file}:make")
    assert "FILE.py:function" in names_of_data()


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        ("nothing", {}, InputError, 'Unknown class or function "nothing". Known: "make", "wrong"'),
        (
            "wrong",
            {},
            InputTypeError,
            "must return a rolewise Data, made by .*, got int",
        ),
        ("make", {"arguments": {"dark": 1}}, InputTypeError, r"does not take these arguments \(dark\)"),
        ("wrong", {"root": "."}, InputTypeError, r"does not take these arguments \(root\)"),
        (
            "fails",
            {},
            InputError,
            r"mine.py, line 20, in fails \(fails\(\)\): IndexError: index 7 is out of bounds",
        ),
        ("deep", {}, InputError, r"mine.py, line 24, in deep \(deep\(\)\): TypeError: '<' not supported"),
        ("make", {"size": 64}, InputError, '`size` is for "folder" alone; mine.py does not take it, got 64'),
    ],
)
def test_what_own_code_gets_wrong(file, name, options, kind, words):
    with pytest.raises(kind, match=words):
        load_data(f"{file}:{name}", **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = (\n", r"bad.py, line 2 \(when the file is run\): SyntaxError"),
        (
            "import nosuchmodule\n",
            r"bad.py, line 1, in <module> \(when .* run\): ModuleNotFoundError",
        ),
        (
            "def f():\n    raise ValueError('no\\nway')\n\nf()\n",
            r"bad.py, line 2, in f \(.*\): ValueError: no way",
        ),
    ],
)
def test_a_file_that_does_not_run(tmp_path, text, words):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_data(f"{path}:make")
    path.write_text(TEXT)  # a file that failed is run again
    assert isinstance(load_data(f"{path}:make").train.images[0].numpy(), np.ndarray)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.py", r'A data set of your own is given as "FILE.py:name", got "mine.py"'),
        ("no.py:make", r'There is no file ".*no.py"'),
        ("mine.py:a-b", r'given as "FILE.py:name", got "mine.py:a-b"'),
        ("x" * 5000 + ".py:make", r"^`data set`: x{60}\.\.\. \(5,003 characters\) is no path"),
        ("pictures", r'Unknown data set "pictures".* or as a folder of images with the name "folder"'),
    ],
)
def test_names_that_name_nothing(name, words):
    with pytest.raises(InputError, match=words):
        load_data(name)
