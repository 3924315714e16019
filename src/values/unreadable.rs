//! Text that is not valid UTF-8. A byte that cannot be read is kept as a
//! character that nobody uses, so that nothing is mistaken for another name,
//! and whoever finds such a character knows that the name cannot be written.

use std::borrow::Cow;

/// The last 128 characters there are, all of a private plane: one for each of
/// the bytes 0x80 to 0xFF.
const FIRST: u32 = 0x0010_FF80;

/// Reads bytes as UTF-8, and keeps those that are none.
pub fn read(bytes: &[u8]) -> Cow<'_, str> {
    let mut chunks = bytes.utf8_chunks().peekable();
    match chunks.peek() {
        Some(all) if all.invalid().is_empty() => return Cow::Borrowed(all.valid()),
        None => return Cow::Borrowed(""),
        Some(_) => {}
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in chunks {
        text.push_str(chunk.valid());
        text.extend(
            chunk
                .invalid()
                .iter()
                .filter_map(|byte| char::from_u32(FIRST + u32::from(byte.wrapping_sub(0x80)))),
        );
    }
    Cow::Owned(text)
}

/// Whether some of it could not be read.
pub fn is_in(text: &str) -> bool {
    text.chars().any(|c| u32::from(c) >= FIRST)
}

/// Whether some of what was written as JSON could not be read.
pub fn is_in_bytes(bytes: &[u8]) -> bool {
    // U+10FF80 to U+10FFFF begin with these in UTF-8.
    bytes
        .windows(3)
        .any(|w| matches!(w, [0xF4, 0x8F, 0xBE | 0xBF]))
}

/// The same text with what could not be read as `\xE9`.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !is_in(text) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c).checked_sub(FIRST) {
            Some(byte) => shown.push_str(&format!("\\x{:02X}", byte + 0x80)),
            None => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_by_its_bytes() {
        for (bytes, shown) in [
            (&b"plain"[..], "plain"),
            ("für".as_bytes(), "für"),
            (b"caf\xe9", "caf\\xE9"),
            (b"\xff\x80x\xc3", "\\xFF\\x80x\\xC3"),
            (b"", ""),
        ] {
            let text = read(bytes);
            assert_eq!(escaped(&text), shown);
            let odd = std::str::from_utf8(bytes).is_err();
            assert_eq!(is_in(&text), odd, "{shown}");
            assert_eq!(is_in_bytes(text.as_bytes()), odd, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_two_names_become_one(one: Vec<u8>, two: Vec<u8>) {
            let known = |bytes: &[u8]| !is_in(&String::from_utf8_lossy(bytes));
            prop_assume!(known(&one) && known(&two));
            prop_assert_eq!(read(&one) == read(&two), one == two);
        }
    }
}
