"""Parts that every NWB file of two-photon imaging has, written by pynwb."""

import pytest


def imaging_plane(file, name="plane", **changes):
    """Add a microscope, if there is none, and a plane with one green channel; return the plane."""
    ophys = pytest.importorskip("pynwb").ophys
    if "device" not in changes:
        there = file.devices.get("microscope")
        changes["device"] = there or file.create_device(name="microscope")
    return file.create_imaging_plane(
        **{
            "name": name,
            "optical_channel": ophys.OpticalChannel(
                name="green", description="GCaMP", emission_lambda=510.0
            ),
            "description": "V1",
            "excitation_lambda": 920.0,
            "indicator": "GCaMP6s",
            "location": "V1",
            **changes,
        }
    )
