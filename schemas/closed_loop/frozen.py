"""What is fixed before day 2: how it will be analyzed, what it can detect, what the rig got."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import datajoint as dj
import numpy as np

from schemas import dataset, mei, model, stimulus
from schemas.closed_loop.binding import schema
from schemas.closed_loop.loop import Recipe
from schemas.closed_loop.planning import Plan, PlanTask
from schemas.store import number

FOUND_AGAIN = (1.0, 0.7, 0.5)  # share of the targets that a power analysis assumes
REPEATS = (5, 10, 20, 40)  # besides the planned number
STATES = 32  # of day 1, in which the model is asked for its response to the MEIs


@schema
class AnalysisPlan(dj.Computed):
    definition = """
    # Comparisons, tests, correction and inclusion, frozen with the plan and before its recording
    -> Plan
    ---
    analysis_hash   : char(16)       # hash of all of it
    analysis_plan   : json           # comparisons, outcome method and parameters, inclusion
    """

    def make(self, key):
        from pipeline.closed_loop.verdict.outcome import analysis_plan
        from pipeline.stimulus.kinds import kind_and_variant, name_of

        task = (PlanTask & key).fetch1()
        recipe = (Recipe & task).fetch1("recipe")
        rows = (Plan.Target & key).to_dicts()
        kinds = sorted({name_of(row) for row in rows}, key=kind_and_variant)
        found = analysis_plan(
            kinds,
            method=recipe["outcome"]["method"],
            params=recipe["outcome"]["params"],
            min_match_probability=recipe["match"]["min_probability"],
        )
        digest = found.pop("hash")
        self.insert1({**key, "analysis_hash": digest, "analysis_plan": found})


class PowerInputs(NamedTuple):
    """What a plan can detect is simulated from this; lists in the order of the targets."""

    file: Any  # of Dataset.fetch_file
    weights: dict[str, Any]  # of EnsembleSpec.fetch_weights
    images: list[str]  # image_hash of the MEI
    image_files: list[tuple]  # of stimulus.ImageSet.locate
    units: list[int]  # unit_index
    best: list[float]  # predicted response to the MEI (a.u.)
    controls: list[list[float]]  # to the other images (a.u.)
    repeats: int
    outcome: dict[str, Any]  # parameters of the outcome method


@schema
class PlanPower(dj.Computed):
    definition = """
    # What day 2 can detect, simulated from the variance of day 1
    -> Plan
    ---
    n_images=null   : int32          # repeated images of day 1; null: too few for a noise model
    variance_exponent=null : float64 # (1) variance over repeats grows as this power of the mean
    power_curve     : json           # ratio, per_neuron, population for the plan as it is
    """

    class Design(dj.Part):
        definition = """
        # One number of neurons and repeats
        -> master
        n_neurons   : int32          # neurons found again
        repeats     : int32          # presentations of every image
        ---
        detectable_per_neuron=null : float64  # (1) smallest MEI / control ratio, power 0.8
        detectable_population=null : float64  # (1) the same for the Wilcoxon test over neurons
        """

    def make_fetch(self, key):
        from pipeline.stimulus.kinds import name_of

        every = (Plan.Target & key).to_dicts(order_by=["target_rank", "kind", "variant"])
        targets = [row for row in every if name_of(row) == "mei"]
        controls = {row["unit_index"]: [] for row in targets}
        for row in every:
            if name_of(row) != "mei" and row["unit_index"] in controls:
                controls[row["unit_index"]].append(row["predicted"])
        data = {"dataset_hash": targets[0]["dataset_hash"]}
        units = [target["unit_index"] for target in targets]
        images = [target["image_hash"] for target in targets]
        # the model that made the MEIs is that of the displayed stimuli, in whatever batches
        (ensemble,) = set((mei.Display * Plan.Source & key).to_arrays("ensemble_hash").tolist())
        given = PowerInputs(
            file=dataset.Dataset.fetch_file(data),
            weights=model.EnsembleSpec.fetch_weights({"ensemble_hash": ensemble}),
            images=images,
            image_files=stimulus.ImageSet.locate(images),
            units=units,
            best=[row["predicted"] for row in targets],
            controls=[controls[unit] for unit in units],
            repeats=(Plan & key).fetch1("n_repeats"),
            outcome=(Recipe & (PlanTask & key)).fetch1("recipe")["outcome"]["params"],
        )
        return (given,)

    def make_compute(self, key, given):
        from pipeline.closed_loop.planning.noise import fit_noise
        from pipeline.closed_loop.planning.power import relative_effect, simulate_power

        data, units, repeats = dataset.load_dataset(given.file), given.units, given.repeats
        rows = np.concatenate([rows for _, rows in data.repeats()] or [np.zeros(0, int)])
        names = np.asarray(data.image_id)[rows]
        try:
            responses = np.maximum(data.responses[np.ix_(rows, units)], 0)
            seen, own = self._in_states(data, rows, given)
            noise = fit_noise(responses, names, seen, own)
        except ValueError:  # day 1 repeats too few images: a plan is possible, its power unknown
            return {"power_curve": {}}, []
        control = [np.median(c) if c else np.nan for c in given.controls]
        noise = noise.with_controls(control)
        level = {n: given.outcome[n] for n in ("alpha", "normalization") if n in given.outcome}
        level["effect"] = relative_effect(given.best, control)
        counts = sorted({max(repeats, 2), *REPEATS})
        found = {
            (n, count): simulate_power(noise, n_neurons=n, repeats=count, **level)
            for n in sorted({max(2, round(share * len(units))) for share in FOUND_AGAIN})
            for count in counts
        }
        designs = [
            {
                "n_neurons": n,
                "repeats": count,
                "detectable_per_neuron": number(result.detectable_per_neuron),
                "detectable_population": number(result.detectable_population),
            }
            for (n, count), result in found.items()
        ]
        planned = found[max(2, len(units)), max(repeats, 2)]
        curve = {
            name: getattr(planned, name).tolist() for name in ("ratio", "per_neuron", "population")
        }
        row = {
            "n_images": len(set(names.tolist())),
            "variance_exponent": number(noise.exponent.mean()),
            "power_curve": curve,
        }
        return row, designs

    @staticmethod
    def _in_states(data, rows, given):
        """Return the model's responses on repeats, and to the MEIs in states of that day."""
        ensemble, units = model.load_ensemble(given.weights), given.units
        states = [
            None if values is None else np.asarray(values)
            for values in (data.behavior, data.pupil_center)
        ]

        def at(trials):
            return [None if values is None else values[trials] for values in states]

        index = np.asarray(data.image_index)[rows]
        seen = ensemble.predict(data.images[index], *at(rows), units=units)
        shown = stimulus.load_images(given.image_files)
        best = np.stack([shown[name] for name in given.images])
        every = np.linspace(0, len(data.responses) - 1, STATES).astype(int)
        own = [
            np.diag(ensemble.predict(best, *at(np.full(len(best), trial)), units=units))
            for trial in every
        ]
        return seen, np.array(own)

    def make_insert(self, key, row, designs):
        self.insert1({**key, **row})
        self.Design.insert({**key, **design} for design in designs)


@schema
class Package(dj.Manual):
    definition = """
    # Package that was written for a rig: an answer must have been shown from one of these
    -> AnalysisPlan
    package_digest  : char(64)       # SHA-256 of the manifest, which names the SHA-256 of all files
    ---
    package_folder  : varchar(1024)  # where it was written
    written         : datetime       # when (UTC)
    """

    @classmethod
    def record(cls, plan: dict[str, str], digest: str, folder: str) -> None:
        """Note a package that was written."""
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
        row = {**plan, "package_digest": digest, "package_folder": folder[:1024], "written": now}
        cls.insert1(row, skip_duplicates=True)
