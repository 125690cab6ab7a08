"""The configuration of an encoder: one JSON dictionary, completed from the registries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pipeline.parameters import ParameterError, under
from pipeline.registry import Registry, canonical_json

from .cores import cores
from .modulators import modulators
from .readouts import readouts
from .shifters import shifters
from .training.losses import losses
from .training.methods import trainers

SECTIONS: dict[str, Registry] = {
    "core": cores,
    "readout": readouts,
    "shifter": shifters,
    "modulator": modulators,
    "loss": losses,
    "training": trainers,
}

Config = dict[str, dict[str, Any]]


def complete_config(config: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Fill every default of a configuration; `config_hash` of the result is the key.

    Parameters
    ----------
    config : dict
        Sections `core, readout, shifter, modulator, loss, training`, each ``{"name": ...,
        **parameters}``. A missing section or name is the default one.

    Raises
    ------
    ValueError
        If a section, name or parameter is unknown, or a value is of another type or out of range.

    Examples
    --------
    >>> config = complete_config({"core": {"channels": 8}})
    >>> sorted(config)
    ['core', 'loss', 'modulator', 'readout', 'shifter', 'training']
    >>> config["core"]["channels"], config == complete_config(config)
    (8, True)
    """
    if config is not None and not isinstance(config, Mapping):
        raise ParameterError("configuration", config, f"a JSON object of {list(SECTIONS)}")
    config = dict(config or {})
    unknown = sorted(set(config) - set(SECTIONS))
    if unknown:
        raise ValueError(f"configuration has no section {unknown}; it has {list(SECTIONS)}")
    full: Config = {}
    for section, registry in SECTIONS.items():
        given = config.get(section)
        if given is not None and not isinstance(given, Mapping):
            raise ParameterError(section, given, "a JSON object with name and parameters")
        with under(section):
            full[section] = registry.spec(deepcopy(given))
    return json.loads(canonical_json(full))  # as a database hands it back


def check_config(config: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise DataError unless the methods of a stored configuration are of today's revisions.

    Examples
    --------
    >>> check_config(default_config())
    >>> check_config({"core": {"name": "strided", "revision": 99}})
    Traceback (most recent call last):
    pipeline.errors.DataError: revision 99 of core 'strided' is not known to this program...
    """
    for section, registry in SECTIONS.items():
        if stored := dict(config.get(section, {})):
            registry.check(stored.pop("name"), stored, stored.pop("revision", 1))
    training = config.get("training", {})
    if "method" in training:  # of a core or group that is shared: how the rest is trained
        trainers.check(training["method"], None, training["params"].get("revision", 1))


def default_config() -> Config:
    """Return the recommended encoder: fast, and the best known on simulated and real V1.

    Examples
    --------
    >>> default_config()["training"]["name"]
    'annealed'
    """
    return complete_config()


def ln_config() -> Config:
    """Return the linear-nonlinear twin: linear core, all else and the training as the default.

    Examples
    --------
    >>> default, linear = default_config(), ln_config()
    >>> [section for section in default if default[section] != linear[section]]
    ['core']
    """
    return complete_config({"core": {"name": "linear"}})


def paper_config() -> Config:
    """Return the convolutional model of Walker et al. (2019), REFERENCE 2.8.

    Examples
    --------
    >>> paper_config()["core"]["name"]
    'gaussian_laplace'
    """
    return complete_config(
        {
            "core": {"name": "gaussian_laplace"},
            "readout": {"name": "pyramid"},
            "shifter": {"name": "mlp"},
            "modulator": {"name": "exp_mlp_2019"},
            "loss": {"name": "poisson"},
            "training": {"name": "staged"},
        }
    )


def paper_ln_config() -> Config:
    """Return the linear-nonlinear model of Walker et al. (2019): the same without ELUs.

    Examples
    --------
    >>> paper_config()["core"]["linear"], paper_ln_config()["core"]["linear"]
    (False, True)
    """
    config = paper_config()
    config["core"]["linear"] = True
    return config
