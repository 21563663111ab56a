//! `taffrail replay`: plays what was typed and shown in a session.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use serde_json::Value;

use super::ConfigArg;
use super::console::for_people;
use crate::audit::kept::Kept;
use crate::audit::recording::{Frame, Recording, What};
use crate::audit::screen::{Manner, RESET, Screen};

/// Which recording, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The session, or as much of the beginning of its name as no other one has
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    config: ConfigArg,
    /// How many times as fast as it was
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Let no pause be longer than so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_limit: Option<f64>,
    /// Show what was typed or piped in, with its times, instead of what was shown
    #[arg(long)]
    input: bool,
    /// Write it as asciinema has it (version 2), to be played by that; `-` for standard output
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    export: Option<PathBuf>,
    /// Let everything pass as it was, though it may take over the terminal
    #[arg(long)]
    raw: bool,
}

fn number(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| "not a number".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    Some(number(text)?).filter(|speed| *speed > 0.0).ok_or_else(|| "must be more than 0".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    Some(number(text)?).filter(|seconds| *seconds >= 0.0).ok_or_else(|| "must not be below 0".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let session = Kept::of(&config)?.session(&args.id)?;
    let documents = session.values();
    let Some(recording) = Recording::of(&documents) else {
        let why = documents.iter().flat_map(|document| document["audit"]["session"]["gaps"].as_array());
        let why = why.flatten().filter_map(Value::as_str).find_map(|gap| gap.strip_prefix("recording: "));
        bail!(
            "nothing of session {} is recorded: {}",
            taffrail_exec::plain(&session.id),
            why.map_or_else(
                || "audit.policies say with `record: full` which sessions are".to_owned(),
                taffrail_exec::plain
            )
        );
    };
    match &args.export {
        Some(file) => export(file, &recording.cast(args.raw))?,
        None if args.input => print(&typed(&recording, args.raw))?,
        None if for_people() => play(&recording, args)?,
        None => print(&text(&recording, args.raw))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(bytes: &[u8]) -> io::Result<()> {
    io::stdout().write_all(bytes)?;
    io::stdout().flush()
}

/// What was typed is nobody else's business: the file is its owner's.
fn export(file: &Path, cast: &str) -> anyhow::Result<()> {
    if file.as_os_str() == "-" {
        return Ok(print(cast.as_bytes())?);
    }
    let written = create(file).and_then(|mut opened| opened.write_all(cast.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// A new file, though there is one; a pipe or a device is written to. No link is followed: somebody else may have made it.
fn create(file: &Path) -> io::Result<File> {
    match fs::symlink_metadata(file).map(|there| there.file_type()) {
        Ok(kind) if kind.is_symlink() => {
            return Err(io::Error::other("it is a link, which is not followed; name the file itself"));
        }
        Ok(kind) if kind.is_file() => fs::remove_file(file)?,
        Ok(_) => return OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(file),
        Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// A remark of this program, not of what was recorded.
fn remark(text: &str) -> String {
    format!("[{}]", taffrail_exec::plain(text))
}

/// What was shown, for a file or another program.
fn text(recording: &Recording, raw: bool) -> Vec<u8> {
    let mut screen = Screen::new(Manner::Text);
    let mut out = Vec::new();
    for frame in &recording.frames {
        match &frame.what {
            What::Shown(bytes) if raw => out.extend(bytes),
            What::Shown(bytes) => out.extend(screen.pass(bytes).into_bytes()),
            What::Remark(what) => out.extend(format!("\n{}\n", remark(what)).into_bytes()),
            What::Typed(_) | What::Withheld(_) | What::Resized(..) => {}
        }
    }
    out
}

/// What was typed: a line for each moment.
fn typed(recording: &Recording, raw: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for Frame { at, what } in &recording.frames {
        let said = match what {
            What::Typed(bytes) if raw => {
                out.extend(bytes);
                continue;
            }
            What::Typed(bytes) => taffrail_exec::plain(&String::from_utf8_lossy(bytes)),
            What::Withheld(length) => {
                remark(&format!("{length} bytes that were not echoed, or not to be written down"))
            }
            What::Remark(what) => remark(what),
            What::Shown(_) | What::Resized(..) => continue,
        };
        if out.last().is_some_and(|last| *last != b'\n') {
            out.push(b'\n');
        }
        out.extend(format!("{:>12}  {said}\n", format!("+{at:.3}")).into_bytes());
    }
    out
}

/// How long to wait between two moments of a recording.
fn pause(before: f64, at: f64, args: &Args) -> Duration {
    let idle = (at - before).max(0.0).min(args.idle_limit.unwrap_or(f64::MAX));
    Duration::try_from_secs_f64(idle / args.speed).unwrap_or(Duration::MAX)
}

/// On a terminal, in its time. Whoever interrupts it gets the terminal back as it was.
fn play(recording: &Recording, args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = runtime.block_on(async {
        tokio::select! {
            played = show(recording, args) => played,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    print(format!("{RESET}\r\n").as_bytes())?;
    Ok(played?)
}

async fn show(recording: &Recording, args: &Args) -> io::Result<()> {
    let mut screen = Screen::new(Manner::Screen);
    let mut before = recording.frames.first().map_or(0.0, |frame| frame.at);
    for Frame { at, what } in &recording.frames {
        let shown = match what {
            What::Shown(bytes) if args.raw => bytes.clone(),
            What::Shown(bytes) => screen.pass(bytes).into_bytes(),
            What::Remark(what) => format!("\u{1b}[7m{}\u{1b}[27m", remark(what)).into_bytes(),
            What::Typed(_) | What::Withheld(_) | What::Resized(..) => continue,
        };
        tokio::time::sleep(pause(before, *at, args)).await;
        before = before.max(*at);
        print(&shown)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn recording() -> Recording {
        let frame = |at, what| Frame { at, what };
        let frames = vec![
            frame(0.0, What::Resized(80, 24)),
            frame(0.5, What::Shown(b"$ \x1b]0;t\x07".to_vec())),
            frame(1.0, What::Typed(b"ls\r\x1b[2J".to_vec())),
            frame(1.1, What::Shown(b"ls\r\n\x1b[31mfile\x1b[0m\r\n".to_vec())),
            frame(2.0, What::Withheld(5)),
            frame(3.0, What::Remark("cut: \u{1b}x".to_owned())),
        ];
        Recording { frames, ..Recording::default() }
    }

    #[test]
    fn what_is_exported_is_a_new_file_of_its_owner_alone() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let [file, target, link] = ["a.cast", "target", "link"].map(|name| folder.path().join(name));
        for path in [&file, &target] {
            let mut file = File::create(path).expect("made");
            file.write_all(b"before, and longer than what comes").expect("written");
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("mode");
        }
        let held = File::open(&file).expect("opened");
        symlink(&target, &link).expect("link");
        export(&file, "cast").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("read"), "cast");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(
            io::read_to_string(held).expect("read").starts_with("before"),
            "who holds the old one sees nothing"
        );
        let refused = format!("{:#}", export(&link, "cast").expect_err("a link"));
        assert!(refused.contains("link: it is a link"), "{refused}");
        assert!(fs::read_to_string(&target).expect("read").starts_with("before"));
        export(Path::new("/dev/null"), "cast").expect("a device");
    }

    #[test]
    fn for_programs_it_is_text_and_what_was_typed_stands_by_itself() {
        let of = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        assert_eq!(of(text(&recording(), false)), "$ ls\nfile\n\n[cut: \\u{1b}x]\n");
        assert!(of(text(&recording(), true)).starts_with("$ \u{1b}]0;t\u{7}ls\r\n"));
        let lines = of(typed(&recording(), false));
        assert!(lines.starts_with("      +1.000  ls\\r\\u{1b}[2J\n      +2.000  [5 bytes that"), "{lines}");
        assert_eq!(of(typed(&recording(), true)).lines().count(), 3);
    }

    #[test]
    fn pauses_are_as_long_as_wished() {
        let of = |line: &[&str]| {
            pause(1.0, 5.0, &Line::parse_from(["replay", "x"].iter().chain(line)).args).as_secs_f64()
        };
        assert_eq!([of(&[]), of(&["--speed", "2"]), of(&["--idle-limit", "1"])], [4.0, 2.0, 1.0]);
        assert_eq!(pause(5.0, 1.0, &Line::parse_from(["replay", "x"]).args), Duration::ZERO);
        for bad in [["--speed", "0"], ["--speed", "nan"], ["--idle-limit", "-1"]] {
            assert!(Line::try_parse_from(["replay", "x"].iter().chain(&bad)).is_err(), "{bad:?}");
        }
    }
}
