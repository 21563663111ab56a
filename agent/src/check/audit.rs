//! What the audit of containers would go by here, and policies that fit nothing.

use taffrail_exec::{Permits, Policy, Tier, TierChoice};

use super::Finding;
use crate::config::Config;

const SUBJECT: &str = "audit";

pub(super) fn all(config: &Config) -> Vec<Finding> {
    if !config.audit.enabled {
        return Vec::new();
    }
    let permits = Permits::of(&config.audit, &config.metrics.roots(), &config.engines());
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
            format!(
                "mount -t bpf bpf {}, and in a pod mount that from the host; or set audit.pinned: false",
                config.audit.bpffs.display()
            ),
        ));
    }
    findings.extend(config.audit.records().then(|| recording(&permits)));
    findings.extend(policies(config));
    findings
}

/// Of who asks for `record: full`.
fn recording(permits: &Permits) -> Finding {
    let refused = permits.probe.as_ref().err().or(permits.recording.as_ref().err());
    match refused {
        None => Finding::note(
            SUBJECT,
            "what is typed and shown is recorded where a policy says `full`: whoever may read the audit's documents may read that",
        ),
        Some(why) => Finding::warning(
            SUBJECT,
            format!("what is typed and shown is not recorded, though a policy says `full`: {why}"),
            "it takes the probe, and system calls that can be traced (CONFIG_FTRACE_SYSCALLS); or say `record: commands`",
        ),
    }
}

/// By which tier it would be known who comes in, and why by no better one.
fn tier(choice: TierChoice, permits: &Permits) -> Finding {
    let mut refused = Vec::new();
    for tier in choice.tiers() {
        let (what, permitted) = by(*tier, permits);
        match permitted {
            Err(why) => refused.push(format!("{}: {why}", tier.as_str())),
            Ok(()) if *tier == Tier::Probe => return Finding::good(SUBJECT, format!("by {what}")),
            Ok(()) if choice != TierChoice::Auto => {
                return Finding::note(SUBJECT, format!("by {what}; as configured"));
            }
            Ok(()) => {
                let detail = format!("by {what}; not by what is better: {}", refused.join("; "));
                return Finding::warning(SUBJECT, detail, REMEDY);
            }
        }
    }
    Finding::bad(SUBJECT, format!("by nothing: {}", refused.join("; ")), REMEDY)
}

const REMEDY: &str = "run it as root in the machine's own network and processes, or see deploy/audit.md for what each tier takes";

/// What a tier is and knows, and whether it is permitted here.
fn by(tier: Tier, permits: &Permits) -> (&'static str, &Result<(), String>) {
    match tier {
        Tier::Probe => ("the probe in the kernel: everything, or a count of what is missing", &permits.probe),
        // It takes the connector, too.
        Tier::Audit => (
            "the kernel's audit and the process connector: every program with its arguments",
            if permits.audit.is_ok() { &permits.connector } else { &permits.audit },
        ),
        Tier::Connector => {
            ("the process connector: who lives long enough to be looked at", &permits.connector)
        }
        Tier::Runtime | Tier::None => (
            "the engines' events: what they were asked to begin, and nothing that comes of it",
            &permits.runtime,
        ),
    }
}

/// Whether anything that is written in small letters, digits, `-` and these can fit a pattern, as far as its plain letters say.
fn can_fit(pattern: &str, besides: &[char]) -> bool {
    let (mut is_plain, mut in_class) = (false, false);
    pattern.chars().all(|c| {
        let was_plain = std::mem::take(&mut is_plain);
        match c {
            '\\' if !was_plain => is_plain = true,
            ']' if in_class => in_class = false,
            '[' if !was_plain => in_class = true,
            '*' | '?' | '{' | '}' | ',' if !was_plain => {}
            _ if in_class => {}
            c => return c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || besides.contains(&c),
        }
        true
    })
}

/// What a policy asks for that nothing can be called.
fn impossible(policy: &Policy) -> Option<String> {
    let capitals: Vec<char> = ('A'..='Z').chain(['_', '.']).collect();
    let of = |patterns: &[String], besides: &[char], what: &str| {
        let pattern = patterns.iter().find(|pattern| !can_fit(pattern, besides))?;
        Some(format!("no {what} can be called {pattern:?}"))
    };
    // Labels of an engine's own containers may be anything.
    of(&policy.namespaces, &[], "namespace").or_else(|| of(&policy.containers, &capitals, "container"))
}

