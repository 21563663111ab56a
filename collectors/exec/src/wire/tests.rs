use proptest::prelude::*;

use super::*;

/// A record as the probe writes it: a head, and what follows.
fn record(kind: u16, flags: u16, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    for field in [5_u64, 6, 7, 8] {
        bytes.extend(field.to_ne_bytes());
    }
    rest.iter().for_each(|part| bytes.extend(*part));
    let length = (bytes.len() as u32).to_ne_bytes();
    bytes[..4].copy_from_slice(&length);
    bytes
}

fn numbers(from: u32, count: u32) -> Vec<u8> {
    (from..from + count).flat_map(u32::to_ne_bytes).collect()
}

fn process_bytes() -> Vec<u8> {
    let mut bytes: Vec<u8> = [100_u64, 90].iter().flat_map(|time| time.to_ne_bytes()).collect();
    bytes.extend(numbers(1, 10));
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(numbers(12, 5));
    bytes.extend(*b"sh\0garbage......pts0\0...........");
    bytes
}

fn exec_bytes(texts: [&[u8]; 6]) -> Vec<u8> {
    let mut bytes = 77_u64.to_ne_bytes().to_vec();
    bytes.extend(numbers(20, 4));
    bytes.extend([30_u32, 31, 1, 0, 0, 0, 0, 0].iter().flat_map(|pid| pid.to_ne_bytes()));
    bytes.extend([41_u64, 42, 43].iter().flat_map(|inode| inode.to_ne_bytes()));
    bytes.extend(numbers(50, 2));
    texts.iter().for_each(|text| bytes.extend((text.len() as u16).to_ne_bytes()));
    bytes.extend([0; 4]);
    texts.iter().for_each(|text| bytes.extend(*text));
    bytes
}

#[test]
fn an_exec_is_read_field_by_field() {
    let texts: [&[u8]; 6] =
        [b"busybox\0bin\0", b"/bin/sh\0", b"sh\0-c\0exit\n3", b"", b"ab\0containers\0", b"A=b\0"];
    let bytes = record(1, 1 | 8, &[&process_bytes(), &exec_bytes(texts)]);
    let record = Record::read(&bytes).expect("a record");
    assert_eq!((record.time, record.session, record.number, record.container), (5, 6, 7, 8));
    let flags = record.flags;
    let What::Exec(process, exec) = record.what else { panic!("{:?}", record.what) };
    assert_eq!((process.start, process.parent_start, process.pid, process.level), (100, 90, 1, 15));
    assert_eq!((process.login_user, process.audit_session), (None, Some(12)));
    assert_eq!((process.name.as_slice(), process.tty.as_slice()), (&b"sh"[..], &b"pts0"[..]));
    assert!(flags.is_entry() && flags.path_cut() && !flags.directory_cut() && !flags.is_of_init());
    assert_eq!(
        (exec.inode, exec.device, exec.links, exec.entered_by, exec.session_kind),
        (77, 20, 21, 22, 23)
    );
    assert_eq!((exec.ancestors, exec.standard), (vec![30, 31, 1], [41, 42, 43]));
    assert_eq!((exec.path.as_slice(), exec.directory.as_slice()), (&b".../bin/busybox"[..], &b"/"[..]));
    assert_eq!((exec.file.as_slice(), exec.arguments.as_slice()), (&b"/bin/sh"[..], &b"sh\0-c\0exit\n3"[..]));
    assert_eq!(exec.cgroup, [b"ab".to_vec(), b"containers".to_vec()]);
    assert_eq!((exec.arguments_total, exec.environment_total), (50, 51));
}

#[test]
fn a_session_reads_back() {
    let session = Session {
        container: 1,
        begun: 2,
        records: 3,
        lost: 4,
        limited: 5,
        unwanted: 6,
        untracked: 7,
        execs: 8,
        forks: 9,
        exits: 10,
        files: 21,
        connections: 22,
        limited_accesses: 23,
        cgroup: 11,
        ended: 12,
        root: 13,
        status: -14,
        members: 15,
        kind: SessionKind::Adopted,
        namespaces: [16, 17, 18, 19, 20],
    };
    assert_eq!(Session::read(&session.write()), Ok(session));
}

#[test]
fn exits_say_code_or_signal() {
    let exit = |status| Exit { status, cpu: 0 };
    assert_eq!((exit(0).code(), exit(0).signal()), (Some(0), None));
    assert_eq!((exit(0x300).code(), exit(0x300).signal()), (Some(3), None));
    assert_eq!((exit(9).code(), exit(9).signal()), (None, Some(9)));
    assert_eq!(exit(0x8b).signal(), Some(11), "with a core");
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_they_are_read_or_refused(
        kind in 0_u16..10, flags: u16, rest in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400,
    ) {
        let bytes = record(kind, flags, &[&rest]);
        let _ = Record::read(&bytes);
        let _ = Record::read(&bytes[..cut.min(bytes.len())]);
    }

    #[test]
    fn a_record_that_is_cut_short_is_none(cut in 1_usize..300) {
        let bytes = record(1, 0, &[&process_bytes(), &exec_bytes([b"a\0", b"b\0", b"c\0", b"d\0", b"", b""])]);
        prop_assert!(Record::read(&bytes).is_ok());
        prop_assert_eq!(Record::read(&bytes[..bytes.len() - cut.min(bytes.len())]), Err(Malformed));
    }
}
