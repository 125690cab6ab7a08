"""Pickled npy files of other programs, read without running what they say.

Loading a pickle calls whatever it names. Here only arrays, numpy scalars and plain containers can
come out; paths and dates, which some versions write, become their text.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError

MAX_BYTES = 2 << 30


class _Text(str):
    """Stands for an object of which only the arguments are kept, as text."""

    def __new__(cls, *parts: object) -> _Text:
        return super().__new__(cls, "/".join(str(part) for part in parts))

    def __setstate__(self, state: object) -> None:
        pass


_ARRAYS = {
    (f"numpy.{core}.{module}", name): getattr(np._core, module).__dict__[name]
    for core in ("core", "_core")
    for module, names in (("multiarray", ("_reconstruct", "scalar")), ("numeric", ("_frombuffer",)))
    for name in names
}  # fmt: skip
_ALLOWED = {
    **_ARRAYS,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode(encoding),
    ("collections", "OrderedDict"): dict,
    ("builtins", "slice"): slice,
    **{("pathlib", name): _Text for name in ("PosixPath", "WindowsPath", "Path", "PurePosixPath")},
    **{("pathlib._local", name): _Text for name in ("PosixPath", "WindowsPath")},
    ("datetime", "datetime"): lambda *parts: _Text(*parts),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "numpy.dtypes" or (module == "numpy" and name in np.sctypeDict):
            return getattr(np.dtypes if module == "numpy.dtypes" else np, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside of itself")


def load_pickled_npy(path: str | os.PathLike) -> np.ndarray:
    """Load an npy file of Python objects: numbers, text, arrays and containers of them only.

    Returns
    -------
    array
        Of objects, as written; a plain npy file is read as well.

    Raises
    ------
    DataError
        If the file is no npy file, damaged, or names any other object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError("is too large", file=path, found=f"{path.stat().st_size} bytes",
                            expected=f"at most {MAX_BYTES}")  # fmt: skip
        content = io.BytesIO(path.read_bytes())
        version = np.lib.format.read_magic(content)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
            np.lib.format.read_array_header_2_0
        )  # fmt: skip
        _, _, dtype = reader(content)
        if not dtype.hasobject:
            return np.load(path, allow_pickle=False)
        loaded = _Unpickler(content).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(
            "cannot be read safely", file=path, found=f"{type(error).__name__}: {error}",
            expected="an npy file of numbers, text and arrays",
        ) from error  # fmt: skip
    if not isinstance(loaded, np.ndarray):
        raise DataError("holds no array", file=path, found=type(loaded).__name__)
    return loaded
