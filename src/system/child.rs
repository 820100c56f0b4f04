//! Child processes that are not allowed to take for ever.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{hangup, lock};

/// The most that is kept of either stream, in bytes; the rest is read and dropped.
const KEPT: usize = 64 * 1024;

/// What the environment may hold of credentials, which are nobody's but EC2's.
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

/// Takes the credentials out of what `command` inherits.
pub fn without_credentials(command: &mut Command) -> &mut Command {
    for name in CREDENTIALS {
        command.env_remove(name);
    }
    command
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The line of stderr (or else of stdout) that most likely says what was wrong: the last one.
    pub fn complaint(&self) -> String {
        let said = last_line(&self.stderr).or_else(|| last_line(&self.stdout));
        said.map_or_else(|| format!("ended with {}", self.status), String::from)
    }
}

/// The last line that is not blank, without the blanks around it.
pub fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|l| !l.is_empty())
}

/// Runs `command` without input until it ends, and kills it after `limit`.
///
/// # Errors
/// A text: it could not be started, or it took too long.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished, String> {
    run_with_stdin(command.stdin(Stdio::null()), limit)
}

/// The same with the input that `command` has been given.
///
/// # Errors
/// The same.
pub fn run_with_stdin(command: &mut Command, limit: Duration) -> Result<Finished, String> {
    let (mut child, streams) = start(command)?;
    let ended = streams.wait(&mut child, Instant::now() + limit);
    if ended.is_none() {
        end(&mut child);
    }
    let program = command.get_program().to_string_lossy();
    ended.ok_or_else(|| format!("{program}: {}", too_long(limit)))
}

/// Ends its process group when nobody holds the other end of its input any more: this process lets
/// go of it, or dies. A line spares the group. Then it becomes the script.
const GUARD: &str = "exec 3<&0 </dev/null; { read -r _ <&3 || kill -KILL 0; } >/dev/null 2>&1 & \\
    exec 3<&-; exec /bin/sh -c \"$0\"";

/// What becomes of that which a script has started in the background, once it has ended in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Lives,
    Ends,
}

/// `script` for [`run_script`], by /bin/sh.
pub fn script(script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c");
    guard(shell, script)
}

/// The same by `shell`, which ends with `-c`.
pub fn guard(mut shell: Command, script: &str) -> Command {
    shell.args([GUARD, script]).process_group(0).stdin(Stdio::piped());
    shell
}

/// Runs a [`script`] without input. It and all that it started ends after `limit`, or with this
/// process.
///
/// # Errors
/// A text: it could not be started, or it took too long.
pub fn run_script(script: &mut Command, limit: Duration, rest: Rest) -> Result<Finished, String> {
    let (mut child, streams) = start(script)?;
    let mut group = child.stdin.take();
    let ended = streams.wait(&mut child, Instant::now() + limit);
    match &ended {
        Some(_) if rest == Rest::Ends => {}
        Some(_) => {
            let _ = group.as_mut().map(|group| group.write_all(b"\n"));
        }
        None => {
            drop(group.take());
            // For one that has ended its guard.
            thread::sleep(LOOK_EVERY);
            end(&mut child);
        }
    }
    ended.ok_or_else(|| too_long(limit))
}

fn start(command: &mut Command) -> Result<(Child, Streams), String> {
    // It is this process that was told so; among AUTOSCALER_… of a notice it would be a word of its own.
    command.env_remove(hangup::MARK);
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let program = command.get_program().to_string_lossy();
    let mut child = spawned.map_err(|e| format!("{program}: {e}"))?;
    let streams = Streams {
        stdout: Collected::begin(child.stdout.take()),
        stderr: Collected::begin(child.stderr.take()),
    };
    Ok((child, streams))
}

fn too_long(limit: Duration) -> String {
    format!("no end after {} s, stopped", limit.as_secs())
}

/// Kills a child and takes its exit status, so that no zombie stays.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Between two looks whether a child has ended; while its streams are open, they tell first.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What has ended has written all that it ever will; what it left behind may hold its streams open.
const LAST_WORDS: Duration = Duration::from_millis(200);

struct Streams {
    stdout: Collected,
    stderr: Collected,
}

