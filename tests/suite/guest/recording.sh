# What goes in and comes out of who is with somebody in a mount namespace of his own.
. /lib.sh

mkdir -p /sys/fs/bpf
mount -t bpf bpf /sys/fs/bpf
config recording 9127 'audit: {enabled: true, tier: probe, files: true, connections: true, policies: [{record: full}]}'
vault=docker/$(printf '%064d' 0 | tr 0 8)
group $vault
inside $vault unshare -m sleep 1000 &
usleep 300000
start_agent /tmp/recording.yaml 9127
until_probing 9127
first=$(head -n 1 $groups/$vault/cgroup.procs)
echo typed >/tmp/typed
# A runtime takes its time, too, from the cgroup to the program.
script='sleep 2; read word; echo shown; echo wrong >&2; echo $word; exit 6'
code=0
inside $vault sh -c 'usleep 500000; exec "$@"' runtime nsenter -t "$first" -m sh -c "$script" recorded \
    </tmp/typed >/tmp/shown 2>/tmp/wrong || code=$?
say recorded-code $code
say attach-seconds "$(wget -q -O - http://127.0.0.1:9127/metrics | grep '^taffrail_audit_recording_attach_seconds' | cut -d' ' -f2)"
written() { cat /tmp/records-recording/audit-* | grep -q session-ended; }
until_true written
kill "$(pidof taffrail)"
gone() { [ -z "$(pidof taffrail)" ]; }
until_true gone
cat /tmp/records-recording/audit-* >/told/recorded
cat /tmp/9127.log >/told/log
