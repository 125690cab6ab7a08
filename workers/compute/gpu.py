"""One job at a time on each GPU of a machine, whoever's worker it is."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
from pathlib import Path

_DEVICES = Path("/dev")
log = logging.getLogger("inception.worker")


def names() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Without that variable, those that the driver lists; torch is not asked, it takes seconds.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    listed = [file.name[6:] for file in _DEVICES.glob("nvidia*")]
    return sorted((name for name in listed if name.isdigit()), key=int)


class Gpu:
    """A GPU and the right to use it, which the kernel takes back if its holder dies.

    Parameters
    ----------
    name : str
        As in CUDA_VISIBLE_DEVICES.
    folder : Path, optional
        Where the lock files of this machine are.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name = name
        safe = re.sub(r"[^A-Za-z0-9-]", "_", name)
        self._file = (folder or Path(tempfile.gettempdir())) / f"inception-gpu-{safe}.lock"
        self._held: int | None = None
        self._told = False

    def acquire(self) -> bool:
        """Take the GPU unless another job has it; True if it is ours now."""
        if self._held is not None:
            return True
        descriptor = self._open()
        if descriptor is None:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held = descriptor
        return True

    def _open(self) -> int | None:
        """Open the lock file, also one of another account, which can be locked but not written.

        A GPU whose lock cannot be opened at all is left alone: jobs of the CPU go on.
        """
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            try:
                return os.open(self._file, flags | os.O_CLOEXEC, 0o666)
            except OSError as error:
                failure = error
        if not self._told:
            self._told = True
            log.warning("%s: GPU %s is not used: %s", self._file, self.name, failure.strerror)
        return None

    def release(self) -> None:
        """Let others use the GPU."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
