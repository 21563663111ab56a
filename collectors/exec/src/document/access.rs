//! Documents of files that were opened to write, and of connections.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Document, Writer, line, plain, text};
use crate::wire::{Connected, Flags, Opened, Process, To, What};

/// Protocols by IANA's numbers and ECS' names.
const TRANSPORTS: [(u16, &str); 5] = [(1, "icmp"), (6, "tcp"), (17, "udp"), (58, "ipv6-icmp"), (132, "sctp")];

/// Category, types and action of what happened, in ECS' words.
pub(super) fn kind(what: &What) -> (&'static str, &'static [&'static str], &'static str) {
    match what {
        What::Exec(..) => ("process", &["start"], "exec"),
        What::Fork(_) => ("process", &["start"], "fork"),
        What::Exit(..) | What::End(_) => ("process", &["end"], "exit"),
        What::Opened(_, opened) if opened.is_created() => ("file", &["creation"], "file-opened"),
        What::Opened(_, opened) if opened.is_truncated() => ("file", &["change"], "file-opened"),
        What::Opened(..) => ("file", &["access"], "file-opened"),
        What::Connected(_, connected) if connected.is_sent => ("network", &["connection"], "connected"),
        What::Connected(..) => ("network", &["connection", "start"], "connected"),
    }
}

impl Writer {
    /// Which file was opened to write.
    pub(crate) fn opened(&self, document: &mut Document, process: &Process, flagged: Flags, opened: &Opened) {
        let tree = &mut document.tree;
        let path = text(&opened.path);
        let said = [
            (opened.is_created(), "create"),
            (opened.is_truncated(), "truncate"),
            (opened.appends(), "append"),
            (opened.is_writable(), "write"),
        ];
        let how: Vec<&str> = said.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        tree.put("event.outcome", "success");
        let who = plain(&text(&process.name));
        let shown = line(std::slice::from_ref(&path));
        tree.put("message", format!("{who} [{}] opened {shown} ({})", process.pid, how.join(", ")));
        tree.put("file.path", path);
        tree.put("file.inode", opened.inode.to_string());
        tree.put("file.type", if opened.is_block_device() { "device" } else { "file" });
        tree.put("audit.file.device", format!("{}:{}", opened.device >> 20, opened.device & 0xf_ffff));
        tree.put("audit.file.opened_for", json!(how));
        tree.put("audit.file.deleted", (opened.links == 0).then_some(true));
        tree.put("audit.flags", flagged.path_cut().then(|| json!(["path_truncated"])));
        if std::str::from_utf8(&opened.path).is_err() {
            tree.put("audit.file.path_base64", STANDARD.encode(&opened.path));
        }
    }

    /// Whom somebody connected to.
    pub(crate) fn connected(
        &self,
        document: &mut Document,
        process: &Process,
        flagged: Flags,
        connected: &Connected,
    ) {
        let tree = &mut document.tree;
        let outcome = connected.result.map(|result| if result == 0 { "success" } else { "failure" });
        tree.put("event.outcome", outcome.unwrap_or("unknown"));
        let transport = TRANSPORTS.iter().find(|(number, _)| *number == connected.protocol);
        let mut local = |kind: &'static str, name: &[u8]| {
            tree.put("network.type", "unix");
            tree.put(format!("audit.socket.{kind}"), text(name));
            if std::str::from_utf8(name).is_err() {
                tree.put(format!("audit.socket.{kind}_base64"), STANDARD.encode(name));
            }
            line(&[text(name)])
        };
        let to = match &connected.to {
            To::Network(address, port) => {
                tree.put("network.type", if address.is_ipv4() { "ipv4" } else { "ipv6" });
                tree.put("network.transport", transport.map(|(_, name)| *name));
                tree.put("network.iana_number", connected.protocol.to_string());
                tree.put("destination.ip", address.to_string());
                tree.put("destination.address", address.to_string());
                tree.put("destination.port", *port);
                let port = if *port == 0 { String::new() } else { format!(" port {port}") };
                format!(
                    "{address}{port}{}",
                    transport.map_or_else(String::new, |(_, name)| format!(" ({name})"))
                )
            }
            To::Path(path) => local("path", path),
            To::Name(name) => format!("the local socket {}", local("name", name)),
            To::Unknown => "an address that is not known".to_owned(),
        };
        let did = if connected.is_sent { "sent to" } else { "connected to" };
        let how = match connected.result {
            Some(result) if result != 0 => format!(": {}", error(result)),
            _ => String::new(),
        };
        let who = plain(&text(&process.name));
        tree.put("message", format!("{who} [{}] {did} {to}{how}", process.pid));
        if let Some(result) = connected.result.filter(|result| *result != 0) {
            tree.put("error.code", error(result));
        }
        tree.put("audit.socket.as_given", connected.is_as_given.then_some(true));
        tree.put("audit.flags", flagged.path_cut().then(|| json!(["path_truncated"])));
    }
}

/// As C calls it, such as `ECONNREFUSED`.
fn error(result: i32) -> String {
    match nix::errno::Errno::from_raw(result.saturating_neg()) {
        nix::errno::Errno::UnknownErrno => format!("error {}", result.saturating_neg()),
        known => format!("{known:?}"),
    }
}
