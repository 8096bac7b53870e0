# syntax=docker/dockerfile:1
# Two images of one source:
#   docker build --target api .      interface, maintenance and migrations; no torch
#   docker build --target worker .   everything; with --build-arg TORCH_INDEX=URL torch comes from the index of, say, its CPU builds
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1
RUN python -m venv /opt/scalpel
ENV PATH=/opt/scalpel/bin:$PATH
WORKDIR /src

FROM build AS api-build
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt ".[api]"

FROM build AS worker-build
ARG TORCH_INDEX=""
COPY constraints.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt ".[worker]"

FROM python:${PYTHON}-slim-bookworm AS base
RUN useradd --uid 10001 --create-home --home-dir /var/lib/scalpel --shell /usr/sbin/nologin scalpel
ENV PATH=/opt/scalpel/bin:$PATH PYTHONUNBUFFERED=1 SCALPEL_DATA_DIR=/var/lib/scalpel/data
# A volume that is mounted here takes over its owner.
RUN install -d -o scalpel -g scalpel /var/lib/scalpel/data
WORKDIR /var/lib/scalpel
USER scalpel
ENTRYPOINT ["scalpel"]

FROM base AS api
COPY --from=api-build /opt/scalpel /opt/scalpel
EXPOSE 8321
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/healthz', timeout=4)"]
CMD ["api"]

FROM base AS worker
# Triton compiles the column sweep for the GPU at hand.
USER root
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER scalpel
COPY --from=worker-build /opt/scalpel /opt/scalpel
CMD ["worker"]
