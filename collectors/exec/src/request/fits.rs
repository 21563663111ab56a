//! Whether a request explains a session.

use crate::session::{Open, Origin, Whose};

use super::{Asked, Request};

const SECOND: i64 = 1_000_000_000;
/// How long after its request a session begins at most, and how much earlier a clock elsewhere may say that it did.
const AFTER: i64 = 10 * SECOND;
const BEFORE: i64 = 2 * SECOND;
/// An image may have to be fetched first; the container's name is nobody else's.
const FETCHED: i64 = 1800 * SECOND;
/// More bytes of arguments than the probe tells.
const CUT: usize = 8000;
/// How many arguments an interpreter puts before a script: itself, and one more.
const BEFORE_SCRIPT: usize = 2;

/// How long after what is asked for so a session may begin that it explains, in nanoseconds.
pub(super) fn reach(asked: Asked) -> i64 {
    if asked == Asked::Debug { FETCHED } else { AFTER }
}

/// Whether `request` asks for what `open` is.
pub(super) fn fits(request: &Request, open: &Open) -> bool {
    let since = open.begun.saturating_sub(request.at);
    let is_kind = match request.asked {
        Asked::Debug => open.origin == Origin::Debug,
        Asked::Exec | Asked::Proxy => open.origin != Origin::Debug,
        Asked::Attach => false,
    };
    is_kind
        && (-BEFORE..=reach(request.asked)).contains(&since)
        && is_place(request, &open.whose)
        && is_call(request, open)
}

/// Whether it is the pod and the container, as far as both are known.
pub(crate) fn is_place(request: &Request, whose: &Whose) -> bool {
    let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
    let is_pod = if request.pod_uid.is_empty() || whose.pod_uid.is_empty() {
        request.namespace == whose.namespace && request.pod == whose.pod
    } else {
        request.pod_uid == whose.pod_uid
    };
    is_pod && same(&request.container, &whose.container)
}

/// Whether it is the command, with a terminal or without.
fn is_call(request: &Request, open: &Open) -> bool {
    if request.asked == Asked::Debug {
        return true;
    }
    request.tty.is_none_or(|tty| tty != open.entry.tty.is_empty())
        && request.command.as_ref().is_none_or(|command| is_command(&open.entry.arguments, command))
}

/// Whether a program that was asked for so is begun with these arguments.
pub(super) fn is_command(begun: &[String], asked: &[String]) -> bool {
    is_same(begun, asked) || is_script(begun, asked)
}

fn is_same(begun: &[String], asked: &[String]) -> bool {
    let is_cut = begun.iter().map(|argument| argument.len() + 1).sum::<usize>() >= CUT;
    if !is_cut {
        return begun.len() == asked.len() && begun.iter().zip(asked).all(|(a, b)| is_text(a, b));
    }
    let Some((last, begun)) = begun.split_last() else { return false };
    asked
        .get(begun.len())
        .is_some_and(|whole| plain(whole).starts_with(plain(last).trim_end_matches(REPLACED)))
        && begun.iter().zip(asked).all(|(a, b)| is_text(a, b))
}

/// An interpreter is begun with the path of its script, whose own arguments follow.
fn is_script(begun: &[String], asked: &[String]) -> bool {
    let Some((script, rest)) = asked.split_first() else { return false };
    (1..=BEFORE_SCRIPT).any(|before| {
        begun.get(before..).and_then(<[String]>::split_first).is_some_and(|(path, arguments)| {
            (path == script || path.strip_suffix(script.as_str()).is_some_and(|folder| folder.ends_with('/')))
                && is_same(arguments, rest)
        })
    })
}

const REPLACED: char = '\u{fffd}';

