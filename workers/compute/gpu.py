"""One job at a time on each GPU of a machine, whoever's worker it is."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from pathlib import Path
from typing import IO

_DEVICES = Path("/dev")


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
        self._held: IO | None = None

    def acquire(self) -> bool:
        """Take the GPU unless another job has it; True if it is ours now."""
        if self._held is not None:
            return True
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held = os.fdopen(descriptor)
        return True

    def release(self) -> None:
        """Let others use the GPU."""
        if self._held is not None:
            self._held.close()
            self._held = None
