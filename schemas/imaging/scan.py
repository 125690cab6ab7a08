"""What the files of a scan hold: fields, channels, frames and their rate."""

from __future__ import annotations

import datajoint as dj

from pipeline.errors import DataError
from pipeline.recording.streams import FRAME_SLACK
from schemas import experiment
from schemas.imaging.binding import schema
from schemas.imaging.methods import ImagingTask
from schemas.imaging.opening import channel_position, frame_times, open_recording, recording_files
from schemas.store import number


@schema
class ScanInfo(dj.Imported):
    definition = """
    # What the files of a scan hold
    -> experiment.Scan
    ---
    n_fields        : int16          # fields
    n_channels      : int16          # saved channels
    n_frames        : int32          # complete frames (volumes) that have a time
    fps             : float64        # frames (volumes) per second, by the rig's frame times (Hz)
    bidirectional   : bool           # rows alternate in direction
    """

    class Field(dj.Part):
        definition = """
        # One imaged rectangle
        -> master
        field       : int16          # from 0
        ---
        height_px   : int32          # rows (px)
        width_px    : int32          # columns (px)
        um_per_px_y=null : float64   # height of a pixel (um); null if unknown
        um_per_px_x=null : float64   # width of a pixel (um); null if unknown
        x_um=null   : float64        # center, right positive (um, coordinates of the microscope)
        y_um=null   : float64        # center, down positive (um, coordinates of the microscope)
        z_um=null   : float64        # depth (um, coordinates of the microscope)
        delay_s     : float64        # middle line after the start of the frame (s)
        line_period_s : float64      # from one line to the next (s)
        """

    @property
    def key_source(self):
        """Scans that somebody wants processed."""
        return experiment.Scan & ImagingTask

    def make_fetch(self, key):
        return (recording_files(key),)

    def make_compute(self, key, files):
        scan = open_recording(files)
        times = frame_times(files)
        if abs(len(times) - scan.n_frames) > FRAME_SLACK:
            raise DataError(
                "frame times do not fit the frames",
                file=files["times"][0][0],
                found=f"{len(times)} times",
                expected=f"{scan.n_frames} frames as in the files",
                remedy="send one time per complete frame (volume)",
            )
        channel_position(scan, files)
        fields = [
            {
                "field": field.index,
                "height_px": field.height_px,
                "width_px": field.width_px,
                "um_per_px_y": None if field.um_per_px is None else number(field.um_per_px[0]),
                "um_per_px_x": None if field.um_per_px is None else number(field.um_per_px[1]),
                "x_um": number(field.x_um),
                "y_um": number(field.y_um),
                "z_um": number(field.z_um),
                "delay_s": float(field.delay_s),
                "line_period_s": float(field.line_period_s),
            }
            for field in scan.fields
        ]
        info = {
            "n_fields": scan.n_fields,
            "n_channels": scan.n_channels,
            "n_frames": min(scan.n_frames, len(times)),
            "fps": float(scan.fps),
            "bidirectional": bool(scan.bidirectional),
        }
        return info, fields

    def make_insert(self, key, info, fields):
        self.insert1({**key, **info})
        self.Field.insert({**key, **field} for field in fields)
