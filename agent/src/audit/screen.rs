//! What a container has shown, for the terminal of somebody who looks at it later.
//!
//! Guarantee: what passes is text, and what moves the cursor, erases or colours within the screen. Nothing passes that a terminal
//! answers, that sets its title or clipboard, prints, changes how keys and characters work, or removes what was on it before;
//! [`RESET`] takes back the rest. Whatever the bytes are, what is held of them is bounded.

/// Puts a terminal back into the order it was in.
pub(crate) const RESET: &str = "\u{1b}[?1049l\u{1b}[?25h\u{1b}[?7h\u{1b}[r\u{1b}[m";

/// Strings to a terminal that are longer are taken to have ended.
const STRING: usize = 4096;
/// So are sequences.
const SEQUENCE: usize = 64;
/// No screen has more lines or columns.
const FARTHEST: u32 = 9999;

/// How much of what was shown passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Also what moves the cursor, erases and colours.
    Screen,
    /// Text in lines alone.
    Text,
}

/// Lets pass what may.
#[derive(Debug)]
pub(crate) struct Screen {
    manner: Manner,
    state: State,
    /// The sequence until now, behind `ESC [`.
    sequence: Vec<u8>,
    /// A character that is not whole yet.
    character: Vec<u8>,
    returned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Escape,
    /// Of an escape sequence with something between, such as a choice of characters.
    Between,
    Sequence,
    /// A string to the terminal, of so many bytes, and whether the last one was an escape.
    String(usize, bool),
}

impl Screen {
    pub(crate) fn new(manner: Manner) -> Screen {
        Screen { manner, state: State::Text, sequence: Vec::new(), character: Vec::new(), returned: false }
    }

    /// What may pass of these bytes, which go on where the last ones ended.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        bytes.iter().for_each(|byte| self.byte(*byte, &mut out));
        out
    }

    fn byte(&mut self, byte: u8, out: &mut String) {
        // These end whatever there was.
        if matches!(byte, 0x18 | 0x1a) {
            self.state = State::Text;
            return self.end_character(out);
        }
        match self.state {
            State::Text => self.text(byte, out),
            State::Escape => self.escape(byte, out),
            State::Between => {
                if !(0x20..0x30).contains(&byte) {
                    self.state = State::Text;
                }
            }
            State::Sequence => self.in_sequence(byte, out),
            State::String(length, escaped) => {
                let ended = byte == 0x07 || (escaped && byte == b'\\') || length >= STRING;
                self.state = if ended { State::Text } else { State::String(length + 1, byte == 0x1b) };
            }
        }
    }

    fn text(&mut self, byte: u8, out: &mut String) {
        if byte >= 0x80 {
            return self.part(byte, out);
        }
        self.end_character(out);
        if std::mem::take(&mut self.returned) && byte != b'\n' {
            out.push('\n');
        }
        match (byte, self.manner) {
            (0x1b, _) => self.state = State::Escape,
            (b'\n' | b'\t', _) | (0x08 | b'\r', Manner::Screen) => out.push(char::from(byte)),
            (b'\r', Manner::Text) => self.returned = true,
            (0x20..0x7f, _) => out.push(char::from(byte)),
            _ => {}
        }
    }

    /// A byte of a character that has several.
    fn part(&mut self, byte: u8, out: &mut String) {
        if byte >= 0xc0 {
            self.end_character(out);
        }
        self.character.push(byte);
        match std::str::from_utf8(&self.character) {
            Ok(text) => {
                let shown = text
                    .chars()
                    .filter(|c| !c.is_control() && taffrail_exec::plain(&c.to_string()) == c.to_string());
                out.extend(shown);
                self.character.clear();
            }
            Err(error) if error.error_len().is_some() => self.end_character(out),
            Err(_) => {}
        }
    }

    fn end_character(&mut self, out: &mut String) {
        if !self.character.is_empty() {
            self.character.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn escape(&mut self, byte: u8, out: &mut String) {
        self.state = match byte {
            b'[' => {
                self.sequence.clear();
                State::Sequence
            }
            b'P' | b'X' | b']' | b'^' | b'_' => State::String(0, false),
            0x20..0x30 => State::Between,
            0x1b => State::Escape,
            _ => State::Text,
        };
        if matches!(byte, b'7' | b'8' | b'D' | b'E' | b'M') && self.manner == Manner::Screen {
            out.extend(['\u{1b}', char::from(byte)]);
        }
    }

    fn in_sequence(&mut self, byte: u8, out: &mut String) {
        match byte {
            0x1b => self.state = State::Escape,
            0x20..0x40 if self.sequence.len() < SEQUENCE => self.sequence.push(byte),
            0x40..0x7f => {
                self.state = State::Text;
                if self.manner == Manner::Screen && may_pass(&self.sequence, byte) {
                    out.push_str("\u{1b}[");
                    out.extend(self.sequence.iter().copied().chain([byte]).map(char::from));
                }
            }
            // As terminals do it: what stands within a sequence is done at once, and it goes on.
            b'\n' | b'\t' => out.push(char::from(byte)),
            0..0x20 => {}
            _ => self.state = State::Text,
        }
    }
}

/// Whether a control sequence does nothing beyond the screen.
fn may_pass(parameters: &[u8], last: u8) -> bool {
    let Ok(text) = std::str::from_utf8(parameters) else { return false };
    if let Some(modes) = text.strip_prefix('?') {
        return matches!(last, b'h' | b'l') && matches!(modes, "7" | "25" | "47" | "1047" | "1049");
    }
    let near =
        |number: &str| number.is_empty() || number.parse::<u32>().is_ok_and(|number| number <= FARTHEST);
    match last {
        b'm' => text.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':'),
        // Not what was on it before.
        b'J' => matches!(text, "" | "0" | "1" | "2"),
        b'A'..=b'I'
        | b'K'
        | b'L'
        | b'M'
        | b'P'
        | b'S'
        | b'T'
        | b'X'
        | b'Z'
        | b'@'
        | b'`'
        | b'a'
        | b'd'
        | b'e' => near(text) || two(text, last, near),
        b'f' | b'r' => near(text) || two(text, last, near),
        b's' | b'u' => text.is_empty(),
        _ => false,
    }
}

