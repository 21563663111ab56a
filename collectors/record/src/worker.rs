//! A thread for jobs that may never end.
//!
//! Guarantee: a job is begun at once, behind no other; one that hangs or panics costs its thread and holds up nobody.
//! The thread of one that ends waits for the next for a while: to start one costs more than most jobs do.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

/// For how long a thread waits for the next job: longer than scrapes are usually apart.
const REST: Duration = Duration::from_secs(65);

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs, and keeps one thread for the next. It ends with the worker.
#[derive(Debug)]
pub struct Worker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    rest: Duration,
    waiting: Mutex<Option<Sender<Job>>>,
}

impl Worker {
    /// One whose threads bear this name.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self::resting(name, REST)
    }

    fn resting(name: &'static str, rest: Duration) -> Self {
        Worker(Arc::new(Inner { name, rest, waiting: Mutex::default() }))
    }

    /// Begins with `job` at once.
    ///
    /// # Errors
    /// When the system grants no thread.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut job: Job = Box::new(job);
        let waiting = self.0.waiting.lock().take();
        if let Some(waiting) = waiting {
            match waiting.send(job) {
                Ok(()) => return Ok(()),
                Err(back) => job = back.into_inner(),
            }
        }
        let inner = Arc::downgrade(&self.0);
        thread::Builder::new().name(self.0.name.to_owned()).spawn(move || work(&inner, job)).map(drop)
    }
}

fn work(inner: &Weak<Inner>, mut job: Job) {
    loop {
        job();
        let Some((jobs, rest)) = inner.upgrade().and_then(|inner| wait_in(&inner)) else { return };
        match jobs.recv_timeout(rest) {
            Ok(next) => job = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                leave(inner);
                // Who took this thread just before it left has sent a job, or is about to.
                let Ok(next) = jobs.recv() else { return };
                job = next;
            }
        }
    }
}

/// Has a thread wait for the next job, unless another does.
fn wait_in(inner: &Inner) -> Option<(Receiver<Job>, Duration)> {
    let mut waiting = inner.waiting.lock();
    if waiting.is_some() {
        return None;
    }
    let (sender, jobs) = bounded(1);
    *waiting = Some(sender);
    Some((jobs, inner.rest))
}

/// Nobody waits any more; the only one who may have is who calls.
fn leave(inner: &Weak<Inner>) {
    if let Some(inner) = inner.upgrade() {
        inner.waiting.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    /// A job that says on which thread it ran, and when that thread is free again.
    fn ran_on(worker: &Worker) -> ThreadId {
        let (said, heard) = bounded(1);
        worker.run(move || said.send(thread::current().id()).expect("heard")).expect("a thread");
        let id = heard.recv().expect("ran");
        while worker.0.waiting.lock().is_none() {
            thread::yield_now();
        }
        id
    }

    #[test]
    fn one_thread_does_one_job_after_the_other_and_what_hangs_holds_up_nobody() {
        let worker = Worker::new("worker");
        let first = ran_on(&worker);
        assert_eq!(ran_on(&worker), first);
        let (go_on, wait) = bounded::<()>(0);
        worker.run(move || assert!(wait.recv().is_err())).expect("a thread");
        let second = ran_on(&worker);
        assert_ne!(second, first);
        drop(go_on);
        assert_eq!(ran_on(&worker), second);
    }

    #[test]
    fn a_panic_costs_the_thread_only() {
        let worker = Worker::new("worker");
        let first = ran_on(&worker);
        worker.run(|| panic!("on purpose")).expect("a thread");
        assert_ne!(ran_on(&worker), first);
    }

    #[test]
    fn no_job_is_lost_when_threads_leave_and_the_last_leaves_with_the_worker() {
        let worker = Worker::resting("worker", Duration::from_micros(50));
        let (said, heard) = crossbeam_channel::unbounded();
        for number in 0..2000 {
            let said = said.clone();
            worker.run(move || said.send(number).expect("heard")).expect("a thread");
            if number % 3 == 0 {
                thread::sleep(Duration::from_micros(50));
            }
        }
        drop(said);
        let mut numbers: Vec<i32> = heard.iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..2000).collect::<Vec<i32>>());
        let inner = Arc::downgrade(&worker.0);
        drop(worker);
        while inner.upgrade().is_some() {
            thread::yield_now();
        }
    }
}