/// Labels that records do not have are none that a policy could go by.
fn policies(config: &Config) -> Vec<Finding> {
    let allowed = taffrail_pods::AllowList::new(&config.kubernetes.metadata.labels);
    let mut findings = Vec::new();
    for (number, policy) in config.audit.policies.iter().enumerate() {
        if let Some(why) = impossible(policy) {
            let remedy = "write it as `kubectl get` or `docker ps` has it; `*` stands for any text";
            findings.push(Finding::warning(SUBJECT, format!("audit.policies[{number}]: {why}"), remedy));
        }
        if let Some(label) = policy.labels.keys().find(|label| !allowed.allows(label)) {
            findings.push(Finding::warning(
                SUBJECT,
                format!("audit.policies[{number}] never fits a pod: its label {label} is not read"),
                format!("add {label} to kubernetes.metadata.labels"),
            ));
        }
        let fits_all = *policy == Policy { record: policy.record, ..Policy::default() };
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
    use taffrail_exec::Origin;

    use super::*;
    use crate::check::Status;

    fn permits(permitted: &[Tier]) -> Permits {
        let of = |tier| if permitted.contains(&tier) { Ok(()) } else { Err(format!("no {tier:?}")) };
        Permits {
            probe: of(Tier::Probe),
            recording: Ok(()),
            pins: Ok(()),
            audit: of(Tier::Audit),
            connector: of(Tier::Connector),
            runtime: of(Tier::Runtime),
            scan: Ok((0, 0)),
        }
    }

    #[test]
    fn the_best_that_is_permitted_is_named_with_why_it_is_no_better_one() {
        use Tier::{Audit, Connector, Probe, Runtime};
        let all = [Probe, Audit, Connector, Runtime];
        for (choice, permitted, status, said) in [
            (TierChoice::Auto, &all[..], Status::Good, "by the probe"),
            (TierChoice::Auto, &all[1..], Status::Warning, "by the kernel's audit and the process connector"),
            (TierChoice::Auto, &all[2..], Status::Warning, "by the process connector: who lives"),
            (TierChoice::Auto, &[Audit, Runtime], Status::Warning, "by the engines' events"),
            (TierChoice::Auto, &[], Status::Bad, "by nothing"),
            (TierChoice::Probe, &all[1..], Status::Bad, "probe: no Probe"),
            (TierChoice::Probe, &all[..1], Status::Good, "by the probe"),
            (TierChoice::Audit, &[Audit], Status::Bad, "audit: no Connector"),
            (TierChoice::Connector, &all[..], Status::Note, "as configured"),
            (TierChoice::Runtime, &all[..], Status::Note, "by the engines' events"),
            (TierChoice::Runtime, &all[..3], Status::Bad, "runtime: no Runtime"),
        ] {
            let finding = tier(choice, &permits(permitted));
            assert_eq!(finding.status, status, "{choice:?} {permitted:?}");
            assert!(finding.detail.contains(said), "{choice:?} {permitted:?}: {}", finding.detail);
        }
        let refused = tier(TierChoice::Auto, &permits(&[Runtime])).detail;
        for why in ["probe: no Probe", "audit: no Audit", "connector: no Connector"] {
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn that_something_is_recorded_is_said_and_that_it_cannot_be_is_a_warning() {
        let mut here = permits(&[Tier::Probe]);
        assert_eq!(recording(&here).status, Status::Note);
        here.recording = Err("no such tracepoint".to_owned());
        let said = recording(&here);
        assert_eq!(said.status, Status::Warning);
        assert!(said.detail.ends_with("no such tracepoint"), "{}", said.detail);
        assert_eq!(recording(&permits(&[Tier::Connector])).status, Status::Warning);
    }

    #[test]
    fn what_nothing_can_be_called_is_told() {
        let of = |text: &str| impossible(&serde_json::from_str(text).expect("a policy"));
        for (policy, said) in [
            (r#"{"namespaces":["kube-*","Shop"]}"#, "no namespace can be called \"Shop\""),
            (r#"{"namespaces":["shop_1"]}"#, "no namespace"),
            (r#"{"containers":["a b"]}"#, "no container"),
        ] {
            assert!(of(policy).is_some_and(|why| why.contains(said)), "{policy}");
        }
        for policy in [
            "{}",
            r#"{"namespaces":["kube-*","shop-?","{a,b}-1","[A-Z]x"]}"#,
            r#"{"containers":["My_app.1"],"labels":{"app":"any thing/at all"}}"#,
        ] {
            assert_eq!(of(policy), None, "{policy}");
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
        config.audit.policies[1].origins = vec![Origin::Probe];
        assert_eq!(policies(&config).len(), 1);
        config.kubernetes.metadata.labels = vec!["*".to_owned()];
        config.audit.policies[1].origins.clear();
        config.audit.policies.truncate(2);
        assert!(policies(&config).is_empty());
    }
}
