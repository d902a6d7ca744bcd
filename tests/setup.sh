#!/bin/bash
# setup.sh demo|test|bench: what `make` of that name needs from apt and pip; nothing if it is there
# already. Without root it says what is missing and goes on: the rest can still be done.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=$1

install() {
    if ! command -v apt-get > /dev/null; then
        echo "setup: no apt-get here, so it is for you to install: $*" >&2
    elif (( EUID != 0 )); then
        echo "setup: not root, so not installed: $*" >&2
    else
        echo "setup: apt-get install $*"
        if [[ ! -e /usr/sbin/policy-rc.d ]]; then
            # A package brings its service: this machine is not to run it.
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
            printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
        fi
        apt-get -qq update || echo "setup: apt-get update failed, going on with what is known" >&2
        apt-get -qq install -y --no-install-recommends "$@" > /dev/null
    fi
}

needed=(python3-venv)
if [[ ${purpose} != demo ]]; then
    needed+=(acl attr ca-certificates debootstrap dumb-init e2fsprogs libcap2-bin memcached openssl podman rsync runc strace sudo xfsprogs)
fi
missing=()
for package in "${needed[@]}"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "${package}" 2>/dev/null) != installed ]]; then
        missing+=("${package}")
    fi
done
(( ${#missing[@]} == 0 )) || install "${missing[@]}"
if [[ ${purpose} == bench ]] && ! command -v systemd-tmpfiles > /dev/null; then
    # The package systemd has it, and this one conflicts with that one: so it is asked for by the
    # command, and after the packages above, any of which may have brought systemd.
    install systemd-standalone-tmpfiles
fi
[[ ${purpose} != demo ]] || exit 0

# Debian's Python takes nothing from pip (PEP 668): a virtual environment of our own.
wanted=$(sha256sum pyproject.toml tests/peers.txt)
if [[ $(cat .venv/.installed 2>/dev/null) != "${wanted}" ]]; then
    echo "setup: pip install .[test] and the programs to compare with (tests/peers.txt) into .venv"
    [[ -x .venv/bin/pip ]] || "${PYTHON:-/usr/bin/python3}" -m venv .venv
    .venv/bin/pip install -q -e '.[test]'
    .venv/bin/python tests/lib/peers.py install
    echo "${wanted}" > .venv/.installed
fi

# Our commands as an image has them, for the sandboxes: kept in /var/cache/kolla_start.
.venv/bin/python tests/lib/installed.py
