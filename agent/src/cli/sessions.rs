//! `taffrail sessions`: who came into containers, and what they did there.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use taffrail_exec::request::Known as Attributed;
use taffrail_exec::wire::NOBODY;
use taffrail_exec::{Origin, Recording, Summary, execs, line};

use super::console::{Table, for_people, plain, plain_json, width};
use super::{ConfigArg, SocketArg};
use crate::audit::SessionsReport;
use crate::audit::kept::Kept;
use crate::audit::transcript::{self, moment, span};
use crate::client::{self, AskAgentError};
use crate::config::units::Period;
use crate::tap::Name;

/// How often the agent is asked when somebody follows.
const PAUSE: Duration = Duration::from_secs(1);

/// Which sessions to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only those that have not ended; with --follow their ends are told, too
    #[arg(long)]
    live: bool,
    /// Namespace, or a pattern with `*`
    #[arg(short, long)]
    namespace: Option<String>,
    /// Pod (or container without one): its name, the beginning of it up to a `-`, or a pattern with `*`
    #[arg(long)]
    pod: Option<String>,
    /// Container, or a pattern with `*`
    #[arg(short, long)]
    container: Option<String>,
    /// Only those of this user: by number, as which they began or who once logged in; by name, or a pattern with `*`, who asked the
    /// API server for them
    #[arg(long, value_name = "UID|NAME")]
    user: Option<String>,
    /// Only those that came about so
    #[arg(long, value_parser = PossibleValuesParser::new(Origin::ALL.map(Origin::as_str)))]
    origin: Option<String>,
    /// Only those that lived within this time until now: 90s, 1h, 2d
    #[arg(long, value_name = "TIME")]
    since: Option<Period>,
    /// Only those of which something is missing
    #[arg(long)]
    gaps: bool,
    /// Go on, with a line for each session that begins and one for each that ends, until the agent ends
    #[arg(long)]
    follow: bool,
    /// Do not shorten commands to the width of the terminal
    #[arg(long)]
    wide: bool,
    /// Print JSON: one object with all of them, or with --follow one in each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what was done in a session, from where the documents of the audit arrive: the topic, or the files
    #[command(after_help = "Examples:\n  taffrail sessions show 5f0c3a1b-1d2e3f\n  \
                      taffrail sessions show 5f0c -f taffrail.yaml     from anywhere, by the beginning of its name\n  \
                      taffrail sessions show 5f0c --json | jq -r .message\n\n\
                      Each line is a program that was begun: seconds since the session began, process, command as a shell would be \
                      given it, and behind `#` user and working directory where they changed, and how it ended. The agent need not \
                      run.")]
    Show {
        /// Its name, or as much of the beginning as no other one has
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        config: ConfigArg,
        /// Show what programs were called with as it is, though it may speak to the terminal
        #[arg(long)]
        raw: bool,
        /// Print the documents, one in each line
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(Command::Show { id, config, raw, json }) => {
            let own = config.config.clone().or_else(|| args.socket.config.config.clone());
            show(id, &ConfigArg { config: own }, *raw, *json || args.json)?;
        }
        None => list(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(id: &str, config: &ConfigArg, raw: bool, json: bool) -> anyhow::Result<()> {
    let config = config.load()?;
    let session = Kept::of(&config)?.session(id)?;
    let text = if json {
        let lines = session.documents.join("\n") + "\n";
        plain_json(&lines)
    } else {
        transcript::render(&session.id, &session.values(), raw)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn list(args: &Args) -> anyhow::Result<()> {
    let socket = args.socket.path()?;
    let report = ask(&socket)?;
    if let Some(trouble) = &report.trouble {
        eprintln!("taffrail: {}", plain(trouble));
    }
    let now = now();
    let mut shown = report.clone();
    shown.sessions.retain(|session| args.wants(session, now));
    if shown.sessions.is_empty() && !args.json {
        eprintln!("taffrail: {}", args.nothing(&report));
    }
    let people = for_people();
    let text = match (args.json, args.follow) {
        (true, true) => json_lines(&shown.sessions)?,
        (true, false) => json(&shown)?,
        (false, _) => table(&shown.sessions, people.then(|| args.width())),
    };
    io::stdout().write_all(text.as_bytes())?;
    if args.follow { follow(args, &socket, &report.sessions, people) } else { Ok(()) }
}

fn ask(socket: &Path) -> anyhow::Result<SessionsReport> {
    let body = client::get(socket, "/sessions")?;
    serde_json::from_reader(body).context("the agent's answer cannot be read")
}

/// Nanoseconds since the Unix epoch.
fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

impl Args {
    /// Whether to list it.
    fn wants(&self, session: &Summary, now: i64) -> bool {
        !(self.live && session.ended.is_some()) && self.fits(session, now)
    }

    /// Whether it is one of those meant, be it live or not.
    fn fits(&self, session: &Summary, now: i64) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| Name::from(wanted).matches(name))
        };
        let whose = &session.whose;
        let pod = if whose.pod.is_empty() { &whose.container } else { &whose.pod };
        let lived = self.since.is_none_or(|since| {
            let since = i64::try_from(since.0.as_nanos()).unwrap_or(i64::MAX);
            session.ended.is_none_or(|ended| ended >= now.saturating_sub(since))
        });
        let user = self.user.as_deref().is_none_or(|user| is_of(session, user));
        lived
            && user
            && !(self.gaps && session.gaps.is_empty())
            && self.origin.as_deref().is_none_or(|origin| session.origin.as_str() == origin)
            && is(&self.namespace, &whose.namespace)
            && is(&self.pod, pod)
            && is(&self.container, &whose.container)
    }

    /// Why there is nothing to show.
    fn nothing(&self, report: &SessionsReport) -> String {
        let node = plain(&report.node);
        let what = match report.sessions.len() {
            0 => format!("no session in a container of {node} since its agent began"),
            1 => format!("the one session that the agent of {node} knows does not match"),
            count => format!("none of the {count} sessions that the agent of {node} knows matches"),
        };
        if self.follow { what + "; waiting (Ctrl-C ends)" } else { what }
    }

    fn width(&self) -> usize {
        if self.wide { usize::MAX } else { width() }
    }
}

/// Whether it is a user's: by number on the machine, or by name in the cluster.
fn is_of(session: &Summary, user: &str) -> bool {
    let entry = &session.entry;
    match user.parse::<u32>() {
        Ok(user) => !entry.lost && (entry.user == user || entry.login_user == Some(user)),
        Err(_) => session.attribution.user().is_some_and(|known| Name::from(user).matches(&known.name)),
    }
}

fn json(report: &SessionsReport) -> anyhow::Result<String> {
    Ok(plain_json(&serde_json::to_string_pretty(report)?) + "\n")
}

fn json_lines(sessions: &[Summary]) -> anyhow::Result<String> {
    let mut text = String::new();
    for session in sessions {
        text.push_str(&plain_json(&serde_json::to_string(session)?));
        text.push('\n');
    }
    Ok(text)
}

/// A table; for people in lines of at most so many characters.
fn table(sessions: &[Summary], people: Option<usize>) -> String {
    if sessions.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "ID", "BEGAN", "LASTED", "USER", "WHO", "WHERE", "ORIGIN", ">EXECS", ">EXIT", "MISSING", "COMMAND",
    ]);
    for session in sessions {
        table.row(row(session, people.is_some()));
    }
    people.map_or_else(|| table.render(false), |width| table.render_shortened(width))
}

