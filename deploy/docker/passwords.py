"""Make the passwords of a deployment, once: `python passwords.py FOLDER`, one folder a role.

Every role's password lies in a volume of its own, so that a worker cannot read the root's.
"""

import os
import secrets
import sys
from pathlib import Path

PASSWORD = "database.password"  # the name that DataJoint looks for in /run/secrets/datajoint
ROLES = {
    "root": (PASSWORD,),
    "declare": (PASSWORD,),
    "worker": (PASSWORD,),
    "reader": (PASSWORD, "jupyter.token"),
}
UID = 10001  # of the account in the images


def main(folder: Path) -> None:
    """Write what is missing; a second call changes nothing."""
    for role, names in ROLES.items():
        for name in names:
            path = folder / role / name
            if path.exists() and path.stat().st_size:
                continue
            staging = path.with_name(f"{name}.new")
            staging.write_text(secrets.token_urlsafe(24), encoding="ascii")
            staging.chmod(0o400)
            if role != "root":
                os.chown(staging, UID, UID)
            staging.replace(path)
            print(f"made {role}/{name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
