//! What udev found out about a block device. Read again only when udev has written it again.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use taffrail_kernfs::parse::lines;
use taffrail_kernfs::{Page, Roots, read, read_text};
use taffrail_record::Labels;

pub(super) const INFO: &[&str] =
    &["device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"];
pub(super) const FILESYSTEM: &[&str] = &["device", "type", "usage", "uuid", "version"];
pub(super) const MAPPER: &[&str] = &["device", "name", "uuid", "vg_name", "lv_name", "lv_layer"];

/// A device's labels: what it is, its file system, its mapping.
pub(super) struct Facts {
    name: String,
    number: (String, String),
    data: PathBuf,
    rotational: PathBuf,
    written: Option<Option<SystemTime>>,
    pub(super) labels: [Option<Labels>; 3],
}

impl Facts {
    /// Of what is called `<major>:<minor> <name>`.
    pub(super) fn new(key: &str, roots: &Roots) -> Option<Facts> {
        let (number, name) = key.split_once(' ')?;
        let (major, minor) = number.split_once(':')?;
        Some(Facts {
            name: name.to_owned(),
            number: (major.to_owned(), minor.to_owned()),
            data: roots.host(&PathBuf::from(format!("/run/udev/data/b{number}"))),
            rotational: roots.sys(&format!("block/{}/queue/rotational", name.replace('/', "!"))),
            written: None,
            labels: [None, None, None],
        })
    }

    pub(super) fn refresh(&mut self, page: &mut Page) {
        let written = fs::metadata(&self.data).and_then(|found| found.modified()).ok();
        if self.written == Some(written) {
            return;
        }
        self.written = Some(written);
        let rotational = read_text(&self.rotational, page).unwrap_or_default();
        let text = read(&self.data, page).unwrap_or_default();
        let of = |key: &str| property(text, key).unwrap_or_default();
        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(of);
        let serial = serial.into_iter().find(|serial| !serial.is_empty()).unwrap_or_default();
        let name = self.name.as_str();
        let [path, wwn, model, revision] = ["ID_PATH", "ID_WWN", "ID_MODEL", "ID_REVISION"].map(of);
        let (major, minor) = (self.number.0.as_str(), self.number.1.as_str());
        let info = [name, major, minor, &path, &wwn, &model, &serial, &revision, &rotational];
        self.labels[0] = Some(labels(INFO, &info));
        let [kind, usage, uuid, version] =
            ["TYPE", "USAGE", "UUID", "VERSION"].map(|key| of(&format!("ID_FS_{key}")));
        self.labels[1] =
            (!kind.is_empty()).then(|| labels(FILESYSTEM, &[name, &kind, &usage, &uuid, &version]));
        let [mapped, uuid, group, volume, layer] =
            ["NAME", "UUID", "VG_NAME", "LV_NAME", "LV_LAYER"].map(|key| of(&format!("DM_{key}")));
        let mapping = [name, &mapped, &uuid, &group, &volume, &layer];
        self.labels[2] = (!mapped.is_empty()).then(|| labels(MAPPER, &mapping));
    }
}

fn labels(names: &[&'static str], values: &[&str]) -> Labels {
    Labels::new(names.iter().copied().zip(values.iter().copied()))
}

fn property(text: &[u8], key: &str) -> Option<String> {
    let value = |line: &[u8]| {
        let value = line.strip_prefix(b"E:")?.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    lines(text).find_map(value)
}