fn row(session: &Summary, people: bool) -> Vec<String> {
    let missing = match session.gaps.as_slice() {
        [] => "-".to_owned(),
        _ if people => "yes".to_owned(),
        gaps => plain(&gaps.join("; ")),
    };
    vec![
        plain(&session.id),
        began(session, people),
        lasted(session, people),
        user(session),
        asked(session),
        plain(&session.whose.display()),
        session.origin.as_str().to_owned(),
        session.execs.to_string(),
        session
            .exit_code
            .filter(|_| session.ended.is_some())
            .map_or_else(|| "-".to_owned(), |code| code.to_string()),
        missing,
        command(session),
    ]
}

fn began(session: &Summary, people: bool) -> String {
    if people {
        return moment(session.begun);
    }
    let time = jiff::Timestamp::from_nanosecond(i128::from(session.begun)).unwrap_or_default();
    format!("{time:.3}")
}

fn lasted(session: &Summary, people: bool) -> String {
    match session.ended.map(|ended| ended.saturating_sub(session.begun).max(0)) {
        None => "live".to_owned(),
        Some(lasted) if people => span(lasted),
        Some(lasted) => format!("{}.{:03}", lasted / 1_000_000_000, lasted / 1_000_000 % 1000),
    }
}

/// Uid, terminal, and who once logged in.
fn user(session: &Summary) -> String {
    let entry = &session.entry;
    if entry.lost {
        return "-".to_owned();
    }
    let tty = if entry.tty.is_empty() { String::new() } else { format!(" {}", plain(&entry.tty)) };
    let login = entry.login_user.map_or_else(String::new, |login| format!(" login {login}"));
    let user = match entry.user {
        NOBODY if entry.user_name.is_empty() => "?".to_owned(),
        NOBODY => plain(&entry.user_name),
        user => user.to_string(),
    };
    format!("{user}{tty}{login}")
}

