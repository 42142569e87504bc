FROM python:3.13-slim AS builder
# Any gcc of the base image's release compiles the same modules.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in LICENSE README.md ./
COPY proxy proxy
# PGFUNNEL_PURE=0: an image without compiled modules is not built. They need no Cython to run.
RUN python -m venv /opt/pgfunnel \
    && PGFUNNEL_PURE=0 CFLAGS=-g0 /opt/pgfunnel/bin/pip install --no-cache-dir --no-compile . \
    && /opt/pgfunnel/bin/pip uninstall --yes cython pip \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/pgfunnel/lib

FROM python:3.13-slim
LABEL org.opencontainers.image.title="pgfunnel" \
      org.opencontainers.image.description="A Postgres connection proxy for serverless functions" \
      org.opencontainers.image.licenses="MIT"
COPY --from=builder /opt/pgfunnel /opt/pgfunnel
ENV PATH="/opt/pgfunnel/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PGFUNNEL_LISTEN_ADDR="*" \
    PGFUNNEL_HTTP_ADDR="*"
USER 65532:65532
WORKDIR /
EXPOSE 6432 9127
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["pgfunnel", "healthcheck"]
ENTRYPOINT ["pgfunnel"]
CMD ["serve"]
