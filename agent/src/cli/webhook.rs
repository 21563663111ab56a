//! `taffrail audit-webhook`: certificate, secret and manifests of the address at which API servers tell who asks for sessions.
//!
//! Guarantee: what is printed is all that there is of it. The authority that has signed is gone when this ends, so nothing else can
//! ever be signed by it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::audit::requests::{CA, CERTIFICATE, KEY, TOKEN};

const TEMPLATE: &str = include_str!("webhook.yaml");
/// How long it is good for, in years.
const YEARS: i16 = 10;
/// Bytes of the secret.
const SECRET: usize = 32;

/// What to make.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Namespace of the agents
    #[arg(short, long, default_value = "taffrail", value_parser = name)]
    namespace: String,
    /// Name of their Service, of the Secret and of the webhook; `audit.requests.service` of the configuration
    #[arg(long, default_value = "taffrail-audit", value_parser = name)]
    service: String,
    /// Port at which they listen; that of `audit.requests.listen`
    #[arg(long, default_value_t = 9127, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where the API servers reach an agent, when they cannot by the Service: https://HOST:PORT
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// What Kubernetes takes as a name of a namespace or a Service.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=63).contains(&text.len())
        && text.bytes().all(is_plain)
        && !text.starts_with(|c: char| !c.is_ascii_lowercase())
        && !text.ends_with('-');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("write small letters, digits and `-` in between".to_owned())
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(args.manifests()?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn manifests(&self) -> anyhow::Result<String> {
        let host = self.url.as_deref().map(host).transpose()?;
        let Args { namespace, service, .. } = self;
        let own = format!("{service}.{namespace}.svc");
        let names = [Some(own.clone()), host].into_iter().flatten().collect();
        let made = Made::new(names)?;
        let reached = self
            .url
            .as_deref()
            .map_or_else(|| format!("https://{own}"), |url| url.trim_end_matches('/').to_owned());
        let reached = |what: &str| format!("{reached}/{}/{what}", made.token);
        let client = match &self.url {
            Some(_) => format!("url: {}", reached("admission")),
            None => format!(
                "service: {{namespace: {namespace}, name: {service}, port: 443, path: /{}/admission}}",
                made.token
            ),
        };
        let kubeconfig = kubeconfig(&reached("events"), &made.authority);
        let mut files = String::new();
        let all =
            [(CERTIFICATE, &made.certificate), (KEY, &made.key), (CA, &made.authority), (TOKEN, &made.token)];
        for (name, content) in all.into_iter().chain([("kubeconfig", &kubeconfig)]) {
            let _ = writeln!(files, "  {name}: |");
            for line in content.lines() {
                let _ = writeln!(files, "    {line}");
            }
        }
        let port = self.port.to_string();
        let bundle = STANDARD.encode(&made.authority);
        let values = [
            ("NAMESPACE", namespace.as_str()),
            ("SERVICE", service),
            ("PORT", &port),
            ("UNTIL", &made.until),
            ("CLIENT", &client),
            ("BUNDLE", &bundle),
            ("FILES", files.trim_end()),
        ];
        Ok(values
            .iter()
            .fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value)))
    }
}

/// The host of `https://HOST:PORT`.
fn host(url: &str) -> anyhow::Result<String> {
    let Some(rest) = url.strip_prefix("https://") else {
        bail!("--url {url:?}: an API server asks by https:// alone")
    };
    let authority: http::uri::Authority = rest
        .trim_end_matches('/')
        .parse()
        .with_context(|| format!("--url {url:?} is not https://HOST:PORT"))?;
    Ok(authority.host().trim_matches(['[', ']']).to_owned())
}

/// How an API server finds who takes its audit log.
fn kubeconfig(server: &str, authority: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: taffrail\n  cluster: {{server: '{server}', certificate-authority-data: {}}}\n\
         users:\n- name: taffrail\n  user: {{}}\ncontexts:\n- name: taffrail\n  context: {{cluster: taffrail, user: taffrail}}\n\
         current-context: taffrail\n",
        STANDARD.encode(authority)
    )
}

