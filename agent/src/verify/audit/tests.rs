//! Chains and sessions made up, and what is said when something is done to their documents.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A node whose documents are written as the agent writes them.
struct Node {
    host: &'static str,
    chain: String,
    next: u64,
    previous: String,
    after: Option<(String, u64)>,
    documents: Vec<String>,
}

impl Node {
    fn new(host: &'static str) -> Self {
        let (chain, previous) = (format!("{host}a-1"), String::new());
        Node { host, chain, next: 0, previous, after: None, documents: Vec::new() }
    }

    /// The machine starts anew, with what is on its disk up to the document `after`.
    fn boot(&mut self, chain: &str, after: Option<u64>) {
        if let Some(after) = after {
            let of_chain =
                |document: &&String| link(document).id == self.chain && link(document).sequence == after;
            let last = self.documents.iter().find(of_chain).expect("there");
            self.previous = hash(last.as_bytes());
            self.after = Some((self.chain.clone(), after));
        } else {
            self.previous.clear();
        }
        (self.chain, self.next) = (format!("{}{chain}", self.host), 0);
    }

    fn write(&mut self, action: &str, session: &Value, sequence: Option<u64>) {
        self.write_attributed(action, session, sequence, "", 0);
    }

    /// With an id, and how many documents say who asked for the session.
    fn write_attributed(
        &mut self,
        action: &str,
        session: &Value,
        sequence: Option<u64>,
        id: &str,
        attributions: u64,
    ) {
        let mut chain = json!({"id": self.chain, "sequence": self.next});
        if !self.previous.is_empty() {
            chain["previous"] = json!(self.previous);
        }
        if let Some((id, sequence)) = self.after.take() {
            chain["after"] = json!({"id": id, "sequence": sequence});
        }
        let number = self.documents.len();
        let document = json!({
            "@timestamp": format!("2026-11-22T10:{:02}:{:02}Z", number / 60, number % 60),
            "event": {"id": id, "action": action, "sequence": sequence},
            "audit": {"chain": chain, "session": session, "attribution": {"documents": attributions}},
            "container": {"name": "app"},
            "host": {"name": self.host},
        })
        .to_string();
        self.previous = hash(document.as_bytes());
        self.next += 1;
        self.documents.push(document);
    }

    fn happened(&mut self, session: &str, sequence: u64) {
        self.write("exec", &json!({"id": session}), Some(sequence));
    }

    /// The kernel has told the end of a session, as its document `sequence`.
    fn ended(&mut self, session: &str, sequence: u64, gaps: &[&str]) {
        let told = sequence + 1 - gaps.len() as u64;
        let mut said = json!({"id": session, "documents": told});
        if !gaps.is_empty() {
            said["gaps"] = json!(gaps);
        }
        self.write("session-ended", &said, Some(sequence));
    }

    /// A session of so many documents.
    fn session(&mut self, session: &str, documents: u64) {
        (0..documents - 1).for_each(|sequence| self.happened(session, sequence));
        self.ended(session, documents - 1, &[]);
    }
}

fn link(document: &str) -> Link {
    Link::read(&serde_json::from_str(document).expect("JSON")).expect("a link")
}

fn report(documents: &[String]) -> Report {
    held(documents, false)
}

/// As of a place whose beginning was removed, if so said.
fn held(documents: &[String], truncated: bool) -> Report {
    let mut verifier = Verifier::default();
    let place = verifier.place();
    if truncated {
        verifier.truncate(place);
    }
    documents.iter().for_each(|document| verifier.document(document.as_bytes(), place));
    verifier.report()
}

/// Without some documents, by their places.
fn without(documents: &[String], removed: &[usize]) -> Vec<String> {
    let kept = documents.iter().enumerate().filter(|(index, _)| !removed.contains(index));
    kept.map(|(_, document)| document.clone()).collect()
}

fn notes(report: &Report) -> Vec<&str> {
    report.chains.iter().flat_map(|chain| chain.notes.iter().map(String::as_str)).collect()
}

