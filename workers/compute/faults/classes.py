"""Sort what `make` raised: which jobs are tried again, set aside, or left to other machines."""

from __future__ import annotations

import errno

import datajoint as dj

from pipeline.errors import DataError, MachineError
from workers.database import server

_ERRNO = {
    errno.ENOSPC,  # disk full
    errno.EDQUOT,
    errno.EROFS,
    errno.ESTALE,  # a share that was mounted anew
    errno.ENOTCONN,  # a FUSE mount without its program
    errno.EHOSTDOWN,
    errno.ENODEV,
    errno.ENFILE,
    errno.EMFILE,
}
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_SAID = (  # torch, the CUDA libraries and tempfile have no number for it
    "nvidia driver",
    "cuda driver",
    "no cuda gpus are available",
    "not compiled with cuda",
    "no kernel image is available",
    "cuda unknown error",
    "busy or unavailable",
    "uncorrectable ecc error",
    "cannot open shared object file",
    "no usable temporary directory",
)


def classify(error: BaseException) -> str:
    """Sort an exception from `make`: `machine`, `data`, `error`, `transient` or `memory`.

    `machine` is a fault of the place where the job ran: it is handed back. `data` is wrong input
    and `error` anything else that will fail again: neither is retried.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if is_of_machine(error):
        return "machine"
    if server.is_connection_error(error) or server.is_contention(error):
        return "transient"
    if isinstance(error, (dj.errors.IntegrityError, dj.errors.DuplicateError)):
        return "transient"  # something upstream or beside changed meanwhile
    if isinstance(error, OSError):
        lasting = isinstance(error, _LASTING) or error.errno == errno.EINVAL
        return "data" if lasting else "transient"
    if isinstance(error, ValueError):  # DataError among them
        return "data"
    return "error"


def is_of_machine(error: BaseException) -> bool:
    """Tell whether another machine, or this one after a repair, could do what failed here."""
    if isinstance(error, (MachineError, ImportError)) or server.refuses_writing(error):
        return True
    if isinstance(error, DataError):
        return isinstance(error.__cause__, OSError) and is_of_machine(error.__cause__)
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return True
    said = str(error).lower()
    return isinstance(error, (OSError, RuntimeError)) and any(text in said for text in _SAID)
