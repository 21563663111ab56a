//! A real kernel in a virtual machine: what a script leaves comes back, and what goes wrong is said with the console.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use taffrail_parts::{Kernel, Vm};

#[test]
fn a_script_runs_on_each_kernel_and_hands_over_what_it_leaves() -> Result<()> {
    for kernel in Kernel::EACH {
        let script = "uname -r >/told/release\ncat /etc/place >/told/place\n\
            cat /sys/fs/cgroup/cgroup.controllers >/told/controllers\nblockdev --getsize64 /dev/vdb >/told/size\n\
            ip link add pair0 type veth\necho ahoy\n";
        let end = Vm::new(kernel, script).text("/etc/place", "deep").disk(3 << 20).run()?;
        assert!(end.told("release")?.starts_with(&format!("{}.", kernel.series())), "{end:?}");
        assert_eq!((end.told("place")?, end.told("size")?.trim()), ("deep", "3145728"));
        for controller in ["cpu", "io", "memory", "hugetlb", "pids"] {
            assert!(end.told("controllers")?.split_whitespace().any(|known| known == controller));
        }
        assert!(end.console.contains("ahoy\n"), "{}", end.console);
        assert!(end.told("nothing").unwrap_err().to_string().contains("release"));
    }
    Ok(())
}

#[test]
fn a_program_of_this_machine_runs_there_with_its_libraries() -> Result<()> {
    let program = std::env::current_exe()?;
    let name = program.file_name().context("no name")?.to_string_lossy().into_owned();
    let end =
        Vm::new(Kernel::V6_1, &format!("{name} --list >/told/tests")).program(Path::new(&program)).run()?;
    assert!(end.told("tests")?.contains("a_program_of_this_machine_runs_there_with_its_libraries: test"));
    Ok(())
}

#[test]
fn what_goes_wrong_is_said_with_the_end_of_the_console() {
    // A minute is enough to boot on a busy machine; who does not hang never waits for it.
    const LIMIT: Duration = Duration::from_secs(60);
    let cases = [
        ("echo aground; sleep 600", "did not power off within", "aground"),
        ("echo aground; false", "the script failed with 1", "aground"),
        ("echo c >/proc/sysrq-trigger; sleep 600", "handed nothing over", "sysrq triggered crash"),
        ("echo aground; poweroff -f", "handed nothing over", "aground"),
    ];
    for (script, expected, said) in cases {
        let vm = Vm::new(Kernel::V6_1, script);
        let vm = if expected.contains("within") { vm.limit(LIMIT) } else { vm };
        let text = format!("{:#}", vm.run().unwrap_err());
        assert!(text.contains(expected) && text.contains(said), "{script}: {text}");
    }
}