#[test]
fn what_is_whole_is_said_to_be_complete_however_often_it_came() {
    let mut node = Node::new("n1");
    node.session("s1", 4);
    node.session("s2", 2);
    let twice: Vec<String> = node.documents.iter().chain(&node.documents[1..3]).cloned().collect();
    let report = report(&twice);
    assert!(report.passes(true));
    assert_eq!(
        report.verdict,
        "audit complete: 1 chain, 6 documents, 0 missing, 0 changed, 2 repeated; 2 sessions"
    );
    assert_eq!(render(&report, false), report.verdict.clone() + "\n");
}

#[test]
fn a_session_has_the_documents_that_its_end_says_tell_who_asked_for_it() {
    let mut node = Node::new("n1");
    let session = json!({"id": "s1"});
    node.happened("s1", 0);
    for (id, attributions) in [("s1.who.0", 1), ("s1.who.1", 2), ("s1.who.1", 2)] {
        node.write_attributed("session-attributed", &session, None, id, attributions);
    }
    node.write_attributed("session-ended", &json!({"id": "s1", "documents": 2}), Some(1), "s1.end", 2);
    let whole = report(&node.documents);
    assert!(whole.passes(true), "one that is told twice is one: {}", whole.verdict);
    for (removed, expected) in
        [(&[1][..], SessionState::Missing), (&[2], SessionState::Complete), (&[2, 3], SessionState::Missing)]
    {
        let report = report(&without(&node.documents, removed));
        assert_eq!(report.in_state(expected), 1, "{removed:?}: {}", report.verdict);
    }
}

#[test]
fn a_document_that_was_taken_out_is_missing_from_its_chain_and_its_session() {
    let mut node = Node::new("n1");
    node.session("s1", 4);
    let report = report(&without(&node.documents, &[1, 2]));
    assert!(!report.passes(false));
    let text = render(&report, false);
    assert_eq!(
        text,
        "chain n1a-1 of n1: 2 documents, 0..4\n    missing: 2 documents, 1..3\n\
         session s1 in app: missing: 2 of its 4 documents are not there\n\n\
         audit missing: 1 chain, 2 documents, 2 missing, 0 changed, 0 repeated; 1 session (1 missing)\n"
    );
}

#[test]
fn a_document_that_was_changed_is_not_what_the_next_one_names() {
    let mut node = Node::new("n1");
    node.session("s1", 4);
    node.documents[1] = node.documents[1].replace("exec", "fork");
    let report = report(&node.documents);
    assert_eq!((report.changed, report.missing, report.passes(false)), (1, 0, false));
    assert_eq!(report.chains[0].changed_documents, [1]);
    assert!(render(&report, false).contains("    changed: 1 is not what was written"));
    assert!(report.verdict.starts_with("audit changed: "), "{}", report.verdict);
}

#[test]
fn two_documents_under_one_number_are_a_change() {
    let mut node = Node::new("n1");
    node.session("s1", 2);
    let last = node.documents[1].replace("session-ended", "exec");
    let documents = [node.documents.clone(), vec![last]].concat();
    let report = report(&documents);
    assert_eq!((report.changed, report.chains[0].changed_documents.as_slice()), (1, &[1][..]));
}

#[test]
fn what_retention_removed_is_said_and_is_no_failure() {
    let mut node = Node::new("n1");
    node.session("s1", 4);
    node.session("s2", 3);
    let kept = &node.documents[2..];
    let expired = held(kept, true);
    assert!(expired.passes(false) && !expired.passes(true), "{expired:?}");
    assert_eq!(
        expired.verdict,
        "audit complete as far as it is kept: 1 chain, 5 documents, 0 missing, 0 changed, 0 repeated; \
         2 sessions (1 expired)"
    );
    assert_eq!(notes(&expired), ["begins at 2: retention removed what was before"]);
    let missing = held(kept, false);
    assert_eq!((missing.missing, missing.passes(false)), (2, false), "nothing was removed from there");
    assert!(notes(&missing)[0].contains("is there another topic"), "{missing:?}");
    // A hole behind the beginning is one.
    assert!(!held(&without(kept, &[1]), true).passes(false));
}

