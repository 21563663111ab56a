# What needs a kernel of one's own: cgroups that vanish under the reader, odd ones, and a clock that jumps.
. /lib.sh

id() { printf '%064d' "$1"; }
config plain 9126
# Every cgroup, not containers only.
config every 9127 'metrics: {containers: {labels: cadvisor}}'

# A container that goes on through all of it.
steady=docker/$(id 1)
group $steady
set_ $steady cpu.max '10000 100000'
inside $steady sh -c 'while :; do :; done' &

# 20 levels deep, the upper ones with names that are hard to print: a quote, a backslash, a tab, and bytes
# that are no text. (A line's end the kernel refuses.)
odd=$(printf 'qu"o\\te \t\303\274\377\376')
deep=$odd
for level in 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do deep=$deep/level-$level; done
deep=$deep/docker-$(id 2).scope
(
    IFS=/
    made=$groups
    for name in $deep; do
        echo "$controllers" >"$made/cgroup.subtree_control"
        made=$made/$name
        mkdir "$made"
    done
)
sh -c 'echo 0 >"$0/cgroup.procs" && exec sleep 1000' "$groups/$deep" &

# Threads of one process apart: a cgroup whose processes cannot be listed. Frozen processes. Stalls that nobody counts.
threaded=docker/$(id 3)
group $threaded
inside $threaded sleep 1000 &
mkdir $groups/$threaded/threads
echo threaded >$groups/$threaded/threads/cgroup.type || say not-threaded
frozen=docker/$(id 4)
group $frozen
inside $frozen sh -c 'while :; do :; done' &
uncounted=docker/$(id 5)
group $uncounted
echo 0 >$groups/$uncounted/cgroup.pressure || say pressure-counted
inside $uncounted sleep 1000 &
usleep 500000
set_ $frozen cgroup.freeze 1
# No controller but for the CPU, which the kernel counts without one.
mkdir $groups/bare
bare=bare/$(id 6)
mkdir $groups/$bare
inside $bare sh -c 'i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); done; exec sleep 1000' &
say_paths steady threaded frozen uncounted bare

start_agent /tmp/plain.yaml 9126
start_agent /tmp/every.yaml 9127
agent=$(pidof taffrail | tr ' ' '\n' | sort -n | head -n 1)
descriptors() { ls /proc/$agent/fd | wc -l; }
page first 9126 /metrics/cadvisor
page every 9127 /metrics/cadvisor
say descriptors-before "$(descriptors)"

# Containers come and go as fast as they can, while pages are asked for.
churn() {
    number=100
    while [ ! -e /tmp/enough ]; do
        number=$((number + 1))
        group "docker/$(id $number)"
        inside "docker/$(id $number)" true
        until rmdir "$groups/docker/$(id $number)" 2>/dev/null; do :; done
    done
    say churned $((number - 100))
}
churn &
churning=$!
for number in 1 2 3 4; do page churn-$number 9126 /metrics/cadvisor; done
touch /tmp/enough
wait $churning
page calm 9126 /metrics/cadvisor
say descriptors-after "$(descriptors)"

# Containers that are removed as soon as they are empty, as systemd does: it is told by way of a queue, and looks first.
# That takes it about a millisecond; everything takes some twenty times as long here, in an emulated machine whose processors wait
# for those of the real one.
remove_when_empty() {
    name=populated
    until [ "$name $value" = 'populated 0' ]; do read -r name value <"$groups/$1/cgroup.events"; done
    usleep 20000
    rmdir "$groups/$1"
}
for number in 11 12 13 14 15 16 17 18 19 20; do
    swift=docker/$(id $number)
    group $swift
    inside $swift sh -c 'ulimit -t 1; while :; do :; done' &
    value=1
    until grep -q 'populated 1' "$groups/$swift/cgroup.events"; do :; done
    remove_when_empty $swift
done
page swift 9126 /metrics/cadvisor

# A day ahead, then two days back; each time a container begins.
jump() {
    date -s "@$(($(date +%s) + $2))" >/dev/null
    group "docker/$(id $3)"
    inside "docker/$(id $3)" sleep 1000 &
    usleep 200000
    say "clock-$1" "$(date +%s)"
    page "$1" 9126 /metrics/cadvisor
    page "node-$1" 9126 /metrics/node
}
jump ahead 86400 31
jump back -172800 32
cp /tmp/9126.log /told/log
