//! NDJSON files, from the command's arguments to its exit code.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{finished, record};
use crate::verify::{Args, run};

fn write(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

fn code(args: &Args) -> String {
    format!("{:?}", run(args).unwrap())
}

fn is(expected: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(expected))
}

#[test]
fn a_directory_is_read_compressed_or_not_finished_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let lines = |values: &[serde_json::Value]| {
        values.iter().map(|value| value.to_string() + "\n").collect::<String>().into_bytes()
    };
    let args = Args { paths: vec![dir.path().to_owned()], ..Args::default() };
    assert_eq!(code(&args), is(2), "nothing there");

    let mut packed =
        GzEncoder::new(File::create(dir.path().join("logs-1.ndjson.gz")).unwrap(), Compression::fast());
    packed.write_all(&lines(&[record(1, 0, 10)])).unwrap();
    packed.finish().unwrap();
    let torn = [lines(&[record(1, 10, 20)]), b"{\"@timestamp\":\"20".to_vec()].concat();
    write(&dir.path().join("logs-2.ndjson.open"), &torn);
    write(&dir.path().join("ledger-1.ndjson"), &lines(&[finished(1, 20)]));
    write(&dir.path().join("other.txt"), b"not for us\n");
    assert_eq!(code(&args), is(0));

    let out = dir.path().join("once");
    let dedup = Args { dedup: Some(out.clone()), ..args.clone() };
    assert_eq!(code(&dedup), is(0));
    assert_eq!(std::fs::read(&out).unwrap(), lines(&[record(1, 0, 10), record(1, 10, 20)]));

    write(&dir.path().join("ledger-2.ndjson"), &lines(&[finished(1, 21)]));
    assert_eq!(code(&args), is(1), "a byte is missing");
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs-1.ndjson.gz");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all((record(1, 0, 10).to_string() + "\n").as_bytes()).unwrap();
    let bytes = packed.finish().unwrap();
    write(&path, &bytes[..bytes.len() - 9]);
    assert_eq!(code(&Args { paths: vec![path], ..Args::default() }), is(1));
    let gone = Args { paths: vec!["/no/such/place".into()], ..Args::default() };
    assert_eq!(code(&gone), is(2), "no verdict");
}
