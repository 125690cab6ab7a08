"""Groups, borrowed cores and filters through the tables, on cells whose places are known."""

import numpy as np
import pytest

pytestmark = pytest.mark.tables

LINEAR = {
    "core": {"name": "linear"},
    "training": {"name": "plateau", "max_epochs": 6, "batch_size": 16},
}


def prepared(path, seed, units):
    """Write a data set of cells that see one spot each, the deeper the further to the right."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (220, 18, 32), dtype=np.uint8)
    images[180:] = images[180:184].repeat(10, axis=0)  # four test images, ten repeats each
    spots = np.zeros((units, 18, 32))
    for unit in range(units):
        spots[unit, 6:12, 4 + 5 * unit : 9 + 5 * unit] = 1
    drive = np.einsum("nhw,uhw->nu", images - 127.5, spots) / 1000
    responses = np.maximum(drive, 0) + 0.5 + 0.1 * rng.random((220, units))
    image_id = np.concatenate([np.arange(180), 180 + np.arange(40) // 10])
    tiers = np.array(["train"] * 140 + ["validation"] * 40 + ["test"] * 40)
    xyz = np.stack([np.zeros(units), np.zeros(units), 90.0 + 50 * np.arange(units)], axis=1)
    np.savez(path, images=images, responses=responses, tiers=tiers, image_id=image_id, um_xyz=xyz)
    return path


@pytest.fixture(scope="module")
def sets(_bound, tmp_path_factory):
    """Two prepared data sets in the database."""
    from schemas import dataset
    from schemas.decisions.ingest import ingest_dataset
    from workers.database import embedded

    embedded.connect(_bound[1])
    folder = tmp_path_factory.mktemp("sets")
    keys = [ingest_dataset(prepared(folder / f"{n}.npz", 60 + n, n + 3)) for n in range(2)]
    dataset.Dataset.populate(keys, suppress_errors=False)
    return keys


def fill(*tables, keys):
    for table in tables:
        table.populate(keys, suppress_errors=False)


def test_a_group_is_one_training_set_with_one_key(database, sets):
    from schemas import dataset

    key = dataset.DatasetGroup.add(sets)
    assert dataset.DatasetGroup.add(list(reversed(sets))) == key
    assert len(dataset.DatasetGroup.Member & key) == 2
    assert dataset.DatasetGroup.add(sets[:1]) != key
    with pytest.raises(ValueError, match="not known"):
        dataset.DatasetGroup.add([*sets, {"dataset_hash": "0" * 16}])


def test_a_joint_training_gives_every_member_an_encoder_on_one_core(database, sets):
    import torch

    from schemas import dataset, model

    group = dataset.DatasetGroup.add(sets)
    tasks = model.JointTask.add(group, LINEAR, "ln", seeds=[1])
    assert model.JointTask.add(group, LINEAR, "ln", seeds=[1]) == tasks
    model.TrainedModel.populate(tasks, suppress_errors=False)
    assert not model.TrainedModel & tasks  # waits for the joint training
    joint = model.JointTask & (model.JointTask.Member & tasks)
    fill(model.JointModel, keys=joint.proj())
    fill(model.TrainedModel, keys=tasks)
    assert len(model.TrainedModel & tasks) == 2
    ensembles = [model.EnsembleSpec.add([task], "ln") for task in tasks]
    loaded = [model.load_ensemble(model.EnsembleSpec.fetch_weights(key)) for key in ensembles]
    cores = [ensemble.encoders[0].core.state_dict() for ensemble in loaded]
    for name, tensor in cores[0].items():
        torch.testing.assert_close(cores[1][name], tensor, rtol=0, atol=0)
    fill(model.Evaluation, keys=ensembles)
    assert (model.Evaluation & ensembles).to_arrays("single_trial").min() > 0.3
    assert set((model.JointModel.Member & tasks).to_arrays("n_left_out")) == {0}


def test_readouts_are_fitted_on_the_core_of_another_data_set(database, sets):
    import torch

    from schemas import model

    config = model.ModelConfig.add(LINEAR, "ln")
    (source,) = model.TrainingTask.decide(sets[0], config, [1])
    tasks = model.CoreSource.add(source, sets[1], seeds=[1, 2])
    assert model.CoreSource.add(source, sets[1], seeds=[1, 2]) == tasks
    model.TrainedModel.populate(tasks, suppress_errors=False)
    assert not model.TrainedModel & tasks  # the core is not there yet
    fill(model.TrainedModel, keys=[source])
    fill(model.TrainedModel, keys=tasks)
    found = []
    for task in (source, *tasks):
        reference = (model.TrainedModel & task).fetch1("weights")
        found.append(model.load_ensemble({"members": [reference]}).encoders[0])
    for encoder in found[1:]:
        assert encoder.n_units == 4
        for name, tensor in found[0].core.state_dict().items():
            torch.testing.assert_close(encoder.core.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(found[1].readout.features, found[2].readout.features)
    key = model.EnsembleSpec.add(tasks, "ln")
    fill(model.Evaluation, keys=[key])
    assert (model.Evaluation & key).fetch1("single_trial") > 0.3
    one = model.Evaluation.Measure & key & {"tier": "test", "measure": "single_trial"}
    value, low, high = one.fetch1("value", "low", "high")
    assert value == (model.Evaluation & key).fetch1("single_trial")
    assert low < value < high
    images = np.random.default_rng(0).integers(0, 256, (3, 18, 32), dtype=np.uint8)
    everyone = model.predict(key, images)
    assert everyone.shape == (3, 4)
    np.testing.assert_array_equal(model.predict(key, images, units=[3, 1]), everyone[:, [3, 1]])


def test_what_an_evaluation_waits_for_comes_before_it(database):
    from workers.queue.order import load

    tasks = load("schemas", database.activate.__globals__["_active"]).tasks
    order = list(tasks)
    for name in ("model.TrainedModel", "model.MemberShares"):
        assert "model.Evaluation" in tasks[name].follows
        assert order.index(name) < order.index("model.Evaluation")


def test_two_ensembles_are_compared_unit_by_unit(database, sets):
    from schemas import model

    kinds = []
    for rate in (1e-6, 0.01):  # one learns nothing
        config = {**LINEAR, "training": {**LINEAR["training"], "learning_rate": rate}}
        tasks = model.TrainingTask.decide(sets[1], model.ModelConfig.add(config, "ln"), [1])
        fill(model.TrainedModel, keys=tasks)
        kinds.append(model.EnsembleSpec.add(tasks, "ln"))
    key = model.ContrastTask.add(kinds[1], kinds[0])
    fill(model.Contrast, keys=[key])
    assert not model.Contrast & key  # neither is evaluated yet
    fill(model.Evaluation, keys=kinds)
    fill(model.Contrast, keys=[key])
    found = (model.Contrast.Measure & key & {"measure": "validation"}).fetch1()
    better, worse = (
        (model.Evaluation.Unit & kind).to_arrays("validation", order_by="unit_index")
        for kind in reversed(kinds)
    )
    assert found["difference"] == pytest.approx((better - worse).mean())
    assert found["n_units"] == 4
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["difference"] > 0.1


def test_a_filtered_set_has_the_units_that_pass(database, sets):
    from schemas import dataset

    key = dataset.DatasetSpec.filtered(sets[1], params={"layers": ["L2/3"]})
    assert dataset.DatasetSpec.filtered(sets[1], params={"layers": ["L2/3"]}) == key
    assert key != sets[1]
    fill(dataset.Dataset, keys=[key])
    whole, part = (dataset.load_dataset(dataset.Dataset.fetch_file(k)) for k in (sets[1], key))
    np.testing.assert_array_equal(part.um_xyz[:, 2], [140, 190, 240])  # 90 is layer 1
    np.testing.assert_array_equal(part.responses, whole.responses[:, 1:])
    labels = (dataset.Dataset.Unit & key).to_arrays("label", order_by="unit_index")
    assert labels.tolist() == whole.unit_ids[1:].tolist()
    with pytest.raises(ValueError, match="filtered already"):
        dataset.DatasetSpec.filtered(key)


def test_a_search_halves_its_candidates_by_validation_and_promotes_the_best(database, sets):
    from schemas import model

    space = {"training.learning_rate": [1e-6, 1e-5, 0.003, 0.01]}  # two that learn nothing
    key = model.Search.add(sets[0], space, base=LINEAR, epochs=[2, 5], keep=0.5, kind="ln")
    assert model.Search.add(sets[0], space, base=LINEAR, epochs=[2, 5], keep=0.5, kind="ln") == key
    assert len(model.Search.Candidate & key) == 4
    with pytest.raises(ValueError, match="not ended"):
        model.Search.promote(key, seeds=[1])
    sizes = []
    for _ in range(3):  # as workers do: what is due now, then what follows from it
        fill(model.Shortlist, model.SearchTrial, keys=[key])
        sizes.append(len(model.SearchTrial & key))
    assert sizes == [4, 6, 6]
    rates = {
        row["model_hash"]: row["model_config"]["training"]["learning_rate"]
        for row in model.ModelConfig.to_dicts()
        if "learning_rate" in row["model_config"]["training"]
    }
    ranking = model.Search.ranking(key)
    assert len(ranking) == 4
    assert {rates[row["model_hash"]] for row in ranking[:2]} == {0.003, 0.01}
    assert [row["epochs"] for row in ranking] == [5, 5, 2, 2]
    tasks = model.Search.promote(key, seeds=[1, 2])
    assert {task["model_hash"] for task in tasks} == {ranking[0]["model_hash"]}
    assert len(model.TrainingTask & tasks) == 2


def test_random_draws_are_rows_too(database, sets):
    from schemas import model

    space = {"training.learning_rate": {"low": 1e-4, "high": 1e-2}}
    key = model.Search.add(sets[0], space, method="random", params={"n": 7, "seed": 2})
    assert len(model.Search.Candidate & key) == 7
    other = model.Search.add(sets[0], space, method="random", params={"n": 7, "seed": 3})
    assert other != key
    with pytest.raises(ValueError, match="rise"):
        model.Search.add(sets[0], space, method="random", epochs=[5, 2])


def test_shares_of_two_kinds_of_members_are_found_and_kept(database, sets):
    from schemas import model

    tasks = []
    for rate in (1e-6, 0.01):  # one kind learns nothing
        config = {**LINEAR, "training": {**LINEAR["training"], "learning_rate": rate}}
        kind = model.ModelConfig.add(config, "ln")
        tasks += model.TrainingTask.decide(sets[1], kind, [1, 2])
    equal = model.EnsembleSpec.add(tasks, "ln")
    key = model.EnsembleSpec.add(tasks, "both", combination={"method": "peers"})
    assert key != equal
    assert model.EnsembleSpec.add(tasks[::-1], "both", combination={}) == key
    more = {"params": {"at_least": 0.5}}
    assert model.EnsembleSpec.add(tasks, "both", combination=more) not in (key, equal)
    with pytest.raises(ValueError, match="no combination of members 'peer'; there are"):
        model.EnsembleSpec.add(tasks, "both", combination={"method": "peer"})

    fill(model.MemberShares, keys=[key])
    assert not model.MemberShares & key  # no member is trained yet
    fill(model.TrainedModel, keys=tasks)
    fill(model.Evaluation, keys=[key, equal])
    assert not model.Evaluation & key  # waits for the shares
    assert model.Evaluation & equal
    with pytest.raises(ValueError, match="shares are not computed yet"):
        model.EnsembleSpec.fetch_weights(key)
    fill(model.MemberShares, keys=[key, equal])
    fill(model.Evaluation, keys=[key])
    assert not model.MemberShares & equal
    assert len(model.Evaluation.Shares & key) == 1
    assert not model.Evaluation.Shares & equal

    members = (model.MemberShares.Member & key).to_dicts(order_by=["model_hash", "seed"])
    means = {row["model_hash"]: row["mean_share"] for row in members}
    assert sum(row["mean_share"] for row in members) == pytest.approx(1)
    assert means[tasks[2]["model_hash"]] > 0.35 > means[tasks[0]["model_hash"]]
    learned = [row for row in members if row["model_hash"] == tasks[2]["model_hash"]]
    assert [row["n_units"] for row in learned] == [4, 4]
    loaded = model.load_ensemble(model.EnsembleSpec.fetch_weights(key))
    np.testing.assert_allclose(loaded.shares.mean(1), [row["mean_share"] for row in members])
    images = np.random.default_rng(0).integers(0, 256, (3, 18, 32), dtype=np.uint8)
    each = np.stack([encoder.predict(images) for encoder in loaded.encoders])
    expected = np.einsum("mnu,mu->nu", each, loaded.shares)
    np.testing.assert_allclose(model.predict(key, images), expected, rtol=1e-5)
    plain = model.load_ensemble(model.EnsembleSpec.fetch_weights(equal))
    assert plain.shares is None
    np.testing.assert_allclose(plain.predict(images), each.mean(0), rtol=1e-5)
    better, worse = ((model.Evaluation & k).fetch1("single_trial") for k in (key, equal))
    assert better > worse
