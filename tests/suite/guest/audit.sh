# Sessions in what looks like a container, on cgroup v2: with an agent, over its death, and after it.
. /lib.sh

mkdir -p /sys/fs/bpf
mount -t bpf bpf /sys/fs/bpf
config audit 9126 'audit: {enabled: true, tier: probe}'
shop=docker/$(printf '%064d' 0 | tr 0 7)
group $shop
# It is older than the agent, and so is somebody who came in.
inside $shop sleep 1000 &
usleep 300000
inside $shop sh -c 'sleep 100; exit 1' old &
usleep 300000

probing() { wget -q -O - http://127.0.0.1:9126/metrics | grep -q 'taffrail_audit_tier{tier="probe"} 1'; }
start_agent /tmp/audit.yaml 9126
until_true probing || until_true probing || until_true probing || until_true probing || until_true probing || until_true probing
agent=$(pidof taffrail)
inside $shop sh -c 'ls /script; (exit 7); /bin/ls /nowhere 2>/dev/null; exit 3' commands || true
inside $shop sh -c 'sleep 0.4 & exit 0' leftover
kill -9 $agent
inside $shop sh -c '/bin/true; exit 4' away || true
start_agent /tmp/audit.yaml 9126
inside $shop sh -c 'exit 5' after || true
written() { [ "$(cat /tmp/records-audit/audit-* | grep -c session-ended)" -ge 4 ]; }
until_true written
taffrail sessions -f /tmp/audit.yaml >/told/sessions
kill "$(pidof taffrail)"
gone() { [ -z "$(pidof taffrail)" ]; }
until_true gone
cat /tmp/records-audit/audit-* >/told/documents
taffrail verify -f /tmp/audit.yaml >/told/verify && say verified 0 || say verified $?

# What goes in and comes out of who is with somebody in a mount namespace of his own.
config recording 9127 'audit: {enabled: true, tier: probe, policies: [{record: full}]}'
vault=docker/$(printf '%064d' 0 | tr 0 8)
group $vault
inside $vault unshare -m sleep 1000 &
usleep 300000
probing() { wget -q -O - http://127.0.0.1:9127/metrics | grep -q 'taffrail_audit_tier{tier="probe"} 1'; }
start_agent /tmp/recording.yaml 9127
until_true probing || until_true probing || until_true probing || until_true probing || until_true probing || until_true probing
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
until_true gone
cat /tmp/records-recording/audit-* >/told/recorded
cat /tmp/9126.log /tmp/9127.log >/told/log