/// What is no UTF-8 was replaced, in one way here and in another there.
fn is_text(a: &str, b: &str) -> bool {
    a == b || (a.contains(REPLACED) && plain(a) == plain(b))
}

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c != REPLACED || !plain.ends_with(REPLACED) {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Entry;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn open() -> Open {
        let [namespace, pod, pod_uid, container] = ["shop", "web-0", "p-1", "app"].map(str::to_owned);
        Open {
            begun: 100 * SECOND,
            whose: Whose { namespace, pod, pod_uid, container, ..Whose::default() },
            entry: Entry {
                arguments: words(&["sh", "-c", "ls"]),
                tty: "pts0".to_owned(),
                ..Entry::default()
            },
            ..Open::default()
        }
    }

    fn request() -> Request {
        let [namespace, pod, container] = ["shop", "web-0", "app"].map(str::to_owned);
        let command = Some(words(&["sh", "-c", "ls"]));
        Request { at: 99 * SECOND, namespace, pod, container, command, tty: Some(true), ..Request::default() }
    }

    #[test]
    fn what_was_asked_for_in_time_in_that_place_with_that_command_fits_and_nothing_else() {
        assert!(fits(&request(), &open()));
        let differs = |change: &dyn Fn(&mut Request)| {
            let mut request = request();
            change(&mut request);
            !fits(&request, &open())
        };
        assert!(differs(&|request| request.at = 89 * SECOND), "too early");
        assert!(differs(&|request| request.at = 103 * SECOND), "too late");
        assert!(differs(&|request| request.namespace = "other".to_owned()));
        assert!(differs(&|request| request.pod = "web-1".to_owned()));
        assert!(differs(&|request| request.pod_uid = "p-2".to_owned()), "another pod of the same name");
        assert!(differs(&|request| request.container = "side".to_owned()));
        assert!(differs(&|request| request.command = Some(words(&["sh"]))));
        assert!(differs(&|request| request.tty = Some(false)));
        assert!(differs(&|request| request.asked = Asked::Attach));
        assert!(differs(&|request| request.asked = Asked::Debug));
        let same = |change: &dyn Fn(&mut Request)| !differs(change);
        assert!(same(&|request| request.container.clear()), "the only one of the pod");
        assert!(same(&|request| (request.pod_uid, request.pod) = ("p-1".to_owned(), String::new())));
        assert!(same(&|request| (request.asked, request.command, request.tty) = (Asked::Proxy, None, None)));
    }

    #[test]
    fn a_container_that_was_added_is_known_by_its_name_however_long_its_image_took() {
        let mut open = open();
        open.origin = Origin::Debug;
        let mut request = Request { asked: Asked::Debug, at: open.begun - 600 * SECOND, ..request() };
        assert!(fits(&request, &open));
        request.container = "debugger-x".to_owned();
        assert!(!fits(&request, &open));
    }

    #[test]
    fn a_script_is_begun_by_its_interpreter_and_long_commands_are_cut() {
        let asked = words(&["backup", "-v", "x"]);
        for (begun, expected) in [
            (&["/bin/sh", "/usr/bin/backup", "-v", "x"][..], true),
            (&["/usr/bin/env", "sh", "/usr/bin/backup", "-v", "x"], true),
            (&["/bin/sh", "backup", "-v", "x"], true),
            (&["/bin/sh", "/usr/bin/nobackup", "-v", "x"], false),
            (&["/bin/sh", "/usr/bin/backup", "-v"], false),
            (&["/bin/sh"], false),
            (&[], false),
        ] {
            assert_eq!(is_command(&words(begun), &asked), expected, "{begun:?}");
        }
        let long = "y".repeat(9000);
        let asked = words(&["echo", &long, "end"]);
        assert!(is_command(&words(&["echo", &long[..8186]]), &asked));
        assert!(!is_command(&words(&["echo", &format!("z{}", &long[..8186])]), &asked));
        assert!(!is_command(&words(&["echo", &long[..100]]), &asked), "nothing was cut off there");
        assert!(
            is_command(&words(&["a\u{fffd}b"]), &words(&["a\u{fffd}\u{fffd}b"])),
            "bytes that are no text"
        );
        assert!(!is_command(&words(&["a\u{fffd}b"]), &words(&["a\u{fffd}c"])));
    }
}
