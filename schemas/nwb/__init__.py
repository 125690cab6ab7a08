"""Rows and stored arrays of a scan as a `pipeline.recording.nwb.session.Session`."""
