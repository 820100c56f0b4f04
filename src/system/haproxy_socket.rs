//! HAProxy's admin socket: a line of commands in, its answer out.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::config::Socket;
use crate::core::haproxy::runtime::replies::{self, Arrivals, Process, Row, Running};

/// HAProxy answers within milliseconds; one that doesn't, hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than `show stat` of ten thousand servers.
const LONGEST: usize = 32 << 20;

/// The socket; each line of commands is a connection of its own. Whatever is asked fails with what went
/// wrong, for a person.
#[derive(Debug, Clone)]
pub struct HaproxySocket {
    place: Socket,
}

impl HaproxySocket {
    pub fn new(place: &Socket) -> HaproxySocket {
        HaproxySocket { place: place.clone() }
    }

    /// Who answers?
    pub fn process(&self) -> Result<Process, String> {
        replies::info(&self.answer("show info")?)
    }

    /// Is it the one of HAProxy's master process (`-S`), which knows no servers?
    pub fn is_of_master(&self) -> bool {
        // That one waits for more until its peer is done.
        let asked = self.ask("show proc", true);
        asked.is_ok_and(|answer| answer.starts_with("#<PID>"))
    }

    /// How much may be asked of it: `user`, `operator` or `admin`.
    pub fn level(&self) -> Result<String, String> {
        Ok(self.answer("show cli level")?.trim().into())
    }

    /// The servers of all sections with their addresses and what was set by command.
    pub fn servers(&self) -> Result<Vec<Running>, String> {
        replies::servers_state(&self.answer("show servers state")?)
    }

    /// The servers of all sections with their states and sessions.
    pub fn rows(&self) -> Result<Vec<Row>, String> {
        self.stat("-1")
    }

    /// The same, and how many requests have arrived in each section since HAProxy's start.
    pub fn rows_and_arrivals(&self) -> Result<(Vec<Row>, Arrivals), String> {
        // Of the backends and the servers: 2 and 4.
        let answer = self.answer("show stat -1 6 -1")?;
        Ok((replies::stat(&answer)?, replies::arrivals(&answer)?))
    }

    /// The row of `server`; `None` where it is gone, even if another one has its number by now.
    pub fn row(&self, server: &Running) -> Result<Option<Row>, String> {
        let mut rows = self.stat(&server.id.to_string())?.into_iter();
        Ok(rows.find(|r| r.section == server.section && r.name == server.name))
    }

    /// How many servers of `backend` take new requests. That is one row, however many there are:
    /// of the backends (that is 2) alone.
    pub fn serving(&self, backend: &str) -> Result<usize, String> {
        replies::serving(&self.answer("show stat -1 2 -1")?, backend)
    }

    /// `show stat` of the servers (that is 4) of all sections: of all or of those with this number.
    /// By its name HAProxy would take the frontend where one has the same.
    fn stat(&self, id: &str) -> Result<Vec<Row>, String> {
        replies::stat(&self.answer(&format!("show stat -1 4 {id}"))?)
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
        // Both directions stay open: HAProxy gives up what it does for one who half closed.
        self.ask(line, false).map_err(|e| format!("{}: {e}", self.place))
    }

    /// Sends `line`, which may hold several commands with `;` between them, and reads all that
    /// is answered. `shut`: says that there is no more to come.
    ///
    /// # Errors
    /// Nobody listens, may not be asked, or doesn't answer in time.
    fn ask(&self, line: &str, shut: bool) -> io::Result<String> {
        debug_assert!(!line.contains('\n'));
        let mut stream = match &self.place {
            Socket::Path(path) => UnixStream::connect(path)?,
            // Once it is connected, a stream is a stream.
            Socket::Address(address) => OwnedFd::from(TcpStream::connect_timeout(address, PATIENCE)?).into(),
        };
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        if shut {
            stream.shutdown(Shutdown::Write)?;
        }
        let deadline = Instant::now() + PATIENCE;
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
pub mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Has `test` talk with a socket whose `answers` are given, one after the other and in pieces.
    /// Returns what it was asked, and whatever `test` returns.
    pub fn scripted<T>(answers: &[&str], test: impl FnOnce(&HaproxySocket) -> T) -> (Vec<String>, T) {
        let thread = thread::current().id();
        let path = std::env::temp_dir().join(format!("haproxy-{}-{thread:?}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let talk = thread::scope(|scope| {
            let server = scope.spawn(|| {
                let answered = answers.iter().map(|answer| {
                    let (stream, _) = listener.accept().unwrap();
                    let mut question = String::new();
                    BufReader::new(&stream).read_line(&mut question).unwrap();
                    for piece in answer.split_inclusive('\n') {
                        (&stream).write_all(piece.as_bytes()).unwrap();
                        thread::sleep(Duration::from_millis(5));
                    }
                    question
                });
                answered.collect()
            });
            let outcome = test(&HaproxySocket::new(&Socket::Path(path.clone())));
            while !server.is_finished() {
                // Where less was asked than is answered, by this.
                let _ = UnixStream::connect(&path);
            }
            (server.join().unwrap(), outcome)
        });
        std::fs::remove_file(&path).unwrap();
        talk
    }

    #[test]
    fn an_answer_in_pieces_is_read_to_its_end() {
        let (asked, answer) = scripted(&["one\ntwo\n"], |socket| socket.ask("show info", false));
        assert_eq!(
            (asked, answer.unwrap()),
            (vec!["show info\n".to_string()], "one\ntwo\n".into())
        );
        let nobody = HaproxySocket::new(&Socket::Path("/nowhere/admin.sock".into()));
        assert_eq!(
            nobody.ask("show info", false).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn sessions_are_those_of_the_server_and_not_of_the_next_one_with_its_number() {
        let state = "1\n# be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port srv_uweight srv_iweight \
             srv_check_state srv_agent_state\nservers 7 app1 10.0.0.5 2 0 80 1 1 6 0\n";
        let servers = replies::servers_state(state).unwrap();
        let rows = ["app1", "app2"].map(|name| {
            format!("# pxname,svname,scur,status,bck,slim,lastchg,\nservers,{name},0,UP,0,,7,\n")
        });
        let answers = [
            rows[0].as_str(),
            &rows[1],
            "# pxname,svname,scur,status,bck,slim,lastchg,\n",
        ];
        let (asked, sessions) = scripted(&answers, |socket| {
            answers.map(|_| socket.row(&servers[0]).map(|row| row.map(|r| r.sessions)))
        });
        assert_eq!(sessions, [Ok(Some(0)), Ok(None), Ok(None)]);
        assert_eq!(asked[0], "show stat -1 4 7\n");
    }
}
