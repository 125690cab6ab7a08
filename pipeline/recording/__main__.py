"""Command line: what is understood of a recording, without a database.

python -m pipeline.recording FOLDER               as `inception ingest --dry-run` says it
python -m pipeline.recording FOLDER --check       of a half-finished recording, on the rig
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipeline.errors import DataError
from pipeline.recording.bundle import read_bundle
from pipeline.recording.progress import Progress, check_folder
from pipeline.recording.stack import read_stack_folder
from pipeline.recording.summary import Summary, summarize


def main(arguments: list[str] | None = None) -> int:
    """Print a summary; 0 if the recording can be used, 1 if not, 2 on a usage error."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.recording",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="bundle, or folder of a structural stack")
    parser.add_argument("--check", action="store_true", help="which streams are there by now")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds to see files grow; 2")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        found: Progress | Summary
        if options.check:
            found = check_folder(options.folder, wait_s=options.wait)
        elif (options.folder / "stack.json").is_file():
            found = read_stack_folder(options.folder).summary()
        else:
            found = summarize(read_bundle(options.folder))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found.as_dict()) if options.json else "\n".join(found.lines()))
    return 1 if isinstance(found, Progress) and not found.ready else 0


if __name__ == "__main__":
    sys.exit(main())
