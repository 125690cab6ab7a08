"""The schema of the imaging stage."""

import datajoint as dj

schema = dj.Schema()
