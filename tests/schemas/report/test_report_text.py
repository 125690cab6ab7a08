"""A report of nine kinds: every name and parameter in it is that of the row it came from."""

import importlib
import re

import matplotlib.text
import pandas as pd
import pytest
from known_neurons import populate, walk
from nine_kinds import KINDS, RECIPE_OF_NINE, STRANGER, checkerboard

pytestmark = pytest.mark.tables

NAMED = re.compile(r"\b(?:unit|output|neuron|target) \d+(?: \(field \d+\))?")


@pytest.fixture(scope="module")
def report(_bound, tmp_path_factory):
    """A report of nine kinds, one of them registered here, scored against `mei` and `fni`."""
    from pipeline import plotting
    from pipeline.mei.controls import control_kinds
    from schemas import closed_loop
    from workers.database import embedded
    from workers.queue import tables
    from workers.report import write_report

    database, home, prefix = _bound
    embedded.connect(home)
    tables.schema.database = tables.schema.connection = None
    tables.activate(prefix)
    tables.declare()
    control_kinds.register(STRANGER)(checkerboard)
    scored_by_others = closed_loop.OutcomeMethod.keys()
    folder, out = tmp_path_factory.mktemp("nine"), tmp_path_factory.mktemp("report")
    day1, made, day2, _ = walk(database, folder, 91, RECIPE_OF_NINE, targets=4, minutes=8)
    closed_loop.OutcomeMethod.add(None, {"reference": "fni", "n_bootstrap": 100})
    populate(database, 91)
    drawn, save = {}, plotting.save

    def kept(figure, path):
        save(figure, path)
        drawn[path.name] = [
            text.get_text()
            for text in figure.findobj(matplotlib.text.Text)
            if text.get_text() and text.get_visible()
        ]

    plotting.save = kept
    try:
        found = write_report(out, scans=[day1], pdf=False)
    finally:
        plotting.save = save
    yield {
        "found": found,
        "out": out,
        "texts": drawn,
        "day1": day1,
        "day2": day2,
        "plan": {"plan_id": made["plan_id"]},
        "page": (out / "index.html").read_text(),
    }
    (closed_loop.OutcomeMethod - scored_by_others).delete(prompt=False)  # of every presentation
    del control_kinds._functions[STRANGER]
    import datajoint as dj

    dj.Schema(f"{prefix}_workers").drop(prompt=False)
    tables.schema.database = tables.schema.connection = None


def csv_files(report):
    return sorted(report["out"].rglob("*.csv"))


def only(report, part):
    (name,) = [name for name in report["texts"] if part in name]
    return report["texts"][name]


def test_every_kind_of_the_plan_is_in_gallery_figures_and_tables(database, report):
    from pipeline.plotting.style import name_of
    from schemas import closed_loop

    planned = set((closed_loop.Plan.Target & report["plan"]).to_arrays("kind").tolist())
    assert planned == set(KINDS)
    written = [name_of(kind).replace(" ", "\n") for kind in KINDS]
    gallery = only(report, "loop_gallery")
    assert [text for text in gallery if text in written] == written  # in this order
    sheet = only(report, "loop_all_stimuli")
    assert [text for text in sheet if text in written] == written
    predicted = only(report, "loop_predicted")
    for kind in KINDS[1:]:
        assert any(text.startswith(name_of(kind).replace(" ", "\n")) for text in predicted), kind
    scored = closed_loop.Comparison & report["day2"] & {"reference": "mei"}
    tag = scored.to_dicts(order_by="outcome_hash")[0]["outcome_hash"]
    for figure in ("comparison", "sensitivity", "prediction", "power"):
        joined = " ".join(only(report, f"{tag}_{figure}"))
        for kind in KINDS[1:]:
            assert name_of(kind) in joined, (figure, kind)
    for table in ("stimuli", f"{tag}_responses"):
        (path,) = [path for path in csv_files(report) if path.stem.endswith(table)]
        assert set(pd.read_csv(path)["kind"]) == set(KINDS)
    (path,) = [path for path in csv_files(report) if path.stem.endswith(f"{tag}_population")]
    assert list(pd.read_csv(path)["kind"]) == list(KINDS[1:])


