//! Lines of `mountinfo`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use taffrail_kernfs::{Mounted, Roots};
use taffrail_record::Labels;

use crate::FilesystemConfig;

/// One mount.
#[derive(Debug)]
pub(super) struct Mount {
    mount_point: String,
    kind: String,
    /// Where the agent finds it.
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
    pub(super) labels: Labels,
    pub(super) info: Labels,
    /// Whether the filters let it through, once they have been asked.
    pub(super) shown: Option<bool>,
    /// Whether one with the same labels came before.
    pub(super) again: bool,
}

impl Mount {
    pub(super) fn choose(&mut self, config: &FilesystemConfig) {
        self.shown.get_or_insert_with(|| config.shows(&self.mount_point, &self.kind));
    }
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw`. The agent's `own` mounts lie
/// below the host's root as it sees it.
pub(super) fn parse(line: &[u8], own: bool, roots: &Roots) -> Option<Mount> {
    let mounted = Mounted::parse(line)?;
    let (path, mount_point) = if own {
        (mounted.point.clone(), roots.as_host(&mounted.point))
    } else {
        (roots.host(&mounted.point), mounted.point.clone())
    };
    let mount_point = String::from_utf8_lossy(mount_point.as_os_str().as_bytes()).into_owned();
    let (device, kind) = (&*mounted.source, mounted.kind);
    let (major, minor) = (mounted.device.0.to_string(), mounted.device.1.to_string());
    let labels = [("device", device), ("mountpoint", &*mount_point), ("fstype", kind)];
    let info = [("device", device), ("major", &*major), ("minor", &*minor), ("mountpoint", &*mount_point)];
    Some(Mount {
        labels: Labels::new(labels),
        info: Labels::new(info),
        read_only: says(mounted.options, &[b"ro"]) || says(mounted.super_options, &[b"ro", b"emergency_ro"]),
        path,
        mount_point,
        kind: kind.to_owned(),
        shown: None,
        again: false,
    })
}

fn says(options: &[u8], wanted: &[&[u8]]) -> bool {
    options.split(|byte| *byte == b',').any(|option| wanted.contains(&option))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LINE: &[u8] =
        br"36 35 98:1 / /mnt/a\040b\134 ro,noatime shared:1 master:2 - nfs4 srv:/x\011y rw,addr=192.0.2.1";

    #[test]
    fn a_line_is_a_mount_with_its_escapes_undone() {
        let mount = parse(LINE, false, &Roots::default()).expect("a mount");
        assert_eq!(mount.path, Path::new("/mnt/a b\\"));
        assert_eq!(mount.labels.as_str(), "device=\"srv:/x\ty\",mountpoint=\"/mnt/a b\\\\\",fstype=\"nfs4\"");
        assert!(mount.read_only && mount.info.as_str().contains("major=\"98\",minor=\"1\""));
    }

    #[test]
    fn own_mounts_are_named_as_the_host_names_them() {
        let roots = Roots { rootfs: "/host".into(), ..Roots::default() };
        let line = b"1 0 8:1 / /host/var rw - ext4 /dev/sda1 rw";
        let mount = parse(line, true, &roots).expect("a mount");
        assert_eq!((mount.path.as_path(), mount.mount_point.as_str()), (Path::new("/host/var"), "/var"));
        let mount = parse(line, false, &roots).expect("a mount");
        assert_eq!(mount.path, Path::new("/host/host/var"));
    }

    #[test]
    fn cut_lines_are_no_mounts() {
        for end in 0..LINE.len() - 30 {
            assert!(parse(&LINE[..end], false, &Roots::default()).is_none(), "{end}");
        }
    }

    #[test]
    fn a_remount_after_errors_counts_as_read_only() {
        let mount = parse(b"1 0 8:1 / /a rw - ext4 d rw,emergency_ro", false, &Roots::default());
        assert!(mount.expect("a mount").read_only);
    }
}
