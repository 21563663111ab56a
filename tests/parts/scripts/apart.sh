# apart.sh PLACE: run first in a mount namespace of its own, by what starts a container engine.
#
# Whatever the engine changes outside its own folders lands below PLACE, and nothing of it is left
# when the namespace ends:
# - /run: engines put sockets and state there, and look there for an engine of the machine;
# - /sys/kernel/security: where there is AppArmor, engines load a profile that would stay;
# - settings that engines raise for the whole machine are hidden behind plain files, which hold the
#   values they want to find.
apart() {
    place=$1
    mkdir -p "$place/run" "$place/settings"
    mount --bind "$place/run" /run
    if [ -d /sys/kernel/security/apparmor ]; then mount -t tmpfs tmpfs /sys/kernel/security; fi
    hide kernel/keys/root_maxkeys 1000000
    hide kernel/keys/root_maxbytes 25000000
    hide kernel/panic 10
    hide kernel/panic_on_oops 1
    hide vm/overcommit_memory 1
    hide vm/panic_on_oom 0
}

hide() {
    [ -e "/proc/sys/$1" ] || return 0
    wished="$place/settings/$(echo "$1" | tr / _)"
    echo "$2" >"$wished"
    mount --bind "$wished" "/proc/sys/$1"
}