def test_a_neuron_has_its_one_name_in_every_figure(database, report):
    from schemas import dataset

    data = (dataset.DatasetSpec.Scan & report["day1"]).fetch1("dataset_hash")
    known = set(dataset.unit_names({"dataset_hash": data})["unit"])
    assert known == {f"unit {number}" for number in range(1, 9)}
    count = 0
    for figure, texts in report["texts"].items():
        for name in NAMED.findall("\n".join(texts)):
            assert name in known, (figure, name)
            count += 1
    assert count > 15
    for name in NAMED.findall(re.sub('data:image[^"]*', "", report["page"])):
        assert name in known


def test_the_names_are_those_of_the_planned_units_best_first(database, report):
    from schemas import closed_loop, dataset

    planned = closed_loop.Plan.Target & report["plan"] & {"kind": "mei"}
    rows = (planned.proj("target_rank") * dataset.Dataset.Unit).to_dicts(order_by="target_rank")
    names = [f"unit {row['unit_id']}" for row in rows]
    assert NAMED.findall("\n".join(only(report, "loop_gallery"))) == names
    assert NAMED.findall("\n".join(only(report, "loop_sheet_mei"))) == names
    assert NAMED.findall("\n".join(only(report, "loop_all_stimuli"))) == names
    assert set(NAMED.findall("\n".join(only(report, "loop_held_out")))) == set(names)
    assert NAMED.findall("\n".join(only(report, "loop_traces"))) == names
    patches = NAMED.findall("\n".join(only(report, "natural_patches")))
    assert sorted(patches) == sorted(names)


def test_every_csv_names_its_neurons(database, report):
    from schemas import dataset

    rows = dataset.Dataset.Unit().to_dicts()
    truth = {(row["dataset_hash"], row["unit_index"]): row for row in rows}
    names = {f"unit {row['unit_id']}" for row in rows}
    # prepared data sets of other tests have no units
    names |= {f"output {row['unit_index']}" for row in rows if row["unit_id"] is None}
    seen = 0
    for path in csv_files(report):
        frame = pd.read_csv(path)
        for column in [name for name in frame if name.endswith("unit_index")]:
            prefix = column.removesuffix("unit_index")
            for row in frame.to_dict("records"):
                known = truth[row[f"{prefix}dataset_hash"], row[column]]
                if known["unit_id"] is None:  # a prepared data set of another test
                    assert row[f"{prefix}unit"].startswith("output ")
                    continue
                assert row[f"{prefix}unit_id"] == known["unit_id"], path.name
                assert row[f"{prefix}unit"] == f"unit {known['unit_id']}", path.name
                assert row[f"{prefix}field"] == 0
                seen += 1
        for text in frame.select_dtypes("object").stack():
            for name in NAMED.findall(str(text)):
                assert name in names, (path.name, name)
    assert seen > 150


def test_every_p_in_a_csv_stands_beside_the_direction_of_its_effect(database, report):
    tested = 0
    for path in csv_files(report):
        frame = pd.read_csv(path)
        if "kind" not in frame or not {"p", "wilcoxon_p", "bootstrap_p"} & set(frame):
            continue
        difference = frame["difference" if "difference" in frame else "median_difference"]
        for value, kind, words in zip(difference, frame["kind"], frame["above"], strict=True):
            if value > 0:
                assert words.endswith(f" above {kind}"), path.name
            elif value < 0:
                assert words.startswith(f"{kind} above "), path.name
            else:
                assert words in ("unknown", "no difference"), path.name
        tested += 1
    assert tested >= 10  # both outcomes, their checks, and the tables


def test_a_control_that_wins_is_said_to(database, report):
    from schemas import closed_loop

    (outcome,) = (closed_loop.Comparison & report["day2"] & {"reference": "fni"}).to_dicts()
    row = (closed_loop.Population.Kind & outcome & {"kind": "mei"}).fetch1()
    assert row["median_difference"] < 0  # the neurons prefer their MEIs to the natural images
    titles = only(report, f"{outcome['outcome_hash']}_comparison")
    (title,) = [text for text in titles if "fNI above MEI in" in text]
    assert re.search(r"p = \S+ \(two-sided\):\nMEI above fNI$", title), title
    assert "<td>MEI above fNI</td>" in report["page"]
    assert "MEI above its control" not in report["page"]


