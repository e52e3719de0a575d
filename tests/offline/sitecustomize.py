"""No network during the tests: Python loads this file at start-up where its folder is on PYTHONPATH.

conftest.py puts it there, so kernels, recipes and every other Python that a test starts are covered
as well. Loopback and sockets between processes (AF_UNIX) stay open; everything else raises at once.
"""
import socket


def _is_local(address) -> bool:
    if not isinstance(address, tuple):  # AF_UNIX: a path
        return True
    host = str(address[0]).split("%")[0]
    return host in ("", "localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")


def _guard(name: str, at: int, wrap=tuple):
    original = getattr(socket.socket, name)

    def guarded(self, *args):
        if not _is_local(args[at]):
            raise PermissionError(f"the tests allow no network: {name} to {args[at]!r}. "
                                  "Ship the file in data/ instead of downloading it.")
        return original(self, *args)
    setattr(socket.socket, name, guarded)


def _guard_names():
    original = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name and not _is_local((name,)) and name != socket.gethostname():
            raise PermissionError(f"the tests allow no network: look-up of {name!r}. "
                                  "Ship the file in data/ instead of downloading it.")
        return original(host, *args, **kwargs)
    socket.getaddrinfo = getaddrinfo


_guard("connect", 0)
_guard("connect_ex", 0)
_guard("sendto", -1)
_guard_names()
