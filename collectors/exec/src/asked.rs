//! What a pod's specification asks for in a container, and whether a session is that: a probe, a hook, a container to look into
//! the pod.
//!
//! Guarantee: who has a terminal, or runs anything else than is asked for, is nobody's probe. Whoever runs exactly what is asked for
//! cannot be told from kubelet by what the kernel knows.

use crate::document::{arguments, text};
use crate::session::Origin;
use crate::wire::Exec;

/// What a pod's specification asks for in one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedFor {
    /// Commands of its probes, each word by word.
    pub probes: Vec<Vec<String>>,
    /// Commands of its lifecycle hooks.
    pub hooks: Vec<Vec<String>>,
    /// Whether it was added to the running pod, to look into that; none: not known yet.
    pub is_ephemeral: Option<bool>,
}

impl AskedFor {
    /// What a session is that began so, if it was asked for.
    pub(crate) fn origin(&self, exec: &Exec, tty: &[u8]) -> Option<Origin> {
        let is_any =
            |commands: &[Vec<String>]| tty.is_empty() && commands.iter().any(|command| is(command, exec));
        match () {
            () if is_any(&self.probes) => Some(Origin::Probe),
            () if is_any(&self.hooks) => Some(Origin::Hook),
            () => None,
        }
    }
}

/// Whether a command has begun this program. The kernel puts the interpreter of a script before it, with at most one argument, and
/// the runtime finds the program's path.
fn is(command: &[String], exec: &Exec) -> bool {
    let told = arguments(&exec.arguments);
    let is_cut = exec.arguments.len() < exec.arguments_total as usize;
    let Some((program, rest)) = command.split_first() else { return false };
    let Some(before) = told.len().checked_sub(command.len()) else { return false };
    let (Some(name), false) = (told.get(before), is_cut) else { return false };
    let begun = match before {
        0 => program == name,
        1 | 2 => *name == text(&exec.file) && (program == name || is_called(name, program)),
        _ => false,
    };
    begun && told.get(before + 1..) == Some(rest)
}

fn is_called(path: &str, name: &str) -> bool {
    !name.contains('/') && path.rsplit_once('/').is_some_and(|(_, last)| last == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(arguments: &str, file: &str) -> Exec {
        let arguments = format!("{}\0", arguments.replace('|', "\0")).into_bytes();
        Exec {
            arguments_total: arguments.len() as u32,
            arguments,
            file: file.as_bytes().to_vec(),
            ..Exec::default()
        }
    }

    fn words(command: &str) -> Vec<String> {
        command.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn a_command_that_is_asked_for_is_told_from_others() {
        let held = [
            ("cat|/ok", "cat|/ok", ""),
            // A script, of which the kernel's tell begins with its interpreter.
            ("/probe.sh|-q", "/bin/sh|/probe.sh|-q", "/probe.sh"),
            ("probe.sh", "/usr/bin/env|-S|/usr/local/bin/probe.sh", "/usr/local/bin/probe.sh"),
        ];
        for (asked, told, file) in held {
            assert!(is(&words(asked), &begun(told, file)), "{asked} {told}");
        }
        let others = [
            ("cat|/ok", "cat|/etc/shadow", ""),
            ("cat|/ok", "cat|/ok|/etc/shadow", ""),
            ("cat|/ok", "cat", ""),
            ("/probe.sh", "/bin/sh|/probe.sh", "/bin/sh"),
            ("probe.sh", "/bin/sh|/x/oprobe.sh", "/x/oprobe.sh"),
            ("sh|-c|x", "sh|-c|x|y", "x"),
            ("echo|$(A)", "echo|x", ""),
        ];
        for (asked, told, file) in others {
            assert!(!is(&words(asked), &begun(told, file)), "{asked} {told}");
        }
        assert!(!is(&[], &begun("a", "")));
    }

    #[test]
    fn who_has_a_terminal_or_says_more_than_can_be_read_is_no_probe() {
        let asked = AskedFor { probes: vec![words("sh")], hooks: vec![words("stop")], ..AskedFor::default() };
        assert_eq!(asked.origin(&begun("sh", ""), b""), Some(Origin::Probe));
        assert_eq!(asked.origin(&begun("stop", ""), b""), Some(Origin::Hook));
        assert_eq!(asked.origin(&begun("sh", ""), b"pts0"), None);
        let cut = Exec { arguments_total: 9000, ..begun("sh", "") };
        assert_eq!(asked.origin(&cut, b""), None);
    }
}