def test_every_parameter_in_the_methods_is_that_of_the_row_that_was_used(database, report):
    from schemas import closed_loop, dataset, imaging, mei, model
    from workers.report.methods import settings_text

    order = report["plan"]
    display = (closed_loop.Plan.Source & order).to_dicts()
    member = (dataset.DatasetSpec.Scan & report["day1"]).fetch1()
    outcomes = (closed_loop.Outcome & report["day2"]).to_dicts()
    match = (closed_loop.MatchTask & report["day2"]).fetch1()
    rows = (*display, member, *outcomes, match)
    used = {value for row in rows for value in row.values() if isinstance(value, str)}
    used |= set((imaging.ImagingRecipe & member).fetch1().values())
    used |= set((closed_loop.PlanTask & order).fetch1().values())
    ensembles = model.EnsembleSpec.Member & [
        {"ensemble_hash": row[name]}
        for row in display
        for name in ("ensemble_hash", "ln_ensemble_hash")
    ]
    used |= set(ensembles.to_arrays("model_hash").tolist())
    used |= set(model.EnsembleSpec.Combination().to_arrays("combination_hash").tolist())
    used |= set((mei.Analysis & display).to_arrays("analysis_hash").tolist())
    used |= set((dataset.Reliability & member).to_arrays("reliability_hash").tolist())
    (task,) = {row["seed"]: row for row in (mei.ControlTask & display).to_dicts()}.values()
    ascent = (mei.MEITask & display).to_dicts()[0]
    spec = (dataset.DatasetSpec & member).fetch1()
    values = {
        "dataset.ResponseTask": (dataset.ResponseTask & member).fetch1(),
        "dataset.DatasetSpec": {**spec, **spec["tier_params"]},
        "mei.MEITask": ascent,
        "mei.ControlTask": task,
        "mei.DisplayTask": (mei.DisplayTask & display).to_dicts()[0],
        "closed_loop.PlanTask": (closed_loop.PlanTask & order).fetch1(),
        "closed_loop.MatchTask": match,
        "model.TrainingTask": {"seeds": [1], "max_seconds": None},
    }
    section = report["page"].split("<h2>Methods of the loop on")[1].split("<h2>")[0]
    text = re.sub(r"</?p>", "\n", section).split("Analysis plan, frozen")[0]
    pieces = re.split(r" \[(\w+\.\w+)(?: ([0-9a-f]{16}))?\]\.", text)
    told = set()
    for said, table, key in zip(pieces[:-1:3], pieces[1::3], pieces[2::3], strict=True):
        stage, kind = table.split(".")
        told.add(table)
        if table in values:  # settings of a task: every one that is printed
            names = re.findall(r"(?:: |, )(\w+) ", said)
            stated = {name: values[table][name] for name in names}
            assert said.endswith(f": {settings_text(stated)}"), (table, said)
            continue
        assert key in used, (table, key)
        rows = getattr(importlib.import_module(f"schemas.{stage}"), kind)
        (column,) = rows.primary_key
        if table == "model.ModelConfig":
            expected = settings_text((rows & {column: key}).fetch1("model_config"))
        else:
            method, params = rows.fetch_method({column: key})
            if table == "mei.DisplayMethod":  # its task decides the size, the stimulus its mask
                params = {n: v for n, v in params.items() if n not in ("size_px", "masks")}
            expected = f"{method} ({settings_text(params)})" if params else method
        assert said.endswith(expected), (table, said)
        before = said.removesuffix(expected)
        assert re.fullmatch(r"\s*([\w ]+\. )?([\w ]+: )?", before.split("\n")[-1]), said
    assert told == {
        *values,
        "imaging.RasterMethod",
        "imaging.MotionMethod",
        "imaging.SegmentationMethod",
        "imaging.FluorescenceMethod",
        "imaging.DeconvolutionMethod",
        "behavior.PupilMethod",
        "behavior.TreadmillMethod",
        "dataset.BehaviorWindow",
        "dataset.ResponseMethod",
        "dataset.ReliabilityMethod",
        "model.ModelConfig",
        "model.CombinationMethod",
        "mei.TargetRule",
        "mei.AscentMethod",
        "mei.MaskMethod",
        "mei.ControlMethod",
        "mei.DisplayMethod",
        "mei.AnalysisMethod",
        "closed_loop.PlanMethod",
        "closed_loop.MatchMethod",
        "closed_loop.OutcomeMethod",
    }
    assert text.count("[mei.ControlMethod ") == len(KINDS)
    assert "n_targets 4" in text
    assert "minutes 8" in text


