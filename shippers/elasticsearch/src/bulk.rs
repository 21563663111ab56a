//! A request's body: for each document a line that says where it belongs, and the document.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A document on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) index: &'a str,
    pub(crate) id: &'a str,
    /// A JSON object without line breaks.
    pub(crate) document: &'a [u8],
}

/// The body, compressed or not.
pub(crate) fn body<'a>(lines: impl Iterator<Item = Line<'a>>, gzip: bool) -> Vec<u8> {
    // Writing into memory does not fail.
    if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let _ = write(&mut encoder, lines);
        encoder.finish().unwrap_or_default()
    } else {
        let mut body = Vec::new();
        let _ = write(&mut body, lines);
        body
    }
}

fn write<'a>(out: &mut impl Write, lines: impl Iterator<Item = Line<'a>>) -> io::Result<()> {
    for line in lines {
        out.write_all(b"{\"create\":{\"_index\":\"")?;
        out.write_all(line.index.as_bytes())?;
        out.write_all(b"\",\"_id\":")?;
        serde_json::to_writer(&mut *out, line.id)?;
        out.write_all(b"}}\n")?;
        out.write_all(line.document)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Bytes that a document takes in a body, about.
pub(crate) fn weight(index: &str, id: &str, document: usize) -> u64 {
    (index.len() + id.len() + document + 40) as u64
}

/// Why a document cannot even be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// As the type of an engine's error.
    pub(crate) kind: &'static str,
    pub(crate) reason: &'static str,
}

/// Looks at a document and its id, and makes it one line.
pub(crate) fn prepare(id: Option<&str>, document: &mut [u8]) -> Result<(), Unfit> {
    const LONGEST_ID: usize = 512;
    let unfit = |kind, reason| Err(Unfit { kind, reason });
    if simdutf8::basic::from_utf8(document).is_err() {
        return unfit("taffrail_invalid_utf8", "the document is not valid UTF-8");
    }
    let is_object = document.trim_ascii_start().first() == Some(&b'{');
    if !is_object || serde_json::from_slice::<serde::de::IgnoredAny>(document).is_err() {
        return unfit("taffrail_invalid_json", "the document is not one JSON object");
    }
    if id.is_none_or(|id| id.is_empty() || id.len() > LONGEST_ID) {
        return unfit("taffrail_invalid_id", "the document's id must have 1 to 512 bytes");
    }
    // In valid JSON they are white space between tokens.
    for byte in document.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_body_is_two_lines_a_document_also_when_compressed() {
        let lines = || {
            let line = |id, document| Line { index: "i", id, document };
            [line("a", b"{}".as_slice()), line("q\"\n", b"{\"n\":1}")].into_iter()
        };
        let plain = body(lines(), false);
        let expected = "{\"create\":{\"_index\":\"i\",\"_id\":\"a\"}}\n{}\n\
                        {\"create\":{\"_index\":\"i\",\"_id\":\"q\\\"\\n\"}}\n{\"n\":1}\n";
        assert_eq!(String::from_utf8(plain.clone()).expect("text"), expected);
        let mut unpacked = Vec::new();
        let packed = body(lines(), true);
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain);
    }

    #[test]
    fn what_no_engine_could_take_is_told_before_it_is_sent() {
        let long = "x".repeat(513);
        for (id, document, kind) in [
            (Some("a"), b"\xff{}".as_slice(), "taffrail_invalid_utf8"),
            (Some("a"), b"{\"a\":\"\xc3\"}", "taffrail_invalid_utf8"),
            (Some("a"), b"", "taffrail_invalid_json"),
            (Some("a"), b"[]", "taffrail_invalid_json"),
            (Some("a"), b"{} {}", "taffrail_invalid_json"),
            (Some("a"), b"{\"a\":\"\n\"}", "taffrail_invalid_json"),
            (None, b"{}", "taffrail_invalid_id"),
            (Some(""), b"{}", "taffrail_invalid_id"),
            (Some(&long), b"{}", "taffrail_invalid_id"),
        ] {
            let found = prepare(id, &mut document.to_vec()).expect_err("unfit");
            assert_eq!(found.kind, kind, "{}", String::from_utf8_lossy(document));
        }
    }

    #[test]
    fn line_breaks_between_tokens_go_and_those_in_texts_stay() {
        let mut document = b"{\r\n \"a\\n\": \"b\\n\"\n}".to_vec();
        prepare(Some("a"), &mut document).expect("fit");
        assert_eq!(document, b"{   \"a\\n\": \"b\\n\" }");
    }
}
