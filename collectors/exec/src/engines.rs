//! Container engines, listened to for the programs that they are asked to begin.
//!
//! Guarantee: of each engine it is told first what runs already, and then everything in its order, each once. One that goes away is
//! said, and is heard again when it is there; each is listened to on a thread of its own, and none waits for another.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use futures_util::future::select;
use taffrail_cri::CriConfig;
use taffrail_docker::{DockerConfig, Exec, ExecEvent};
use tokio::sync::oneshot;

/// How often an engine that went away is looked for.
const AGAIN: Duration = Duration::from_secs(1);
/// And one that never was there.
const SELDOM: Duration = Duration::from_secs(30);
/// How long all of them may take until they answer at all.
const ANSWER: Duration = Duration::from_secs(20);

/// The engines that may be asked.
#[derive(Debug, Clone)]
pub struct Engines {
    /// Docker.
    pub docker: DockerConfig,
    /// containerd, where that is what serves the CRI.
    pub cri: CriConfig,
}

impl Engines {
    /// None at all.
    #[must_use]
    pub fn none() -> Engines {
        let (docker, cri) = (taffrail_docker::Enabled::Never, taffrail_cri::Enabled::Never);
        Engines {
            docker: DockerConfig { enabled: docker, ..DockerConfig::default() },
            cri: CriConfig { enabled: cri, ..CriConfig::default() },
        }
    }

    fn are_asked(&self) -> impl Iterator<Item = Engine> {
        let docker = (self.docker.enabled != taffrail_docker::Enabled::Never).then_some(Engine::Docker);
        let cri = (self.cri.enabled != taffrail_cri::Enabled::Never).then_some(Engine::Containerd);
        docker.into_iter().chain(cri)
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Engine {
    Docker,
    Containerd,
}

/// What is heard of an engine.
#[derive(Debug)]
pub(crate) enum Told {
    Event(ExecEvent),
    /// It is not there, or no more; why.
    Away(String),
}

/// Engines that are listened to, until this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    engines: Engines,
    lines: Vec<Line>,
    /// What they said first.
    first: VecDeque<(Engine, Told)>,
    told: Receiver<(Engine, Told)>,
    sender: Sender<(Engine, Told)>,
}

#[derive(Debug)]
struct Line {
    engine: Engine,
    /// Ends the thread when it is dropped; none when the engine is away.
    _held: Option<oneshot::Sender<()>>,
    /// When something was told last, nanoseconds since the Unix epoch.
    last: Option<i64>,
    /// Whether it ever answered.
    was_there: bool,
    /// When it is looked for again.
    again: Option<Instant>,
}

impl Listening {
    /// Listens to all that may be asked.
    ///
    /// # Errors
    /// Why none of them answers, for people.
    pub(crate) fn begin(engines: &Engines) -> Result<Listening, String> {
        let (sender, told) = channel();
        let line = |engine| Line { engine, _held: None, last: None, was_there: false, again: None };
        let lines: Vec<Line> = engines.are_asked().map(line).collect();
        if lines.is_empty() {
            return Err("docker.enabled and cri.enabled are never".to_owned());
        }
        let mut listening =
            Listening { engines: engines.clone(), lines, first: VecDeque::new(), told, sender };
        listening.lines.iter_mut().for_each(|line| line.call(&listening.engines, &listening.sender));
        let deadline = Instant::now() + ANSWER;
        let mut refused = Vec::new();
        while listening.lines.iter().any(|line| line.again.is_none() && !line.was_there) {
            match listening.hear(deadline.saturating_duration_since(Instant::now())) {
                Some((_, Told::Away(why))) => refused.push(why),
                Some(event) => listening.first.push_back(event),
                None => break,
            }
        }
        if listening.first.is_empty() {
            refused.extend(refused.is_empty().then(|| "no container engine answers".to_owned()));
            return Err(refused.join("; "));
        }
        Ok(listening)
    }

