"""What the files of a scan hold: fields, channels, frames and their rate."""

from __future__ import annotations

import datajoint as dj

from schemas import experiment
from schemas.imaging.binding import schema
from schemas.imaging.methods import ImagingTask
from schemas.imaging.opening import channel_position, open_timed_recording, recording_files
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

    class Finding(dj.Part):
        definition = """
        # What was left out or corrected when frames and their times were read
        -> master
        finding_idx : int16          # from 0
        ---
        finding     : varchar(64)    # name of the kind, as in docs/formats.md
        finding_text : varchar(1024) # what was found and what was done
        """

    @property
    def key_source(self):
        """Scans that somebody wants processed."""
        return experiment.Scan & ImagingTask

    def make_fetch(self, key):
        return (recording_files(key),)

    def make_compute(self, key, files):
        timed = open_timed_recording(files)
        scan, times = timed.scan, timed.time_s
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
        return info, fields, [(item.name, item.text) for item in timed.findings]

    def make_insert(self, key, info, fields, findings):
        self.insert1({**key, **info})
        self.Field.insert({**key, **field} for field in fields)
        self.Finding.insert(
            {**key, "finding_idx": index, "finding": name, "finding_text": text[:1024]}
            for index, (name, text) in enumerate(findings)
        )
