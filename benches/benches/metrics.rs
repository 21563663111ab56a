//! What a scrape costs: the bare system calls, reading, and the text, for crowds of 10, 50 and 250 cgroups.
//!
//! The floor is one `pread` of each file that the collector keeps open, nothing else. All in one process and one run, so that
//! the ratios mean something on a machine that others use, too.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use taffrail_benches::crowd::Crowd;
use taffrail_benches::ended;
use taffrail_cgroup::{Containers, ContainersConfig, Names};
use taffrail_kernfs::Roots;
use taffrail_prometheus::{Exposition, Format};
use taffrail_record::Ask;

/// Measures scrapes.
#[derive(Debug, Parser)]
#[command(name = "metrics")]
struct Arguments {
    /// How many cgroups, several times
    #[arg(default_values_t = [10, 50, 250])]
    crowds: Vec<usize>,
    /// Scrapes of each
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    ended("metrics", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    println!(
        "{:>7} {:>7} {:>9} {:>9} {:>7} {:>11} {:>9} {:>9} {:>9}",
        "cgroups", "files", "floor ms", "scrape ms", "ratio", "us/cgroup", "render ms", "series", "KB text"
    );
    for count in &arguments.crowds {
        let _crowd = Crowd::make(*count)?;
        measure(*count, arguments.rounds)?;
    }
    Ok(())
}

fn measure(count: usize, rounds: u32) -> Result<()> {
    let before = kept()?.len();
    let config = ContainersConfig { descriptors_seconds: 0, ..ContainersConfig::default() };
    let containers = Containers::new(config, Roots::default(), Names::new());
    let mut text = Vec::new();
    let (mut floor, mut scrape, mut render) = (Duration::MAX, Duration::MAX, Duration::MAX);
    // The first one opens everything.
    let _ = containers.ask(&mut Exposition::new());
    let files = kept()?;
    for _ in 0..rounds {
        // Who asks again within a second gets the same figures.
        std::thread::sleep(Duration::from_millis(1050));
        floor = floor.min(spent(|| read_all(&files))?);
        let mut exposition = Exposition::new();
        scrape = scrape.min(spent(|| containers.ask(&mut exposition).map_err(Into::into))?);
        render = render.min(spent(|| {
            text = exposition.into_pieces(Format::Text);
            Ok(())
        })?);
    }
    let series =
        text.iter().flat_map(|piece: &String| piece.lines()).filter(|line| !line.starts_with('#')).count();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{count:>7} {:>7} {:>9.2} {:>9.2} {:>7.2} {:>11.1} {:>9.2} {series:>9} {:>9}",
        files.len() - before,
        ms(floor),
        ms(scrape),
        ms(scrape) / ms(floor),
        ms(scrape) * 1e3 / count as f64,
        ms(render),
        text.iter().map(String::len).sum::<usize>() / 1024,
    );
    Ok(())
}

/// The files of cgroups that this process has open.
fn kept() -> Result<Vec<i32>> {
    let mut files = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_cgroup = fs::read_link(entry.path()).is_ok_and(|path| path.starts_with("/sys/fs/cgroup"));
        if is_cgroup && let Ok(number) = entry.file_name().to_string_lossy().parse() {
            files.push(number);
        }
    }
    Ok(files)
}

fn read_all(files: &[i32]) -> Result<()> {
    let mut buffer = vec![0_u8; 16 << 10];
    for number in files {
        // SAFETY: the buffer is as long as is said.
        let read = unsafe { libc::pread(*number, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        anyhow::ensure!(read >= 0, "a kept file: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Processor time of this thread.
fn spent(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let clock = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes the structure that it is given.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let start = clock();
    work()?;
    Ok(clock().saturating_sub(start))
}