    /// The next thing that is told, waiting so long at most: none when there is none. That an engine is away which never was there
    /// is not told.
    pub(crate) fn next(&mut self, patience: Duration) -> Option<(Engine, Told)> {
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        for line in &mut self.lines {
            if line.again.is_some_and(|again| again <= Instant::now()) {
                line.call(&self.engines, &self.sender);
            }
        }
        let was_there = |listening: &Listening, engine| {
            listening.lines.iter().any(|line| line.engine == engine && line.was_there)
        };
        let (engine, told) = self.hear(patience)?;
        (matches!(told, Told::Event(_)) || was_there(self, engine)).then_some((engine, told))
    }

    fn hear(&mut self, patience: Duration) -> Option<(Engine, Told)> {
        let (engine, told) = self.told.recv_timeout(patience).ok()?;
        let line = self.lines.iter_mut().find(|line| line.engine == engine)?;
        match &told {
            Told::Away(_) => {
                line._held = None;
                line.again = Some(Instant::now() + if line.was_there { AGAIN } else { SELDOM });
            }
            Told::Event(event) => {
                line.was_there = true;
                line.last = time(event).or(line.last);
            }
        }
        Some((engine, told))
    }
}

impl Line {
    /// Listens to it from now on.
    fn call(&mut self, engines: &Engines, sender: &Sender<(Engine, Told)>) {
        let (engine, last, engines) = (self.engine, self.last, engines.clone());
        let (held, released) = oneshot::channel();
        (self._held, self.again) = (Some(held), None);
        let to = sender.clone();
        let listen = move || {
            let why = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(hear(engine, &engines, last, &to, released)),
                Err(error) => Some(format!("the system grants nothing to listen to an engine with: {error}")),
            };
            if let Some(why) = why {
                let _ = to.send((engine, Told::Away(why)));
            }
        };
        let name = match engine {
            Engine::Docker => "audit-docker",
            Engine::Containerd => "audit-cri",
        };
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(listen) {
            let why = format!("the system grants no thread to listen to an engine: {error}");
            let _ = sender.send((engine, Told::Away(why)));
        }
    }
}

/// Until the engine is away, and then why; or until nobody listens any more.
async fn hear(
    engine: Engine,
    engines: &Engines,
    since: Option<i64>,
    to: &Sender<(Engine, Told)>,
    released: oneshot::Receiver<()>,
) -> Option<String> {
    let tell = |event| drop(to.send((engine, Told::Event(event))));
    let heard = async {
        match engine {
            Engine::Docker => taffrail_docker::hear_execs(&engines.docker, since, tell).await,
            Engine::Containerd => {
                taffrail_cri::hear_execs(&engines.cri, |event| tell(of_containerd(event))).await
            }
        }
    };
    match select(std::pin::pin!(heard), released).await {
        futures_util::future::Either::Left((heard, _)) => heard.err(),
        futures_util::future::Either::Right(_) => None,
    }
}

fn time(event: &ExecEvent) -> Option<i64> {
    match event {
        ExecEvent::There(_) => None,
        ExecEvent::Began { time, .. } | ExecEvent::Ended { time, .. } | ExecEvent::Gone { time, .. } => {
            Some(*time)
        }
    }
}

/// containerd says which process it is, and nothing else of it.
fn of_containerd(event: taffrail_cri::ExecEvent) -> ExecEvent {
    use taffrail_cri::ExecEvent as Of;
    let exec =
        |taffrail_cri::Exec { id, container, pid }| Exec { id, container, pid: Some(pid), ..Exec::default() };
    match event {
        Of::There(there) => ExecEvent::There(there.into_iter().map(exec).collect()),
        Of::Began { exec: began, time } => ExecEvent::Began { exec: exec(began), time },
        Of::Ended { id, code, time } => ExecEvent::Ended { id, code: Some(code), time },
        Of::Gone { container, time } => ExecEvent::Gone { container, time },
    }
}
