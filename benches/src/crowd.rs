//! Many cgroups with a process each, made with plain directories, and removed again.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use taffrail_cgroup::Hierarchy;
use taffrail_kernfs::Roots;

/// Cgroups named as a container runtime names them; gone when dropped.
#[derive(Debug)]
pub struct Crowd {
    directories: Vec<PathBuf>,
    processes: Vec<Child>,
}

impl Crowd {
    /// Makes so many in every hierarchy.
    pub fn make(count: usize) -> Result<Crowd> {
        let hierarchy = Hierarchy::detect(&Roots::default()).context("no cgroups here")?;
        let mut crowd = Crowd { directories: Vec::new(), processes: Vec::new() };
        let parents: Vec<PathBuf> =
            hierarchy.trees().iter().map(|tree| tree.join("taffrail-bench")).collect();
        for parent in &parents {
            crowd.mkdir(parent.clone())?;
        }
        for number in 0..count {
            let name = format!("{:064x}", 0xbe_0000_0000_u64 + number as u64);
            let sleep = Command::new("sleep")
                .arg("infinity")
                .stdin(Stdio::null())
                .spawn()
                .context("cannot run sleep")?;
            let pid = sleep.id();
            crowd.processes.push(sleep);
            for parent in &parents {
                let directory = parent.join(&name);
                crowd.mkdir(directory.clone())?;
                let mut procs = fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs"))?;
                procs
                    .write_all(pid.to_string().as_bytes())
                    .context("cannot move a process into its cgroup")?;
            }
        }
        Ok(crowd)
    }

    fn mkdir(&mut self, path: PathBuf) -> Result<()> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}; root may", path.display()))?;
        self.directories.push(path);
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        for directory in self.directories.iter().rev() {
            // A moment may pass until the kernel has let the process go.
            let removed = (0..100).any(|_| {
                fs::remove_dir(directory).is_ok() || {
                    thread::sleep(Duration::from_millis(10));
                    false
                }
            });
            if !removed {
                eprintln!("cannot remove {}", directory.display());
            }
        }
    }
}
