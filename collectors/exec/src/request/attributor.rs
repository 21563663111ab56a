//! Which request explains which session, and which session none does.
//!
//! It has no clock and does no input: what was told and which sessions there are goes in, verdicts come out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::session::{Open, Origin};

use super::fits::{fits, reach};
use super::{Asked, Attribution, Inbox, Known, Request, Source};

/// How many requests are remembered at most.
const MOST: usize = 1024;
/// How long one that has explained a session is remembered, so that it explains no other and a second voice is known for the same; and
/// how late one may be.
const REMEMBERED: i64 = 300_000_000_000;
/// How far apart the times of the same request may be that two voices tell.
const APART: i64 = 5_000_000_000;

/// What became known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Of a session that there is.
    Of(u64, Box<Attribution>),
    /// Somebody is with a container's first process from now on.
    Attached(Box<Request>),
    /// Nobody any more is who has this session, since then.
    Left(u64, i64),
}

#[derive(Debug)]
struct Heard {
    request: Request,
    /// Whether it was said that somebody is attached by it.
    is_attached: bool,
    /// The session that it explains.
    explains: Option<u64>,
}

/// Requests of late.
pub(crate) struct Attributor {
    inbox: Arc<Inbox>,
    patience: i64,
    /// When this life began to listen: what was asked for before may be told still.
    since: Option<i64>,
    heard: VecDeque<Heard>,
}

impl Attributor {
    pub(crate) fn new(inbox: Arc<Inbox>, patience: i64) -> Attributor {
        Attributor { inbox, patience, since: None, heard: VecDeque::new() }
    }

    /// What is known at this moment, nanoseconds since the Unix epoch, of sessions that have not ended or wait for it.
    pub(crate) fn round(&mut self, open: &HashMap<u64, Open>, now: i64) -> Vec<Verdict> {
        self.since.get_or_insert(now);
        let mut verdicts = Vec::new();
        for request in self.inbox.take() {
            verdicts.extend(self.hear(request, open));
        }
        verdicts.extend(self.attached());
        self.forget(now);
        let mut asking: Vec<&Open> = open.values().filter(|open| is_asking(open, now)).collect();
        asking.sort_by_key(|open| (open.begun, open.number));
        for open in asking {
            verdicts.extend(self.explain(open, now));
        }
        verdicts
    }

    /// Something was found out about a session.
    pub(crate) fn decided(&self, known: Known) {
        self.inbox.decided(known);
    }

    fn hear(&mut self, request: Request, open: &HashMap<u64, Open>) -> Option<Verdict> {
        if let Some(verdict) = of_attached(&request, open) {
            return verdict;
        }
        if let Some(known) = self.heard.iter_mut().find(|heard| is_same(&heard.request, &request)) {
            let has_more = known.request.hear_more(request);
            let explained = known.explains.filter(|_| has_more).and_then(|number| open.get(&number))?;
            let request = Some(known.request.clone());
            let attribution = Attribution { request, ..explained.attribution.clone() };
            return Some(Verdict::Of(explained.number, Box::new(attribution)));
        }
        self.heard.push_back(Heard { request, is_attached: false, explains: None });
        None
    }

    /// Who is attached from now on. When all that was told at once is heard: two voices are one request.
    fn attached(&mut self) -> Vec<Verdict> {
        let is_new = |heard: &&mut Heard| {
            heard.request.asked == Asked::Attach && !heard.is_attached && !heard.request.was_refused
        };
        let new = self.heard.iter_mut().filter(is_new).map(|heard| {
            heard.is_attached = true;
            Verdict::Attached(Box::new(heard.request.clone()))
        });
        new.collect()
    }

    /// What is too old, or too much.
    fn forget(&mut self, now: i64) {
        let patience = self.patience;
        let mut unused = 0;
        let mut is_wanted = |heard: &Heard| {
            let age = now.saturating_sub(heard.request.at);
            let is_explaining = heard.explains.is_some() || heard.request.asked == Asked::Attach;
            let kept = if is_explaining {
                REMEMBERED
            } else {
                reach(heard.request.asked) + patience.max(REMEMBERED)
            };
            let is_wanted = age <= kept;
            unused += u64::from(!is_wanted && !is_explaining && !heard.request.was_refused);
            is_wanted
        };
        self.heard.retain(|heard| is_wanted(heard));
        self.inbox.unused.fetch_add(unused, Ordering::Relaxed);
        let too_many = self.heard.len().saturating_sub(MOST);
        let lost = self.heard.drain(..too_many).filter(|heard| heard.explains.is_none()).count();
        self.inbox.lose(lost as u64);
    }

