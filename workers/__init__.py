"""Workers: when and where the tables are computed; see `workers.compute.worker`."""

import warnings

# a home with an embedded database needs no datajoint.json
warnings.filterwarnings("ignore", message="No datajoint.json found")
