# The cluster's image with a folder of your own models (README, "Host your own model"). `make compose APP=../wine` builds
# and starts it. The same by hand, in the clone of the cluster:
#   docker build -f deploy/Dockerfile -t zerorpc-cluster .
#   docker build -f deploy/examples/app.Dockerfile -t my-models ../wine
#   WORKER_IMAGE=my-models docker compose up -d --wait
ARG BASE=zerorpc-cluster
FROM ${BASE}
# models:Class names the class that lists the models; without a name, models.py has only one.
ARG APP_SETTINGS=models:
USER root
COPY . /srv/app
RUN if [ -f /srv/app/requirements.txt ]; then \
        python3 -m venv /tmp/pip \
        && /tmp/pip/bin/python -m pip --python /opt/cluster/bin/python install --no-cache-dir -r /srv/app/requirements.txt \
        && rm -rf /tmp/pip; \
    fi
USER 10001:10001
ENV PYTHONPATH=/srv/cluster:/srv/app \
    APP_SETTINGS_DEFAULT=${APP_SETTINGS}
# A model that cannot be loaded in the image ends the build.
RUN APP_SETTINGS= python -m scripts.check_models
