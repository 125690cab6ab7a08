"""A whole session as one NWB file, out and in: `Session` is what stands between rows and file.

`write` needs pynwb (extra `nwb`) and is imported by whoever writes; reading needs h5py alone.
"""
