# node.sh PLACE PROGRAM: containerd and kubelet, in mount and process namespaces of their own.
#
# This shell is the first process of its namespace: when it ends, however it ends, the kernel ends
# kubelet, containerd, the shims and the containers with it, and every mount of theirs goes too.
set -eu
place=$1 program=$2

# Hidden below with the rest of /var/lib, if that is where the cache is.
touch "$place/kubelet"
mount --bind "$program" "$place/kubelet"

# As on a real node: pods may ask to see what is mounted later. Nothing of it leaves this namespace.
mount --make-rshared /
apart "$place"
mkdir -p "$place/log/pods" "$place/log/containers" "$place/lib"
mount --bind "$place/log" /var/log
mount --bind "$place/lib" /var/lib

# Where the folder for temporary files is itself an overlay (in a container), none can be mounted on it.
probe="$place/probe"
mkdir -p "$probe/lower" "$probe/upper" "$probe/work" "$probe/all"
if mount -t overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" overlay "$probe/all"; then
    umount "$probe/all"
    snapshotter=overlayfs
else
    snapshotter=native
fi
sed -i "s/SNAPSHOTTER/$snapshotter/" "$place/containerd.toml"

containerd --config "$place/containerd.toml" >>"$place/containerd.log" 2>&1 &
containerd=$!
until ctr version >/dev/null 2>&1; do
    kill -0 "$containerd" || { echo "containerd ended; its log: $place/containerd.log"; exit 1; }
    sleep 0.05
done
for image in "$place"/images/*.tar; do ctr --namespace k8s.io images import "$image"; done

# Not exec: this shell stays to collect the shims, which become its children.
"$place/kubelet" --config="$place/kubelet.yaml" --kubeconfig="$place/pki/kubelet.kubeconfig" \
    --cert-dir="$place/pki" --hostname-override=127.0.0.1 --containerd=/run/containerd/containerd.sock --v=2 &
wait $!
