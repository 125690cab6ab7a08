# One image for workers, the command line and (target `jupyter`) notebooks.
#   docker build --target cpu --build-arg COMMIT=$(git rev-parse --short=12 HEAD) -t inception .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# packages first, from the pins alone: a change of our code builds nothing of this again
FROM base AS packages
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY setup.py pyproject.toml constraints.txt ./
RUN touch README.md && mkdir pipeline schemas workers && pip install -c constraints.txt .

FROM packages AS notebook-packages
RUN pip install -c constraints.txt '.[notebook]'

FROM packages AS built
COPY . .
RUN pip install --no-deps --force-reinstall .

FROM notebook-packages AS built-notebook
COPY . .
RUN pip install --no-deps --force-reinstall .

# what both final images share: an account without rights, one folder to write to
FROM base AS runtime
RUN useradd --uid 10001 --create-home inception && install -d -o inception /data
ENV PATH=/opt/venv/bin:$PATH INCEPTION_HOME=/data DJ_IGNORE_CONFIG_FILE=true \
    MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
USER inception
WORKDIR /data
VOLUME /data

FROM runtime AS jupyter
COPY --from=built-notebook /opt/venv /opt/venv
COPY notebooks /opt/notebooks
ARG COMMIT=""
ENV INCEPTION_COMMIT=$COMMIT
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--notebook-dir=/opt/notebooks"]

FROM runtime AS cpu
COPY --from=built /opt/venv /opt/venv
ARG COMMIT=""
ENV INCEPTION_COMMIT=$COMMIT
ENTRYPOINT ["inception"]
CMD ["worker"]
