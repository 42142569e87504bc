FROM python:3.13-slim
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in LICENSE README.md ./
COPY proxy proxy
# The version is that of the source.
# hadolint ignore=DL3013
RUN PGFUNNEL_PURE=1 pip install --no-cache-dir '.[loadtest]'
COPY loadtest loadtest
USER 65532:65532
EXPOSE 8089
ENTRYPOINT ["locust", "--locustfile", "loadtest/locustfile.py"]
