//! HAProxy's admin socket: a line of commands in, its answer out.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::runtime::replies::{self, Process, Row, Running};

/// HAProxy answers within milliseconds; one that doesn't, hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than `show stat` of ten thousand servers.
const LONGEST: usize = 32 << 20;

/// The socket; each line of commands is a connection of its own.
#[derive(Debug, Clone)]
pub struct HaproxySocket {
    path: PathBuf,
}

impl HaproxySocket {
    pub fn new(path: &Path) -> HaproxySocket {
        HaproxySocket { path: path.into() }
    }

    /// Who answers?
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn process(&self) -> Result<Process, String> {
        replies::info(&self.answer("show info")?)
    }

    /// How much may be asked of it: `user`, `operator` or `admin`.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn level(&self) -> Result<String, String> {
        Ok(self.answer("show cli level")?.trim().into())
    }

    /// The servers of `backend` and their states.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn servers(&self, backend: &str) -> Result<Vec<Running>, String> {
        replies::servers_state(&self.answer(&format!("show servers state {backend}"))?)
    }

    /// The servers of `backend` and their sessions.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn rows(&self, backend: &str) -> Result<Vec<Row>, String> {
        self.stat(backend, "-1")
    }

    /// The sessions of the server of `backend` that has this number; `None` where none has.
    ///
    /// # Errors
    /// What went wrong, for a person.
    pub fn sessions(&self, backend: &str, id: u32) -> Result<Option<u64>, String> {
        let rows = self.stat(backend, &id.to_string())?;
        Ok(rows.first().map(|r| r.sessions))
    }

    /// `show stat` of the servers (that is 4) of `backend`: of all or of one. By its name HAProxy
    /// would take the frontend where one has the same.
    fn stat(&self, backend: &str, id: &str) -> Result<Vec<Row>, String> {
        replies::stat(&self.answer(&format!("show stat -1 4 {id}"))?, backend)
    }

    /// Sends commands that are answered by `expected` alone, blanks and line ends aside.
    ///
    /// # Errors
    /// The answer as it stands, when it is another one.
    pub fn order(&self, commands: &str, expected: &str) -> Result<(), String> {
        let answer = self.answer(commands)?;
        match answer.trim() == expected {
            true => Ok(()),
            false => Err(replies::unexpected(commands, &answer)),
        }
    }

    fn answer(&self, line: &str) -> Result<String, String> {
        self.ask(line)
            .map_err(|e| format!("{}: {e}", self.path.display()))
    }

    /// Sends `line`, which may hold several commands with `;` between them, and reads all that
    /// is answered.
    ///
    /// # Errors
    /// Nobody listens, may not be asked, or doesn't answer in time.
    fn ask(&self, line: &str) -> io::Result<String> {
        debug_assert!(!line.contains('\n'));
        let deadline = Instant::now() + PATIENCE;
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // Both directions stay open: HAProxy gives up what it does for one who half closed.
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
                Ok(n) if answer.len() + n > LONGEST => return Err(ErrorKind::FileTooLarge.into()),
                Ok(n) => answer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[test]
    fn an_answer_in_pieces_is_read_to_its_end() {
        let dir = std::env::temp_dir().join(format!("haproxy-socket-{}", std::process::id()));
        let listener = UnixListener::bind(&dir).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 10];
            stream.read_exact(&mut question).unwrap();
            for piece in ["one\n", "two\n"] {
                stream.write_all(piece.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
            question
        });
        let socket = HaproxySocket::new(&dir);
        assert_eq!(socket.ask("show info").unwrap(), "one\ntwo\n");
        assert_eq!(&server.join().unwrap(), b"show info\n");
        // The file is there, and nobody behind it.
        assert_eq!(
            socket.ask("show info").unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        std::fs::remove_file(&dir).unwrap();
    }
}
