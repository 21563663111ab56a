#!/bin/sh
# install-packages.sh NAME...: installs the Debian packages of these names that are missing.
#
# No service is started by an installation (docker.io and containerd would start theirs): parts of
# the tests start what they need themselves, apart from the machine's own.
set -eu

missing=
for name in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null || true)
    case $status in ii*) ;; *) missing="$missing $name" ;; esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages:$missing" >&2
    echo "install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt() {
    apt-get -o DPkg::Lock::Timeout=300 -q "$@" </dev/null
}
# The lists of a fresh machine are empty or old: they are fetched only when the names are not found.
# shellcheck disable=SC2086 # the names are meant to be split
apt install -y --no-install-recommends $missing ||
    { apt update && apt install -y --no-install-recommends $missing; }
