#!/usr/bin/env python3
"""Show a stimulus package and log what was shown.

Copied into every package; needs nothing but Python 3.8 and, for a window, one of PsychoPy, pygame
or OpenCV (tried in this order). Run it in the package's folder::

    python player.py --out day2            # full screen on the default monitor
    python player.py --out day2 --dry-run  # no window: writes the log at once
    python player.py --out day2 --verify   # are files and log as planned? (without --out: files)

Into ``--out`` it writes ``trials.csv`` (trial_idx,image,onset_s,offset_s,blank_before_s; seconds
since the first flip, of the monotonic clock) line by line, and ``player.json`` (plan, animal,
back end, what went worse than planned, counts). Images keep their aspect, with the blank around.
The corner square for a photodiode (``--photodiode``) is black in blanks, white in trials of even
and gray in trials of odd number, as the manifest says.
"""

import argparse
import csv
import hashlib
import json
import os
import sys
import time

FORMAT = "inception-package/1"
TOLERANCE_S = 0.05  # of the time an image is on
HEADER = ["trial_idx", "image", "onset_s", "offset_s", "blank_before_s"]


class Refused(Exception):
    """The package cannot be shown; the message says why in one line."""


def load(folder):
    """Return manifest and trials of a package whose files are what the manifest says."""
    path = os.path.join(folder, "manifest.json")
    if not os.path.isfile(path):
        raise Refused(f"{folder}: no manifest.json: not a package")
    with open(path, encoding="utf-8") as file:
        manifest = json.load(file)
    if manifest.get("format") != FORMAT:
        raise Refused(f"{path}: format {manifest.get('format')!r}, expected {FORMAT!r}")
    for name, expected in manifest["files"].items():
        full = os.path.join(folder, name)
        if not os.path.isfile(full):
            raise Refused(f"{full} is missing")
        with open(full, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != expected:
                raise Refused(f"{full} was edited: write the package again")
    with open(os.path.join(folder, "trials.csv"), newline="", encoding="utf-8") as file:
        trials = list(csv.DictReader(file))
    for trial in trials:
        trial["file"] = os.path.join(folder, "images", trial["image"] + ".png")
        trial["duration_s"] = float(trial["duration_s"])
        trial["blank_before_s"] = float(trial["blank_before_s"])
    return manifest, trials


def fitted(screen, image):
    """Return width, height, left and top (px) of an image as large as its aspect allows."""
    scales = [screen[0] / image[0], screen[1] / image[1]]
    if max(scales) <= 1.01 * min(scales):
        return screen[0], screen[1], 0, 0
    width, height = (round(size * min(scales)) for size in image)
    return width, height, (screen[0] - width) // 2, (screen[1] - height) // 2


class Window:
    """What back ends share: a clock, waiting, and what there is nothing to do for."""

    refresh_hz, vsync, screen_px = 60.0, True, None

    def prepare(self, files):
        """Load all images before the first trial."""
        self.images = {file: self.load(file) for file in files}

    def hold(self, until_s):
        """Wait until a time."""
        wait = until_s - self.now()
        if wait > 0:
            time.sleep(wait)

    def now(self):
        """Return seconds of the monotonic clock."""
        return time.perf_counter()

    def aborted(self):
        """Whether the person pressed Escape."""
        return False

    def close(self):
        """Close the window."""


class Dry(Window):
    """A monitor of a given refresh rate, without a window and without waiting."""

    name = "dry-run"

    def __init__(self, options):
        self.refresh_hz, self.frame, self.load = options.refresh_hz, 0, str

    def flip(self, file, corner):
        """Show an image (or gray: None) from the next refresh on; return its time in seconds."""
        self.frame += 1
        return self.frame / self.refresh_hz

    def hold(self, until_s):
        """Wait until a time."""
        self.frame = max(self.frame, int(until_s * self.refresh_hz))


class PsychoPy(Window):
    """Full-screen window of PsychoPy, with the flip time of the graphics card."""

    name = "psychopy"

    def __init__(self, options):
        from psychopy import event, visual

        self.window = visual.Window(
            fullscr=not options.windowed,
            screen=options.screen,
            units="norm",
            color=[options.grey / 127.5 - 1] * 3,
            waitBlanking=True,
        )
        self.refresh_hz = self.window.getActualFrameRate() or 60.0
        self.screen_px = [int(size) for size in self.window.size]
        width, height, _, _ = fitted(self.screen_px, options.image_px)
        self.size = (2 * width / self.screen_px[0], 2 * height / self.screen_px[1])
        self.square = visual.Rect(self.window, width=0.12, height=0.2, pos=(0.94, -0.9))
        self.photodiode = options.photodiode
        self.load = lambda file: visual.ImageStim(self.window, image=file, size=self.size)
        self.aborted = lambda: bool(event.getKeys(["escape"]))
        self.close = self.window.close

    def flip(self, file, corner):
        """Show an image (or gray: None) and return the time of the flip."""
        if file is not None:
            self.images[file].draw()
        if self.photodiode:
            self.square.fillColor = self.square.lineColor = [corner / 127.5 - 1] * 3
            self.square.draw()
        self.window.flip()
        return self.now()


class Pygame(Window):
    """Full-screen window of pygame with vertical synchronisation."""

    name = "pygame"

    def __init__(self, options):
        import pygame

        self.pygame = pygame
        pygame.display.init()
        flags = pygame.SCALED | (0 if options.windowed else pygame.FULLSCREEN)
        size = fitted((960, 960), options.image_px)[:2]
        size = size if options.windowed else pygame.display.get_desktop_sizes()[options.screen]
        self.screen = pygame.display.set_mode(size, flags, display=options.screen, vsync=1)
        self.refresh_hz = options.refresh_hz
        self.screen_px = list(self.screen.get_size())
        self.box = fitted(self.screen_px, options.image_px)
        pygame.mouse.set_visible(False)
        self.grey, self.photodiode = (options.grey,) * 3, options.photodiode
        self.close = pygame.quit

    def load(self, file):
        """Return an image that is ready to be shown."""
        picture = self.pygame.image.load(file).convert(self.screen)
        return self.pygame.transform.smoothscale(picture, self.box[:2])

    def flip(self, file, corner):
        """Show an image (or gray: None) and return the time of the flip."""
        self.screen.fill(self.grey)
        if file is not None:
            self.screen.blit(self.images[file], self.box[2:])
        if self.photodiode:
            width, height = self.screen_px
            box = (int(width * 0.94), int(height * 0.9), width, height)
            self.screen.fill((corner,) * 3, box)
        self.pygame.display.flip()
        return self.now()

    def aborted(self):
        """Whether the person pressed Escape."""
        return any(
            event.type == self.pygame.KEYDOWN and event.key == self.pygame.K_ESCAPE
            for event in self.pygame.event.get()
        )


class OpenCV(Window):
    """Full-screen window of OpenCV: no vertical synchronisation, for rehearsals only."""

    name, vsync = "opencv", False

    def __init__(self, options):
        import cv2
        import numpy

        self.cv2, self.numpy = cv2, numpy
        cv2.namedWindow("stimulus", cv2.WINDOW_NORMAL | getattr(cv2, "WINDOW_KEEPRATIO", 0))
        if not options.windowed:
            cv2.setWindowProperty("stimulus", cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)
        self.refresh_hz, self.key = options.refresh_hz, -1
        self.grey, self.photodiode = options.grey, options.photodiode
        self.aborted = lambda: self.key == 27
        self.close = cv2.destroyAllWindows

    def load(self, file):
        """Return an image that is ready to be shown, and keep a blank of its size."""
        picture = self.cv2.imread(file, self.cv2.IMREAD_GRAYSCALE)
        self.blank = self.numpy.full(picture.shape, self.grey, self.numpy.uint8)
        return picture

    def flip(self, file, corner):
        """Show an image (or gray: None) and return the time of the flip."""
        picture = self.blank if file is None else self.images[file]
        if self.photodiode:
            picture = picture.copy()
            height, width = picture.shape
            picture[int(height * 0.9) :, int(width * 0.94) :] = corner
        self.cv2.imshow("stimulus", picture)
        self.key = self.cv2.waitKey(1)
        return self.now()


BACKENDS = {"dry-run": Dry, "psychopy": PsychoPy, "pygame": Pygame, "opencv": OpenCV}


def open_backend(options):
    """Return the asked back end, or the first that works, and why those before it did not."""
    if options.dry_run:
        return Dry(options), []
    names = [options.backend] if options.backend else ["psychopy", "pygame", "opencv"]
    failures = []
    for name in names:
        try:
            backend = BACKENDS[name](options)
        except Exception as error:  # a missing module, or no display: try the next back end
            failures.append(f"{name}: {' '.join(str(error).split())[:300]}")
        else:
            return backend, failures
    raise Refused(f"no window could be opened ({'; '.join(failures)}); try --dry-run")


def shortcomings(backend, options, blank):
    """Return what is worse than planned, a line each."""
    lines = []
    if not backend.vsync:
        lines.append(f"{backend.name} has no vertical synchronisation: times are those of requests")
    if backend.screen_px and fitted(backend.screen_px, options.image_px)[2:] != (0, 0):
        width, height = backend.screen_px
        lines.append(f"the monitor, {width} x {height} px, has another aspect: blank around images")
    if options.grey != blank:
        lines.append(f"the blank is {options.grey}, the package's is {blank}")
    return lines


def play(trials, backend, out, levels, start=0, stop=None):
    """Show trials and log each as it ends; return the number shown."""
    half_frame = 0.5 / backend.refresh_hz  # waiting this much less flips at the nearest refresh
    shown = 0
    with open(os.path.join(out, "trials.csv"), "w", newline="", encoding="utf-8") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(HEADER)
        first = blank_since = backend.flip(None, levels["blank"])
        for trial in trials[start:stop]:
            parity = "even" if int(trial["trial_idx"]) % 2 == 0 else "odd"
            backend.hold(blank_since + trial["blank_before_s"] - half_frame)
            onset = backend.flip(trial["file"], levels[f"image_of_{parity}_trial"])
            backend.hold(onset + trial["duration_s"] - half_frame)
            offset = backend.flip(None, levels["blank"])
            times = [onset - first, offset - first, onset - blank_since]
            log.writerow([trial["trial_idx"], trial["image"], *(f"{t:.5f}" for t in times)])
            file.flush()
            blank_since = offset
            shown += 1
            if backend.aborted():
                break
    return shown


def differences(manifest, trials, out):
    """Return in what a log differs from the plan, a line each; none proves that it was shown."""
    path, told = os.path.join(out, "player.json"), {}
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    lines = [] if told else [f"{path} is missing: nothing says which package was shown"]
    for field, expected in (("plan", manifest["plan"]), ("package_digest", manifest["digest"])):
        if told and told.get(field) != expected:
            lines.append(f"{path}: {field} {told.get(field)}, this package's is {expected}")
    with open(os.path.join(out, "trials.csv"), newline="", encoding="utf-8") as file:
        log = list(csv.DictReader(file))
    if log and not set(HEADER[:4]) <= set(log[0]):
        return [*lines, f"trials.csv has columns {list(log[0])}, expected {HEADER}"]
    shown = {row["trial_idx"]: row for row in log}
    planned = {trial["trial_idx"]: trial for trial in trials}
    both = [(planned[idx], row) for idx, row in shown.items() if idx in planned]
    on = {t["trial_idx"]: float(r["offset_s"]) - float(r["onset_s"]) for t, r in both}
    order = [row["trial_idx"] for row in log if row["trial_idx"] in planned]
    first = {idx: k for k, idx in reversed(list(enumerate(order)))}
    found = {
        "planned trials are not in the log": [idx for idx in planned if idx not in shown],
        "logged trials are not planned": [idx for idx in shown if idx not in planned],
        "trials showed another image than planned": [
            trial["trial_idx"] for trial, row in both if row["image"] != trial["image"]
        ],
        f"images were on {1000 * TOLERANCE_S:.0f} ms longer or shorter than planned": [
            idx for idx, s in on.items() if abs(s - planned[idx]["duration_s"]) > TOLERANCE_S
        ],
        "rows log a trial once more": [idx for k, idx in enumerate(order) if first[idx] < k],
        "trials are out of order": [
            idx for k, idx in enumerate(order) if k and int(idx) < int(order[k - 1])
        ],
    }
    counted = ((what, rows) for what, rows in found.items() if rows)
    end = "the first is trial"
    return lines + [f"{len(r)} of {len(trials)} {what}, {end} {r[0]}" for what, r in counted]


def verify(manifest, trials, out):
    """Print whether package and, if given, log are as planned; return the exit status."""
    print(f"package {manifest['plan']} is as it was written, {len(trials)} trials")
    lines = [] if out is None else differences(manifest, trials, out)
    if out is not None and not lines:
        print(f"the log in {out} shows the plan, trial by trial")
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    return 3 if lines else 0


def main(arguments=None):
    """Run the player; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("package", nargs="?", default=here, help="folder of the package")
    parser.add_argument("--out", help="folder for the log")
    parser.add_argument("--verify", action="store_true", help="check the package, and a log in OUT")
    parser.add_argument("--dry-run", action="store_true", help="no window, no waiting")
    parser.add_argument("--backend", choices=[name for name in BACKENDS if name != "dry-run"])
    parser.add_argument("--screen", type=int, default=0, help="number of the monitor")
    parser.add_argument("--windowed", action="store_true", help="not full screen")
    parser.add_argument("--refresh-hz", type=float, default=60.0, help="refresh of the monitor")
    parser.add_argument("--grey", type=int, default=None, help="pixel value of the blank")
    parser.add_argument("--photodiode", action="store_true", help="draw the corner square")
    parser.add_argument("--start", type=int, default=0, help="first trial, to go on after a break")
    options = parser.parse_args(arguments)
    if options.out is None and not options.verify:
        parser.error("--out is needed, the folder for the log")
    try:
        manifest, trials = load(options.package)
        if options.verify:
            return verify(manifest, trials, options.out)
        if os.path.exists(os.path.join(options.out, "trials.csv")):
            raise Refused(f"{options.out} already holds a log: give another --out")
        monitor = manifest["monitor"]
        blank = int(monitor.get("blank_pixel", 127))
        options.grey = blank if options.grey is None else options.grey
        options.image_px = [int(monitor["width_px"]), int(monitor["height_px"])]
        os.makedirs(options.out, exist_ok=True)
        backend, failures = open_backend(options)
    except (Refused, OSError, ValueError, KeyError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    worse = shortcomings(backend, options, blank)
    for line in [f"{failure}; {backend.name} shows" for failure in failures] + worse:
        print(f"warning: {line}", file=sys.stderr)
    planned = len(trials) - options.start
    try:
        backend.prepare(sorted({trial["file"] for trial in trials}))
        shown = play(trials, backend, options.out, manifest["photodiode"], options.start)
    finally:
        backend.close()
    result = {
        "plan": manifest["plan"],
        "animal_id": manifest["animal_id"],
        "package_digest": manifest["digest"],
        "backend": backend.name,
        "backends_failed": failures,
        "vsync": backend.vsync,
        "refresh_hz": backend.refresh_hz,
        "screen_px": backend.screen_px,
        "blank_pixel": options.grey,
        "warnings": worse,
        "trials_planned": planned,
        "trials_shown": shown,
    }
    with open(os.path.join(options.out, "player.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    print(f"{shown} of {planned} trials shown, log in {options.out}")
    return 0 if shown == planned else 3


if __name__ == "__main__":
    sys.exit(main())
