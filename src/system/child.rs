//! Child processes that are not allowed to take for ever.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

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
        let last = |text: &str| {
            text.lines()
                .map(str::trim)
                .rfind(|l| !l.is_empty())
                .map(String::from)
        };
        last(&self.stderr)
            .or_else(|| last(&self.stdout))
            .unwrap_or_else(|| format!("ended with {}", self.status))
    }
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
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let deadline = Instant::now() + limit;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let texts = wait_for(&stdout, deadline).zip(wait_for(&stderr, deadline));
    let Some((stdout, stderr)) = texts else {
        end(&mut child);
        return Err(format!("{program}: no end after {} s, stopped", limit.as_secs()));
    };
    // Both streams are closed: a program that goes on without them is as good as done.
    let status = child.wait().map_err(|e| format!("{program}: {e}"))?;
    Ok(Finished {
        status,
        stdout,
        stderr,
    })
}

/// Ends its process group when nobody holds the other end of its input any more: this process lets
/// go of it, or dies. Then it becomes the script.
const GUARD: &str = "exec 3<&0 </dev/null; { read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & \\
    exec 3<&-; exec /bin/sh -c \"$0\"";
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs `script` by /bin/sh with `environment` added to this process's own, less its credentials.
/// It and all that it started ends after `limit`, with the script, or with this process.
///
/// # Errors
/// A text: it could not be started, took too long, or failed.
pub fn run_guarded(script: &str, environment: &[(&str, String)], limit: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    let mut child = without_credentials(&mut shell)
        .args(["-c", GUARD, script])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("/bin/sh: {e}"))?;
    let deadline = Instant::now() + limit;
    let group = child.stdin.take();
    let stderr = collect(child.stderr.take());
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
            ended => break ended.ok().flatten(),
        }
    };
    drop(group);
    match status {
        None => {
            let _ = child.wait();
            Err(format!("no end after {} s, stopped", limit.as_secs()))
        }
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let stderr = wait_for(&stderr, Instant::now() + Duration::from_secs(1)).unwrap_or_default();
            let stdout = String::new();
            let complaint = Finished {
                status,
                stdout,
                stderr,
            }
            .complaint();
            Err(format!("{complaint} ({status})"))
        }
    }
}

/// Kills a child and takes its exit status, so that no zombie stays.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a stream to its end on a thread of its own.
fn collect(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let _ = send.send(stream.map(kept).unwrap_or_default());
    });
    receive
}

/// All of a stream, up to [`KEPT`] bytes.
pub fn kept(mut stream: impl Read) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        text.extend_from_slice(&chunk[..n.min(KEPT - text.len().min(KEPT))]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn wait_for(stream: &mpsc::Receiver<String>, deadline: Instant) -> Option<String> {
    stream
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .ok()
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
}
