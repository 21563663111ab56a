//! Lines of `mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use taffrail_kernfs::Roots;
use taffrail_kernfs::parse::words;
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
        self.shown.get_or_insert_with(|| {
            let excluded = |pattern: &crate::Pattern, text: &str| pattern.matches(text).unwrap_or(false);
            !excluded(&config.fs_types_exclude, &self.kind)
                && !excluded(&config.mount_points_exclude, &self.mount_point)
        });
    }
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw`. The agent's `own` mounts lie
/// below the host's root as it sees it.
pub(super) fn parse(line: &[u8], own: bool, roots: &Roots) -> Option<Mount> {
    let mut words = words(line);
    let (major, minor) = std::str::from_utf8(words.nth(2)?).ok()?.split_once(':')?;
    let mount_point = PathBuf::from(OsString::from_vec(unescaped(words.nth(1)?)));
    let options = words.next()?;
    words.find(|word| *word == b"-")?;
    let kind = String::from_utf8_lossy(words.next()?).into_owned();
    let device = String::from_utf8_lossy(&unescaped(words.next()?)).into_owned();
    let super_options = words.next().unwrap_or_default();
    let (path, mount_point) = if own {
        (mount_point.clone(), below(&mount_point, roots))
    } else {
        (roots.host(&mount_point), mount_point)
    };
    let mount_point = String::from_utf8_lossy(mount_point.as_os_str().as_bytes()).into_owned();
    let labels = [("device", &*device), ("mountpoint", &*mount_point), ("fstype", &*kind)];
    let info = [("device", &*device), ("major", major), ("minor", minor), ("mountpoint", &*mount_point)];
    Some(Mount {
        labels: Labels::new(labels),
        info: Labels::new(info),
        read_only: says(options, &[b"ro"]) || says(super_options, &[b"ro", b"emergency_ro"]),
        path,
        mount_point,
        kind,
        shown: None,
        again: false,
    })
}

/// As the host calls it.
fn below(path: &Path, roots: &Roots) -> PathBuf {
    path.strip_prefix(&roots.rootfs).map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
}

fn says(options: &[u8], wanted: &[&[u8]]) -> bool {
    options.split(|byte| *byte == b',').any(|option| wanted.contains(&option))
}

/// `\040` is a space.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.first_chunk::<3>().filter(|_| *first == b'\\').and_then(octal);
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &behind[3..] } else { behind };
    }
    out
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 8).then(|| sum.checked_mul(8)?.checked_add(digit))?
    })
}

#[cfg(test)]
mod tests {
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
    fn cut_lines_are_no_mounts_and_odd_escapes_stay() {
        for end in 0..LINE.len() - 30 {
            assert!(parse(&LINE[..end], false, &Roots::default()).is_none(), "{end}");
        }
        assert_eq!(unescaped(br"\999\04\777\"), br"\999\04\777\");
    }

    #[test]
    fn a_remount_after_errors_counts_as_read_only() {
        let mount = parse(b"1 0 8:1 / /a rw - ext4 d rw,emergency_ro", false, &Roots::default());
        assert!(mount.expect("a mount").read_only);
    }
}
