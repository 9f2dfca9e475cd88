# syntax=docker/dockerfile:1
# The agent of this folder, served over HTTP. `docker compose up` serves it with a Postgres.
# Packages are installed in a stage of their own: the image has neither an installer nor its cache.

FROM python:3.13-slim-trixie AS build
# What the agent's settings need besides: openai, anthropic, databricks, ... or all of pyproject.toml's `all`.
ARG EXTRA=all
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /build
COPY pyproject.toml requirements.txt ./
RUN uv venv --quiet /opt/agent \
    && uv pip install --no-cache --compile-bytecode --python /opt/agent \
        -r pyproject.toml --extra "$EXTRA" -c requirements.txt
COPY README.md LICENSE ./
COPY stateful_agent stateful_agent
RUN uv pip install --no-cache --compile-bytecode --python /opt/agent --no-deps .

FROM python:3.13-slim-trixie
RUN useradd --no-log-init --uid 10001 agent
COPY --from=build /opt/agent /opt/agent
WORKDIR /app
COPY agent.py ./
# No traces, which would go to a file in the container: with an MLFLOW_TRACKING_URI, set it to 1.
ENV PATH="/opt/agent/bin:$PATH" PYTHONUNBUFFERED=1 MLFLOW_TRACE_SAMPLING_RATIO=0
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]
CMD ["stateful-agent", "serve", "agent.py", "--host", "0.0.0.0"]