    fn explain(&mut self, open: &Open, now: i64) -> Option<Verdict> {
        let fitting = |heard: &&mut Heard| !heard.request.was_refused && fits(&heard.request, open);
        let mut fitting: Vec<&mut Heard> = self.heard.iter_mut().filter(fitting).collect();
        fitting.sort_by_key(|heard| heard.request.at);
        let first = fitting.iter().position(|heard| heard.explains.is_none());
        let Some(first) = first else { return self.without(open, now) };
        let user = &fitting[first].request.user;
        let is_ambiguous = fitting.iter().any(|other| other.request.user != *user);
        let heard = &mut fitting[first];
        heard.explains = Some(open.number);
        let attribution = Attribution { known: Known::Known, is_ambiguous, ..Attribution::default() };
        let attribution = match &open.attribution.request {
            Some(marked) => marked.told_besides(&heard.request, attribution),
            None => Attribution { request: Some(heard.request.clone()), ..attribution },
        };
        Some(Verdict::Of(open.number, Box::new(attribution)))
    }

    /// None explains it: is it late, or is there none?
    fn without(&self, open: &Open, now: i64) -> Option<Verdict> {
        if let (Some(_), Known::Awaited) = (&open.attribution.request, open.attribution.known) {
            let reason = String::new();
            let attribution = Attribution { known: Known::Known, reason, ..open.attribution.clone() };
            return Some(Verdict::Of(open.number, Box::new(attribution)));
        }
        let waits_since = open.begun.max(self.since.unwrap_or(now));
        if open.attribution.known != Known::Awaited || now < waits_since.saturating_add(self.patience) {
            return None;
        }
        let asked = if open.origin == Origin::Debug { Asked::Debug } else { Asked::Exec };
        let (known, reason) = match self.inbox.well_since() {
            _ if open.entry.arguments.is_empty() => {
                (Known::Unknown, "its command could not be read".to_owned())
            }
            _ if !open.attribution.reason.is_empty() => (Known::Unknown, open.attribution.reason.clone()),
            Err(trouble) => (Known::Unknown, format!("who asks for sessions was not told: {trouble}")),
            Ok(since) if open.begun < since.saturating_add(reach(asked)) => {
                (Known::Unknown, "who asked for it may have done so before requests were heard of".to_owned())
            }
            Ok(_) => (Known::OutOfBand, "no request to the API server explains it".to_owned()),
        };
        Some(Verdict::Of(open.number, Box::new(Attribution { known, reason, ..Attribution::default() })))
    }
}

/// Whether a request would be of use for it: for a while also one that comes late, or says more than a variable does.
fn is_asking(open: &Open, now: i64) -> bool {
    let attribution = &open.attribution;
    let is_marked = |request: &Request| request.sources == [Source::Marker];
    let would_change = matches!(attribution.known, Known::OutOfBand | Known::Unknown)
        || attribution.request.as_ref().is_some_and(is_marked);
    attribution.known == Known::Awaited || would_change && now.saturating_sub(open.begun) <= REMEMBERED
}

/// What a request says that is known already as somebody's who is attached; nothing when it is none.
#[expect(clippy::option_option, reason = "whether it is, and whether that ends it")]
fn of_attached(request: &Request, open: &HashMap<u64, Open>) -> Option<Option<Verdict>> {
    if request.asked != Asked::Attach {
        return None;
    }
    let attached = open.values().filter(|open| open.origin == Origin::Attach);
    let same = attached
        .filter(|open| open.ending.is_none())
        .find(|open| open.attribution.request.as_ref().is_some_and(|known| is_same(known, request)))?;
    let ended = request.over.or(request.was_refused.then_some(request.at));
    if let Some(at) = ended {
        return Some(Some(Verdict::Left(same.number, at)));
    }
    let mut known = same.attribution.request.clone()?;
    let has_more = known.hear_more(request.clone());
    let attribution = Attribution { request: Some(known), ..same.attribution.clone() };
    Some(has_more.then(|| Verdict::Of(same.number, Box::new(attribution))))
}

/// Whether both are of the same request: by its id, or told by different voices at about the same time.
fn is_same(known: &Request, new: &Request) -> bool {
    let is_place = |a: &Request, b: &Request| {
        a.namespace == b.namespace
            && a.pod == b.pod
            && (a.container == b.container || a.container.is_empty() || b.container.is_empty())
    };
    if known.ids.iter().any(|id| !id.is_empty() && new.ids.contains(id)) {
        return known.asked == new.asked && is_place(known, new);
    }
    let by_others = !new.sources.iter().any(|source| known.sources.contains(source));
    by_others
        && known.asked == new.asked
        && known.user.name == new.user.name
        && is_place(known, new)
        && (known.command == new.command || known.command.is_none() || new.command.is_none())
        && known.tty.is_none_or(|tty| new.tty.is_none_or(|other| tty == other))
        && known.at.abs_diff(new.at) <= APART.unsigned_abs()
}

