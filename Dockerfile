# Strata in an image, with its default model: nothing is fetched at start, and nothing is written.
#
#   docker build --target cpu  -t strata .        torch (CPU) and onnxruntime; the faster is chosen at start
#   docker build --target slim -t strata:slim .   onnxruntime alone
#   docker build --target cpu --build-arg TORCH=cu130 -t strata:cuda .   for NVIDIA GPUs: docker run --gpus all
#
#   docker run --read-only -p 127.0.0.1:8080:8080 -e STRATA_INSECURE=true strata
#
# Options are STRATA_* variables; own models are mounted at /models.
ARG PYTHON=python:3.11-slim-bookworm
# Which build of torch: a folder of download.pytorch.org/whl (cpu, cu126, cu130, ...).
ARG TORCH=cpu

# Empty. A folder with a wheel of torch can take its place: --build-context wheels=FOLDER
FROM scratch AS wheels

FROM ${PYTHON} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY docker/constraints.txt docker/requirements-slim.txt /pins/
RUN python -m venv /tools && /tools/bin/pip install --constraint /pins/constraints.txt hatchling \
    && python -m venv --without-pip /strata
ENV INSTALL="/tools/bin/pip --python /strata/bin/python install --constraint /pins/constraints.txt"

FROM tools AS wheel
WORKDIR /source
COPY . .
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM tools AS slim-packages
RUN ${INSTALL} --no-deps --requirement /pins/requirements-slim.txt

FROM tools AS cpu-packages
ARG TORCH
RUN --mount=type=bind,from=wheels,target=/wheels \
    if ls /wheels/torch-*.whl >/dev/null 2>&1; then from="--find-links /wheels"; \
    else from="--index-url https://download.pytorch.org/whl/${TORCH} --extra-index-url https://pypi.org/simple"; fi; \
    ${INSTALL} ${from} torch
# The project's own list of dependencies, before the sources: they change more often.
COPY pyproject.toml /pins/
RUN python -c "import tomllib; print(*tomllib.load(open('/pins/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > /pins/requirements.txt && ${INSTALL} --requirement /pins/requirements.txt

FROM ${PYTHON} AS base
# As process 1 it passes signals on from the first moment, and reaps what a killed engine leaves.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*
ENV PATH=/strata/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    STRATA_HOST=0.0.0.0 \
    STRATA_PORT=8080 \
    STRATA_MODEL_STORE=/models
EXPOSE 8080
# Liveness alone: a server that drains or replaces its engine is not to be restarted. Balancers ask /ready.
# It follows the server to whatever port, address or socket its options name.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["strata", "health"]
# The server answers what it accepted (STRATA_DRAIN_SECONDS, 30) and ends: give it longer before it is killed.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "strata"]
CMD ["serve"]

FROM base AS slim
COPY --from=slim-packages /strata /strata
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel --mount=type=bind,from=tools,source=/tools,target=/tools \
    /tools/bin/pip --python /strata/bin/python install --no-cache-dir --no-deps /wheel/*.whl
USER 10001:10001

FROM base AS cpu
COPY --from=cpu-packages /strata /strata
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel --mount=type=bind,from=tools,source=/tools,target=/tools \
    /tools/bin/pip --python /strata/bin/python install --no-cache-dir --no-deps /wheel/*.whl
USER 10001:10001
