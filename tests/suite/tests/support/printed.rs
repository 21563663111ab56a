//! What programs print: everything that has ever troubled a log shipper, the same for the same seed.

/// What may be among the lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Bytes to print, about.
    pub(crate) bytes: usize,
    /// Also lines of up to this many bytes.
    pub(crate) longest: usize,
    /// The last line ends.
    pub(crate) ended: bool,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A program's output.
pub(crate) fn text(seed: u64, mix: Mix) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = Vec::with_capacity(mix.bytes + mix.longest);
    let mut number = 0;
    while text.len() < mix.bytes {
        number += 1;
        line(&mut text, &mut random, number, mix.longest);
        text.push(b'\n');
    }
    text.extend_from_slice(b"the end");
    if mix.ended {
        text.push(b'\n');
    }
    text
}

fn line(text: &mut Vec<u8>, random: &mut Random, number: u32, longest: usize) {
    const EDGES: [usize; 6] = [16_383, 16_384, 16_385, 32_767, 32_768, 49_152];
    match random.below(40) {
        0 => {}
        1 => text.push(b'\r'),
        2 => text.extend_from_slice(format!("{number} ends like on Windows\r").as_bytes()),
        3 => text.extend_from_slice(format!("\r{number}: 10%\r{number}: 55%\r{number}: 100%").as_bytes()),
        4 => text.extend_from_slice(
            format!("\x1b[1;31m{number}\x1b[0m \x1b[32m\u{2714}\x1b[0m \t\x07\x00 <b>&\"\\/").as_bytes(),
        ),
        5 => text.extend_from_slice(
            format!("{number} 订单已发货，等待签收 \u{1f69a} caf\u{e9} \u{2028}\u{2029}\u{feff}\u{fffd}")
                .as_bytes(),
        ),
        6 => text.extend_from_slice(
            format!(r#"{{"n":{number},"msg":"say \"hi\" \u0041\\","log":"x\n","stream":"stderr"}}"#)
                .as_bytes(),
        ),
        7 => invalid(text, random),
        8 => text
            .extend_from_slice(format!("\tat com.example.Harbour.land(Harbour.java:{number})  ").as_bytes()),
        9 if longest > 0 && random.below(8) == 0 => filler(text, random, longest, number),
        10 if longest > 0 && random.below(4) == 0 => {
            let edge = EDGES[random.below(EDGES.len())].min(longest);
            text.resize(text.len() + edge, b'a' + (number % 26) as u8);
        }
        _ => filler(text, random, 200, number),
    }
}

/// Letters and spaces, so that a line of any length can be cut anywhere.
fn filler(text: &mut Vec<u8>, random: &mut Random, longest: usize, number: u32) {
    text.extend_from_slice(format!("{number} ").as_bytes());
    for _ in 0..random.below(longest) {
        text.push(b"etaoin shrdlu ETAOIN0123456789=:"[random.below(32)]);
    }
}

/// Bytes that are no text: cut, overlong and surrogate sequences, and any others but a newline.
fn invalid(text: &mut Vec<u8>, random: &mut Random) {
    const PIECES: [&[u8]; 8] = [
        b"\xff",
        b"\xc3\x28",
        b"\xe8\xae",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x9a",
        b"\x80\x80",
        b"\xf5ok",
    ];
    for _ in 0..=random.below(6) {
        text.extend_from_slice(b"latin1 ");
        text.extend_from_slice(PIECES[random.below(PIECES.len())]);
    }
}

/// What Docker keeps of this in its json-file: it writes JSON, so each byte that is not part of a character becomes
/// U+FFFD, and it looks for characters in each piece of 16 KiB by itself.
pub(crate) fn as_docker_keeps_it(printed: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(printed.len());
    for line in printed.split_inclusive(|byte| *byte == b'\n') {
        for mut piece in line.chunks(16 * 1024) {
            while let Err(error) = std::str::from_utf8(piece) {
                kept.extend_from_slice(&piece[..error.valid_up_to()]);
                kept.extend_from_slice("\u{fffd}".as_bytes());
                piece = &piece[error.valid_up_to() + 1..];
            }
            kept.extend_from_slice(piece);
        }
    }
    kept
}

/// What containerd keeps of this: every byte, but for a CR before a newline (seen of release 1.6).
pub(crate) fn as_containerd_keeps_it(printed: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(printed.len());
    for line in printed.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => kept.extend_from_slice(&[line, b"\n"].concat()),
            None => kept.extend_from_slice(line),
        }
    }
    kept
}
