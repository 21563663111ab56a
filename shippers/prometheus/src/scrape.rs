//! One scrape: every collector is asked, none can spoil it for the others.
//!
//! Collectors are asked one after the other on a thread of their own. When one does not answer in time its thread
//! is left behind, the rest are asked on a new one, and it is not asked again until it has come back, so a
//! collector that hangs costs one thread and one deadline, once. Who is asked later may look at what those before have
//! written (`Samples::earlier`); what one writes that was given up is not among it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use taffrail_record::{Ask, AskError, Family, Kind, Samples, Worker};

use crate::Exposition;
use crate::exposition::Spares;

/// What every scrape says about itself: success, then duration, by collector.
pub static FAMILIES: &[Family; 2] = &[
    Family {
        name: "taffrail_scrape_collector_success",
        kind: Kind::Gauge,
        help: "Whether the collector could read everything that this machine has.",
        labels: &["collector"],
    },
    Family {
        name: "taffrail_scrape_collector_duration_seconds",
        kind: Kind::Gauge,
        help: "How long the collector took in this scrape.",
        labels: &["collector"],
    },
];

/// Asks a fixed list of collectors.
pub struct Scraper {
    collectors: Vec<Arc<Asked>>,
    patience: Duration,
    said: &'static [Family; 2],
    spares: Arc<Spares>,
    worker: Worker,
}

struct Asked {
    ask: Arc<dyn Ask>,
    /// Calls that were given up and have not come back.
    hung: AtomicUsize,
    /// Whether the last scrape failed: trouble is logged when it begins and when it ends.
    failing: AtomicBool,
}

/// What all have written so far.
type Shared = Arc<Mutex<Exposition>>;

/// How one call ended.
struct Answer {
    failure: Option<String>,
    took: Duration,
}

/// Some collectors being asked on one thread, while another waits. The one that waits is woken at the end of all, or when
/// time is up: to be woken for each would cost more than most collectors do.
struct Round {
    progress: Mutex<Progress>,
    over: Condvar,
}

struct Progress {
    answers: Vec<Answer>,
    /// When the collector behind the last answer was begun with.
    began: Instant,
    /// Nobody waits any more.
    given_up: bool,
    /// The thread has ended, however.
    ended: bool,
}

impl Scraper {
    /// Asks `collectors` in this order, each for at most `patience`.
    #[must_use]
    pub fn new(collectors: Vec<Arc<dyn Ask>>, patience: Duration) -> Self {
        let asked = |ask| Arc::new(Asked { ask, hung: AtomicUsize::new(0), failing: AtomicBool::new(false) });
        let collectors = collectors.into_iter().map(asked).collect();
        let worker = Worker::new("scrape");
        Scraper { collectors, patience, said: FAMILIES, spares: Arc::default(), worker }
    }

    /// Says of itself what it says under these names: success, then duration, by collector.
    #[must_use]
    pub fn saying(self, said: &'static [Family; 2]) -> Self {
        Scraper { said, ..self }
    }

    /// The names of the collectors, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.collectors.iter().map(|asked| asked.ask.name())
    }

    /// Asks those whose name is `wanted` for their samples. Blocks.
    #[must_use]
    pub fn scrape(&self, wanted: impl Fn(&str) -> bool) -> Exposition {
        let chosen = |asked: &&Arc<Asked>| wanted(asked.ask.name());
        let chosen: Vec<Arc<Asked>> = self.collectors.iter().filter(chosen).cloned().collect();
        let page = Arc::new(Mutex::new(Exposition::reusing(&self.spares)));
        let mut results: Vec<(&'static str, f64, Duration)> = Vec::new();
        for (asked, answer) in chosen.iter().zip(self.ask_all(&chosen, &page)) {
            asked.note(answer.failure.as_deref());
            results.push((asked.ask.name(), f64::from(u8::from(answer.failure.is_none())), answer.took));
        }
        let mut text = std::mem::take(&mut *page.lock());
        text.family(&self.said[0]);
        results.iter().for_each(|(name, success, _)| text.sample(&[name], *success));
        text.family(&self.said[1]);
        results.iter().for_each(|(name, _, took)| text.sample(&[name], took.as_secs_f64()));
        text
    }

    fn ask_all(&self, chosen: &[Arc<Asked>], page: &Shared) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < chosen.len() {
            let rest = chosen[answers.len()..].to_vec();
            let round = Arc::new(Round::new());
            let theirs = Arc::clone(&round);
            let (asked, spares, page) = (rest.clone(), Arc::clone(&self.spares), Arc::clone(page));
            match self.worker.run(move || theirs.ask_each(&asked, &spares, &page)) {
                Ok(()) => answers.extend(round.wait(&rest, self.patience)),
                Err(error) => {
                    answers.push(Answer::failed(format!("cannot start a thread: {error}"), Duration::ZERO));
                }
            }
        }
        answers
    }
}

