# The service in one image: `docker compose up --build` (docker-compose.yml says how it is meant to be run).

FROM python:3.13-slim AS build
WORKDIR /source
ENV PIP_CONSTRAINT=constraints.txt \
    PIP_BUILD_CONSTRAINT=constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN ["python", "-m", "venv", "/opt/chainrule"]
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY engine engine
COPY service service
COPY client client
# pip compiles what it installs; nothing can be compiled later, on a read-only file system.
RUN ["/opt/chainrule/bin/python", "-m", "pip", "install", ".[service,postgres,celery]"]
# So are the engine's kernels, for every processor of the architecture. Where the image is built on the kind of processor that
# it runs on, --build-arg CPU= with that kind's name (LLVM's, such as znver3) makes them faster; on another kind than that one
# the engine runs in plain Python.
ARG CPU=generic
ENV NUMBA_CACHE_DIR=/opt/chainrule/kernels \
    NUMBA_CPU_NAME=$CPU
RUN ["/opt/chainrule/bin/python", "-m", "chainrule_engine.warm"]

FROM python:3.13-slim
ARG CPU=generic
# The slim image ships its standard library without bytecode: without this each start would compile it again.
RUN ["python", "-m", "compileall", "-q", "-x", "/(test|tests|idlelib)/", "/usr/local/lib/python3.13"]
COPY --from=build /opt/chainrule /opt/chainrule
RUN ["install", "-d", "-o", "10001", "-g", "10001", "/data"]
ENV PATH=/opt/chainrule/bin:$PATH \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/opt/chainrule/kernels \
    NUMBA_CPU_NAME=$CPU \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
# A container's own loopback cannot be published, so the service listens on every address of the container. It has no
# API keys there, hence --insecure: what keeps it private is where the port is published, which docker-compose.yml
# does on the host's loopback only.
CMD ["chainrule", "serve", "--host", "0.0.0.0", "--insecure", "--data", "/data"]
