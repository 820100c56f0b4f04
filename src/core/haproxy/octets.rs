//! Text in whatever encoding: HAProxy's configuration is bytes, and its comments and headers may be
//! in any. Each byte is held as the character of its number.

/// The text of these bytes.
pub fn widen(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes of a text that [`widen`] made.
pub fn narrow(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(narrow(&widen(&all)), all);
        assert_eq!(narrow(&widen("für".as_bytes())), "für".as_bytes());
    }
}
