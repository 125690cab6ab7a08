"""ScanImage's header as one dictionary, whatever the version wrote it as.

`SI.x = value` lines (5.1 and later), `SI4.`/`SI5.` lines (4 and 5.0), `state.x=value` lines (3) and
JSON (2015 and later, by choice) say the same under other names. `parse_header` returns what stands
in the file, `standard_names` the names of version 5.1 and later.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

import numpy as np

MAX_DEPTH = 8
_MOST_JSON = 1 << 26  # characters
_KEY = re.compile(r"SI\w*\..+|state\..+")
_SPECIAL = {"_Inf_": math.inf, "_-Inf_": -math.inf, "_NaN_": math.nan}
_SI4 = {
    "channelsSave": "hChannels.channelSave",
    "channelsDataType": "hScan2D.channelsDataType",
    "fastZEnable": "hFastZ.enable",
    "fastZDiscardFlybackFrames": "hFastZ.discardFlybackFrames",
    "fastZNumDiscardFrames": "hFastZ.numDiscardFlybackFrames",
    "fastZNumVolumes": "hFastZ.numVolumes",
    "stackNumSlices": "hStackManager.numSlices",
    "stackZStepSize": "hStackManager.stackZStepSize",
    "acqNumFrames": "hStackManager.framesPerSlice",
    "acqNumAveragedFrames": "hScan2D.logAverageFactor",
    "scanFrameRate": "hRoiManager.scanFrameRate",
    "scanFramePeriod": "hRoiManager.scanFramePeriod",
    "scanLinePeriod": "hRoiManager.linePeriod",
    "linePeriod": "hRoiManager.linePeriod",
    "scanFillFraction": "hScan2D.fillFractionTemporal",
}
_STATE = {
    "acq.frameRate": "hRoiManager.scanFrameRate",
    "acq.fillFraction": "hScan2D.fillFractionTemporal",
    "acq.bidirectionalScan": "hScan2D.bidirectional",
    "acq.numberOfZSlices": "hStackManager.numSlices",
    "acq.zStepSize": "hStackManager.stackZStepSize",
    "acq.numberOfFrames": "hStackManager.framesPerSlice",
    "acq.numAvgFramesSave": "hScan2D.logAverageFactor",
}


def parse_header(*texts: str) -> dict[str, object]:
    """Return what a header says as a dictionary with Python values.

    Parameters
    ----------
    texts : str
        Software tag (ScanImage 2016 and later) and ImageDescription tag (5.x and before).

    Returns
    -------
    dict
        Keys such as "SI.hChannels.channelSave" (a leading "scanimage." is dropped) or
        "state.acq.frameRate"; MATLAB literals become numbers, bools, strings and nested lists.
        Empty without such lines or JSON.
    """
    header: dict[str, object] = {}
    for text in texts:
        if text.lstrip()[:1] == "{":
            header |= _from_json(text)
            continue
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            key = key.strip().removeprefix("scanimage.")
            if equals and _KEY.fullmatch(key):
                header[key] = matlab_value(value)
    return header


def json_object(text: str) -> dict:
    """Return a JSON object; an empty one if the text is none."""
    if text.lstrip()[:1] != "{" or len(text) > _MOST_JSON:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def regions_of(*texts: str) -> dict:
    """Return the region groups of the first text that holds some; empty if none does."""
    for text in texts:
        said = json_object(text)
        for found in (said.get("RoiGroups"), said):
            if isinstance(found, dict) and isinstance(found.get("imagingRoiGroup"), dict):
                return found
    return {}


def _from_json(text: str) -> dict[str, object]:
    said = json_object(text)
    whole = said.get("SI", said if isinstance(said.get("hChannels"), dict) else None)
    if not isinstance(whole, dict):
        return {}
    header: dict[str, object] = {}
    waiting: list[tuple[str, Mapping]] = [("SI", whole)]
    while waiting:
        prefix, entries = waiting.pop()
        for name, value in entries.items():
            if name in ("RoiGroups", "imagingRoiGroup", "photostimRoiGroups"):
                continue
            if isinstance(value, dict):
                waiting.append((f"{prefix}.{name}", value))
            else:
                header[f"{prefix}.{name}"] = _plain(value)
    return header


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return _SPECIAL.get(value, value)
    return [] if value is None else value


def matlab_value(text: str, *, depth: int = 0) -> object:
    """Return a MATLAB literal as a Python value; what is no literal stays text.

    A row or column vector becomes a list, a matrix a list of rows; brackets within each other are
    text from a depth of `MAX_DEPTH`.
    """
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if depth < MAX_DEPTH and text[:1] in "[{" and text[-1:] in "]}" and text:
        if "'" in text or "{" in text[1:]:
            return re.findall(r"'((?:[^']|'')*)'", text) or text
        rows = [
            [matlab_value(part, depth=depth + 1) for part in re.split(r"[\s,]+", row.strip())]
            for row in text[1:-1].split(";")
            if row.strip()
        ]
        if all(len(row) == 1 for row in rows):
            return [row[0] for row in rows]
        return rows[0] if len(rows) == 1 else rows
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def standard_names(header: Mapping[str, object]) -> dict[str, object]:
    """Return the entries under the names of ScanImage 5.1 and later, without the leading `SI.`."""
    entries: dict[str, object] = {}
    for key, value in header.items():
        family, _, name = key.partition(".")
        if family == "state":
            _take_state(entries, name, value)
        elif name in _SI4 and family in ("SI4", "SI5"):
            entries.setdefault(_SI4[name], value)
        elif name == "scanMode" and family in ("SI4", "SI5"):
            entries["hScan2D.bidirectional"] = str(value).startswith("bi")
        else:
            entries[name] = value
    if any(key.startswith("state.") for key in header):
        _finish_state(entries, header)
    if not any(name.startswith("hScan2D.") for name in entries):
        _name_scanner(entries)
    if "hStackManager.zs" not in entries and "hStackManager.stackZStepSize" in entries:
        count = entries.get("hStackManager.numSlices", 1)
        step = entries["hStackManager.stackZStepSize"]
        if isinstance(count, int) and 1 <= count <= 10_000 and isinstance(step, (int, float)):
            entries["hStackManager.zs"] = [index * float(step) for index in range(count)]
    return entries


def _take_state(entries: dict[str, object], name: str, value: object) -> None:
    if name in _STATE:
        entries[_STATE[name]] = value
    elif name == "acq.msPerLine" and isinstance(value, (int, float)):
        entries["hRoiManager.linePeriod"] = value / 1000


def _finish_state(entries: dict[str, object], header: Mapping[str, object]) -> None:
    """Fill in what version 3 says in several entries."""
    names = [f"state.acq.savingChannel{number}" for number in range(1, 9)]
    saved = [index + 1 for index, name in enumerate(names) if header.get(name) == 1]
    count = header.get("state.acq.numberOfChannelsSave")
    if isinstance(count, int) and 0 < count <= 16 and len(saved) != count:
        saved = list(range(1, count + 1))
    if saved:
        entries["hChannels.channelSave"] = saved
    slices = entries.get("hStackManager.numSlices", 1)
    entries["hStackManager.enable"] = isinstance(slices, int) and slices > 1
    rate, line = (entries.get(f"hRoiManager.{n}") for n in ("scanFrameRate", "linePeriod"))
    lines = header.get("state.acq.linesPerFrame")
    known = [v for v in (rate, line, lines) if isinstance(v, (int, float)) and v > 0]
    if len(known) == 3 and not np.isclose(
        math.prod(known), 1, rtol=0.2
    ):  # some versions keep it in s
        entries.pop("hRoiManager.linePeriod")


def _name_scanner(entries: dict[str, object]) -> None:
    """Copy the entries of the scanner in use (2015: one group for each) to `hScan2D`."""
    system = str(entries.get("imagingSystem", ""))
    wanted = {"Resonant": "hResScan", "Linear": "hLinScan"}.get(system, f"hScan_{system}")
    for group in (wanted, "hResScan", "hLinScan"):
        found = {n.partition(".")[2]: v for n, v in entries.items() if n.startswith(f"{group}.")}
        if found:
            entries.update({f"hScan2D.{name}": value for name, value in found.items()})
            return
