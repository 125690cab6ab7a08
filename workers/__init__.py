"""Workers: when and where the tables are computed; see `workers.loop`."""

import warnings

# a home with an embedded database needs no datajoint.json
warnings.filterwarnings("ignore", message="No datajoint.json found")