def test_the_methods_state_the_luminance_of_the_display_and_not_the_recipes(database, report):
    from schemas import mei

    (path,) = report["out"].glob("*_recipe.json")
    assert "4000" in path.read_text()  # more than the monitor has
    (line,) = re.findall(r"<p>Display\. [^<]*", report["page"])
    assert "4000" not in line
    (key,) = re.findall(r"\[mei\.DisplayMethod (\w+)\]", line)
    _, params = mei.DisplayMethod.fetch_method({"display_hash": key})
    assert f"mean_cd_m2 {params['mean_cd_m2']}" in line
    assert "height_px 36, width_px 64 [mei.DisplayTask" in line
    assert "size_px" not in line


def test_what_a_plan_leaves_out_is_named(database, report, tmp_path):
    from schemas import closed_loop
    from workers.report import stimuli
    from workers.report.context import LoopPage

    loop = (closed_loop.Loop & report["day1"]).fetch1()
    page = LoopPage(loop, tmp_path, "loop")
    first = page.targets.iloc[0]
    dropped = [
        {"unit_index": int(first.unit_index), "kind": "gabor", "variant": 1, "reason": "no time"},
        {"unit_index": int(first.unit_index), "kind": "gabor", "reason": "no time"},
        {"target": None, "images": {"natural": "abc"}, "reason": "no time"},
    ]
    found = stimuli.left_out(page, dropped)
    assert found.to_dict("records") == [
        {"unit": first.unit, "stimuli": "Gabor, Gabor (2)", "images": 2, "reason": "no time"},
        {"unit": "", "stimuli": "natural", "images": 1, "reason": "no time"},
    ]


def test_an_explanation_names_its_neuron(database, report):
    from schemas import closed_loop, mei
    from workers.commands.screens import ancestry_lines
    from workers.insight import ancestry
    from workers.queue import order
    from workers.queue.lease import Ledger

    connection, prefix = mei.schema.connection, mei.schema.database.removesuffix("_mei")
    loaded = order.load("schemas", prefix)
    (target,) = (closed_loop.Plan.Target & report["plan"] & "kind = 'rf'").to_dicts(limit=1)
    key = {name: target[name] for name in closed_loop.Plan.Target.primary_key}
    steps = ancestry.ancestry(Ledger(connection), loaded, "closed_loop.Plan.Target", key)
    (row,) = (row for row in steps[-1]["rows"])
    assert row["unit"] == f"unit {target['unit_index'] + 1}"
    assert f"unit_index={target['unit_index']}" in "\n".join(ancestry_lines(steps))
    assert any(line.endswith(f"({row['unit']})") for line in ancestry_lines(steps))


def test_images_of_one_kind_are_told_apart_by_their_parameters(database, report, tmp_path):
    from schemas import closed_loop, mei
    from workers.report import stimuli
    from workers.report.context import LoopPage

    class Two(LoopPage):
        @property
        def displays(self):
            rows = [
                mei.ControlMethod.add("accentuated", {"level": level}) for level in (0.25, 0.75)
            ]
            rows = [{**row, "variant": variant} for variant, row in enumerate(rows)]
            return [{**super(Two, self).displays[0], **row} for row in rows]

    page = Two((closed_loop.Loop & report["day1"]).fetch1(), tmp_path, "loop")
    assert stimuli.differences(page) == {"accentuated": "level 0.25", "accentuated:1": "level 0.75"}
    plain = LoopPage((closed_loop.Loop & report["day1"]).fetch1(), tmp_path, "loop")
    assert stimuli.differences(plain) == {}


def test_a_unit_of_one_of_several_fields_is_named_with_its_field(database, report):
    from schemas import dataset, imaging

    data = (dataset.DatasetSpec.Scan & report["day1"]).fetch1("dataset_hash")
    connection = imaging.schema.connection
    connection.start_transaction()
    try:
        info = (imaging.ScanInfo & report["day1"]).fetch1()
        imaging.ScanInfo.update1({**info, "n_fields": 2})
        names = dataset.unit_names({"dataset_hash": data})
    finally:
        connection.cancel_transaction()
    assert names["unit"].iloc[0] == "unit 1 (field 0)"
