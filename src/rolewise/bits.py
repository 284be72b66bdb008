"""Bit-widths, and the number of levels that they give."""

from rolewise.errors import InputError, InputTypeError, check_integer

FULL = 32  # the bit-width that means "not quantized"
MAX_BITS = 8


def check_bits(name: str, bits: object) -> int:
    """`bits` as an integer.

    Raises:
        InputError: not 1 to 8 or 32.
    """
    allowed = f"`{name}` must be 1 to {MAX_BITS}, or {FULL} (full precision), got {bits!r}."
    try:
        number = check_integer(name, bits, 1, FULL)
    except InputTypeError as error:
        raise InputTypeError(allowed) from error
    except InputError as error:
        raise InputError(allowed) from error
    if MAX_BITS < number < FULL:
        raise InputError(allowed)
    return number


def levels(bits: int) -> int:
    """n = 2^bits - 1, the number of steps between the lowest and the highest level."""
    return (1 << bits) - 1
