//! Any process under measurement: processor time to the nanosecond, memory, and what its pages cost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// What a program may do once it has answered, such as giving memory back.
const AFTERMATH: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that others have started.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    pid: u32,
    clock: libc::clockid_t,
}

/// What one scrape has cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Processor time of all threads of the process.
    pub cpu: Duration,
    /// From the question to the end of the answer.
    pub wall: Duration,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// Series in it.
    pub series: usize,
}

impl Meter {
    /// Of the process with this id.
    pub fn of(pid: u32) -> Result<Self> {
        let mut clock = 0;
        // SAFETY: the system writes the clock's number where it is told to.
        let failed = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
        ensure!(failed == 0, "process {pid} has no clock");
        Ok(Meter { pid, clock })
    }

    /// Processor time of all its threads so far, of those that have ended, too.
    pub fn cpu(&self) -> Result<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes the structure that it is given.
        let failed = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        ensure!(failed == 0, "process {} has ended", self.pid);
        Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec)?))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).context("it has ended")?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes = kilobytes.split_whitespace().next().context("no number")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// Processor time that it takes while nobody asks it for anything, for each minute.
    pub fn at_rest(&self, time: Duration) -> Result<Duration> {
        let (began, before) = (Instant::now(), self.cpu()?);
        thread::sleep(time);
        let spent = self.cpu()?.saturating_sub(before);
        Ok(spent.mul_f64(60.0 / began.elapsed().as_secs_f64()))
    }

    /// Asks it for a page, and measures it.
    pub fn scrape(&self, page: &Page) -> Result<Cost> {
        let (began, before) = (Instant::now(), self.cpu()?);
        let body = page.get()?;
        let wall = began.elapsed();
        thread::sleep(AFTERMATH);
        let cpu = self.cpu()?.saturating_sub(before);
        let series = body.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        Ok(Cost { cpu, wall, bytes: body.len(), series })
    }
}

/// Where a program answers.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Address and port.
    pub address: SocketAddr,
    /// Such as `/metrics`.
    pub path: &'static str,
}

impl Page {
    /// What is there now.
    pub fn get(&self) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {} HTTP/1.0\r\nHost: {}\r\nAccept: text/plain;version=0.0.4\r\n\r\n",
            self.path, self.address
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        ensure!(
            head.split(' ').nth(1) == Some("200"),
            "{}: {}",
            self.path,
            head.lines().next().unwrap_or_default()
        );
        Ok(body.to_owned())
    }
}

/// The middle one of several costs, each figure by itself.
#[must_use]
pub fn median(costs: &[Cost]) -> Option<Cost> {
    let middle = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    };
    let last = costs.last()?;
    Some(Cost {
        cpu: middle(costs.iter().map(|cost| cost.cpu).collect())?,
        wall: middle(costs.iter().map(|cost| cost.wall).collect())?,
        ..*last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_burns_is_seen_from_outside() -> Result<()> {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?;
        let measured = Meter::of(busy.id())
            .and_then(|meter| Ok((meter.at_rest(Duration::from_millis(300))?, meter.resident()?)));
        busy.kill()?;
        busy.wait()?;
        let (minute, resident) = measured?;
        assert!(minute > Duration::from_secs(5), "{minute:?} of each minute");
        assert!(resident > 100_000, "{resident} bytes");
        assert!(Meter::of(busy.id()).is_err(), "it has ended");
        Ok(())
    }

    #[test]
    fn the_median_is_that_of_each_figure() {
        let cost = |cpu, wall| Cost {
            cpu: Duration::from_millis(cpu),
            wall: Duration::from_millis(wall),
            bytes: 1,
            series: 2,
        };
        let middle = median(&[cost(3, 10), cost(1, 30), cost(2, 20)]).expect("some");
        assert_eq!((middle.cpu.as_millis(), middle.wall.as_millis()), (2, 20));
        assert!(median(&[]).is_none());
    }
}
