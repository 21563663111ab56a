//! At whose request sessions come about, as it becomes known.
//!
//! Guarantee: the end of a session is told after all that is known of who asked for it. One that has ended waits for that with
//! how it ended, which is on the disk before its record is let go of.

use super::{Book, Page, Turn};
use crate::config::Recording;
use crate::document::Clock;
use crate::request::{Asked, Attribution, Known, Marker, Request, Verdict, is_place};
use crate::session::{Ending, Entry, Open, Origin, Whose};
use crate::wire::{Record, Session, What};

impl Book {
    /// Whether somebody tells at whose request sessions come about, and which variable does.
    pub(crate) fn expecting_requests(mut self, are_expected: bool, variable: Option<&str>) -> Self {
        self.expects_requests = are_expected;
        self.marker = variable.map(Marker::new);
        self
    }

    /// Learns the environment of a container's first process.
    pub(super) fn mark(&mut self, record: &Record) {
        if let (Some(marker), What::Exec(_, exec)) = (&mut self.marker, &record.what)
            && record.flags.is_of_init()
            && record.flags.is_entry()
            && !record.flags.environment_unreadable()
            // What was cut off might be it.
            && exec.environment_total as usize <= exec.environment.len()
        {
            marker.learn(record.container, &exec.environment);
        }
    }

    /// Learns the environment of the first process of a container that was there before, where it is of use and not known.
    pub(crate) fn own_environment(&mut self, cgroup: u64, environment: impl FnOnce() -> Option<Vec<u8>>) {
        if let Some(marker) = self.marker.as_mut().filter(|marker| marker.lacks(cgroup))
            && let Some(environment) = environment()
        {
            marker.learn(cgroup, &environment);
        }
    }

    /// A session that has come about so that somebody must have asked for it waits for that.
    pub(super) fn expect_request(&self, open: &mut Open, environment: &[u8]) {
        let is_of_pod = !open.whose.pod.is_empty() || !open.whose.pod_uid.is_empty();
        let is_asked_for =
            matches!(open.origin, Origin::Exec | Origin::Debug) && !open.adopted && !open.entry.lost;
        if !is_of_pod || !is_asked_for {
            return;
        }
        let is_ephemeral = self.is_ephemeral(open.cgroup);
        // Nobody comes in as the first process of a container: it is the container itself.
        match (open.entry.inner_pid, is_ephemeral) {
            (1, Some(true)) => open.origin = Origin::Debug,
            (1, _) if open.origin != Origin::Debug => return,
            _ => {}
        }
        let marker = self.marker.as_ref();
        open.attribution.request =
            marker.and_then(|marker| marker.request(open.cgroup, environment, open.begun));
        if !self.expects_requests && open.attribution.request.is_none() {
            return;
        }
        open.attribution.known = Known::Awaited;
        if is_ephemeral.is_none() {
            open.attribution.reason =
                "what its pod's specification asks for was not known when it began: it may be that"
                    .to_owned();
        }
    }

    /// Tells the end of a session, unless it is not known yet at whose request it came about.
    pub(super) fn end_or_wait(&mut self, mut open: Open, ending: Ending, page: &mut Page) {
        // The end of one that is attached is told by others than the probe.
        if open.origin != Origin::Attach && open.attribution.known != Known::Awaited {
            return self.end(&open, &ending, page);
        }
        if open.origin != Origin::Attach && open.ending.is_none() {
            open.ending = Some(ending);
            page.turns.push(Turn::Changed(open.number));
        }
        self.open.insert(open.number, open);
    }

    /// What became known of who asked for a session.
    pub(crate) fn judge(&mut self, verdict: Verdict, clock: Clock) -> Page {
        match verdict {
            Verdict::Of(number, attribution) => self.attribute(number, *attribution),
            Verdict::Attached(request) => self.attached(*request, clock),
            Verdict::Left(number, time) => self.left(number, time, None),
        }
    }

    fn attribute(&mut self, number: u64, attribution: Attribution) -> Page {
        let mut page = Page::default();
        let Some(open) = self.open.get_mut(&number) else { return page };
        let is_told = open.recording != Recording::Off;
        let told = open.attribution.told + u32::from(is_told);
        let asked = attribution.request.as_ref().map(|request| request.asked);
        open.origin = match (attribution.known, asked) {
            (Known::OutOfBand, _) | (Known::Known, Some(Asked::Proxy)) => Origin::OutOfBand,
            (Known::Known, Some(Asked::Debug)) => Origin::Debug,
            (Known::Known, Some(Asked::Exec)) if open.origin == Origin::OutOfBand => Origin::Exec,
            _ => open.origin,
        };
        open.attribution = Attribution { told, ..attribution };
        if is_told {
            page.documents.push_back(self.writer.attributed(open));
        }
        page.turns.push(Turn::Changed(number));
        if let Some(ending) = open.ending.clone()
            && let Some(open) = self.open.remove(&number)
        {
            self.end(&open, &ending, &mut page);
        }
        page
    }

