import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.simulate import Population, simulate_dataset


@pytest.fixture(scope="session")
def small():
    """Population of 12 cells, its simulated trials, and the data set: 300 images."""
    population = Population(seed=5, n_cells=12)
    simulated = simulate_dataset(population, 300, test_images=12, repeats=6, seed=5)
    return population, simulated, Dataset(**simulated.arguments())


@pytest.fixture(scope="session")
def tiny(small):
    """A fifth of the trials, for what does not depend on what is learned."""
    dataset = small[2]
    return dataset.select(trials=np.arange(0, dataset.n_trials, 5))
