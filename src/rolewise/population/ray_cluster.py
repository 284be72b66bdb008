"""Joining a Ray cluster, or starting one on this machine; `ray` is the package, which `ray_engine` imports."""

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rolewise._machine import cores
from rolewise.errors import InputError

_PROBE_SECONDS = 10.0


def connect(ray: Any, address: str | None, limit: int) -> None:
    """Joins the cluster, or starts one on this machine.

    Raises:
        InputError: it cannot be reached.
    """
    about: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # "local": without it Ray would silently join whatever cluster RAY_ADDRESS or a file in /tmp names.
        about |= {"address": "local", "num_cpus": min(limit, cores()), "include_dashboard": False}
    else:
        about["address"] = address
    try:
        if address is not None:
            _probe(address)
        with _own_signals(), _loopback(ray, address is None):
            ray.init(**about)
    except (ConnectionError, RuntimeError, OSError, ValueError, TimeoutError) as error:
        where = "start Ray on this machine" if address is None else f'reach a Ray cluster at "{address}"'
        raise InputError(
            f"Cannot {where}: {str(error).rstrip('.')}. Check `ray_address` with `ray status`, or use the local engine."
        ) from error


def _probe(address: str) -> None:
    """Tries the port of "host:port" or "ray://host:port" once: Ray itself would try for long before it says anything.

    Raises:
        OSError: there is no answer.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps the signal handlers: Ray would put its own for SIGTERM, which ends the process without saving."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def _loopback(ray: Any, wanted: bool) -> Iterator[None]:
    """A Ray that is started meanwhile listens on the loopback interface alone, and says nothing.

    Ray turns a `_node_ip_address` of 127.0.0.1 into the machine's own address, and then listens on all
    interfaces; only its switch for systems without clusters keeps the loopback address.
    """
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    constants = ray._private.ray_constants
    clusters = constants.ENABLE_RAY_CLUSTER
    if wanted:
        constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        logger.setLevel(level)
