# Docxy in a container. It writes nothing but its cache, and runs with --read-only too.
#     docker build --tag docxy .
#     docker run --publish 8000:8000 --stop-timeout 14460 docxy
# With a cache:
#     docker run --publish 8000:8000 --stop-timeout 14460 --volume docxy-cache:/var/cache/docxy --env DOCXY_CACHE_DIR=/var/cache/docxy docxy
FROM python:3.13-slim

WORKDIR /app

# First what seldom changes. Wheels only: there is no compiler here, and pip says so at once.
COPY requirements.txt .
RUN pip install --no-cache-dir --only-binary :all: --root-user-action ignore -r requirements.txt

# What .dockerignore lets through: the application, and no tests, documents or .git.
COPY . .
# Readable for the user below, whatever the umask of the checkout was; compiled now, since nothing can
# be written later.
RUN chmod -R a+rX . && python -m compileall -q .

# A place for a cache, used only where DOCXY_CACHE_DIR names it. A new volume that is mounted here
# becomes the user's below, as this is.
RUN install --directory --owner 10001 --group 10001 --mode 0750 /var/cache/docxy

# With PORT gunicorn listens on all addresses; without it on loopback, where no published port leads.
ENV PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# A number, so that Kubernetes' runAsNonRoot can tell. It owns nothing here but the cache's place.
USER 10001:10001

EXPOSE 8000

HEALTHCHECK --interval=30s --timeout=6s --start-period=15s --retries=3 \
    CMD ["python", "/app/deploy/healthcheck.py"]

# gunicorn's word for "finish the downloads, then end". It takes up to four hours (graceful_timeout
# in gunicorn.conf.py); whoever stops the container must wait as long: --stop-timeout 14460.
STOPSIGNAL SIGTERM

# gunicorn with gunicorn.conf.py, which names the application. Exec form: the signal reaches it.
CMD ["python", "serve.py"]
