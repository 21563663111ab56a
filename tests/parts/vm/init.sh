#!/bin/busybox sh
# The first process of a virtual machine: makes it usable, runs /script, hands over what the script left in /told
# on the first disk, and powers off.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done
ip link set lo up

sh -eu /script </dev/null
echo $? >/told/.status
cd /told && tar -cf /dev/vda .
poweroff -f
