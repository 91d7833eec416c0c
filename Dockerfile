# Docxy in a container. It writes nothing except its cache, so it can run with --read-only.
#     docker build --tag docxy .
#     docker run --publish 8000:8000 --stop-timeout 14460 docxy
# With a cache:
#     docker run --publish 8000:8000 --stop-timeout 14460 --volume docxy-cache:/var/cache/docxy --env DOCXY_CACHE_DIR=/var/cache/docxy docxy
FROM python:3.13-slim

WORKDIR /app

# What seldom changes comes first. Wheels only: there is no compiler, and so pip fails at once.
COPY requirements.txt .
RUN pip install --no-cache-dir --only-binary :all: --root-user-action ignore -r requirements.txt

# .dockerignore lets only the application through: no tests, documents or .git.
COPY . .
# Make it readable for the user below, whatever the umask of the checkout was, and compile it now,
# since nothing can be written later.
RUN chmod -R a+rX . && python -m compileall -q .

# The directory for a cache, used only if DOCXY_CACHE_DIR names it. A new volume that is mounted here
# takes this directory's owner, who is the user below.
RUN install --directory --owner 10001 --group 10001 --mode 0750 /var/cache/docxy

# With PORT, gunicorn listens on all addresses; without it, on loopback, which a published port cannot
# reach.
ENV PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# A number, so that Kubernetes can check runAsNonRoot. The user owns nothing except the cache directory.
USER 10001:10001

EXPOSE 8000

HEALTHCHECK --interval=30s --timeout=6s --start-period=15s --retries=3 \
    CMD ["python", "/app/deploy/healthcheck.py"]

# On SIGTERM, gunicorn lets downloads finish and then ends. This takes up to four hours
# (graceful_timeout in gunicorn.conf.py), so the container must be stopped with as long a timeout:
# --stop-timeout 14460.
STOPSIGNAL SIGTERM

# gunicorn.conf.py names the application. In the exec form, the signal reaches gunicorn.
CMD ["python", "serve.py"]
