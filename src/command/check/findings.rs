//! What `check` has found, and how it reads.

use std::fmt;
use std::time::Duration;

use crate::core::plan::{Member, Survey};
use crate::error::{Error, Kind};

/// One line of `check`, each as `<subject>: <text>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Ok(String),
    /// With the next step.
    Fail(Error),
    /// Worth a look, and no failure.
    Warn(String),
    /// Neither good nor bad.
    Info(String),
    /// Was not looked at, and why.
    Skip(String),
}

impl From<Error> for Finding {
    fn from(error: Error) -> Finding {
        Finding::Fail(error)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match self {
            Finding::Ok(text) => ("ok", text.clone()),
            Finding::Fail(error) => ("FAIL", error.to_string()),
            Finding::Warn(text) => ("warn", text.clone()),
            Finding::Info(text) => ("info", text.clone()),
            Finding::Skip(text) => ("skip", text.clone()),
        };
        // What hosts and programs said must not make lines of its own.
        let text = text.replace(char::is_control, " ");
        write!(f, "{word:<4}  {text}")
    }
}

/// What `check` ends with.
///
/// # Errors
/// How many findings failed, as a failure of the first one's kind.
pub fn verdict(findings: &[Finding]) -> Result<(), Error> {
    let failed = findings.iter().filter_map(|f| match f {
        Finding::Fail(error) => Some(error.kind()),
        _ => None,
    });
    let kinds: Vec<Kind> = failed.collect();
    let cause = format!("{} of {} findings failed", kinds.len(), findings.len());
    kinds
        .first()
        .map_or(Ok(()), |kind| Err(Error::new(*kind, "check", cause)))
}

/// What EC2 says against the entries of `place`, the one listing of `survey`.
pub fn membership(place: &str, survey: &Survey, boot_timeout: Duration) -> Vec<Finding> {
    let members = survey.members(0);
    let finding = |member: &Member| {
        let id = member.machine.title();
        let listed = member.lines.iter().flatten().next();
        let unknown = survey.unknown.contains(id);
        match (member.instance, listed) {
            (Some(instance), None) if member.may_enter() && survey.age(instance) < boot_timeout => {
                let text = format!("{place}: {id} is not entered yet, it is being booted");
                Some(Finding::Warn(text))
            }
            (Some(instance), None) if member.may_enter() => {
                let address = instance.address.as_deref().unwrap_or("<address>");
                let cause = format!(
                    "{id} runs at {address} and is not entered; a daemon does so or terminates it, \
                     or run there: autoscaler add-host {address} <port> --id {id} --apply"
                );
                Some(Error::busy(place, cause).into())
            }
            (_, Some(line)) if member.is_gone || unknown => {
                let name = &line.name;
                let cause =
                    format!("the instance {id} of entry {name} is gone; run there: autoscaler prune --apply");
                Some(Error::busy(place, cause).into())
            }
            _ => None,
        }
    };
    let mut found: Vec<Finding> = members.iter().filter_map(finding).collect();
    if found.is_empty() {
        let count = members.iter().filter(|m| m.is_listed()).count();
        found.push(Finding::Ok(format!(
            "{place}: in line with EC2 (entries: {count})"
        )));
    }
    found
}

/// What to do when `autoscaler list-hosts` on a HAProxy host failed with `cause`.
pub fn ssh_step(cause: &str) -> &'static str {
    const STEPS: [(&[&str], &str); 6] = [
        (
            &["ssh-gate: "],
            "[haproxy] remote_command is `autoscaler`, `sudo autoscaler` or its path there, without options",
        ),
        (
            &["Permission denied", "authentication"],
            "put this host's public key into authorized_keys there, and see to ssh_user and ssh_params",
        ),
        (
            &["IDENTIFICATION HAS CHANGED", "Host key verification"],
            "if the host was set up anew, forget its old key: ssh-keygen -R <host>",
        ),
        (
            &["resolve", "not known"],
            "correct [haproxy] servers, or add the name to the DNS or /etc/hosts",
        ),
        (
            &[
                "refused",
                "timed out",
                "No route",
                "unreachable",
                "no end after",
                "losed by",
            ],
            "is it up, does sshd run there, and is its port open to this host?",
        ),
        (
            &["not found", "No such file"],
            "install autoscaler there, or set [haproxy] remote_command to its path",
        ),
    ];
    let fits = |(words, _): &&(&[&str], &str)| words.iter().any(|w| cause.contains(w));
    let found = STEPS.iter().find(fits);
    found.map_or("run autoscaler check there", |(_, step)| step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_whatever_was_said() {
        let fail = Finding::Fail(Error::config("a.ini", "is\nwrong\u{1b}[2J"));
        assert_eq!(fail.to_string(), "FAIL  a.ini: is wrong [2J");
        assert_eq!(Finding::Ok("x: y".into()).to_string(), "ok    x: y");
    }

    #[test]
    fn the_first_failure_decides() {
        let ok = Finding::Ok("x".into());
        let fails = [Error::io("a", "b"), Error::config("c", "d")].map(Finding::Fail);
        assert_eq!(verdict(&[ok.clone(), Finding::Warn("w".into())]), Ok(()));
        let error = verdict(&[vec![ok], fails.to_vec()].concat()).unwrap_err();
        assert_eq!(error, Error::io("check", "2 of 3 findings failed"));
    }

    #[test]
    fn each_failure_of_ssh_has_its_step() {
        for (cause, step) in [
            ("ssh: root@lb: Permission denied (publickey).", "public key"),
            ("ssh: Host key verification failed.", "ssh-keygen"),
            (
                "ssh: Could not resolve hostname lb: Name or service not known",
                "servers",
            ),
            ("ssh: connect to host lb port 22: Connection refused", "sshd"),
            ("ssh: no end after 15 s, stopped", "sshd"),
            (
                "ssh-gate: this key may not run `x list-hosts`, only",
                "remote_command",
            ),
            ("bash: line 1: autoscaler: command not found", "remote_command"),
            ("/etc/autoscaler/autoscaler.ini:3: unknown key", "check there"),
        ] {
            assert!(ssh_step(cause).contains(step), "{cause}");
        }
    }
}