#[test]
fn sessions_that_say_what_they_lack_are_listed_and_no_failure() {
    let mut node = Node::new("n1");
    node.happened("s1", 0);
    node.ended("s1", 2, &["1 records did not fit the kernel's ring"]);
    node.happened("s2", 0);
    let report = report(&node.documents);
    assert!(report.passes(false) && !report.passes(true));
    assert_eq!(
        render(&report, false),
        "session s1 in app: with gaps: 1 records did not fit the kernel's ring\n\
         session s2 in app: open: 1 documents so far\n\n\
         audit complete so far: 1 chain, 3 documents, 0 missing, 0 changed, 0 repeated; 2 sessions (1 open, 1 with gaps)\n"
    );
}

#[test]
fn a_session_whose_end_was_told_twice_is_held_to_the_larger_number() {
    let mut node = Node::new("n1");
    node.happened("s1", 0);
    node.write("session-ended", &json!({"id": "s1", "documents": 0, "gaps": ["ended early"]}), None);
    node.happened("s1", 1);
    node.write("session-ended", &json!({"id": "s1", "documents": 3}), None);
    let report = report(&node.documents);
    assert_eq!((report.in_state(SessionState::Missing), report.passes(false)), (1, false));
}

#[test]
fn pieces_of_a_recording_that_are_not_there_are_missing_and_lost_ones_are_not() {
    let recorded = |first: u64, count: u64| json!({"recording": {"first": first, "count": count}});
    let document = |node: &mut Node, action: &str, sequence: Option<u64>, recording: Value| {
        node.write(action, &json!({"id": "s", "documents": 2}), sequence);
        let last = node.documents.pop().expect("written");
        let mut value: Value = serde_json::from_str(&last).expect("JSON");
        value["audit"]["recording"] = recording["recording"].clone();
        node.documents.push(value.to_string());
        node.previous = hash(value.to_string().as_bytes());
    };
    let mut node = Node::new("n");
    node.happened("s", 0);
    document(&mut node, "recorded", None, recorded(0, 4));
    document(&mut node, "recorded", None, recorded(4, 3));
    document(&mut node, "recorded", None, recorded(4, 3));
    document(&mut node, "session-ended", Some(1), json!({"recording": {"pieces": 9, "lost": 2}}));
    let whole = report(&node.documents);
    assert!(whole.complete && whole.in_state(SessionState::Complete) == 1, "{whole:#?}");
    let less = report(&without(&node.documents, &[2, 3]));
    let [session] = &less.sessions[..] else { panic!("{less:#?}") };
    assert_eq!((session.state, session.pieces, session.pieces_missing), (SessionState::Missing, 4, 3));
    let text = super::render(&less, false);
    assert!(text.contains("missing: 3 pieces of its recording are not there"), "{text}");
}

