# An agent on a kernel that keeps its memory to itself, and so takes no probe.
. /lib.sh

mkdir -p /sys/fs/bpf
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs none /sys/kernel/security || true
say lockdown "$(cat /sys/kernel/security/lockdown)"
config locked 9126 'audit: {enabled: true}'
shop=docker/$(printf '%064d' 0 | tr 0 7)
group $shop
inside $shop sleep 1000 &
usleep 300000
start_agent /tmp/locked.yaml 9126
chosen() { wget -q -O - http://127.0.0.1:9126/metrics | grep -qE 'taffrail_audit_tier\{tier="(audit|connector)"\} 1'; }
until_true chosen
wget -q -O /told/ready http://127.0.0.1:9126/readyz && say ready 0 || say ready $?
inside $shop sh -c 'sleep 1; exit 3' locked || true
written() { cat /tmp/records-locked/audit-* | grep -q session-ended; }
until_true written
kill "$(pidof taffrail)"
gone() { [ -z "$(pidof taffrail)" ]; }
until_true gone
cat /tmp/records-locked/audit-* >/told/documents
taffrail check -f /tmp/locked.yaml >/told/check || true
cat /tmp/9126.log >/told/log
