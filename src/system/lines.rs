//! Protocol lines off a socket: buffered, bounded in length and in time.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::node::HEARTBEAT;
use crate::core::protocol::LONGEST_LINE;

/// A peer from which no whole line came for this long is gone.
pub const SILENCE: Duration = Duration::from_secs(3 * HEARTBEAT.as_secs());

/// Why there is no further line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Closed,
    /// Three heartbeats without a line.
    Silent,
    /// A line over 512 bytes.
    TooLong,
    /// Bytes that are not printable ASCII.
    NotText,
}

impl End {
    /// What to tell the peer and the log.
    pub fn text(self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::Silent => "silent for three heartbeats",
            End::TooLong => "a line over 512 bytes",
            End::NotText => "bytes that are not printable ASCII",
        }
    }
}

/// Lines from one connection, whose writing end is held elsewhere.
pub struct Lines {
    stream: Arc<TcpStream>,
    buffer: [u8; LONGEST_LINE],
    filled: usize,
    silence: Duration,
    /// The socket's timeout, once set.
    timeout: Option<Duration>,
}

impl Lines {
    pub fn new(stream: Arc<TcpStream>, silence: Duration) -> Lines {
        Lines {
            stream,
            buffer: [0; LONGEST_LINE],
            filled: 0,
            silence,
            timeout: None,
        }
    }

    /// From now on a line may take so long.
    pub fn allow(&mut self, silence: Duration) {
        self.silence = silence;
    }

    /// Waits for the next line, without its line end. Bytes that trickle in do not extend the
    /// time that a whole line may take.
    ///
    /// # Errors
    /// How the connection ended.
    pub fn next(&mut self) -> Result<String, End> {
        let deadline = Instant::now() + self.silence;
        loop {
            if let Some(length) = self.buffer[..self.filled].iter().position(|b| *b == b'\n') {
                let line = self.buffer[..length]
                    .strip_suffix(b"\r")
                    .unwrap_or(&self.buffer[..length]);
                let printable = line.iter().all(|b| matches!(b, b' '..=b'~'));
                let line = String::from_utf8_lossy(line).into_owned();
                self.buffer.copy_within(length + 1..self.filled, 0);
                self.filled -= length + 1;
                return if printable { Ok(line) } else { Err(End::NotText) };
            }
            if self.filled == self.buffer.len() {
                return Err(End::TooLong);
            }
            // The whole of it with nothing begun, and most often the same as last time: then the
            // socket need not be told again.
            let left = match self.filled {
                0 => self.silence,
                _ => deadline.saturating_duration_since(Instant::now()),
            };
            if left.is_zero() {
                return Err(End::Silent);
            }
            if self.timeout.replace(left) != Some(left) {
                self.stream
                    .set_read_timeout(Some(left))
                    .map_err(|_| End::Closed)?;
            }
            match (&*self.stream).read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(End::Closed),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(End::Silent);
                }
                Err(_) => return Err(End::Closed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Lines) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        writer.set_nodelay(true).unwrap();
        (
            writer,
            Lines::new(Arc::new(listener.accept().unwrap().0), Duration::from_millis(200)),
        )
    }

    #[test]
    fn several_lines_in_one_packet_and_one_line_in_several() {
        let (mut writer, mut lines) = pair();
        writer.write_all(b"PING\r\nSTATUS\nSC").unwrap();
        assert_eq!(lines.next().unwrap(), "PING");
        assert_eq!(lines.next().unwrap(), "STATUS");
        writer.write_all(b"ALE\n").unwrap();
        assert_eq!(lines.next().unwrap(), "SCALE");
        drop(writer);
        assert_eq!(lines.next().unwrap_err(), End::Closed);
    }

    #[test]
    fn an_endless_line_ends_the_connection() {
        let (mut writer, mut lines) = pair();
        writer.write_all(&[b'x'; 511]).unwrap();
        writer.write_all(b"\n").unwrap();
        assert_eq!(lines.next().unwrap().len(), 511);
        writer.write_all(&[b'x'; 512]).unwrap();
        assert_eq!(lines.next().unwrap_err(), End::TooLong);
    }

    #[test]
    fn silence_and_a_trickle_end_it_too() {
        let (mut writer, mut lines) = pair();
        assert_eq!(lines.next().unwrap_err(), End::Silent);
        let trickle = std::thread::spawn(move || {
            while writer.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(lines.next().unwrap_err(), End::Silent);
        drop(lines);
        trickle.join().unwrap();
    }

    #[test]
    fn what_is_not_text_ends_it() {
        let (mut writer, mut lines) = pair();
        writer.write_all(b"\x16\x03\x01\n").unwrap();
        assert_eq!(lines.next().unwrap_err(), End::NotText);
    }
}
