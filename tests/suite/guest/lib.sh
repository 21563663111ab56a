# What the scripts of the guests share. Containers are made here with plain cgroup operations, under the names that
# runtimes give them.

groups=/sys/fs/cgroup
controllers='+cpu +memory +io +pids +hugetlb'

# say NAME VALUE: tells the test a fact, once or several times.
say() { echo "$@" >>/told/facts; }

# now: seconds since the start of the machine.
now() { cut -d' ' -f1 /proc/uptime; }

# until_true COMMAND...: waits for at most 20 s.
until_true() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 200 ] || { echo "not within 20 s: $*"; return 1; }
        usleep 100000
    done
}

# group PATH: makes a cgroup and those above it, with all controllers.
group() {
    made=$groups
    for name in $(echo "$1" | tr / ' '); do
        echo "$controllers" >"$made/cgroup.subtree_control"
        made=$made/$name
        mkdir -p "$made"
    done
}

# set_ PATH FILE VALUE: a setting of a cgroup.
set_() { echo "$3" >"$groups/$1/$2"; }

# inside PATH COMMAND...: runs a command as a process of a cgroup.
inside() {
    place=$groups/$1
    shift
    sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$place" "$@"
}

# is_empty PATH: whether a cgroup has no processes left.
is_empty() { grep -q 'populated 0' "$groups/$1/cgroup.events"; }

# say_paths NAME...: tells the test of the cgroups that are in the variables of these names.
say_paths() {
    for name in "$@"; do
        eval "say path-$name /\$$name"
    done
}

# config NAME PORT [MORE]: /tmp/NAME.yaml, for an agent with a state and records of its own.
config() {
    cat >"/tmp/$1.yaml" <<Y
state: {directory: /tmp/$1}
http: {listen: '127.0.0.1:$2'}
output: {file: {directory: /tmp/records-$1}}
${3:-}
Y
}

# start_agent CONFIG PORT: starts an agent and waits until it answers.
start_agent() {
    taffrail run -f "$1" >>"/tmp/$2.log" 2>&1 &
    until_true wget -q -O /dev/null "http://127.0.0.1:$2/readyz" 2>/dev/null
}

# until_probing PORT: waits until an agent's probes are in the kernel. An emulated processor takes its time to verify them.
until_probing() {
    probing() { wget -q -O - "http://127.0.0.1:$1/metrics" | grep -q 'taffrail_audit_tier{tier="probe"} 1'; }
    began=$(now)
    for _ in 1 2 3 4 5 6; do
        if until_true probing "$1"; then break; fi
        tail -n 3 "/tmp/$1.log"
    done
    say probing-seconds "$began" "$(now)"
}

# page NAME PORT PATH: keeps a page under a name, and says between which times it was asked for.
page() {
    # Within a second of another the agent gives the same answer.
    usleep 1100000
    say "before-$1" "$(now)"
    wget -q -O "/told/$1" "http://127.0.0.1:$2$3"
    say "after-$1" "$(now)"
}
