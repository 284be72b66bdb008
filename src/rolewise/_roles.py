"""The two roles of a network, and what the schedule of each is called."""

from rolewise.errors import InputError, unknown

TEACHER, STUDENT = ROLES = ("teacher", "student")
A_T, A_S = "A_T", "A_S"
SCHEDULES = {TEACHER: A_T, STUDENT: A_S}


def check_role(role: str) -> str:
    """`role` if it is one.

    Raises:
        InputError: it is none.
    """
    if role not in ROLES:
        raise InputError(unknown("role", role, ROLES))
    return role
