//! Whatever stands in a configuration file or a variable: it is taken or refused with a message, never a panic.

use std::path::Path;

use taffrail::config::{Config, ConfigError, parse};

fn judged(text: &str, variables: &[(String, String)]) -> Result<Config, ConfigError> {
    let outcome = parse(Path::new("t.yaml"), text, variables.iter().cloned());
    if let Err(error) = &outcome {
        assert!(!error.to_string().trim().is_empty(), "a refusal without a reason");
    }
    outcome
}

/// Texts made of what configurations are made of get further than random bytes.
fn pieced(choices: &[u8]) -> String {
    const PIECES: [&str; 40] = [
        "http",
        "listen",
        "output",
        "kafka",
        "brokers",
        "topic",
        "sasl",
        "password",
        "node",
        "fields",
        "logs",
        "files",
        "paths",
        "pipeline",
        "memory",
        "log",
        "level",
        ": ",
        ":\n",
        "\n",
        "  ",
        "    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "!!binary ",
        "null",
        "true",
        "16 MiB",
        "-1",
        "\u{e9}\t",
        "---\n",
    ];
    choices.iter().map(|choice| PIECES[*choice as usize % PIECES.len()]).collect()
}

#[test]
fn any_bytes_are_judged() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = judged(&String::from_utf8_lossy(bytes), &[]);
    });
}

#[test]
fn anything_like_a_configuration_is_judged_and_what_is_taken_can_be_printed_and_read_back() {
    bolero::check!().for_each(|choices: &[u8]| {
        if let Ok(config) = judged(&pieced(choices), &[]) {
            let printed = config.redacted().to_string();
            judged(&printed, &[]).expect("what is printed is a configuration");
        }
    });
}

#[test]
fn any_variable_is_judged() {
    const NAMES: [&str; 6] = [
        "TAFFRAIL_HTTP__LISTEN",
        "TAFFRAIL_NODE__FIELDS",
        "TAFFRAIL_LOGS__FILES",
        "TAFFRAIL_OUTPUT__KAFKA",
        "TAFFRAIL_PIPELINE__MEMORY",
        "TAFFRAIL_",
    ];
    bolero::check!().for_each(|bytes: &[u8]| {
        let Some((choice, rest)) = bytes.split_first() else { return };
        let text = String::from_utf8_lossy(rest).into_owned();
        let pieced = pieced(rest);
        let (name, value) = match NAMES[*choice as usize % NAMES.len()] {
            "TAFFRAIL_" => (format!("TAFFRAIL_{text}"), pieced),
            name if choice % 2 == 0 => (name.to_owned(), text),
            name => (name.to_owned(), pieced),
        };
        let _ = judged("", &[(name, value)]);
    });
}
