#!/bin/sh
# Install the real programs that the tests use and this machine lacks, from Debian.
#
# They are programs for tests, not services: nothing is started, now or at the next boot.
# What is here already stays as it is, whoever packaged it, and nothing is removed.
# Without apt, or without the rights to use it, this says what to install and ends well: the tests
# that need it are skipped.
set -e

PATH=$PATH:/usr/sbin:/sbin
policy=/usr/sbin/policy-rc.d

# Print the packages of the programs that are not here. A line is a program and its package.
missing() {
    while read -r program package; do
        present "$program" || echo "$package"
    done <<END
buildah buildah
caddy caddy
chromium chromium
containerd containerd
curl curl
docker docker-cli
docker-buildx docker-buildx
docker-registry docker-registry
dockerd docker.io
nginx nginx
openssl openssl
oras oras
podman podman
promtool prometheus
redis-server redis-server
skopeo skopeo
wrk wrk
NotoSansCJK fonts-noto-cjk
libatomic.so.1 libatomic1
END
}

# docker-buildx is a plugin, not in the search path; a font is no program, nor is the library that
# Playwright's driver needs. Debian 12 has neither docker-buildx nor oras, and need not be asked each
# time.
present() {
    case "$1 $(. /etc/os-release 2>/dev/null && echo "$ID $VERSION_ID")" in
    'oras debian 12' | 'docker-buildx debian 12') ;;
    NotoSansCJK\ *) find /usr/share/fonts -name "$1*" 2>/dev/null | grep -q . ;;
    libatomic.so.1\ *) find /usr/lib /lib -name "$1" 2>/dev/null | grep -q . ;;
    docker-buildx\ *) find /usr/*/docker /usr/local/*/docker -name "$1" 2>/dev/null | grep -q . ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# Print those of the packages that this release has: Debian 12 has no docker-cli, since its
# docker.io holds it.
available() {
    for package in "$@"; do
        candidate=$(apt-cache policy "$package" | sed -n 's/^ *Candidate: *//p')
        [ "${candidate:-(none)}" = '(none)' ] || echo "$package"
    done
}

# Print the services that start at boot.
enabled() {
    find /etc/systemd/system -type l -path '*.wants/*' -exec basename '{}' ';' 2>/dev/null | sort -u
}

# Take back that packages enable their services.
disable_all_but() {
    services=$(enabled | grep -vxF "$1" || true)
    if [ -n "$services" ] && command -v systemctl >/dev/null; then
        # shellcheck disable=SC2086  # they are words
        systemctl --quiet disable $services >&2
    fi
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" \
        </dev/null >&2
}

# Exit status 101 of this file is how Debian's packages are told not to start their services.
forbid_starting() {
    [ -e "$policy" ] && return
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

install_packages() {
    packages=$(available "$@")
    [ -n "$packages" ] || return 0
    # shellcheck disable=SC2086  # they are words
    apt_get install --no-install-recommends --no-remove ca-certificates $packages
}

# Say what is missing, on one line, and leave it at that.
give_up() {
    echo "tests/programs.sh: $1; tests are skipped that need:" $wanted >&2
    exit 0
}

wanted=$(missing)
[ -n "$wanted" ] || exit 0
command -v apt-get >/dev/null || give_up 'there is no apt here'
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || give_up 'only root may install'
    exec sudo -n sh "$0"
fi

forbid_starting
before=$(enabled)
# Package lists may be missing or old; only then does it take an update.
# shellcheck disable=SC2086  # they are words
{ [ -n "$(available nginx)" ] && install_packages $wanted; } ||
    { apt_get update && install_packages $wanted; } || true
disable_all_but "$before"
wanted=$(missing)
[ -z "$wanted" ] || give_up 'apt could not install everything'
