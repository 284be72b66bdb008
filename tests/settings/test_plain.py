"""Settings files and texts: plain values alone, of a size that can be counted before it is made."""

import time
from pathlib import Path

import pytest

from rolewise.config import load_config
from rolewise.errors import InputError
from rolewise.settings import read_settings_file, read_value


def refused(tmp_path: Path, content: str | bytes, suffix: str = ".yaml") -> str:
    path = tmp_path / f"settings{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match="`--config`: ") as caught:
        read_settings_file(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("when: 2024-01-01", "`when` is a date, which no setting is; if a text is meant, put it in quotes"),
        ("blob: !!binary aGVsbG8=", "`blob` is a bytes"),
        ("names: !!set {a, b}", "`names` is a set"),
        ("student: {train: {3: 4}}", "student.train has the key 3, which is no text"),
        ("loop: &a [*a]", "more than 32 levels"),
        ("loop: &a {b: *a}", "more than 32 levels"),
        ("a: &a {x: 1}\nb: {<<: *a}", "`<<` is not supported"),
        ("seed: " + "9" * 5000, "a number of more than 64 digits"),
        ("a: !!int []", "cannot be read"),
        ("a: !!timestamp x", "cannot be read"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("- 1", "must hold named settings, got list"),
        ("seed: 1\nseed: 2", 'the key "seed" is given twice'),
        (b"\xff\xfe\x00", "cannot be read"),
        ("a: \x00", "cannot be read"),
    ],
)
def test_what_is_no_setting_is_named(tmp_path: Path, content: str | bytes, words: str) -> None:
    assert words in refused(tmp_path, content)


def test_copies_of_one_list_are_counted_before_they_are_made(tmp_path: Path) -> None:
    """500 bytes that stand for 10^9 values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    began = time.monotonic()
    assert "more than 20,000 values" in refused(tmp_path, "\n".join(lines))
    assert time.monotonic() - began < 5  # 60 seconds and 6 GB otherwise


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    for suffix, text in ((".yaml", "seed: 3"), (".toml", "seed = 3"), (".json", '{"seed": 3}')):
        path = tmp_path / f"s{suffix}"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load_config(file=path).seed == 3


def test_dates_of_toml_are_refused(tmp_path: Path) -> None:
    assert "`when` is a date" in refused(tmp_path, "when = 1979-05-27", ".toml")


def test_values_of_assignments() -> None:
    assert read_value("[0.5, 0.75]") == [0.5, 0.75]
    with pytest.raises(InputError, match="`--set`: cannot read the value '2024-01-01'"):
        read_value("2024-01-01")
    long = "[" * 5000
    with pytest.raises(InputError) as caught:
        read_value(long)
    assert len(str(caught.value)) < 1000


def test_sections_that_are_texts_and_long_values() -> None:
    with pytest.raises(InputError, match="`student`"):
        load_config(assignments=["student=four bits"])
    with pytest.raises(InputError, match="`preset`|preset"):
        load_config(assignments=["preset=[1, 2]"])
    with pytest.raises(InputError) as caught:
        load_config(assignments=[f"search.engine={'x' * 200_000}"])
    assert len(str(caught.value)) < 1000
