"""The schema of the model stage."""

import datajoint as dj

schema = dj.Schema()
