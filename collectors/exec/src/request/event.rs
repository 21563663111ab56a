//! Events of the API server's audit log (`audit.k8s.io/v1`), one in a line of a file or many in what the server sends.

use serde::Deserialize;

use super::path::{of_kubelet, take_query};
use super::review::Object;
use super::{Asked, Request, Source, User};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    uri: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(rename = "sourceIPs")]
    source_ips: Option<Vec<String>>,
    user_agent: String,
    object_ref: Option<Reference>,
    response_status: Option<Status>,
    request_object: Option<serde_json::Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reference {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sent {
    List { items: Vec<Event> },
    One(Box<Event>),
}

/// What events tell, one or a list of them: nothing, where they are of what begins nothing in a container.
///
/// # Errors
/// What is wrong with it.
pub fn events(bytes: &[u8]) -> Result<Vec<Request>, serde_json::Error> {
    let events = match serde_json::from_slice(bytes)? {
        Sent::List { items } => items,
        Sent::One(event) => vec![*event],
    };
    if events.iter().any(|event| event.id.is_empty() || event.stage.is_empty()) {
        return Err(serde::de::Error::custom(
            "what has no auditID, or no stage, is no event of an audit log",
        ));
    }
    Ok(events.into_iter().flat_map(Event::requests).map(Request::bounded).collect())
}

/// Whether a line of the log may tell something of that: most do not, and need not be read.
pub(super) fn may_tell(line: &str) -> bool {
    ["/exec", "/attach", "/ephemeralcontainers", "/proxy"].iter().any(|part| line.contains(part))
}

impl Event {
    fn requests(self) -> Vec<Request> {
        // Before it is done it may yet be refused.
        let (is_begun, is_over) = (self.stage == "ResponseStarted", self.stage == "ResponseComplete");
        let Some(reference) = self.object_ref.filter(|_| is_begun || is_over) else { return Vec::new() };
        let code = self.response_status.unwrap_or_default().code;
        let (user, impersonator) = match self.impersonated_user {
            Some(other) => (other, Some(self.user)),
            None => (self.user, None),
        };
        let at = time(&self.request_received_timestamp).or_else(|| time(&self.stage_timestamp));
        let Some(at) = at else { return Vec::new() };
        let told = Request {
            sources: vec![Source::AuditLog],
            ids: vec![self.id],
            at,
            over: if is_over { time(&self.stage_timestamp) } else { None },
            user,
            impersonator,
            source_ips: self.source_ips.unwrap_or_default(),
            user_agent: self.user_agent,
            namespace: reference.namespace,
            pod: reference.name,
            pod_uid: reference.uid,
            was_refused: code >= 400,
            ..Request::default()
        };
        let (path, query) = self.uri.split_once('?').unwrap_or((&self.uri, ""));
        let of_pod = |asked| {
            let mut request = Request { asked, ..told.clone() };
            take_query(&mut request, query, "command");
            vec![request]
        };
        match (reference.resource.as_str(), reference.subresource.as_str()) {
            ("pods", "exec") => of_pod(Asked::Exec),
            ("pods", "attach") => of_pod(Asked::Attach),
            ("pods", "ephemeralcontainers") => {
                let request = Request { asked: Asked::Debug, ..told };
                let object =
                    self.request_object.and_then(|object| serde_json::from_value::<Object>(object).ok());
                match object.map(|object| object.added(&request, None)) {
                    Some(added) if !added.is_empty() => added,
                    // The log has no more than that.
                    _ => vec![request],
                }
            }
            ("nodes", "proxy") => {
                let proxied = path.split_once("/proxy/").map(|(_, rest)| rest);
                let proxied = proxied.and_then(|path| of_kubelet(&format!("{path}?{query}")));
                let Some(Request { namespace, pod, pod_uid, asked, container, command, tty, .. }) = proxied
                else {
                    return Vec::new();
                };
                vec![Request { namespace, pod, pod_uid, asked, container, command, tty, ..told }]
            }
            _ => Vec::new(),
        }
    }
}

/// Nanoseconds since the Unix epoch.
fn time(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// As an API server of 1.34 writes it.
    fn line(stage: &str, subresource: &str, uri: &str, code: u16) -> Value {
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
            "auditID": "9c7f9ec1-08b2-4a9b-8a3e-1a2b3c4d5e6f", "stage": stage, "requestURI": uri, "verb": "get",
            "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
            "impersonatedUser": {"username": "ana", "groups": ["sre"]},
            "sourceIPs": ["10.1.2.3"], "userAgent": "kubectl/v1.34.4 (linux/amd64) kubernetes/abc",
            "objectRef": {"resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1", "subresource": subresource},
            "responseStatus": {"metadata": {}, "code": code},
            "requestReceivedTimestamp": "2026-11-23T02:00:00.500000Z", "stageTimestamp": "2026-11-23T02:00:07.000000Z",
            "annotations": {"authorization.k8s.io/decision": "allow"}
        })
    }

    const EXEC: &str = "/api/v1/namespaces/shop/pods/web-0/exec?command=sh&command=-c&command=id%20-u&container=app&stdin=true&stdout=true&tty=true";
    const AT: i64 = 1_795_399_200_500_000_000;

    fn read(value: &Value) -> Vec<Request> {
        events(value.to_string().as_bytes()).expect("an event")
    }

    #[test]
    fn an_exec_says_who_ran_what_where_and_from_where() {
        let requests = read(&line("ResponseStarted", "exec", EXEC, 101));
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((request.at, request.over, request.was_refused), (AT, None, false));
        assert_eq!(
            (request.asked, request.container.as_str(), request.tty),
            (Asked::Exec, "app", Some(true))
        );
        assert_eq!(request.command.as_deref(), Some(&["sh", "-c", "id -u"].map(str::to_owned)[..]));
        assert_eq!(request.user.name, "ana", "as whom it was done");
        assert_eq!(request.impersonator.as_ref().map(|user| user.name.as_str()), Some("admin"));
        assert_eq!(request.source_ips, ["10.1.2.3"]);
        assert!(request.user_agent.starts_with("kubectl/"));
        let over = &read(&line("ResponseComplete", "exec", EXEC, 101))[0];
        assert_eq!((over.over, &over.ids), (Some(AT + 6_500_000_000), &request.ids));
    }

    #[test]
    fn what_was_not_done_yet_tells_nothing_and_what_was_refused_says_so() {
        assert!(read(&line("RequestReceived", "exec", EXEC, 0)).is_empty());
        assert!(read(&line("ResponseComplete", "exec", EXEC, 403))[0].was_refused);
        assert!(read(&line("ResponseComplete", "log", EXEC, 200)).is_empty());
        let mut timeless = line("ResponseStarted", "exec", EXEC, 101);
        timeless["requestReceivedTimestamp"] = json!("yesterday");
        assert_eq!(read(&timeless)[0].at, AT + 6_500_000_000);
        timeless["stageTimestamp"] = Value::Null;
        assert!(events(timeless.to_string().as_bytes()).is_err(), "it is no event");
        timeless["stageTimestamp"] = json!("");
        assert!(read(&timeless).is_empty());
    }

    #[test]
    fn a_list_is_read_whole() {
        let one = line("ResponseStarted", "exec", EXEC, 101);
        let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": [one, one]});
        assert_eq!(read(&list).len(), 2);
    }

    #[test]
    fn what_is_no_event_is_refused_also_in_a_list() {
        let one = line("ResponseStarted", "exec", EXEC, 101);
        for missing in ["auditID", "stage"] {
            let mut other = one.clone();
            other.as_object_mut().expect("an object").remove(missing);
            let list = json!({"items": [one, other]});
            for sent in [&other, &list, &json!({}), &json!({"items": [{}]})] {
                let error = events(sent.to_string().as_bytes()).expect_err("no event");
                assert!(error.to_string().contains("auditID"), "{error}");
            }
        }
        assert!(events(br#"{"items": []}"#).is_ok_and(|requests| requests.is_empty()));
    }

    #[test]
    fn a_container_that_is_added_is_named_where_the_log_has_what_was_sent() {
        let uri = "/api/v1/namespaces/shop/pods/web-0/ephemeralcontainers";
        let mut event = line("ResponseComplete", "ephemeralcontainers", uri, 200);
        assert_eq!((read(&event)[0].asked, read(&event)[0].container.as_str()), (Asked::Debug, ""));
        event["requestObject"] =
            json!({"spec": {"ephemeralContainers": [{"name": "debugger-x", "image": "busybox"}]}});
        assert_eq!(read(&event)[0].container, "debugger-x");
        assert!(may_tell(&event.to_string()) && !may_tell(r#"{"requestURI":"/api/v1/pods"}"#));
    }

    #[test]
    fn what_is_asked_of_a_kubelet_has_the_pod_in_its_path() {
        let uri = "/api/v1/nodes/n-1/proxy/exec/shop/web-1/app?command=ls&output=1";
        let mut event = line("ResponseStarted", "proxy", uri, 101);
        event["objectRef"]["resource"] = json!("nodes");
        let request = &read(&event)[0];
        assert_eq!(
            (request.asked, request.pod.as_str(), request.container.as_str()),
            (Asked::Proxy, "web-1", "app")
        );
        assert_eq!(request.command.as_deref(), Some(&["ls".to_owned()][..]));
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd_to_be_read(text in r#"[{}\[\]":,a-z0-9 ]{0,60}"#) {
            let _ = events(text.as_bytes());
        }
    }
}
