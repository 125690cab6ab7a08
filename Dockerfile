# One image for workers and the command line (targets `cpu`, `gpu`), and the same with notebooks
# (target `jupyter`). Nothing secret goes in: DataJoint reads the password from a file,
# /run/secrets/datajoint/database.password.
#   docker build --target cpu --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t inception .
# A smaller image for machines without a GPU:
#   --build-arg TORCH_INDEX=<the index of CPU builds of torch>
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# packages first, from the pins alone: a change of our code builds nothing of this again
FROM base AS packages
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
ARG TORCH_INDEX=""
ENV PIP_EXTRA_INDEX_URL=$TORCH_INDEX
WORKDIR /build
COPY setup.py pyproject.toml constraints.txt ./
COPY pipeline/__init__.py pipeline/
RUN touch README.md && mkdir schemas workers && pip install -c constraints.txt '.[s3]'

FROM packages AS notebook-packages
RUN pip install -c constraints.txt '.[notebook]'

FROM packages AS built
COPY . .
RUN pip install --no-deps --force-reinstall .

FROM notebook-packages AS built-notebook
COPY . .
RUN pip install --no-deps --force-reinstall .

# what all final images share: an account without rights, a folder to write to and one for scratch
FROM base AS runtime
RUN useradd --uid 10001 --create-home inception && install -d -o inception /data /scratch
ENV PATH=/opt/venv/bin:$PATH INCEPTION_HOME=/data \
    MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /data
VOLUME /data
ARG COMMIT=""
ENV INCEPTION_COMMIT=$COMMIT
ENTRYPOINT ["inception"]
CMD ["worker"]

FROM runtime AS jupyter
RUN apt-get update && apt-get install -y --no-install-recommends graphviz \
    && rm -rf /var/lib/apt/lists/*
COPY --from=built-notebook /opt/venv /opt/venv
# opens a notebook that is a text file (jupytext) as a notebook
COPY deploy/docker/jupyterlab.json /opt/venv/share/jupyter/lab/settings/overrides.json
COPY --chown=inception notebooks /opt/notebooks
USER inception
EXPOSE 8888
ENTRYPOINT []
CMD ["sh", "-c", "JUPYTER_TOKEN=$(cat /run/secrets/datajoint/jupyter.token) \
exec jupyter lab --ip=0.0.0.0 --no-browser --notebook-dir=/opt/notebooks"]

FROM runtime AS gpu
COPY --from=built /opt/venv /opt/venv
USER inception
ENV INCEPTION_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
CMD ["worker", "--queue", "gpu"]

FROM runtime AS cpu
COPY --from=built /opt/venv /opt/venv
USER inception
