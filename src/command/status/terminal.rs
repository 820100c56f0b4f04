//! The terminal that `--watch` draws on.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::system::child;

/// Its columns and rows: as `stty` tells, else as of old.
pub fn size() -> (usize, usize) {
    ask().unwrap_or((80, 24))
}

fn ask() -> Option<(usize, usize)> {
    let mut stty = Command::new("stty");
    let stty = stty.arg("size").stdin(Stdio::from(File::open("/dev/tty").ok()?));
    let done = child::run_with_stdin(stty, Duration::from_secs(1)).ok()?;
    let (rows, columns) = done.stdout.trim().split_once(' ')?;
    let over_zero = |text: &str| text.parse().ok().filter(|n| *n > 0);
    Some((over_zero(columns)?, over_zero(rows)?))
}

/// `lines` over what stands on the screen, as many as there are `rows` for.
pub fn frame(lines: &[String], rows: usize, first: bool) -> String {
    let room = rows.saturating_sub(1).max(1);
    let mut text = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        text += line;
        text += "\x1b[K\n";
    }
    if shown < lines.len() {
        text += &format!("… {} more\x1b[K\n", lines.len() - shown);
    }
    text + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_scrolls() {
        let lines: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        for rows in [1, 2, 10, 24, 31, 40] {
            let frame = frame(&lines, rows, false);
            let drawn = frame.matches('\n').count();
            assert!(drawn < rows.max(2), "{rows}: {drawn}");
            assert_eq!(frame.contains("more"), rows < 31);
        }
    }
}
