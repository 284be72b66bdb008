"""The name under which programs outside this package import `reinitialize`."""

from rolewise.population.runner import reinitialize as reinitialise

__all__ = ["reinitialise"]