/// Who asked the API server for it.
fn asked(session: &Summary) -> String {
    let attribution = &session.attribution;
    match (attribution.known, attribution.user()) {
        (_, Some(user)) if attribution.is_ambiguous => format!("{}?", plain(&user.name)),
        (_, Some(user)) => plain(&user.name),
        (Attributed::OutOfBand, None) => "nobody".to_owned(),
        (Attributed::Unknown | Attributed::Awaited, None) => "?".to_owned(),
        (Attributed::Unasked | Attributed::Known, None) => "-".to_owned(),
    }
}

fn command(session: &Summary) -> String {
    let entry = &session.entry;
    match entry.arguments.as_slice() {
        _ if session.recording == Recording::Off => "(a policy says: off)".to_owned(),
        _ if session.origin == Origin::Attach => "-".to_owned(),
        _ if entry.lost => "-".to_owned(),
        [] => line(std::slice::from_ref(&entry.executable)),
        arguments => line(arguments),
    }
}

/// What has changed since somebody looked.
#[derive(Debug, PartialEq)]
enum Turn<'a> {
    Began(&'a Summary),
    Ended(&'a Summary),
}

/// Sessions that are known, and whether they have ended.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, bool>);

impl Known {
    /// What is new in these. Those that the agent does not remember any more are forgotten.
    fn turns<'a>(&mut self, sessions: &'a [Summary]) -> Vec<Turn<'a>> {
        let mut turns = Vec::new();
        for session in sessions {
            let has_ended = has_ended(session);
            let known = self.0.get(&session.id).copied();
            if known.is_none() {
                turns.push(Turn::Began(session));
            }
            if has_ended && known != Some(true) {
                turns.push(Turn::Ended(session));
            }
        }
        self.0 = sessions.iter().map(|session| (session.id.clone(), has_ended(session))).collect();
        turns
    }
}

/// And it is known who asked for it, as far as it will be.
fn has_ended(session: &Summary) -> bool {
    session.ended.is_some() && session.attribution.known != Attributed::Awaited
}

