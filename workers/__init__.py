"""Workers: when and where the tables are computed; see `workers.loop`."""
