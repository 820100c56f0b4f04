//! Formats that are nobody's own: INI, JSON, words, durations, a diff.

pub mod diff;
pub mod duration;
pub mod ini;
pub mod json;
pub mod value;
pub mod words;
