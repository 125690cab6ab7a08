"""The schema of the synthesis stage."""

import datajoint as dj

schema = dj.Schema()
