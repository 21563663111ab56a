//! `taffrail ledger`: does it add up?

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use super::SocketArg;
use super::console::{Table, for_people, size};
use crate::client;
use crate::ledger_report::{AccountReport, LedgerReport};

/// What to show of the ledger.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    socket: SocketArg,
    /// Print the whole ledger as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let body = client::get(&args.socket.path()?, "/ledger")?;
    let report: LedgerReport = serde_json::from_reader(body).context("the agent's answer cannot be read")?;
    let text =
        if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { render(&report, for_people()) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.adds_up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(report: &LedgerReport, people: bool) -> String {
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD",
        "CONTAINER",
        ">READ",
        ">CONFIRMED",
        ">PENDING",
        ">CARRIED",
        ">LOST",
        "BY REASON",
        ">LAG",
        "VERDICT",
    ]);
    for account in &report.accounts {
        table.row(row(account, people));
    }
    let mut text = table.render(people);
    if report.accounts.is_empty() && people {
        text = "nothing has been read yet\n".to_owned();
    }
    if people {
        text.push('\n');
    }
    text.push_str(&verdict(report, people));
    text
}

fn row(account: &AccountReport, people: bool) -> Vec<String> {
    let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
    let size = |bytes| size(bytes, people);
    let reasons: Vec<String> = account
        .lost
        .iter()
        .map(|(reason, bytes)| format!("{reason}={}", size(*bytes).replace(' ', "")))
        .collect();
    let verdict = match account.difference_bytes {
        0 => "adds up".to_owned(),
        difference => format!("{difference:+} bytes"),
    };
    vec![
        name(&account.namespace),
        name(&account.pod),
        name(&account.container),
        size(account.read_bytes),
        size(account.confirmed_bytes),
        size(account.pending_bytes),
        size(account.carried_bytes),
        size(account.lost_bytes),
        name(&reasons.join(",")),
        size(account.lag_bytes),
        verdict,
    ]
}

fn verdict(report: &LedgerReport, people: bool) -> String {
    let total = &report.total;
    let size = |bytes| size(bytes, people);
    let mut text = if report.adds_up { "adds up".to_owned() } else { "DOES NOT ADD UP".to_owned() };
    let _ = writeln!(
        text,
        ": read {} = confirmed {} + pending {} + carried {} + lost {} ({} of {} accounts)",
        size(total.read_bytes),
        size(total.confirmed_bytes),
        size(total.pending_bytes),
        size(total.carried_bytes),
        size(total.lost_bytes),
        report.accounts.iter().filter(|account| account.difference_bytes == 0).count(),
        report.accounts.len(),
    );
    if !report.adds_up {
        text.push_str(
            "this is a defect of taffrail: please report it with the output of `taffrail ledger --json`\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(difference_bytes: i64) -> LedgerReport {
        let account = AccountReport {
            namespace: "shop".to_owned(),
            pod: "web-1".to_owned(),
            container: "app".to_owned(),
            read_bytes: 3 << 20,
            confirmed_bytes: 2 << 20,
            lost_bytes: 1 << 20,
            lost: [("quota".to_owned(), 1 << 20)].into(),
            difference_bytes,
            ..AccountReport::default()
        };
        LedgerReport {
            node: "n1".to_owned(),
            time: String::new(),
            adds_up: difference_bytes == 0,
            total: account.clone(),
            accounts: vec![account],
        }
    }

    #[test]
    fn people_see_sizes_in_columns_and_a_verdict() {
        assert_eq!(
            render(&report(0), true),
            "NAMESPACE  POD    CONTAINER     READ  CONFIRMED  PENDING  CARRIED     LOST  BY REASON     LAG  VERDICT\n\
             shop       web-1  app        3.0 MiB    2.0 MiB      0 B      0 B  1.0 MiB  quota=1.0MiB  0 B  adds up\n\
             \n\
             adds up: read 3.0 MiB = confirmed 2.0 MiB + pending 0 B + carried 0 B + lost 1.0 MiB (1 of 1 accounts)\n"
        );
    }

    #[test]
    fn scripts_see_bytes_between_tabs() {
        let text = render(&report(-7), false);
        assert_eq!(
            text.lines().nth(1),
            Some("shop\tweb-1\tapp\t3145728\t2097152\t0\t0\t1048576\tquota=1048576\t0\t-7 bytes")
        );
        assert!(text.contains("\nDOES NOT ADD UP: read 3145728 = "), "{text}");
    }
}