impl Request {
    /// What a variable says counts more than what is told besides; that they differ is said.
    fn told_besides(&self, told: &Request, attribution: Attribution) -> Attribution {
        let mut request = Request { sources: vec![Source::Marker], user: self.user.clone(), ..told.clone() };
        request.sources.extend(&told.sources);
        if told.user.name == self.user.name {
            request.user = told.user.clone();
            return Attribution { request: Some(request), ..attribution };
        }
        let reason = format!("the variable names this user, and the API server told of {}", told.user.name);
        Attribution { request: Some(request), reason, is_ambiguous: true, ..attribution }
    }

    /// Takes in what another voice says of it. Whether that is more than was known.
    fn hear_more(&mut self, other: Request) -> bool {
        let news = other.sources.iter().any(|source| !self.sources.contains(source));
        let had = (self.source_ips.len(), self.user_agent.len(), self.impersonator.is_some());
        self.sources.extend(other.sources);
        self.sources.sort_unstable();
        self.sources.dedup();
        let new: Vec<String> = other.ids.into_iter().filter(|id| !self.ids.contains(id)).collect();
        self.ids.extend(new);
        if self.source_ips.is_empty() {
            self.source_ips = other.source_ips;
        }
        if self.user_agent.is_empty() {
            self.user_agent = other.user_agent;
        }
        self.impersonator = self.impersonator.take().or(other.impersonator);
        self.over = self.over.or(other.over);
        self.command = self.command.take().or(other.command);
        self.tty = self.tty.or(other.tty);
        self.was_refused |= other.was_refused;
        if self.container.is_empty() {
            self.container = other.container;
        }
        let has = (self.source_ips.len(), self.user_agent.len(), self.impersonator.is_some());
        news && had != has
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Requests, User};
    use super::*;
    use crate::session::{Entry, Whose};

    const SECOND: i64 = 1_000_000_000;
    const START: i64 = 1_000_000 * SECOND;
    const PATIENCE: i64 = 10 * SECOND;

    /// An attributor that has been listening for long.
    fn listening() -> (Requests, Attributor) {
        let requests = Requests::of(&[Requests::DOOR]);
        requests.inbox().heard_since(START - 3600 * SECOND);
        let mut attributor = Attributor::new(requests.inbox(), PATIENCE);
        attributor.round(&HashMap::new(), START - 3600 * SECOND);
        (requests, attributor)
    }

    fn asked(user: &str, command: &str, at: i64) -> Request {
        Request {
            sources: vec![Source::Webhook],
            ids: vec![format!("{user} {at}")],
            at: START + at,
            user: User { name: user.to_owned(), ..User::default() },
            namespace: "shop".to_owned(),
            pod: "web-0".to_owned(),
            container: "app".to_owned(),
            command: Some(vec![command.to_owned()]),
            tty: Some(false),
            ..Request::default()
        }
    }

    fn logged(request: &Request) -> Request {
        Request {
            sources: vec![Source::AuditLog],
            ids: vec![format!("audit {}", request.ids[0])],
            source_ips: vec!["10.0.0.7".to_owned()],
            ..request.clone()
        }
    }

    fn session(number: u64, command: &str, begun: i64) -> Open {
        let [namespace, pod, container] = ["shop", "web-0", "app"].map(str::to_owned);
        Open {
            number,
            begun: START + begun,
            whose: Whose { namespace, pod, container, ..Whose::default() },
            entry: Entry { arguments: vec![command.to_owned()], ..Entry::default() },
            attribution: Attribution { known: Known::Awaited, ..Attribution::default() },
            ..Open::default()
        }
    }

    /// Sessions, which verdicts change as the book does.
    #[derive(Default)]
    struct Sessions(HashMap<u64, Open>);

    impl Sessions {
        fn of(all: impl IntoIterator<Item = Open>) -> Self {
            Sessions(all.into_iter().map(|open| (open.number, open)).collect())
        }

        fn round(&mut self, attributor: &mut Attributor, now: i64) -> Vec<Verdict> {
            let verdicts = attributor.round(&self.0, START + now);
            for verdict in &verdicts {
                if let Verdict::Of(number, attribution) = verdict
                    && let Some(open) = self.0.get_mut(number)
                {
                    open.attribution = (**attribution).clone();
                }
            }
            verdicts
        }

