"""Three days of one animal, computed once for all files of this folder."""

import pytest
from known_neurons import RECIPE, populate, record, shown_trials, smooth_images, walk, write_stack


@pytest.fixture(scope="session")
def loop(_bound, tmp_path_factory):
    """Both days of one animal, all tables filled."""
    from schemas import closed_loop
    from schemas.decisions import other_day
    from schemas.decisions.ingest import ingest_bundle
    from workers.database import embedded

    database, home, _ = _bound
    embedded.connect(home)
    folder, animal = tmp_path_factory.mktemp("chain"), 77
    day1, made, day2, bundle = walk(database, folder, animal, RECIPE)
    plan = {"plan_id": made["plan_id"]}
    names, trials = shown_trials()
    closed_loop.Stack.ingest(write_stack(folder / "stack", animal, bundle))
    images = smooth_images(420, seed=3)
    again = trials.iloc[::-1].reset_index(drop=True).assign(trial_idx=range(len(trials)))
    again[["onset_s", "offset_s"]] = trials[["onset_s", "offset_s"]]
    day3 = ingest_bundle(record(folder / "day3", animal, 3, images, names, again))
    other = other_day.register_other_day(day3, day1)
    populate(database, animal)
    return {
        "day3": day3,
        "other": other,
        "day1": day1,
        "day2": day2,
        "made": made,
        "plan": plan,
        "folder": folder,
    }


@pytest.fixture
def drawn(monkeypatch):
    """Keep every figure that a report draws, by the name of the function that drew it."""
    from pipeline import plotting

    kept = {}

    def keep(name, draw):
        def wrapped(*arguments, **named):
            kept.setdefault(name, []).append((arguments, named))
            return draw(*arguments, **named)

        monkeypatch.setattr(plotting, name, wrapped)

    for name in plotting.__all__:
        if name.endswith("_figure"):
            keep(name, getattr(plotting, name))
    return kept
