# janitor.sh FOLDER: clears away what a part leaves, after the process that started it is gone.
#
# Standard input is a pipe from that process. Its end comes when the part is dropped, and also when
# the process is killed: the kernel closes the pipe then. Lines that arrive before say what there is:
#   cgroup PATH     a control group whose processes are ended and which is removed with all below it
# The folder is removed last.
trap '' INT TERM HUP
folder=$1
groups=
while read -r kind value; do
    case $kind in cgroup) groups="$groups $value" ;; esac
done

# True when the group is gone. Its processes can start others while they are being ended: again, then.
clear_group() {
    [ -d "$1" ] || return 0
    find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r process; do
        kill -9 "$process" 2>/dev/null
    done
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
    [ ! -d "$1" ]
}

clear_all() {
    for group in $groups; do
        clear_group "$group" || return 1
    done
    # What is mounted below belongs to someone else: it is not entered.
    case $folder in */taffrail-parts-*) rm -rf --one-file-system -- "$folder" 2>/dev/null ;; esac
    [ ! -d "$folder" ]
}

tries=0
until clear_all; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "parts: something is left of $folder" >&2; exit 1; }
    sleep 0.1
done
