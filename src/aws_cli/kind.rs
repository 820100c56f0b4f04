//! What a command is: one that autoscaler carries out itself, one for a shell, or one that means the
//! AWS CLI and would go wrong in a shell, where nobody sees what it launches.

use super::line::{is_aws, recognise, variables};
use super::shapes::OPERATIONS;
use super::words::scan;
use crate::core::text::words::did_you_mean;

/// Who carries out a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Its words begin with `aws`, or a path to it, after assignments at most, and name an operation
    /// that autoscaler carries out. Shell syntax after that doesn't change it: `parse` then says
    /// what to do.
    Native,
    /// For `/bin/sh -c`.
    Shell,
    /// Nobody: why, and what to write instead, on one line.
    Refused(String),
}

/// What a launch by the AWS CLI has in it.
const LAUNCH: &str = "run-instances";
/// Other words that launch, or are meant to, where the AWS CLI is called.
const LIKE_LAUNCHES: [&str; 2] = ["run-instance", "set-desired-capacity"];
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];
const WAY_OUT: &str = "if a shell is to run it, write sh -c '…'";

/// What `command`, which is not empty, is.
pub fn kind(command: &str) -> Kind {
    let (words, problem) = scan(command);
    if recognise(&words).is_some() {
        return Kind::Native;
    }
    let (_, words) = variables(&words);
    let program = words.first().map_or("", String::as_str);
    if is_aws(program) {
        let hint = words.iter().skip(1).filter(|word| !word.starts_with('-'));
        let hint = hint.map(|word| did_you_mean(word, OPERATIONS.iter().map(|known| known.command_word)));
        let hint = hint.max_by_key(String::len).unwrap_or_default();
        return Kind::Refused(match problem {
            Some(problem) if hint.is_empty() => problem,
            _ => format!(
                "`{}` is not carried out by autoscaler{hint}; {WAY_OUT}",
                words[..words.len().min(5)].join(" ").escape_debug()
            ),
        });
    }
    // Those who name a shell mean one.
    let name = program.rsplit('/').next().unwrap_or_default();
    if SHELLS.contains(&name) {
        return Kind::Shell;
    }
    let calls_aws = command
        .split(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c)))
        .any(|word| is_aws(word) || word.ends_with("/aws-cli"));
    let found = match command.contains(LAUNCH) {
        true => Some(LAUNCH),
        false => LIKE_LAUNCHES
            .into_iter()
            .find(|word| calls_aws && command.contains(word)),
    };
    match found {
        None => Kind::Shell,
        Some(launch) => Kind::Refused(format!(
            "{launch} in a shell command would launch without autoscaler's tags, and what it prints is no \
             machine; begin with `aws`, which autoscaler carries out itself (variables may stand before it), \
             or {WAY_OUT}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_autoscaler_carries_out() {
        for command in [
            "aws ec2 run-instances",
            "/usr/local/bin/aws --region x ec2 run-instances",
            "AWS_PAGER=\"\" aws ec2 run-instances --image-id ami-1",
            "AWS_PROFILE=p AWS_REGION='eu-west-1' /snap/bin/aws ec2 run-instances",
            "aws --output=text ec2 --dry-run terminate-instances",
            "aws autoscaling set-desired-capacity",
            "'aws' autoscaling terminate-instance-in-auto-scaling-group",
            "aws --no-verify-ssl ec2 run-instances",
            "aws --cli-binary-format raw-in-base64-out ec2 run-instances",
            "aws ec2 run-instances --image-id $AMI",
            "aws ec2 run-instances|tail -1",
        ] {
            assert_eq!(kind(command), Kind::Native, "{command}");
        }
    }

    #[test]
    fn what_is_for_a_shell() {
        for command in [
            "/opt/launch.sh",
            "sh -c 'aws ec2 run-instances'",
            "AWS_PAGER= /bin/bash -c \"aws ec2 run-instances\"",
            "python3 /opt/aws/launch.py",
            "laws ec2 describe-instances",
            "terraform apply && terraform output -raw address",
            "/opt/run-instance now",
        ] {
            assert_eq!(kind(command), Kind::Shell, "{command}");
        }
    }

    #[test]
    fn what_looks_like_the_aws_cli_is_refused() {
        for (command, words) in [
            ("sudo aws ec2 run-instances", "run-instances in a shell command"),
            ("X=$(aws ec2 run-instances); echo $X", "sh -c '…'"),
            ("docker run --rm amazon/aws-cli ec2 run-instances", "sh -c '…'"),
            ("env AWS_PROFILE=p aws ec2 run-instances", "sh -c '…'"),
            ("sudo aws ec2 run-instance --image-id x", "run-instance in"),
            ("docker run amazon/aws-cli ec2 run-instance", "run-instance in"),
            ("$AWS ec2 run-instances", "sh -c '…'"),
            (
                "aws ec2 run-instance --image-id x",
                "`aws ec2 run-instance --image-id x` is not carried out by autoscaler; did you mean run-instances?",
            ),
            ("AWS_PROFILE=p aws ec2 describe-instances", "is not carried out"),
            ("aws s3 ls", "sh -c '…'"),
            ("aws", "is not carried out"),
            ("aws --region ec2 run-instances", "is not carried out"),
            ("aws $SERVICE ec2 run-instances", "$ unquoted is for a shell"),
        ] {
            match kind(command) {
                Kind::Refused(text) => assert!(text.contains(words) && !text.contains('\n'), "{text}"),
                other => panic!("{command}: {other:?}"),
            }
        }
    }
}