        fn users(&self) -> Vec<(u64, Known, &str, bool)> {
            let mut users: Vec<_> = self
                .0
                .values()
                .map(|open| {
                    let name = open.attribution.user().map_or("", |user| user.name.as_str());
                    (open.number, open.attribution.known, name, open.attribution.is_ambiguous)
                })
                .collect();
            users.sort_by_key(|(number, ..)| *number);
            users
        }
    }

    #[test]
    fn a_request_explains_one_session_and_the_next_one_the_next() {
        let (requests, mut attributor) = listening();
        let mut sessions = Sessions::of([
            session(1, "sh", SECOND),
            session(2, "sh", 2 * SECOND),
            session(3, "sh", 3 * SECOND),
        ]);
        requests.tell(asked("ben", "sh", SECOND + 1));
        requests.tell(asked("ana", "sh", 0));
        sessions.round(&mut attributor, 4 * SECOND);
        let expected =
            [(1, Known::Known, "ana", true), (2, Known::Known, "ben", true), (3, Known::Awaited, "", false)];
        assert_eq!(sessions.users(), expected, "in the order of time, and it may be the other way round");
        assert!(sessions.round(&mut attributor, 13 * SECOND - 1).is_empty());
        sessions.round(&mut attributor, 13 * SECOND);
        assert_eq!(sessions.users()[2], (3, Known::OutOfBand, "", false));
    }

    #[test]
    fn a_request_that_is_late_explains_still_what_was_called_out_of_band() {
        let (requests, mut attributor) = listening();
        let mut sessions = Sessions::of([session(1, "sh", 0)]);
        sessions.round(&mut attributor, 10 * SECOND);
        assert_eq!(sessions.users(), [(1, Known::OutOfBand, "", false)]);
        requests.tell(asked("ana", "sh", -1));
        sessions.round(&mut attributor, 11 * SECOND);
        assert_eq!(sessions.users(), [(1, Known::Known, "ana", false)]);
    }

    #[test]
    fn nobody_is_accused_while_requests_were_not_heard_all_the_while() {
        let (requests, mut attributor) = listening();
        let mut sessions = Sessions::of([session(1, "sh", 0)]);
        requests.set_trouble(Requests::DOOR, Some("the port is taken".to_owned()));
        sessions.round(&mut attributor, 10 * SECOND);
        assert_eq!(sessions.users(), [(1, Known::Unknown, "", false)]);
        assert!(sessions.0[&1].attribution.reason.contains("the port is taken"));

        let requests = Requests::of(&[Requests::DOOR]);
        requests.inbox().heard_since(START - 5 * SECOND);
        let mut attributor = Attributor::new(requests.inbox(), PATIENCE);
        let mut sessions = Sessions::of([session(1, "sh", 0)]);
        assert!(
            sessions.round(&mut attributor, 60 * SECOND).is_empty(),
            "what was written before may be read still"
        );
        sessions.round(&mut attributor, 70 * SECOND);
        assert_eq!(sessions.users(), [(1, Known::Unknown, "", false)], "it may have been asked for before");
    }

    #[test]
    fn a_container_that_was_added_may_have_been_asked_for_long_before() {
        for (heard_for, expected) in [(600, Known::Unknown), (3600, Known::OutOfBand)] {
            let requests = Requests::of(&[Requests::DOOR]);
            requests.inbox().heard_since(START - heard_for * SECOND);
            let mut attributor = Attributor::new(requests.inbox(), PATIENCE);
            let mut sessions = Sessions::of([Open { origin: Origin::Debug, ..session(1, "sh", 0) }]);
            sessions.round(&mut attributor, 0);
            sessions.round(&mut attributor, 10 * SECOND);
            assert_eq!(sessions.users(), [(1, expected, "", false)], "{heard_for}");
        }
    }

    #[test]
    fn what_two_voices_tell_is_one_request_and_the_second_says_more() {
        let (requests, mut attributor) = listening();
        let mut sessions = Sessions::of([session(1, "sh", SECOND), session(2, "sh", 4 * SECOND)]);
        let request = asked("ana", "sh", 0);
        requests.tell(request.clone());
        sessions.round(&mut attributor, SECOND);
        requests.tell(logged(&request));
        let verdicts = sessions.round(&mut attributor, 2 * SECOND);
        assert!(
            matches!(&verdicts[..], [Verdict::Of(1, told)] if told.request.as_ref().is_some_and(|it| it.source_ips == ["10.0.0.7"]))
        );
        let over = Request { over: Some(START + 9 * SECOND), ..logged(&request) };
        requests.tell(over);
        assert!(sessions.round(&mut attributor, 9 * SECOND).is_empty());
        sessions.round(&mut attributor, 14 * SECOND);
        assert_eq!(sessions.users()[1], (2, Known::OutOfBand, "", false), "it explains no other");
    }

