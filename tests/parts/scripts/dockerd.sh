# dockerd.sh PLACE HOLDER [FLAG...]: becomes dockerd, in a mount namespace and a control group of its own.
set -eu
place=$1 holder=$2
shift 2

apart "$place"
# The engine starts others that outlive it (shims): all are found and ended through this group.
echo $$ >"$holder/cgroup.procs"

# Old engines write a key below /etc; new ones know neither the key nor the setting.
version=$(dockerd --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
if [ "$version" -lt 24 ]; then key="\"deprecated-key-path\": \"$place/key.json\""; fi
echo "{${key:-}}" >"$place/daemon.json"

# No bridge, no packet filter, no forwarding: the machine's network is not touched. Containers have loopback.
exec dockerd \
    --config-file="$place/daemon.json" \
    --host="unix://$place/docker.sock" \
    --data-root="$place/data" \
    --exec-root="$place/exec" \
    --pidfile="$place/docker.pid" \
    --exec-opt=native.cgroupdriver=cgroupfs \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --userland-proxy=false \
    "$@"