impl Round {
    fn new() -> Round {
        let progress = Progress { answers: Vec::new(), began: Instant::now(), given_up: false, ended: false };
        Round { progress: Mutex::new(progress), over: Condvar::new() }
    }

    /// Asks one after the other until nobody waits any more.
    fn ask_each(&self, chosen: &[Arc<Asked>], spares: &Arc<Spares>, page: &Shared) {
        // Whoever waits learns of the end however it comes.
        let _ended = Ended(self);
        for asked in chosen {
            self.progress.lock().began = Instant::now();
            let (answer, samples) = asked.call(Exposition::reusing(spares).behind(page));
            let mut progress = self.progress.lock();
            if progress.given_up {
                asked.hung.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            // Under the same lock as `given_up`: nobody writes on a page that has gone on without them.
            samples.into_iter().for_each(|samples| page.lock().append(samples));
            progress.answers.push(answer);
        }
    }

    /// Waits until all have answered, or one is given up. At least one answer, in the order of `chosen`.
    fn wait(&self, chosen: &[Arc<Asked>], patience: Duration) -> Vec<Answer> {
        let mut progress = self.progress.lock();
        while !progress.ended {
            let (count, began) = (progress.answers.len(), progress.began);
            let in_time = !self.over.wait_until(&mut progress, began + patience).timed_out();
            let waited_for = !in_time && (progress.answers.len(), progress.began) == (count, began);
            if waited_for && count < chosen.len() && !progress.ended {
                progress.given_up = true;
                chosen[count].hung.fetch_add(1, Ordering::AcqRel);
                let failure = format!("no answer within {patience:?}");
                progress.answers.push(Answer::failed(failure, patience));
                break;
            }
        }
        if progress.ended && progress.answers.len() < chosen.len() {
            progress
                .answers
                .push(Answer::failed("the thread that asked it ended".to_owned(), Duration::ZERO));
        }
        std::mem::take(&mut progress.answers)
    }
}

/// Tells who waits that the thread has ended.
struct Ended<'a>(&'a Round);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.progress.lock().ended = true;
        self.0.over.notify_all();
    }
}

impl Asked {
    /// Nothing but the answer when the collector does not come back in one piece.
    fn call(&self, mut samples: Exposition) -> (Answer, Option<Exposition>) {
        if self.hung.load(Ordering::Acquire) > 0 {
            return (Answer::failed("still busy with an earlier scrape".to_owned(), Duration::ZERO), None);
        }
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| self.ask.ask(&mut samples)));
        let took = start.elapsed();
        match result {
            // What a machine does not have is not a failure.
            Ok(Ok(()) | Err(AskError::Absent(_))) => (Answer { failure: None, took }, Some(samples)),
            Ok(Err(error)) => (Answer::failed(error.to_string(), took), Some(samples)),
            Err(panic) => (Answer::failed(format!("panicked: {}", panic_text(&*panic)), took), None),
        }
    }

    fn note(&self, failure: Option<&str>) {
        let collector = self.ask.name();
        match (failure, self.failing.swap(failure.is_some(), Ordering::AcqRel)) {
            (Some(error), false) => tracing::warn!(collector, error, "metrics are missing from scrapes"),
            (None, true) => tracing::info!(collector, "metrics are complete again"),
            _ => {}
        }
    }
}

impl Answer {
    fn failed(failure: String, took: Duration) -> Answer {
        Answer { failure: Some(failure), took }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;
    use std::thread;

    use parking::Gate;
    use taffrail_record::Series;

    use super::*;
    use crate::Format;

    mod parking {
        //! A gate that a test opens.
        use std::sync::{Condvar, Mutex};

        #[derive(Default)]
        pub(super) struct Gate(Mutex<bool>, Condvar);

        impl Gate {
            pub(super) fn open(&self) {
                *self.0.lock().unwrap() = true;
                self.1.notify_all();
            }

            pub(super) fn pass(&self) {
                let mut open = self.0.lock().unwrap();
                while !*open {
                    open = self.1.wait(open).unwrap();
                }
            }
        }
    }

    static UP: [Family; 1] = [Family { name: "x_up", kind: Kind::Gauge, help: "Up.", labels: &["of"] }];

    enum Does {
        Well,
        Absent,
        Fails,
        Panics,
        Hangs(Arc<Gate>, SyncSender<()>),
        /// Writes how many series are there already under `x_up`, and one that the page says itself.
        Counts,
    }

    struct Fake(&'static str, Does);

    impl Ask for Fake {
        fn name(&self) -> &'static str {
            self.0
        }

        fn families(&self) -> &'static [Family] {
            &UP
        }

        fn ask(&self, samples: &mut dyn Samples) -> Result<(), AskError> {
            samples.family(&UP[0]);
            samples.sample(&[self.0], 1.0);
            match &self.1 {
                Does::Well => Ok(()),
                Does::Absent => Err(AskError::Absent("no such thing".to_owned())),
                Does::Fails => Err(AskError::Failed { what: "/proc/x".to_owned(), cause: "denied".into() }),
                Does::Panics => panic!("on purpose"),
                Does::Counts => {
                    samples.named("x_earlier", Kind::Gauge, "Earlier.");
                    samples
                        .sample(&[], samples.earlier("x_up").map_or(0.0, |(_, series)| series.len() as f64));
                    samples.named(FAMILIES[0].name, Kind::Untyped, "Mine.");
                    samples.series(&Series::verbatim(format!("{}{{of=\"me\"}}", FAMILIES[0].name)), 7.0);
                    Ok(())
                }
                Does::Hangs(gate, back) => {
                    gate.pass();
                    back.send(()).expect("heard");
                    Ok(())
                }
            }
        }
    }

