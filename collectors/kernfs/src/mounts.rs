//! Lines of `mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::parse::{number, words};

/// One mount, as a line of `mountinfo` tells it:
/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted<'a> {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub point: PathBuf,
    /// Options of the mount.
    pub options: &'a [u8],
    /// Type of the file system.
    pub kind: &'a str,
    /// What is mounted; what is not UTF-8 in it is replaced.
    pub source: String,
    /// Options of the file system.
    pub super_options: &'a [u8],
}

impl<'a> Mounted<'a> {
    /// Out of a line; nothing when it is none of a mount.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Mounted<'a>> {
        let mut words = words(line);
        let device = device(words.nth(2)?)?;
        let point = PathBuf::from(OsString::from_vec(unescaped(words.nth(1)?)));
        let options = words.next()?;
        words.find(|word| *word == b"-")?;
        let kind = std::str::from_utf8(words.next()?).ok()?;
        let source = String::from_utf8_lossy(&unescaped(words.next()?)).into_owned();
        Some(Mounted {
            device,
            point,
            options,
            kind,
            source,
            super_options: words.next().unwrap_or_default(),
        })
    }

    /// The value of an option `key=value` of the file system.
    #[must_use]
    pub fn super_option(&self, key: &[u8]) -> Option<Vec<u8>> {
        let value = |option: &'a [u8]| option.strip_prefix(key)?.strip_prefix(b"=");
        self.super_options.split(|byte| *byte == b',').find_map(value).map(unescaped)
    }
}

fn device(word: &[u8]) -> Option<(u32, u32)> {
    let colon = word.iter().position(|byte| *byte == b':')?;
    let number = |word: &[u8]| u32::try_from(number(word)?).ok();
    Some((number(&word[..colon])?, number(&word[colon + 1..])?))
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

    #[test]
    fn a_line_is_a_mount_with_its_escapes_undone() {
        let line = br"36 35 98:1 / /mnt/a\040b\134 ro,noatime shared:1 master:2 - nfs4 srv:/x\011y rw,addr=192.0.2.1,dir=/a\040b";
        let mounted = Mounted::parse(line).expect("a mount");
        assert_eq!((mounted.device, mounted.kind), ((98, 1), "nfs4"));
        assert_eq!((&*mounted.point.to_string_lossy(), &*mounted.source), ("/mnt/a b\\", "srv:/x\ty"));
        assert_eq!(mounted.options, b"ro,noatime");
        assert!(mounted.super_options.starts_with(b"rw,addr="));
        assert_eq!(mounted.super_option(b"dir"), Some(b"/a b".to_vec()));
        assert_eq!(mounted.super_option(b"add"), None);
        // Without optional fields.
        assert!(Mounted::parse(b"36 35 98:1 / /mnt rw - tmpfs tmpfs rw").is_some());
    }

    #[test]
    fn what_is_no_mount_is_none() {
        for line in [
            &b""[..],
            b"36 35",
            b"36 35 98 / /mnt rw - tmpfs tmpfs rw",
            b"36 35 98:1 / /mnt rw tmpfs tmpfs rw",
        ] {
            assert_eq!(Mounted::parse(line), None);
        }
    }

    #[test]
    fn escapes_are_three_octal_digits_of_a_byte() {
        assert_eq!(unescaped(br"a\040b\134c\xyz\04"), br"a b\c\xyz\04");
        assert_eq!(unescaped(br"\777\400\377"), b"\\777\\400\xff");
    }
}