/// Certificate, key and secret.
struct Made {
    authority: String,
    certificate: String,
    key: String,
    token: String,
    /// The day until which it is good.
    until: String,
}

impl Made {
    fn new(names: Vec<String>) -> anyhow::Result<Made> {
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let until = today.checked_add(jiff::Span::new().years(YEARS))?;
        let params = |names: Vec<String>, common: &str| -> anyhow::Result<CertificateParams> {
            let mut params = CertificateParams::new(names)?;
            let date = |date: jiff::civil::Date| {
                let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
                date_time_ymd(i32::from(date.year()), month, day)
            };
            // A clock elsewhere may be a day behind.
            params.not_before = date(today.yesterday()?);
            params.not_after = date(until);
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, common);
            Ok(params)
        };
        let mut authority = params(Vec::new(), "taffrail audit authority")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut leaf = params(names, "taffrail audit")?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &authority)?;
        let mut secret = [0; SECRET];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        Ok(Made {
            authority: authority.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            token: URL_SAFE_NO_PAD.encode(secret),
            until: until.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::audit::requests::Credentials;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn documents(line: &[&str]) -> Vec<serde_json::Value> {
        let args = Line::parse_from(std::iter::once(&"audit-webhook").chain(line)).args;
        serde_saphyr::from_multiple(&args.manifests().expect("made")).expect("YAML")
    }

    fn of<'a>(documents: &'a [serde_json::Value], kind: &str) -> &'a serde_json::Value {
        documents.iter().find(|document| document["kind"] == kind).expect(kind)
    }

    #[test]
    fn what_is_printed_is_what_the_agent_takes() {
        let documents = documents(&["--namespace", "watch", "--port", "19127"]);
        let data = &of(&documents, "Secret")["stringData"];
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in data.as_object().expect("files") {
            let mut file = std::fs::File::create(folder.path().join(name)).expect("made");
            file.write_all(content.as_str().expect("text").as_bytes()).expect("written");
        }
        Credentials::read(folder.path()).expect("good");
        let webhooks =
            of(&documents, "ValidatingWebhookConfiguration")["webhooks"].as_array().expect("webhooks");
        let token = data["token"].as_str().expect("a secret").trim();
        for webhook in webhooks {
            let service = &webhook["clientConfig"]["service"];
            assert_eq!(service["namespace"], "watch");
            assert_eq!(service["path"], format!("/{token}/admission"));
            assert_eq!(
                (&webhook["failurePolicy"], &webhook["sideEffects"]),
                (&"Ignore".into(), &"None".into())
            );
        }
        let rule = &of(&documents, "Role")["rules"][0];
        let granted =
            ["verbs", "resources", "apiGroups"].map(|key| rule[key][0].as_str().unwrap_or_default());
        assert_eq!(
            granted,
            ["list", "endpointslices", "discovery.k8s.io"],
            "as kubernetes::permissions has it"
        );
        assert_eq!(of(&documents, "Service")["spec"]["ports"][0]["targetPort"], 19127);
        let kubeconfig = data["kubeconfig"].as_str().expect("text");
        assert!(
            kubeconfig.contains(&format!("https://taffrail-audit.watch.svc/{token}/events")),
            "{kubeconfig}"
        );
    }

    #[test]
    fn each_time_it_is_another_secret_and_an_address_is_one_that_the_certificate_is_for() {
        let secret = |documents: &[serde_json::Value]| of(documents, "Secret")["stringData"]["token"].clone();
        let with_url = documents(&["--url", "https://127.0.0.1:9127/"]);
        assert_ne!(secret(&documents(&[])), secret(&with_url));
        let client = &of(&with_url, "ValidatingWebhookConfiguration")["webhooks"][0]["clientConfig"];
        let url = client["url"].as_str().expect("a URL");
        assert!(url.starts_with("https://127.0.0.1:9127/") && url.ends_with("/admission"), "{url}");
        assert_eq!(host("https://[::1]:9127").expect("a host"), "::1");
        for wrong in ["http://a:1", "https://", "https://a b", "https://a/b"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "A", "-a", "a-", "a.b", "1a"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
