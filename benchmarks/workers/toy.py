"""What the benchmarks of the workers share: a home and a deployment that are thrown away."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def home(module: str, source: str) -> Iterator[Path]:
    """Give a new home, and make a module of tables importable."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        modules = Path(folder) / "modules"
        modules.mkdir()
        (modules / f"{module}.py").write_text(source, encoding="utf-8")
        sys.path.insert(0, str(modules))
        from workers.database import embedded

        place = Path(folder) / "home"
        try:
            yield place
        finally:
            if embedded.is_embedded():
                embedded.remove(place)


@contextlib.contextmanager
def deployment(place: Path, module: str) -> Iterator[Any]:
    """Make the tables of `x_tables`, whose schema is `x`, under a new prefix; give their plan."""
    import datajoint as dj

    from workers.database import embedded, opening

    prefix = "b" + uuid.uuid4().hex[:8]
    connection = embedded.connect(place)
    try:
        yield opening.open_tables(connection, module, prefix)
    finally:
        for stage in (module.removesuffix("_tables"), "workers"):
            dj.Schema(f"{prefix}_{stage}", connection=connection).drop(prompt=False)