    fn success(text: &str, name: &str) -> Option<bool> {
        let series = format!("taffrail_scrape_collector_success{{collector=\"{name}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).map(|value| value == "1")
    }

    #[test]
    fn a_collector_that_fails_or_panics_does_not_spoil_the_others() {
        let fakes = [("a", Does::Fails), ("b", Does::Panics), ("c", Does::Well), ("d", Does::Absent)];
        let fakes = fakes.map(|(name, does)| Arc::new(Fake(name, does)) as Arc<dyn Ask>);
        let text = Scraper::new(fakes.into(), Duration::from_secs(60)).scrape(|_| true).render(Format::Text);
        let successes = ["a", "b", "c", "d"].map(|name| success(&text, name));
        assert_eq!(successes, [Some(false), Some(false), Some(true), Some(true)], "{text}");
        assert!(text.contains("x_up{of=\"a\"} 1\nx_up{of=\"c\"} 1\nx_up{of=\"d\"} 1\n"), "{text}");
        assert_eq!(text.matches("taffrail_scrape_collector_duration_seconds{").count(), 4);
    }

    #[test]
    fn who_is_asked_later_sees_what_others_wrote_but_not_what_hangs() {
        let gate = Arc::new(Gate::default());
        let (back, came_back) = std::sync::mpsc::sync_channel(1);
        let fakes = [
            ("a", Does::Well),
            ("b", Does::Hangs(Arc::clone(&gate), back)),
            ("c", Does::Panics),
            ("d", Does::Fails),
            ("e", Does::Counts),
        ];
        let fakes = fakes.map(|(name, does)| Arc::new(Fake(name, does)) as Arc<dyn Ask>);
        let scraper = Scraper::new(fakes.into(), Duration::from_secs(2));
        for _ in 0..2 {
            let text = scraper.scrape(|_| true).render(Format::Text);
            assert!(text.contains("\nx_earlier 2\n"), "{text}");
            let successes = ["a", "b", "c", "d", "e"].map(|name| success(&text, name));
            assert_eq!(successes, [true, false, false, false, true].map(Some), "{text}");
        }
        gate.open();
        came_back.recv().expect("the one call that hung");
        let alone = scraper.scrape(|name| name == "e").render(Format::Text);
        assert!(alone.contains("\nx_earlier 0\n"), "{alone}");
    }

    #[test]
    fn a_collector_that_writes_what_the_page_says_itself_breaks_nothing() {
        let fake = Arc::new(Fake("a", Does::Counts)) as Arc<dyn Ask>;
        let text = Scraper::new(vec![fake], Duration::from_secs(60)).scrape(|_| true).render(Format::Text);
        assert_eq!(success(&text, "a"), Some(true), "{text}");
        assert!(text.contains("taffrail_scrape_collector_success{of=\"me\"} 7\n"), "{text}");
    }

    #[test]
    fn only_the_wanted_collectors_are_asked() {
        let fakes = ["a", "b"].map(|name| Arc::new(Fake(name, Does::Well)) as Arc<dyn Ask>);
        let text = Scraper::new(fakes.into(), Duration::from_secs(60))
            .scrape(|name| name == "b")
            .render(Format::Text);
        assert_eq!((success(&text, "a"), success(&text, "b")), (None, Some(true)));
    }

    #[test]
    fn a_collector_that_hangs_is_given_up_and_asked_again_when_it_has_come_back() {
        let gate = Arc::new(Gate::default());
        let (back, came_back) = std::sync::mpsc::sync_channel(2);
        let hangs = Arc::new(Fake("a", Does::Hangs(Arc::clone(&gate), back))) as Arc<dyn Ask>;
        let scraper = Scraper::new(vec![hangs, Arc::new(Fake("b", Does::Well))], Duration::from_secs(2));
        for _ in 0..3 {
            let text = scraper.scrape(|_| true).render(Format::Text);
            assert_eq!((success(&text, "a"), success(&text, "b")), (Some(false), Some(true)), "{text}");
        }
        gate.open();
        came_back.recv().expect("the one call that hung");
        while scraper.collectors[0].hung.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
        let scraper = Scraper { patience: Duration::from_secs(60), ..scraper };
        assert_eq!(success(&scraper.scrape(|_| true).render(Format::Text), "a"), Some(true));
    }
}