    #[test]
    fn what_a_variable_says_counts_more_and_that_others_are_told_besides_is_said() {
        for (user, is_ambiguous) in [("ana", false), ("ben", true)] {
            let (requests, mut attributor) = listening();
            let marked =
                Request { sources: vec![Source::Marker], ids: Vec::new(), ..asked("ana", "sh", SECOND) };
            let mut open = session(1, "sh", SECOND);
            open.attribution.request = Some(marked);
            let mut sessions = Sessions::of([open, session(2, "sh", 2 * SECOND)]);
            sessions.round(&mut attributor, SECOND);
            assert_eq!(sessions.users()[0], (1, Known::Known, "ana", false), "at once");
            requests.tell(asked(user, "sh", 0));
            sessions.round(&mut attributor, 2 * SECOND);
            assert_eq!(sessions.users()[0], (1, Known::Known, "ana", is_ambiguous));
            assert_eq!(sessions.users()[1], (2, Known::Awaited, "", false), "the request is of the first");
            let sources = sessions.0[&1].attribution.request.as_ref().map(|request| request.sources.clone());
            assert_eq!(sources, Some(vec![Source::Marker, Source::Webhook]));
        }
    }

    #[test]
    fn what_was_refused_explains_nothing() {
        let (requests, mut attributor) = listening();
        let mut sessions = Sessions::of([session(1, "sh", SECOND)]);
        let request = asked("ana", "sh", 0);
        requests.tell(request.clone());
        requests.tell(Request { was_refused: true, ..logged(&request) });
        sessions.round(&mut attributor, 12 * SECOND);
        assert_eq!(sessions.users(), [(1, Known::OutOfBand, "", false)]);
    }

    #[test]
    fn who_is_attached_is_so_until_it_is_told_that_it_is_over() {
        let (requests, mut attributor) = listening();
        let request = Request { asked: Asked::Attach, command: None, ..asked("ana", "", 0) };
        requests.tell(request.clone());
        requests.tell(logged(&request));
        let verdicts = attributor.round(&HashMap::new(), START);
        let [Verdict::Attached(both)] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert_eq!(both.sources, [Source::Webhook, Source::AuditLog]);
        let attribution =
            Attribution { known: Known::Known, request: Some((**both).clone()), ..Attribution::default() };
        let open = Open { number: 7, origin: Origin::Attach, attribution, ..Open::default() };
        let open: HashMap<u64, Open> = [(7, open)].into();
        assert!(attributor.round(&open, START + SECOND).is_empty());
        requests.tell(Request { over: Some(START + SECOND), ..logged(&request) });
        assert_eq!(attributor.round(&open, START + SECOND), [Verdict::Left(7, START + SECOND)]);
    }

    proptest! {
        /// Whatever comes in whatever order: no request explains two sessions, and none is explained by what does not fit it.
        #[test]
        fn no_request_explains_two(
            told in prop::collection::vec((0_usize..3, 0_usize..2, 0_i64..20), 0..12),
            begun in prop::collection::vec((0_usize..2, 0_i64..25), 0..12),
            order in any::<u64>(),
        ) {
            let (requests, mut attributor) = listening();
            let (users, commands) = (["ana", "ben", "eve"], ["sh", "ls"]);
            let mut told: Vec<Request> =
                told.iter().map(|(user, command, at)| asked(users[*user], commands[*command], at * SECOND)).collect();
            told.sort_by_key(|request| request.at.cast_unsigned().wrapping_mul(order | 1));
            let mut sessions = Sessions::of((0..).zip(&begun).map(|(number, (command, at))| session(number, commands[*command], at * SECOND)));
            let count = told.len();
            for (step, request) in told.into_iter().enumerate() {
                requests.tell(request);
                sessions.round(&mut attributor, 25 * SECOND + step as i64);
            }
            sessions.round(&mut attributor, 100 * SECOND);
            let mut explained = 0;
            for open in sessions.0.values() {
                prop_assert!(open.attribution.known != Known::Awaited);
                if let Some(request) = &open.attribution.request {
                    explained += 1;
                    prop_assert!(fits(request, open));
                }
            }
            prop_assert!(explained <= count);
            let claimed: Vec<u64> = attributor.heard.iter().filter_map(|heard| heard.explains).collect();
            let distinct: std::collections::HashSet<u64> = claimed.iter().copied().collect();
            prop_assert_eq!(claimed.len(), distinct.len());
            prop_assert_eq!(claimed.len(), explained);
        }
    }
}