    /// Somebody is with a container's first process from now on: a session without processes of its own.
    fn attached(&mut self, request: Request, clock: Clock) -> Page {
        let mut page = Page::default();
        let (begun, over) = (request.at, request.over);
        let number = (clock.since_start(request.at)..).find(|number| !self.open.contains_key(number));
        let Some(number) = number else { return page };
        let (cgroup, whose) = self
            .home_of(&request)
            .map_or_else(|| (None, said_by(&request)), |(cgroup, whose)| (Some(cgroup), whose));
        let mut open = Open {
            number,
            id: self.writer.session_id(number),
            begun,
            origin: Origin::Attach,
            cgroup: cgroup.unwrap_or_default(),
            recording: self.policies.decide(&whose, Origin::Attach),
            whose,
            entry: Entry { lost: true, ..Entry::default() },
            attribution: Attribution {
                known: Known::Known,
                request: Some(request),
                ..Attribution::default()
            },
            ..Open::default()
        };
        if open.recording != Recording::Off {
            open.attribution.told = 1;
            page.documents.push_back(self.writer.attached(&open));
            page.documents.push_back(self.writer.attributed(&open));
        }
        page.turns.push(Turn::Opened(number));
        self.open.insert(number, open);
        match over {
            Some(over) => page.add(self.left(number, over, None)),
            None if cgroup.is_none() => {
                let missing = "when it was left is not known: its container is not known on this node";
                page.add(self.left(number, begun, Some(missing)));
            }
            None => {}
        }
        page
    }

    /// The container that somebody asks to be attached to: its cgroup, and whose it is.
    fn home_of(&self, request: &Request) -> Option<(u64, Whose)> {
        let mut homes = self.homes.keys().map(|cgroup| (*cgroup, self.whose(*cgroup, &*self.namer)));
        homes.find(|(_, whose)| !whose.container.is_empty() && is_place(request, whose))
    }

    /// Somebody who was attached is so no more.
    fn left(&mut self, number: u64, time: i64, missing: Option<&str>) -> Page {
        let mut page = Page::default();
        let Some(mut open) = self.open.remove(&number) else { return page };
        open.missing.extend(missing.map(str::to_owned));
        let counted = Session { records: 2, ..Session::default() };
        self.end(&open, &Ending { counted, number: Some(1), time }, &mut page);
        page
    }

    /// Ends at once what waits to be told at whose request it came about.
    pub(crate) fn give_up(&mut self, number: u64, reason: &str) -> Page {
        let attribution =
            Attribution { known: Known::Unknown, reason: reason.to_owned(), ..Attribution::default() };
        self.attribute(number, attribution)
    }

    /// Ends what somebody is attached to whose container is gone.
    pub(crate) fn leave_gone(&mut self, now: i64) -> Page {
        let is_gone = |open: &&Open| open.origin == Origin::Attach && !self.homes.contains_key(&open.cgroup);
        let gone: Vec<u64> = self.open.values().filter(is_gone).map(|open| open.number).collect();
        let mut page = Page::default();
        for number in gone {
            page.add(self.left(
                number,
                now,
                Some("when it was left is not known: it ends with its container"),
            ));
        }
        page
    }
}