fn follow(args: &Args, socket: &Path, there: &[Summary], people: bool) -> anyhow::Result<()> {
    let mut known = Known::default();
    known.turns(there);
    loop {
        thread::sleep(PAUSE);
        let report = match ask(socket) {
            Ok(report) => report,
            Err(error) if is_gone(&error) => {
                eprintln!("taffrail: the agent has ended");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now = now();
        for turn in known.turns(&report.sessions) {
            let (Turn::Began(session) | Turn::Ended(session)) = &turn;
            if args.fits(session, now) {
                let text = if args.json {
                    json_lines(std::slice::from_ref(session))?
                } else {
                    told(&turn, people.then(|| args.width()))
                };
                io::stdout().write_all(text.as_bytes())?;
            }
        }
    }
}

/// Nobody listens, or nobody finishes an answer.
fn is_gone(error: &anyhow::Error) -> bool {
    let of_socket = error.downcast_ref::<AskAgentError>();
    of_socket.is_some_and(|error| matches!(error, AskAgentError::NoAgent(_) | AskAgentError::Broken { .. }))
        || error.downcast_ref::<serde_json::Error>().is_some_and(serde_json::Error::is_eof)
}

/// A line about what has changed; for people in at most so many characters.
fn told(turn: &Turn<'_>, people: Option<usize>) -> String {
    let (word, session, time) = match turn {
        Turn::Began(session) => ("began", session, session.begun),
        Turn::Ended(session) => ("ended", session, session.ended.unwrap_or_default()),
    };
    let time = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
    let mut cells =
        vec![time.strftime("%FT%TZ").to_string(), word.to_owned(), plain(&session.id), user(session)];
    cells.extend([asked(session), plain(&session.whose.display()), session.origin.as_str().to_owned()]);
    if matches!(turn, Turn::Ended(_)) {
        let code = session.exit_code.map_or_else(|| "-".to_owned(), |code| format!("exit {code}"));
        let whole =
            if session.gaps.is_empty() { "whole".to_owned() } else { plain(&session.gaps.join("; ")) };
        cells.extend([lasted(session, people.is_some()), execs(session.execs), code, whole]);
    }
    cells.push(command(session));
    match people {
        None => cells.join("\t") + "\n",
        Some(width) => super::console::shortened(&cells.join("  "), width) + "\n",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use taffrail_exec::request::{Attribution, Request, User};
    use taffrail_exec::{Entry, Whose};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    const TEN: i64 = 1_700_000_000_000_000_000;
    const SECOND: i64 = 1_000_000_000;

    fn ended() -> Summary {
        Summary {
            id: "5f0c-1".to_owned(),
            begun: TEN,
            ended: Some(TEN + 61 * SECOND),
            origin: Origin::Exec,
            whose: Whose {
                namespace: "shop".to_owned(),
                pod: "web-0".to_owned(),
                container: "app".to_owned(),
                ..Whose::default()
            },
            entry: Entry {
                arguments: ["sh", "-c", "ls; \u{1b}[2J"].map(str::to_owned).to_vec(),
                tty: "pts0".to_owned(),
                login_user: Some(1000),
                ..Entry::default()
            },
            exit_code: Some(3),
            execs: 2,
            attribution: Attribution {
                known: Attributed::Known,
                request: Some(Request {
                    user: User { name: "ana@ex\u{1b}".to_owned(), ..User::default() },
                    ..Request::default()
                }),
                ..Attribution::default()
            },
            ..Summary::default()
        }
    }

    fn live() -> Summary {
        let whose = Whose { container: "cart".to_owned(), ..Whose::default() };
        let gaps = vec!["some".to_owned(), "more".to_owned()];
        let entry = Entry { lost: true, ..Entry::default() };
        let (id, origin) = ("5f0c-2".to_owned(), Origin::OutOfBand);
        let attribution = Attribution { known: Attributed::OutOfBand, ..Attribution::default() };
        Summary { id, attribution, begun: TEN, whose, gaps, entry, origin, ..Summary::default() }
    }

    fn wanted(line: &[&str]) -> Vec<bool> {
        let args = Line::parse_from(std::iter::once(&"sessions").chain(line)).args;
        [ended(), live()].iter().map(|session| args.wants(session, TEN + 100 * SECOND)).collect()
    }

    #[test]
    fn only_what_was_asked_for_is_shown() {
        for (line, expected) in [
            (&[][..], [true, true]),
            (&["--live"], [false, true]),
            (&["-n", "shop"], [true, false]),
            (&["-n", "s*"], [true, false]),
            (&["--pod", "web"], [true, false]),
            (&["--pod", "cart"], [false, true]),
            (&["--container", "app"], [true, false]),
            (&["--user", "0"], [true, false]),
            (&["--user", "1000"], [true, false]),
            (&["--user", "7"], [false, false]),
            (&["--user", "ana@*"], [true, false]),
            (&["--user", "ben"], [false, false]),
            (&["--origin", "out-of-band"], [false, true]),
            (&["--since", "40s"], [true, true]),
            (&["--since", "38s"], [false, true]),
            (&["--gaps"], [false, true]),
        ] {
            assert_eq!(wanted(line), expected, "{line:?}");
        }
    }

    #[test]
    fn people_see_lines_that_fit_and_scripts_everything_between_tabs() {
        let sessions = [ended(), live()];
        assert_eq!(
            table(&sessions, Some(usize::MAX)),
            "ID      BEGAN                LASTED  USER               WHO           WHERE           ORIGIN       EXECS  EXIT  MISSING  COMMAND\n\
             5f0c-1  2023-11-14 22:13:20  1m01s   0 pts0 login 1000  ana@ex\\u{1b}  shop/web-0/app  exec             2     3  -        sh -c $'ls; \\x1b[2J'\n\
             5f0c-2  2023-11-14 22:13:20  live    -                  nobody        cart            out-of-band      0     -  yes      -\n"
        );
        let narrow = table(&sessions, Some(144));
        assert!(narrow.contains("sh -c $'ls; \\x1b[2J'\n"), "{narrow}");
        let narrow = table(&sessions, Some(135));
        assert!(narrow.contains("sh -c $'ls; \\x1…\n"), "{narrow}");
        let piped = table(&sessions, None);
        assert_eq!(
            piped.lines().nth(2),
            Some("5f0c-2\t2023-11-14T22:13:20.000Z\tlive\t-\tnobody\tcart\tout-of-band\t0\t-\tsome; more\t-")
        );
        assert!(piped.contains("\t61.000\t"), "{piped}");
        assert_eq!(table(&[], None), "");
    }

    #[test]
    fn json_speaks_to_no_terminal_and_loses_nothing() {
        let mut odd = ended();
        odd.entry.arguments.push("\u{9b}2J\u{202e}x\u{2066}y\u{2028}\u{2029}".to_owned());
        let report = SessionsReport { sessions: vec![odd], ..SessionsReport::default() };
        let text = json(&report).expect("JSON");
        assert!(
            text.contains("\\u009b2J\\u202ex\\u2066y\\u2028\\u2029") && !text.contains('\u{1b}'),
            "{text}"
        );
        let again: SessionsReport = serde_json::from_str(&text).expect("JSON");
        assert_eq!(again, report);
        assert_eq!(json_lines(&[ended(), live()]).expect("JSON").lines().count(), 2);
    }

    #[test]
    fn whoever_follows_is_told_each_beginning_and_each_end_once() {
        let mut known = Known::default();
        let (mut first, second) = (Summary { ended: None, ..ended() }, live());
        assert_eq!(known.turns(std::slice::from_ref(&first)), [Turn::Began(&first)]);
        assert!(known.turns(std::slice::from_ref(&first)).is_empty());
        first.ended = ended().ended;
        let both = [first.clone(), second.clone()];
        assert_eq!(known.turns(&both), [Turn::Ended(&first), Turn::Began(&second)]);
        assert!(known.turns(&both).is_empty());
        let mut waits = ended();
        waits.attribution.known = Attributed::Awaited;
        assert_eq!(Known::default().turns(std::slice::from_ref(&waits)), [Turn::Began(&waits)]);
        let quick = [ended()];
        assert_eq!(Known::default().turns(&quick), [Turn::Began(&quick[0]), Turn::Ended(&quick[0])]);
        assert_eq!(
            told(&Turn::Ended(&quick[0]), None),
            "2023-11-14T22:14:21Z\tended\t5f0c-1\t0 pts0 login 1000\tana@ex\\u{1b}\tshop/web-0/app\texec\t61.000\t2 execs\texit 3\twhole\tsh -c $'ls; \\x1b[2J'\n"
        );
        assert_eq!(told(&Turn::Began(&second), Some(40)).trim_end().chars().count(), 40);
    }

    #[test]
    fn that_there_is_nothing_is_said_with_the_reason() {
        let args = Line::parse_from(["sessions"]).args;
        let mut report = SessionsReport { node: "n1".to_owned(), ..SessionsReport::default() };
        assert_eq!(args.nothing(&report), "no session in a container of n1 since its agent began");
        report.sessions = vec![ended(), live()];
        assert_eq!(args.nothing(&report), "none of the 2 sessions that the agent of n1 knows matches");
    }
}
