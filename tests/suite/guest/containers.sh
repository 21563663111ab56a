# Containers of known load, looked at twice, by an agent that tells what is true and by one that tells what cAdvisor does.
. /lib.sh

mke2fs /dev/vdb >/dev/null
mount -t ext4 /dev/vdb /mnt
dd if=/dev/zero of=/mnt/16 bs=1M count=16 2>/dev/null
dd if=/dev/zero of=/mnt/48 bs=1M count=48 2>/dev/null
# Nothing of it is left in memory.
umount /mnt
mount -t ext4 /dev/vdb /mnt

# Two pods by systemd's names (containerd, CRI-O), one by plain ones, and containers without pods. The ids of containers are
# 64 times one digit.
id() { printf '%064d' 0 | tr 0 "$1"; }
burstable=kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod11111111_1111_1111_1111_111111111111.slice
guaranteed=kubepods.slice/kubepods-pod22222222_2222_2222_2222_222222222222.slice
besteffort=kubepods/besteffort/pod33333333-3333-3333-3333-333333333333
sandbox=$burstable/cri-containerd-$(id 0).scope
busy=$burstable/cri-containerd-$(id 1).scope
memory=$burstable/cri-containerd-$(id 2).scope
io=$guaranteed/crio-$(id 3).scope
reclaim=$besteffort/$(id 4)
oom=docker/$(id 5)
pids=system.slice/docker-$(id 6).scope
huge=machine.slice/libpod-$(id 7).scope
dying=$besteffort/$(id 8)
brief=docker/$(id 9)
idle=$guaranteed/crio-$(id a).scope
say_paths sandbox busy memory io reclaim oom pids huge dying brief idle burstable guaranteed besteffort

# What kubelet leaves on the disk names the first two of them.
mkdir -p /var/log/containers /var/log/pods/shop_web-0_11111111-1111-1111-1111-111111111111
touch "/var/log/containers/web-0_shop_app-$(id 1).log" "/var/log/containers/web-0_shop_cache-$(id 2).log"

# A pod's network: a pair of interfaces, one of them in the sandbox.
group $sandbox
inside $sandbox unshare -n sleep 1000 &
is_apart() {
    pid=$(cat $groups/$sandbox/cgroup.procs)
    network=/proc/$pid/ns/net
    [ -n "$pid" ] && [ "$(readlink /proc/self/ns/net)" != "$(readlink $network)" ]
}
until_true is_apart
ip link add pair0 type veth
ip link set veth0 netns $pid
pod() { nsenter --net=$network "$@"; }
pod ip link set veth0 name eth0
# IPv6 is off: nothing passes but the pings and what looks for neighbours.
echo 1 >/proc/sys/net/ipv6/conf/pair0/disable_ipv6
pod sh -c 'echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6'
ip link set pair0 up
pod ip link set eth0 up
ip address add 10.9.0.1/24 dev pair0
pod ip address add 10.9.0.2/24 dev eth0
# 20 packets of 1000 + 8 + 20 + 14 bytes each way.
inside $sandbox nsenter --net=$network ping -q -A -c 20 -s 1000 10.9.0.1 >/dev/null

# A fifth of a CPU for what would take all of one.
group $busy
set_ $busy cpu.max '20000 100000'
set_ $busy cpu.weight 39
say busy-since "$(now)"
inside $busy sh -c 'while :; do :; done' &

# 16 MiB of page cache and 8 MiB of anonymous memory: dd's block, of which the pipe takes no more than a little.
group $memory
set_ $memory memory.max 67108864
set_ $memory memory.min 4194304
inside $memory cat /mnt/16 >/dev/null
inside $memory sh -c 'dd if=/dev/zero bs=8M count=2 2>/dev/null | sleep 1000' &

# 128 writes and 64 reads of 64 KiB past the page cache, then 2 MiB through it.
group $io
inside $io dd if=/dev/zero of=/dev/vdc bs=64k count=128 oflag=direct 2>/dev/null
inside $io dd if=/dev/vdc of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null
inside $io dd if=/dev/zero of=/mnt/written bs=1M count=2 conv=fsync 2>/dev/null
inside $io sleep 1000 &

# 48 MiB of page cache where 16 fit.
group $reclaim
set_ $reclaim memory.max 16777216
inside $reclaim cat /mnt/48 >/dev/null
inside $reclaim sleep 1000 &

# Three processes that want more than there is; the first one stays.
group $oom
set_ $oom memory.max 16777216
inside $oom sleep 1000 &
for number in 1 2 3; do
    inside $oom dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null && say survived $number
done

# Six processes with three descriptors, one with four, of which one is a socket.
group $pids
set_ $pids pids.max 32
for number in 1 2 3 4 5 6; do
    inside $pids sleep 1000 </dev/null >/dev/null 2>&1 &
done
inside $pids nc -l -p 7000 </dev/null >/dev/null 2>&1 &

# Two huge pages of the three that are allowed, then two more.
echo 4 >/proc/sys/vm/nr_hugepages
mkdir /huge
mount -t hugetlbfs hugetlbfs /huge
group $huge
set_ $huge hugetlb.2MB.max 6291456
set_ $huge hugetlb.2MB.rsvd.max 6291456
inside $huge fallocate -l 4194304 /huge/two
inside $huge fallocate -l 4194304 /huge/more 2>/dev/null && say no-limit-of-huge-pages
rm -f /huge/more
inside $huge sleep 1000 &

# What the pod may not have is not for the container either: a kill, although the container has no limit.
group $idle
set_ $guaranteed memory.max 33554432
inside $idle sleep 1000 &
inside $idle dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null && say survived idle

# One that is seen alive once, and burns a second of CPU time before it ends.
group $dying
mkfifo /tmp/go
inside $dying sh -c 'read go </tmp/go; ulimit -t 1; while :; do :; done' &

config true 9126
config compat 9127 'metrics: {containers: {compat: cadvisor, labels: cadvisor}}'
start_agent /tmp/true.yaml 9126
start_agent /tmp/compat.yaml 9127
uname -r >/told/release
page first 9126 /metrics/cadvisor
page node-first 9126 /metrics/node

echo go >/tmp/go
until_true is_empty $dying
say dying-cpu "$(grep usage_usec $groups/$dying/cpu.stat | cut -d' ' -f2)"
rmdir $groups/$dying
# One that lives and dies between two looks: a kill, then a second of CPU time at half a CPU.
group $brief
set_ $brief cpu.max '50000 100000'
set_ $brief memory.max 16777216
inside $brief dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null && say survived brief
inside $brief sh -c 'ulimit -t 1; while :; do :; done' || true
until_true is_empty $brief
say brief-cpu "$(grep usage_usec $groups/$brief/cpu.stat | cut -d' ' -f2)"
rmdir $groups/$brief
# More of what was done before.
inside $oom dd if=/dev/zero of=/dev/null bs=48M count=1 2>/dev/null && say survived again
inside $io dd if=/dev/zero of=/dev/vdc bs=64k count=16 oflag=direct 2>/dev/null
inside $sandbox nsenter --net=$network ping -q -A -c 10 -s 1000 10.9.0.1 >/dev/null

page second 9126 /metrics/cadvisor
page node-second 9126 /metrics/node
page compat 9127 /metrics/cadvisor
cp /tmp/9126.log /told/log
taffrail check -f /tmp/true.yaml >/told/check
