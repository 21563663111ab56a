//! What the audit of containers would go by here, and policies that fit nothing.

use taffrail_exec::{Permits, TierChoice};

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "audit";

pub(super) fn all(config: &Config) -> Vec<Finding> {
    if !config.audit.enabled {
        return Vec::new();
    }
    let permits = Permits::of(&config.audit, &config.metrics.roots());
    let mut findings = vec![tier(config.audit.tier, &permits)];
    findings.push(match &permits.scan {
        Ok((containers, sessions)) => Finding::good(
            SUBJECT,
            format!("{containers} containers here now, and {sessions} sessions in them"),
        ),
        Err(error) => Finding::warning(
            SUBJECT,
            format!("who is in containers already cannot be seen: {error}"),
            "let it see the machine's processes (hostPID) and cgroups, with CAP_SYS_PTRACE",
        ),
    });
    if let (true, true, Err(why)) = (config.audit.pinned, permits.probe.is_ok(), &permits.pins) {
        findings.push(Finding::warning(
            SUBJECT,
            format!("{why}: what happens while the agent is away is missed"),
            "mount -t bpf bpf /sys/fs/bpf, and in a pod mount that from the host; or set audit.pinned: false",
        ));
    }
    findings.extend(policies(config));
    findings
}

fn tier(choice: TierChoice, permits: &Permits) -> Finding {
    let remedy = "run it as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (the probe) or CAP_NET_ADMIN in the machine's \
                  network (the process connector)";
    match (choice, &permits.probe, &permits.connector) {
        (TierChoice::Auto | TierChoice::Probe, Ok(()), _) => {
            Finding::good(SUBJECT, "by the probe in the kernel: everything, or a count of what is missing")
        }
        (TierChoice::Connector, _, Ok(())) => Finding::note(
            SUBJECT,
            "by the process connector, as configured: who lives long enough to be looked at",
        ),
        (TierChoice::Auto, Err(probe), Ok(())) => Finding::warning(
            SUBJECT,
            format!("by the process connector, who lives long enough to be looked at: {probe}"),
            remedy,
        ),
        (TierChoice::Auto, Err(probe), Err(connector)) => {
            Finding::bad(SUBJECT, format!("by nothing: {probe}; the process connector: {connector}"), remedy)
        }
        (TierChoice::Probe, Err(why), _) | (TierChoice::Connector, _, Err(why)) => {
            Finding::bad(SUBJECT, format!("not by what is configured: {why}"), remedy)
        }
    }
}

/// Labels that records do not have are none that a policy could go by.
fn policies(config: &Config) -> Vec<Finding> {
    let allowed = taffrail_pods::AllowList::new(&config.kubernetes.metadata.labels);
    let mut findings = Vec::new();
    for (number, policy) in config.audit.policies.iter().enumerate() {
        if let Some(label) = policy.labels.keys().find(|label| !allowed.allows(label)) {
            findings.push(Finding::warning(
                SUBJECT,
                format!("audit.policies[{number}] never fits a pod: its label {label} is not read"),
                format!("add {label} to kubernetes.metadata.labels"),
            ));
        }
        let fits_all =
            policy.namespaces.is_empty() && policy.labels.is_empty() && policy.containers.is_empty();
        if fits_all && number + 1 < config.audit.policies.len() {
            findings.push(Finding::warning(
                SUBJECT,
                format!("audit.policies[{number}] fits every session: those behind it decide nothing"),
                "put it last, or say whom it is for",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    fn permits(probe: bool, connector: bool) -> Permits {
        let of = |is: bool| if is { Ok(()) } else { Err("no".to_owned()) };
        Permits { probe: of(probe), pins: Ok(()), connector: of(connector), scan: Ok((0, 0)) }
    }

    #[test]
    fn the_best_that_is_permitted_is_named_and_nothing_stands_in_the_way_but_nothing() {
        use TierChoice::{Auto, Connector, Probe};
        for (choice, probe, connector, expected) in [
            (Auto, true, true, Status::Good),
            (Auto, false, true, Status::Warning),
            (Auto, false, false, Status::Bad),
            (Probe, false, true, Status::Bad),
            (Probe, true, false, Status::Good),
            (Connector, true, true, Status::Note),
            (Connector, true, false, Status::Bad),
        ] {
            assert_eq!(
                tier(choice, &permits(probe, connector)).status,
                expected,
                "{choice:?} {probe} {connector}"
            );
        }
    }

    #[test]
    fn policies_that_decide_nothing_are_told() {
        let mut config = Config::default();
        config.audit.policies =
            serde_json::from_str(r#"[{"labels":{"tier":"x"}},{"record":"off"},{"namespaces":["a"]}]"#)
                .unwrap();
        config.kubernetes.metadata.labels = vec!["app".to_owned()];
        let told: Vec<String> = policies(&config).into_iter().map(|finding| finding.detail).collect();
        assert!(
            told[0].contains("policies[0]") && told[0].contains("tier") && told[1].contains("policies[1]"),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
        config.kubernetes.metadata.labels = vec!["*".to_owned()];
        config.audit.policies.truncate(2);
        assert!(policies(&config).is_empty());
    }
}