/// Two numbers, of what takes two.
fn two(text: &str, last: u8, near: impl Fn(&str) -> bool) -> bool {
    matches!(last, b'H' | b'f' | b'r')
        && text.split_once(';').is_some_and(|(one, other)| near(one) && near(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_screen(bytes: &[u8]) -> String {
        Screen::new(Manner::Screen).pass(bytes)
    }

    #[test]
    fn what_draws_on_the_screen_passes() {
        for text in [
            "plain \u{e9} \u{4e16}\r\n\tx\u{8}y",
            "\u{1b}[1;38;5;196mred\u{1b}[0m",
            "\u{1b}[2J\u{1b}[H\u{1b}[10;20Hx\u{1b}[K\u{1b}[3A\u{1b}[2;5r",
            "\u{1b}[?1049h\u{1b}[?25l\u{1b}7\u{1b}8\u{1b}M",
        ] {
            assert_eq!(on_screen(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_a_terminal_answers_obeys_or_keeps_does_not() {
        for (hostile, left) in [
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]52;c;cm0gLXJmIH4K\u{1b}\\b", "ab"),
            ("a\u{1b}Pq#0;2;0;0;0\u{1b}\\b", "ab"),
            ("a\u{1b}_Gf=100;AAAA\u{1b}\\b\u{1b}^x\u{1b}\\c\u{1b}Xy\u{1b}\\d", "abcd"),
            ("a\u{1b}[6n\u{1b}[c\u{1b}[>c\u{1b}[5n\u{1b}[?1u\u{1b}Zb", "ab"),
            ("a\u{1b}[21tb\u{1b}[>4;1mc\u{1b}[!pd", "abcd"),
            ("a\u{1b}[?1000h\u{1b}[?2004hb\u{1b}[4i\u{1b}[5ic", "abc"),
            ("a\u{1b}(0b\u{e}c\u{f}\u{1b}cd\u{1b}#8e", "abcde"),
            ("a\u{1b}[3Jb\u{7}\u{5}c\u{7f}d\u{0}", "abcd"),
            ("a\u{9b}6nb\u{9d}0;x\u{9c}c", "a6nb0;xc"),
            ("a\u{1b}[99999999999999999999Ab\u{1b}[1000000000bc", "abc"),
            ("a\u{202e}b\u{200b}c", "abc"),
            ("a\u{1b}\u{1b}[6nb\u{1b}[\u{1b}]0;t\u{7}c", "abc"),
            ("a\u{1b}[12\u{18}b\u{1b}]x\u{1a}c", "abc"),
        ] {
            assert_eq!(on_screen(hostile.as_bytes()), left, "{hostile:?}");
            // And however it comes in pieces.
            let mut screen = Screen::new(Manner::Screen);
            let pieces: String = hostile.as_bytes().iter().map(|byte| screen.pass(&[*byte])).collect();
            assert_eq!(pieces, left, "{hostile:?} byte by byte");
        }
    }

    #[test]
    fn what_never_ends_hides_no_more_than_a_bound() {
        let hidden = format!("\u{1b}]0;{}", "x".repeat(3 * STRING));
        let shown = on_screen(hidden.as_bytes());
        assert!(shown.len() >= STRING && shown.bytes().all(|byte| byte == b'x'), "{}", shown.len());
        let mut screen = Screen::new(Manner::Screen);
        screen.pass(format!("\u{1b}[{}", "1".repeat(1 << 20)).as_bytes());
        assert!(screen.sequence.len() <= SEQUENCE);
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(on_screen(b"a\xffb\xe2\x82c\xf0\x9f"), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn text_alone_is_lines() {
        let text = Screen::new(Manner::Text)
            .pass(b"one\r\ntwo \x1b[31mred\x1b[0m\r50%\rdone\x08\r\n\x1b[2J\x1b]0;t\x07end");
        assert_eq!(text, "one\ntwo red\n50%\ndone\nend");
    }

    #[test]
    fn whatever_the_bytes_are_no_more_than_what_may_passes() {
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u8
        };
        let alphabet = b"\x1b\x1b[]P?;019;mnhlcJHtq\\\x07\x9b\xc2\xe2a";
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..60).map(|_| alphabet[usize::from(random()) % alphabet.len()]).collect();
            let once = on_screen(&bytes);
            assert_eq!(on_screen(once.as_bytes()), once, "what has passed passes whole: {bytes:?}");
            assert!(
                !once.contains("\u{1b}]") && !once.contains('\u{9b}') && !once.contains('\u{7}'),
                "{bytes:?}"
            );
        }
    }
}
