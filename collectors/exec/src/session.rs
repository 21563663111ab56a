//! A session as this program knows it: what it keeps of one that is open, and what it says of one to people.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::asked::AskedFor;
use crate::config::Recording;
use crate::recording::Account;
use crate::request::Attribution;
use crate::wire::{Exit, Session, SessionKind};

/// How a session came about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// By the container's runtime, at the request of its engine, kubelet or a client: `docker exec`, `kubectl exec`, `crictl exec`.
    #[default]
    Exec,
    /// So, too, by kubelet of its own accord: a probe of the pod's specification.
    Probe,
    /// The same, a lifecycle hook.
    Hook,
    /// A container that was added to a running pod to look into it, and all that is done there: `kubectl debug`.
    Debug,
    /// Somebody is with a container's first process, and began none: `kubectl attach`.
    Attach,
    /// Past the runtime: somebody on the machine, or in another container, went into its namespaces. Or past the API server: where
    /// that tells who asks for sessions, nobody has asked for this one.
    OutOfBand,
}

impl Origin {
    /// Every one.
    pub const ALL: [Origin; 6] =
        [Origin::Exec, Origin::Probe, Origin::Hook, Origin::Debug, Origin::Attach, Origin::OutOfBand];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Exec => "exec",
            Origin::Probe => "probe",
            Origin::Hook => "hook",
            Origin::Debug => "debug",
            Origin::Attach => "attach",
            Origin::OutOfBand => "out-of-band",
        }
    }
}

/// Whose container it is. Empty: unknown, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Whose {
    /// The runtime's id, 64 hexadecimal digits.
    pub id: String,
    /// Name in its pod; the engine's otherwise.
    pub container: String,
    /// The image, by name.
    pub image: String,
    /// `docker`, `containerd`, `cri-o`.
    pub runtime: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod.
    pub pod_uid: String,
    /// Labels of the pod, or of a container that is in none.
    pub labels: BTreeMap<String, String>,
    /// Who made the pod, nearest first: kind and name.
    pub owners: Vec<(String, String)>,
}

impl Whose {
    /// Namespace, pod and container, or as much as is known, for people.
    #[must_use]
    pub fn display(&self) -> String {
        let names = [self.namespace.as_str(), &self.pod, &self.container];
        let known: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        match known.as_slice() {
            [] => self.id.get(..12).unwrap_or("-").to_owned(),
            known => known.join("/"),
        }
    }
}

/// Who knows whose containers are.
pub trait Namer: Send + Sync {
    /// Whose this container is, as far as that is known now, and whether that is all there is to know. `pod_uid` is what its
    /// cgroup says, empty if it says nothing.
    fn whose(&self, container_id: &str, pod_uid: &str) -> (Whose, bool);

    /// What the specification of its pod asks for in this container, as far as that is known now.
    fn asked_for(&self, container_id: &str, pod_uid: &str) -> AskedFor {
        let _ = (container_id, pod_uid);
        AskedFor { is_ephemeral: Some(false), ..AskedFor::default() }
    }
}

/// What began a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The program's path.
    pub executable: String,
    /// Its arguments, as far as they were told.
    pub arguments: Vec<String>,
    /// The working directory.
    pub directory: String,
    /// Its process, as the machine numbers it.
    pub pid: u32,
    /// As its own pid namespace does.
    pub inner_pid: u32,
    /// When it was made, nanoseconds since the machine's start.
    pub start: u64,
    /// Real user; [`crate::wire::NOBODY`] where it is not known, as with the group.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// The user's name, where only that is known; else empty.
    pub user_name: String,
    /// The user who once logged in, as the kernel's audit subsystem has it.
    pub login_user: Option<u32>,
    /// Its terminal; empty for none.
    pub tty: String,
    /// By which differences to its parent's surroundings it came in.
    pub entered_by: u32,
    /// Whether nothing of this is known: its record was lost.
    pub lost: bool,
}

impl Entry {
    /// Who it is, without what was begun.
    fn outside(&self) -> Entry {
        Entry { executable: String::new(), arguments: Vec::new(), directory: String::new(), ..self.clone() }
    }
}

/// A process by its pid and its start, which /proc tells to a hundredth of a second.
pub(crate) type Found = (u32, u64);

/// A session that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Open {
    /// The probe's number for it.
    pub number: u64,
    /// Its name everywhere.
    pub id: String,
    /// When it began, nanoseconds since the Unix epoch.
    pub begun: i64,
    /// Whether it began before the probe.
    pub adopted: bool,
    /// How it came about.
    pub origin: Origin,
    /// The kernfs id of the container's cgroup.
    pub cgroup: u64,
    /// Whose container it is in.
    pub whose: Whose,
    /// What is written down of it.
    pub recording: Recording,
    /// Whether that is the most that it may be: not all is known of its container, and what is recorded is held until then.
    pub supposed: bool,
    /// What began it.
    pub entry: Entry,
    /// Whose processes were found, by pid and start: of an adopted one.
    pub found: Vec<Found>,
    /// At whose request it came about.
    pub attribution: Attribution,
    /// What the kernel told at its end, while something of its recording is still to come.
    pub unread: Option<Unread>,
    /// At its end: what there is of its recording, or why there is none.
    pub recorded: Option<Result<Account, String>>,
    /// How it ended, while that waits to be told until it is known at whose request it came about.
    pub ending: Option<Ending>,
    /// What is missing of it besides what is counted.
    pub missing: Vec<String>,
}

