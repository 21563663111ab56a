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

start_agent /tmp/audit.yaml 9126
until_probing 9126
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
cat /tmp/9126.log >/told/log
