//! `tests/run` says no when one of its tests does, whichever it is: with a cargo that only pretends.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;

fn script(path: &Path, text: &str) -> Result<()> {
    let mut file = File::create(path)?;
    write!(file, "#!/bin/sh\n{text}\n")?;
    Ok(file.set_permissions(fs::Permissions::from_mode(0o755))?)
}

/// Runs it where whatever has `words` among its arguments fails.
fn run(words: &str) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let (programs, built) = (folder.path().join("bin"), folder.path().join("target/debug"));
    fs::create_dir_all(&programs)?;
    fs::create_dir_all(&built)?;
    let fails = format!("case \"$0 $*\" in *'{words}'*) echo 'test x ... FAILED'; exit 101;; esac");
    script(&programs.join("cargo"), &fails)?;
    script(&built.join("torture"), &fails)?;
    script(&built.join("parts"), "true")?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
    let mut command = Command::new("bash");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../run"));
    Ok(command.env("PATH", path).env("CARGO_TARGET_DIR", folder.path().join("target")).output()?)
}

#[test]
fn a_test_that_fails_is_named_and_fails_the_run() -> Result<()> {
    for (words, named) in [
        ("--test rbac --", "!! it failed: --test rbac"),
        ("--test metrics --", "!! it failed: --test metrics"),
        ("--no-fail-fast --lib --bins", "!! it failed: --lib --bins"),
        ("--doc", "!! it failed: --doc"),
        ("torture --minutes", "!! some tests failed"),
    ] {
        let output = run(words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains(named), "{words}: {said}");
    }
    let output = run("nothing at all")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