/// The end of a session, as the kernel told it, before its recording has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// What it counted.
    pub session: Session,
    /// The number of its last record.
    pub number: u64,
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// What was counted of it.
    pub counted: Session,
    /// The number of its last record, when that has one.
    pub number: Option<u64>,
    /// When, nanoseconds since the Unix epoch.
    pub time: i64,
}

/// A session as it is told to people: live, or ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Its name everywhere.
    pub id: String,
    /// When it began, nanoseconds since the Unix epoch.
    pub begun: i64,
    /// When it ended; none while it lives.
    pub ended: Option<i64>,
    /// How it came about.
    pub origin: Origin,
    /// Whose container it is in.
    pub whose: Whose,
    /// What began it.
    pub entry: Entry,
    /// How its first process ended: code, or 128 and the signal, as a shell says it.
    pub exit_code: Option<i32>,
    /// Programs that it began.
    pub execs: u64,
    /// Its processes that live.
    pub members: u32,
    /// Records that were made of it.
    pub records: u64,
    /// What is missing of it, and why; empty: nothing is.
    pub gaps: Vec<String>,
    /// At whose request it came about.
    pub attribution: Attribution,
    /// What is written down of it. Of one that a policy keeps nothing of, it is not told either what was done in it.
    pub recording: Recording,
}

/// 128 and the signal, or the code.
#[must_use]
pub(crate) fn shell_code(exit: Exit) -> i32 {
    exit.signal().map_or_else(|| i32::from(exit.code().unwrap_or(0)), |signal| 128 + i32::from(signal))
}

impl Open {
    /// What people are told, with what the probe counts now.
    #[must_use]
    pub fn summary(&self, counted: Option<&Session>, ended: Option<i64>) -> Summary {
        let ending = self.ending.as_ref();
        let (counted, ended) = (ending.map(|it| &it.counted).or(counted), ending.map(|it| it.time).or(ended));
        let held =
            |session: &Session| session.members.saturating_sub(if self.adopted { Session::HOLD } else { 0 });
        Summary {
            id: self.id.clone(),
            begun: self.begun,
            ended,
            origin: self.origin,
            whose: self.whose.clone(),
            entry: if self.recording == Recording::Off { self.entry.outside() } else { self.entry.clone() },
            exit_code: counted.and_then(Session::exit).map(shell_code),
            execs: counted.map_or(0, |session| session.execs),
            members: counted.map_or(0, held),
            records: counted.map_or(0, |session| session.records),
            gaps: counted.map_or_else(Vec::new, |session| self.gaps(session)),
            attribution: self.attribution.clone(),
            recording: self.recording,
        }
    }

    /// What is missing of it, and why.
    #[must_use]
    pub fn gaps(&self, session: &Session) -> Vec<String> {
        let adopted = self.adopted || session.kind == SessionKind::Adopted;
        let counted = [
            (session.lost, "records did not fit the kernel's ring"),
            (
                session.limited.saturating_sub(session.limited_accesses),
                "records were over the rate of their container",
            ),
            (
                session.limited_accesses,
                "files and connections were over the rate that their container has for these",
            ),
            (session.unwanted, "records were not asked for"),
            (session.untracked, "processes could not be followed"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(count, what)| format!("{count} {what}"));
        let beginning = adopted.then(|| "its beginning was before the probe".to_owned());
        let has_none = adopted || self.origin == Origin::Attach;
        let entry =
            (self.entry.lost && !has_none).then(|| "the record of its beginning is missing".to_owned());
        let recording: Vec<String> = match &self.recorded {
            Some(Ok(account)) => account.gaps().collect(),
            Some(Err(why)) => vec![format!("recording: there is none: {why}")],
            None => Vec::new(),
        };
        let all = beginning.into_iter().chain(entry).chain(counted).chain(recording);
        all.chain(self.missing.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_says_what_is_missing_of_it_and_why() {
        let mut open = Open::default();
        assert!(open.gaps(&Session::default()).is_empty());
        let counted = Session { lost: 2, untracked: 1, ..Session::default() };
        assert_eq!(
            open.gaps(&counted),
            ["2 records did not fit the kernel's ring", "1 processes could not be followed"]
        );
        open.adopted = true;
        open.entry.lost = true;
        assert_eq!(open.gaps(&Session::default()), ["its beginning was before the probe"]);
    }

    #[test]
    fn of_one_that_a_policy_keeps_nothing_of_it_is_told_who_came_and_not_what_was_done() {
        let entry = Entry { arguments: vec!["secret".to_owned()], user: 7, ..Entry::default() };
        let told =
            |recording| Open { recording, entry: entry.clone(), ..Open::default() }.summary(None, None);
        assert_eq!(told(Recording::Commands).entry, entry);
        let off = told(Recording::Off);
        assert_eq!((off.entry.user, off.entry.arguments.len(), off.recording), (7, 0, Recording::Off));
    }

    #[test]
    fn codes_are_as_a_shell_says_them() {
        let code = |status| shell_code(Exit { status, cpu: 0 });
        assert_eq!([code(0), code(0x300), code(9)], [0, 3, 137]);
    }

    #[test]
    fn whose_it_is_is_said_by_as_much_as_is_known() {
        let id = "ab".repeat(32);
        let mut whose = Whose { id, ..Whose::default() };
        assert_eq!(whose.display(), "abababababab");
        whose.container = "app".to_owned();
        assert_eq!(whose.display(), "app");
        (whose.namespace, whose.pod) = ("shop".to_owned(), "web-0".to_owned());
        assert_eq!(whose.display(), "shop/web-0/app");
    }
}