#[test]
fn what_was_the_last_document_once_is_held_against_what_is_there() {
    let mut node = Node::new("n1");
    node.session("s1", 3);
    let head = report(&node.documents).chains[0].head.clone().expect("there is one");
    node.session("s2", 2);
    let held_to = |documents: &[String], head: &str| {
        let mut verifier = Verifier::default();
        verifier.expect(head.parse().expect("as it was said"));
        let place = verifier.place();
        documents.iter().for_each(|document| verifier.document(document.as_bytes(), place));
        verifier.report()
    };
    assert!(held_to(&node.documents, &head).passes(true));
    // Whoever can write all of it anew makes another chain that is sound by itself.
    let mut other = Node::new("n1");
    other.session("s1", 2);
    other.session("s2", 3);
    assert!(report(&other.documents).passes(true));
    assert_eq!(held_to(&other.documents, &head).chains[0].changed_documents, [2]);
    let cut = held_to(&node.documents[..2], &head);
    assert_eq!((cut.missing, cut.passes(false)), (1, false));
    let gone = held_to(&[], &head);
    assert_eq!((gone.missing, gone.passes(false), gone.is_empty()), (3, false, false));
    assert!(render(&gone, false).starts_with("chain n1a-1: 0 documents"), "{}", render(&gone, false));
    for wrong in [
        "",
        "a:1",
        "a:b:c",
        &format!("a:-1:{}", "0".repeat(64)),
        &format!("a:{}:{}", u64::MAX, "0".repeat(64)),
    ] {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
}

#[test]
fn a_chain_goes_on_in_the_next_one_after_a_boot() {
    let mut node = Node::new("n1");
    node.session("s1", 3);
    node.boot("b-1", Some(2));
    node.session("s2", 2);
    let whole = report(&node.documents);
    assert!(whole.passes(true) && notes(&whole).is_empty(), "{whole:?}");
    // The last document of the chain before is named by the next.
    let cut = report(&without(&node.documents, &[2]));
    assert_eq!((cut.missing, cut.passes(false)), (1, false));
    let mut changed = node.documents.clone();
    changed[2] = changed[2].replace("session-ended", "session-begun");
    assert_eq!(report(&changed).chains[0].changed_documents, [2]);
    // A chain that is gone altogether.
    let gone = report(&node.documents[3..]);
    assert_eq!((gone.missing, gone.passes(false)), (3, false));
    let expired = held(&node.documents[3..], true);
    assert!(expired.passes(false), "{expired:?}");
    assert_eq!(notes(&expired), ["nothing of it is there: retention removed it"]);
}

#[test]
fn what_a_power_cut_took_from_the_disk_after_it_was_delivered_is_explained() {
    let mut node = Node::new("n1");
    node.session("s1", 5);
    node.boot("b-1", Some(2));
    node.session("s2", 2);
    let report = report(&node.documents);
    assert!(report.passes(false));
    assert!(
        notes(&report)[0].starts_with("goes on to 4 beyond 2, which the next chain begins after"),
        "{report:?}"
    );
}

#[test]
fn a_node_that_begins_anew_is_noted() {
    let mut node = Node::new("n1");
    node.session("s1", 2);
    node.boot("b-1", None);
    node.session("s2", 2);
    let mut other = Node::new("n2");
    other.session("s3", 2);
    let report = report(&[node.documents, other.documents].concat());
    assert!(report.passes(true));
    assert_eq!(notes(&report).len(), 1);
    assert!(notes(&report)[0].starts_with("begins anew, though the node had the chain n1a-1 before"));
}

#[test]
fn what_is_hostile_or_none_of_ours_is_counted_and_breaks_nothing() {
    let odd = [
        "",
        "[]",
        "{\"audit\":{\"chain\":{\"id\":\"x\"}}}",
        "{\"audit\":{\"chain\":{\"id\":\"x\",\"sequence\":18446744073709551615}}}",
        "{\"audit\":{\"chain\":{\"id\":\"x\\u001b[2J\",\"sequence\":4611686018427387903,\"previous\":\"+\"}},\"host\":7}",
        "{\"audit\":{\"chain\":{\"id\":\"y\",\"sequence\":0,\"after\":{\"id\":\"y\",\"sequence\":18446744073709551615}}}}",
        "{\"audit\":{\"chain\":{\"id\":\"z\",\"sequence\":0,\"after\":{\"id\":\"z\",\"sequence\":9}},\"session\":{\"id\":3}}}",
    ];
    let report = report(&odd.map(str::to_owned));
    assert_eq!(report.foreign, 4);
    assert!(!render(&report, true).contains('\u{1b}'));
    assert!(!report.passes(false), "a number out of nowhere leaves a hole");
    assert_eq!(
        super::Verifier::default().report().verdict,
        "audit has nothing to verify: 0 chains, 0 documents, 0 missing, 0 changed, 0 repeated; 0 sessions"
    );
}

/// Two nodes, one of them started anew, with sessions beside each other.
fn fleet(sizes: &[u64]) -> Vec<String> {
    let (mut first, mut second) = (Node::new("n1"), Node::new("n2"));
    for (number, size) in sizes.iter().enumerate() {
        let (this, other) =
            if number % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let name = format!("s{number}");
        (0..*size).for_each(|sequence| this.happened(&name, sequence));
        other.session(&format!("{name}b"), 2);
        this.ended(&name, *size, &[]);
    }
    let last = first.next - 1;
    first.boot("b-1", Some(last));
    first.session("last", 3);
    let (mut first, mut second) = (first.documents.into_iter(), second.documents.into_iter());
    let mut documents = Vec::new();
    while first.len() + second.len() > 0 {
        documents.extend(first.next());
        documents.extend(second.next());
    }
    documents
}

/// Whether no document in these names this one.
fn is_last(documents: &[String], index: usize) -> bool {
    let hash = hash(documents[index].as_bytes());
    !documents.iter().any(|document| link(document).previous == hash)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_document_that_is_removed_is_found_unless_it_is_the_last(
        sizes in prop::collection::vec(1_u64..6, 1..6), chosen in any::<prop::sample::Index>(), truncated in any::<bool>(),
    ) {
        let documents = fleet(&sizes);
        prop_assert!(report(&documents).passes(true));
        let removed = chosen.index(documents.len());
        let report = held(&without(&documents, &[removed]), truncated);
        let place = link(&documents[removed]);
        // What a retention may remove is a beginning, and it says so.
        let may_expire = truncated && place.sequence == 0;
        if is_last(&documents, removed) {
            prop_assert!(report.missing == 0 && report.changed == 0);
            prop_assert!(!report.passes(true), "a session is open then");
        } else if may_expire {
            prop_assert!(report.passes(false) && report.expired, "{report:?}");
        } else {
            prop_assert!(report.missing == 1 && !report.passes(false), "{report:?}");
        }
    }

    #[test]
    fn a_document_that_is_changed_is_found_unless_it_is_the_last(
        sizes in prop::collection::vec(1_u64..6, 1..6),
        chosen in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let documents = fleet(&sizes);
        let changed = chosen.index(documents.len());
        prop_assume!(!is_last(&documents, changed));
        let mut verifier = Verifier::default();
        let place = verifier.place();
        for (index, document) in documents.iter().enumerate() {
            let mut bytes = document.clone().into_bytes();
            if index == changed {
                let at = at.index(bytes.len());
                prop_assume!(bytes[at] != with);
                bytes[at] = with;
            }
            verifier.document(&bytes, place);
        }
        prop_assert!(!verifier.report().passes(false), "{:?}", verifier.report());
    }

    #[test]
    fn the_order_of_arrival_and_repeats_change_nothing_but_their_number(
        sizes in prop::collection::vec(1_u64..6, 1..6), seed in any::<u64>(), again in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let documents = fleet(&sizes);
        let mut shuffled = documents.clone();
        shuffled.extend(again.iter().map(|index| documents[index.index(documents.len())].clone()));
        shuffled.sort_by_key(|document| document.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())));
        let (expected, found) = (report(&documents), report(&shuffled));
        prop_assert_eq!(found.repeated, again.len() as u64);
        prop_assert_eq!((found.chains, found.sessions, found.complete), (expected.chains, expected.sessions, true));
    }

    #[test]
    fn documents_that_were_exchanged_are_found(
        sizes in prop::collection::vec(1_u64..6, 1..6), one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
    ) {
        let documents = fleet(&sizes);
        let (one, other) = (one.index(documents.len()), other.index(documents.len()));
        let places = [one, other].map(|index| link(&documents[index]));
        prop_assume!(one != other && !is_last(&documents, one) && !is_last(&documents, other));
        // Each takes the place of the other, as if that had happened there.
        let mut forged = documents.clone();
        for (index, with, place) in [(one, other, &places[0]), (other, one, &places[1])] {
            let mut value: Value = serde_json::from_str(&documents[with]).expect("JSON");
            value["audit"]["chain"] = json!({"id": place.id, "sequence": place.sequence, "previous": place.previous});
            forged[index] = value.to_string();
        }
        prop_assert!(!report(&forged).passes(false));
    }
}
