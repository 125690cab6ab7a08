"""The one database schema of the closed loop, which its modules share."""

import datajoint as dj

schema = dj.Schema()
