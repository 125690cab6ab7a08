"""The schema of the data set stage."""

import datajoint as dj

schema = dj.Schema()