/// The container as a request names it.
fn said_by(request: &Request) -> Whose {
    let Request { namespace, pod, pod_uid, container, .. } = request.clone();
    Whose { namespace, pod, pod_uid, container, ..Whose::default() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CLOCK, book, enter};
    use super::*;
    use crate::request::{Source, User};
    use crate::wire::{Exec, Flags};

    fn request(asked: Asked) -> Request {
        Request {
            sources: vec![Source::Webhook],
            asked,
            at: CLOCK.time(200_000_000_000),
            user: User { name: "ana\u{1b}[2J".to_owned(), groups: vec!["sre".to_owned()], ..User::default() },
            source_ips: ["10.0.0.7", "nowhere"].map(str::to_owned).to_vec(),
            namespace: "shop".to_owned(),
            pod: "web-0".to_owned(),
            container: "app".to_owned(),
            ..Request::default()
        }
    }

    fn known(asked: Asked) -> Verdict {
        let request = Some(request(asked));
        Verdict::Of(5, Box::new(Attribution { known: Known::Known, request, ..Attribution::default() }))
    }

    fn out_of_band() -> Verdict {
        let attribution =
            Attribution { known: Known::OutOfBand, reason: "none".to_owned(), ..Attribution::default() };
        Verdict::Of(5, Box::new(attribution))
    }

    fn actions(page: &Page) -> Vec<String> {
        let action = |document: &crate::document::Document| {
            document.value()["event"]["action"].as_str().map(str::to_owned)
        };
        page.documents.iter().filter_map(action).collect()
    }

    #[test]
    fn the_end_waits_until_it_is_known_who_asked_and_says_it() {
        let mut book = book(&[], false).expecting_requests(true, None);
        enter(&mut book);
        assert_eq!(book.open()[&5].attribution.known, Known::Awaited);
        let counted = Session { records: 2, execs: 1, ..Session::default() };
        let page = book.close(5, &counted, Some(1), 201_000_000_000, CLOCK);
        assert!(page.documents.is_empty() && page.turns == [Turn::Changed(5)], "{page:?}");
        assert_eq!(
            book.open()[&5].summary(None, None).ended,
            Some(CLOCK.time(201_000_000_000)),
            "for people it has ended"
        );
        // Whoever would end it again does not.
        assert!(book.close(5, &Session::default(), None, 300_000_000_000, CLOCK).documents.is_empty());

        let page = book.judge(known(Asked::Exec), CLOCK);
        assert_eq!(actions(&page), ["session-attributed", "session-ended"]);
        for document in &page.documents {
            let document = document.value();
            assert_eq!(document["client"]["user"]["name"], "ana\u{1b}[2J");
            assert_eq!(document["client"]["user"]["group"]["name"][0], "sre");
            assert_eq!(
                document["source"]["ip"],
                serde_json::json!(["10.0.0.7"]),
                "what is no address is none"
            );
            assert_eq!(document["audit"]["attribution"]["documents"], 1);
            assert!(!document["message"].as_str().is_some_and(|it| it.contains('\u{1b}')), "{document}");
        }
        let end = page.documents[1].value();
        assert_eq!(
            (&end["event"]["sequence"], &end["audit"]["session"]["documents"]),
            (&1.into(), &2.into())
        );
        assert_eq!(end["event"]["duration"], 1_000_000_000_u64, "it ended when it ended");
        assert!(book.open().is_empty());
    }

    #[test]
    fn whom_no_request_explains_is_out_of_band_until_one_does() {
        let mut book = book(&[], false).expecting_requests(true, None);
        enter(&mut book);
        let page = book.judge(out_of_band(), CLOCK);
        let told = page.documents[0].value();
        assert_eq!(told["audit"]["session"]["origin"], "out-of-band");
        assert_eq!(
            (&told["event"]["kind"], &told["event"]["id"]),
            (&"alert".into(), &format!("{}.who.0", book.open()[&5].id).into())
        );
        let page = book.judge(known(Asked::Exec), CLOCK);
        assert_eq!(page.documents[0].value()["audit"]["session"]["origin"], "exec");
        let page = book.close(5, &Session::default(), Some(1), 201_000_000_000, CLOCK);
        assert_eq!(page.documents[0].value()["audit"]["attribution"]["documents"], 2);
    }

    #[test]
    fn who_goes_by_the_proxy_of_nodes_is_out_of_band_and_known() {
        let mut book = book(&[], false).expecting_requests(true, None);
        enter(&mut book);
        book.judge(known(Asked::Proxy), CLOCK);
        assert_eq!(book.open()[&5].origin, Origin::OutOfBand);
        assert_eq!(book.open()[&5].attribution.known, Known::Known);
    }

    #[test]
    fn a_variable_names_the_user_where_the_container_has_it_not_itself() {
        for (own, expected) in [("WHO=eve", Some("ana")), ("WHO=ana", None)] {
            let mut book = book(&[], false).expecting_requests(false, Some("WHO"));
            book.own_environment(7, || Some(own.as_bytes().to_vec()));
            enter(&mut book);
            let attribution = &book.open()[&5].attribution;
            assert_eq!(attribution.user().map(|user| user.name.as_str()), expected, "{own}");
            assert_eq!(attribution.known == Known::Awaited, expected.is_some());
        }
    }

    #[test]
    fn what_a_container_has_itself_is_known_only_when_all_of_it_was_told() {
        for (total, is_known) in [(7, true), (9000, false)] {
            let mut book = book(&[], false).expecting_requests(false, Some("WHO"));
            let environment = b"WHO=eve".to_vec();
            let exec = Exec { environment, environment_total: total, ..Exec::default() };
            let what = What::Exec(Box::default(), Box::new(exec));
            let flags = Flags::of_init(true);
            book.mark(&Record { flags, time: 1, session: 1, number: 0, container: 7, what });
            enter(&mut book);
            assert_eq!(book.open()[&5].attribution.user().is_some(), is_known, "{total}");
        }
    }

    #[test]
    fn the_first_process_of_a_container_is_nobody_who_came_in() {
        let mut book = book(&[], false).expecting_requests(true, None);
        enter(&mut book);
        let mut open = book.open()[&5].clone();
        for (inner_pid, expected) in [(1, Known::Unasked), (2, Known::Awaited)] {
            open.attribution = Attribution::default();
            open.entry.inner_pid = inner_pid;
            book.expect_request(&mut open, b"");
            assert_eq!(open.attribution.known, expected, "{inner_pid}");
        }
    }

    #[test]
    fn nobody_is_asked_for_where_nobody_tells() {
        let mut book = book(&[], false);
        enter(&mut book);
        let page = book.close(5, &Session::default(), Some(1), 201_000_000_000, CLOCK);
        assert_eq!(actions(&page), ["session-ended"]);
        assert_eq!(page.documents[0].value()["audit"]["attribution"], serde_json::Value::Null);
    }

    #[test]
    fn who_is_attached_has_a_session_until_he_leaves_or_the_container_ends() {
        for (leaves, gaps) in [(true, 0), (false, 1)] {
            let mut book = book(&[], false).expecting_requests(true, None);
            enter(&mut book);
            let page = book.judge(Verdict::Attached(Box::new(request(Asked::Attach))), CLOCK);
            assert_eq!(actions(&page), ["session-attached", "session-attributed"]);
            assert_eq!(page.documents[0].value()["kubernetes"]["pod"]["name"], "web-0");
            let number = *book.open().keys().find(|number| **number != 5).expect("a session");
            assert!(
                book.close(number, &Session::default(), None, 1, CLOCK).documents.is_empty(),
                "the probe knows nothing of it"
            );
            assert!(book.leave_gone(CLOCK.time(300_000_000_000)).documents.is_empty());
            let page = if leaves {
                book.judge(Verdict::Left(number, CLOCK.time(300_000_000_000)), CLOCK)
            } else {
                book.forget_home(7);
                book.leave_gone(CLOCK.time(300_000_000_000))
            };
            let end = page.documents[0].value();
            assert_eq!(
                (&end["event"]["sequence"], &end["audit"]["session"]["documents"]),
                (&1.into(), &2.into())
            );
            assert_eq!(end["event"]["duration"], 100_000_000_000_u64);
            assert_eq!(end["audit"]["session"]["gaps"].as_array().map_or(0, Vec::len), gaps, "{end}");
        }
    }

    #[test]
    fn who_has_left_when_it_is_told_that_he_is_attached_is_so_no_more() {
        let mut book = book(&[], false).expecting_requests(true, None);
        enter(&mut book);
        let over = Some(CLOCK.time(201_000_000_000));
        let page = book.judge(Verdict::Attached(Box::new(Request { over, ..request(Asked::Attach) })), CLOCK);
        assert_eq!(actions(&page), ["session-attached", "session-attributed", "session-ended"]);
        assert_eq!(page.documents[2].value()["event"]["duration"], 1_000_000_000_u64);
        assert_eq!(page.documents[2].value()["audit"]["session"]["complete"], true);
    }

    #[test]
    fn who_is_attached_to_what_is_not_known_is_said_all_the_same() {
        let mut book = book(&[], false).expecting_requests(true, None);
        let page = book.judge(Verdict::Attached(Box::new(request(Asked::Attach))), CLOCK);
        assert_eq!(actions(&page), ["session-attached", "session-attributed", "session-ended"]);
        assert!(
            page.documents[2].value()["audit"]["session"]["gaps"][0]
                .as_str()
                .is_some_and(|it| it.contains("not known"))
        );
    }
}