impl Streams {
    /// Waits until `child` has ended; `None`: not by `deadline`.
    fn wait(self, child: &mut Child, deadline: Instant) -> Option<Finished> {
        let mut pause = Duration::from_millis(1);
        loop {
            let closed = self.stdout.is_closed_within(LOOK_EVERY) && self.stderr.is_closed_within(LOOK_EVERY);
            match child.try_wait() {
                Ok(Some(status)) => {
                    return Some(Finished {
                        status,
                        stdout: self.stdout.text(),
                        stderr: self.stderr.text(),
                    });
                }
                Ok(None) if Instant::now() < deadline => {}
                _ => return None,
            }
            if closed {
                // Most end with their streams.
                thread::sleep(pause);
                pause = (pause * 2).min(LOOK_EVERY);
            }
        }
    }
}

/// A stream that is read on a thread of its own.
struct Collected {
    text: Arc<Mutex<Vec<u8>>>,
    closed: mpsc::Receiver<()>,
}

impl Collected {
    fn begin(stream: Option<impl Read + Send + 'static>) -> Collected {
        let (open, closed) = mpsc::channel();
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        thread::spawn(move || {
            let _open = open;
            keep(stream, |bytes| lock(&kept).extend_from_slice(bytes));
        });
        Collected { text, closed }
    }

    /// Waits for its end.
    fn is_closed_within(&self, time: Duration) -> bool {
        self.closed.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    fn text(&self) -> String {
        self.is_closed_within(LAST_WORDS);
        String::from_utf8_lossy(&lock(&self.text)).into_owned()
    }
}

/// All of a stream, up to [`KEPT`] bytes.
pub fn kept(stream: impl Read) -> String {
    let mut text = Vec::new();
    keep(Some(stream), |bytes| text.extend_from_slice(bytes));
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads a stream to its end; `take` gets its first [`KEPT`] bytes.
fn keep(stream: Option<impl Read>, mut take: impl FnMut(&[u8])) {
    let Some(mut stream) = stream else { return };
    let mut left = KEPT;
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        take(&chunk[..n.min(left)]);
        left -= n.min(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Finished, String> {
        run(Command::new("/bin/sh").args(["-c", script]), limit)
    }

    #[test]
    fn what_it_printed_and_how_it_ended() {
        let done = sh("echo out; echo err >&2; exit 3", Duration::from_secs(10)).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(done.status.code(), Some(3));
        assert_eq!(done.complaint(), "err");
    }

    #[test]
    fn a_flood_is_read_but_not_kept() {
        let done = sh("head -c 1000000 /dev/zero", Duration::from_secs(20)).unwrap();
        assert_eq!(done.stdout.len(), KEPT);
    }

    #[test]
    fn one_that_hangs_is_stopped() {
        let error = sh("exec sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("no end after"), "{error}");
    }

    #[test]
    fn one_that_hangs_without_its_streams_is_stopped_too() {
        let begun = Instant::now();
        sh("exec sleep 1000 >&- 2>&-", Duration::from_millis(50)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_hold_it_up() {
        let done = sh("echo here; sleep 30 & exit 2", Duration::from_secs(20)).unwrap();
        assert_eq!((done.stdout.as_str(), done.status.code()), ("here\n", Some(2)));
    }

    /// Runs `text`, which writes the id of a process that it leaves behind.
    fn left_behind(text: &str, limit: Duration, rest: Rest) -> (Result<Finished, String>, String) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("autoscaler-child-{}-{number}", std::process::id()));
        let done = run_script(script(text).env("LEFT", &file), limit, rest);
        let left = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        (done, left.trim().to_string())
    }

    /// Looks until the process is as it should be.
    fn lives(id: &str, wanted: bool) -> bool {
        let stat = || std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let alive = || !stat().is_empty() && !stat().contains(") Z ");
        (0..500).any(|_| {
            alive() == wanted || {
                thread::sleep(Duration::from_millis(10));
                false
            }
        })
    }

    #[test]
    fn a_script_that_hangs_takes_along_what_it_started() {
        let text = "sleep 1000 & echo $! >$LEFT; exec sleep 1000 >&- 2>&-";
        let (done, left) = left_behind(text, Duration::from_millis(300), Rest::Lives);
        assert!(done.unwrap_err().contains("no end after"));
        assert!(lives(&left, false), "{left}");
    }

    #[test]
    fn what_a_script_leaves_behind_lives_or_ends() {
        let text = "sleep 1000 & echo $! >$LEFT; echo out; exit 1";
        for (rest, wanted) in [(Rest::Lives, true), (Rest::Ends, false)] {
            let (done, left) = left_behind(text, Duration::from_secs(20), rest);
            let done = done.unwrap();
            assert_eq!((done.stdout.as_str(), done.status.code()), ("out\n", Some(1)));
            assert!(lives(&left, wanted), "{left}");
            let _ = Command::new("kill").arg(&left).status();
        }
    }
}
