//! What the paths say that exec, attach and nodes/proxy are asked for by.

use super::{Asked, Request};

/// The value of each `name=` of a query, decoded.
pub(super) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

/// A text of a query: `%41` and `+` decoded. What is no UTF-8 is replaced.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// As the API server reads a flag of a query.
fn is_true(value: &str) -> bool {
    matches!(value, "" | "1" | "t" | "T" | "true" | "True" | "TRUE")
}

/// Takes container, command and terminal from the query of a request to run something.
pub(super) fn take_query(request: &mut Request, query: &str, command: &str) {
    if let Some(container) = values(query, "container").next() {
        request.container = container;
    }
    let command: Vec<String> = values(query, command).collect();
    request.command = (!command.is_empty()).then_some(command);
    request.tty = Some(values(query, "tty").next().is_some_and(|value| is_true(&value)));
}

/// What is asked of a kubelet through the API server: `exec/NAMESPACE/POD/CONTAINER` and its like, with an optional uid before the
/// container, and the query where it is told. Nothing, when it is none of what begins something in a container.
pub(super) fn of_kubelet(path: &str) -> Option<Request> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut parts = path.split('/').filter(|part| !part.is_empty()).map(decoded);
    let what = parts.next()?;
    let parts: Vec<String> = parts.collect();
    let (namespace, pod, uid, container) = match parts.as_slice() {
        [namespace, pod, container] => (namespace, pod, "", container),
        [namespace, pod, uid, container] => (namespace, pod, uid.as_str(), container),
        _ => return None,
    };
    let mut request = Request {
        asked: Asked::Proxy,
        namespace: namespace.clone(),
        pod: pod.clone(),
        pod_uid: uid.to_owned(),
        ..Request::default()
    };
    match (what.as_str(), query) {
        ("exec", Some(query)) => take_query(&mut request, query, "command"),
        // Kubelet takes it apart so.
        ("run", Some(query)) => {
            let command = values(query, "cmd").next()?;
            request.command = Some(command.split(' ').map(str::to_owned).collect());
        }
        ("exec" | "run", None) => {}
        ("attach", _) => request.asked = Asked::Attach,
        _ => return None,
    }
    request.container.clone_from(container);
    Some(request)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_says_the_command_word_by_word() {
        let mut request = Request::default();
        take_query(
            &mut request,
            "command=sh&command=-c&command=a%20%26+b%0A%C3%A9&container=app&stdin=true&tty=true",
            "command",
        );
        assert_eq!(
            request.command.as_deref(),
            Some(&["sh".to_owned(), "-c".to_owned(), "a & b\né".to_owned()][..])
        );
        assert_eq!((request.container.as_str(), request.tty), ("app", Some(true)));
        take_query(&mut request, "command=%ff%zz%4&tty=false", "command");
        assert_eq!((request.command, request.tty), (Some(vec!["\u{fffd}%zz%4".to_owned()]), Some(false)));
    }

    #[test]
    fn what_is_asked_of_a_kubelet_is_read_from_its_path() {
        let request = of_kubelet("exec/shop/web-0/app?command=ls&command=/&tty=1").expect("an exec");
        assert_eq!(
            (request.namespace.as_str(), request.pod.as_str(), request.container.as_str()),
            ("shop", "web-0", "app")
        );
        assert_eq!((request.command, request.tty), (Some(vec!["ls".to_owned(), "/".to_owned()]), Some(true)));
        let request = of_kubelet("/run/shop/web-0/uid-1/app?cmd=ls%20/").expect("a run");
        assert_eq!(
            (request.pod_uid.as_str(), request.command),
            ("uid-1", Some(vec!["ls".to_owned(), "/".to_owned()]))
        );
        assert_eq!(
            of_kubelet("exec/shop/web-0/app").expect("an exec").command,
            None,
            "a review does not tell it"
        );
        for other in
            ["", "/", "pods", "exec/a/b", "metrics/cadvisor", "containerLogs/a/b/c", "exec/a/b/c/d/e"]
        {
            assert_eq!(of_kubelet(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text in "\\PC{0,40}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decoded(&encoded), text);
        }

        #[test]
        fn nothing_is_too_odd_to_be_read(text in "[%+&=?/a-f0-9é]{0,60}") {
            let _ = of_kubelet(&text);
            take_query(&mut Request::default(), &text, "command");
        }
    }
}
