"""Pupil and running into an NWB file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, EyeTracking, PupilTracking, SpatialSeries
from pynwb.image import ImageSeries

from pipeline.recording.nwb.session import COUNTS, Session
from pipeline.recording.nwb.timing import timing
from pipeline.recording.nwb.write_imaging import packed


def add_behavior(file: NWBFile, session: Session, folder: Path) -> None:
    """Add what is there of pupil, eye video, counts of the treadmill and running speed.

    Parameters
    ----------
    file : NWBFile
    session : Session
    folder : path
        Where the file will lie; the eye video is named from there.
    """
    found: list[Any] = []
    if session.pupil is not None and len(session.pupil):
        time, center = session.pupil[:, 0], session.pupil[:, 1:3]
        when = timing(time)
        found.append(
            PupilTracking(
                name="PupilTracking",
                time_series=[
                    TimeSeries(
                        name="pupil_radius",
                        description="Radius of the pupil in the video; NaN where not seen.",
                        data=packed(session.pupil[:, 3]),
                        unit="pixels",
                        **when,
                    ),
                    TimeSeries(
                        name="pupil_confidence",
                        description="Confidence of the tracker, 0 to 1.",
                        data=packed(session.pupil[:, 4]),
                        unit="1",
                        **when,
                    ),
                ],
            )
        )
        found.append(
            EyeTracking(
                name="EyeTracking",
                spatial_series=SpatialSeries(
                    name="pupil_center",
                    description="Center of the pupil in the video, x right and y down.",
                    data=packed(np.asarray(center)),
                    reference_frame="Corner of the eye video, top left.",
                    unit="pixels",
                    **when,
                ),
            )
        )
        if session.eye_video is not None:
            file.add_acquisition(
                ImageSeries(
                    name="eye_video",
                    description="Video of the eye, in a file of the rig.",
                    external_file=[os.path.relpath(session.eye_video, folder)],
                    format="external",
                    starting_frame=[0],
                    unit="n.a.",
                    num_samples=len(time) if "rate" in when else None,
                    **when,
                )
            )
    if session.counts is not None and len(session.counts):
        file.add_acquisition(
            TimeSeries(
                name=COUNTS,
                description="Reading of the treadmill's 32-bit counter, which may wrap; the wheel "
                "is described in processing/misc/recording.",
                data=packed(session.counts[:, 1].astype(np.int64)),
                unit="counts",
                **timing(session.counts[:, 0]),
            )
        )
    if session.speed is not None and len(session.speed):
        found.append(
            BehavioralTimeSeries(
                name="running",
                time_series=TimeSeries(
                    name="running_speed",
                    description="Running speed, forward positive, in cm/s times the conversion; "
                    "NaN in gaps.",
                    data=packed(session.speed[:, 1]),
                    unit="m/s",
                    conversion=0.01,
                    **timing(session.speed[:, 0]),
                ),
            )
        )
    if found:
        module = file.create_processing_module(
            name="behavior", description="Pupil and running on the rig's clock."
        )
        module.add(found)
