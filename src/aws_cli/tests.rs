//! Whole command lines. `tests/ec2/test_aws_cli.py` compares many more with the AWS CLI itself.

use super::*;

/// Files `json` (a list), `crlf` and `~/home`; others are missing.
fn read(path: &str) -> std::io::Result<Vec<u8>> {
    match path {
        "json" => Ok(b"[{\"ResourceType\":\"volume\"}]".to_vec()),
        "crlf" => Ok(b"a\r\nb\xff"[..4].to_vec()),
        "raw" => Ok(b"\xff\xfe\r\n".to_vec()),
        "~/home" => Ok(b"at home".to_vec()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    }
}

fn run(options: &str) -> Result<Request, String> {
    parse(&format!("aws ec2 run-instances {options}"), &read)
}

/// The parameters as one line, without the counts.
fn params(options: &str) -> String {
    let request = run(options).unwrap();
    let params = request
        .params
        .iter()
        .filter(|(name, _)| !name.ends_with("xCount") && !name.ends_with("nCount"));
    params
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn reads_global_options_wherever_they_stand() {
    let command = "aws --reg eu-west-1 ec2 --debug run-instances --security-group-ids a --profile=p b \
        --endpoint-url http://x --ca-bundle c.pem --output text --query 'a[0]' --no-cli-pager";
    let request = parse(command, &read).unwrap();
    assert_eq!(request.region.as_deref(), Some("eu-west-1"));
    assert_eq!(request.profile.as_deref(), Some("p"));
    assert_eq!(request.endpoint_url.as_deref(), Some("http://x"));
    assert_eq!(request.ca_bundle.as_deref(), Some("c.pem"));
    assert_eq!(request.get("SecurityGroupId.2"), Some("b"));
    assert_eq!(request.count(), (1, 1));
}

#[test]
fn a_count_bounds_what_is_launched_at_a_time() {
    for (options, most) in [
        ("", None),
        ("--count 1", None),
        ("--count 1:1", Some(1)),
        ("--count 1:4", Some(4)),
        ("--cli-input-json '{\"MinCount\":1,\"MaxCount\":3}'", Some(3)),
        ("--cli-input-json '{\"MinCount\":1,\"MaxCount\":1}'", None),
    ] {
        assert_eq!(run(options).unwrap().most, most, "{options}");
    }
}

#[test]
fn variables_stand_before_the_command() {
    let command = "AWS_PAGER='' AWS_PROFILE=p /usr/bin/aws ec2 run-instances --no-dry-run \
        --cli-binary-format base64 --no-cli-pager";
    let variable = |name: &str, value: &str| (name.to_string(), value.to_string());
    let request = parse(command, &read).unwrap();
    assert_eq!(
        request.variables,
        [variable("AWS_PAGER", ""), variable("AWS_PROFILE", "p")]
    );
    assert_eq!(request.profile, None);
}

#[test]
fn reads_files() {
    assert_eq!(params("--user-data file://crlf"), "UserData=YQpi");
    assert_eq!(params("--user-data fileb://raw"), "UserData=//4NCg==");
    assert_eq!(params("--key-name file://~/home"), "KeyName=at home");
    assert_eq!(
        params("--tag-specifications file://json"),
        "TagSpecification.1.ResourceType=volume"
    );
    assert_eq!(
        params("--placement GroupName@=file://~/home"),
        "Placement.GroupName=at home"
    );
}

/// Newer than the API models of many an AWS CLI, so that no test can compare them.
#[test]
fn takes_the_newest_parameters() {
    assert_eq!(
        params("--monitoring Enabled=true,MetricCategoryIds=a,b"),
        "Monitoring.Enabled=true Monitoring.MetricCategoryId.1=a Monitoring.MetricCategoryId.2=b"
    );
    let command = "aws autoscaling terminate-instance-in-auto-scaling-group --instance-ids a b \
        --auto-scaling-group-name g --should-decrement-desired-capacity";
    let request = parse(command, &read).unwrap();
    assert_eq!(request.get("InstanceIds.member.2"), Some("b"));
}

#[test]
fn moves_addresses_into_the_interface() {
    assert_eq!(
        params("--subnet-id s --security-group-ids g --associate-public-ip-address"),
        "NetworkInterface.1.DeviceIndex=0 NetworkInterface.1.AssociatePublicIpAddress=true \
         NetworkInterface.1.SubnetId=s NetworkInterface.1.SecurityGroupId.1=g"
    );
}

#[test]
fn says_what_is_wrong_on_one_line() {
    for (options, words) in [
        (
            "--blok-device-mappings x",
            "--blok-device-mappings: unknown option; did you mean --block-device-mappings?",
        ),
        ("--image-id", "--image-id: needs a value"),
        ("--dry-run", "--dry-run: would launch or end nothing"),
        ("--cli-input-json '{\"DryRun\":true}'", "DryRun: would launch"),
        ("--s x", "--s: could be --security-group-ids or"),
        (
            "--placement PartitionNumber=x",
            "--placement: PartitionNumber: \"x\" is not a whole number",
        ),
        (
            "--placement Tenanci=x",
            "--placement: unknown key \"Tenanci\"; did you mean Tenancy?",
        ),
        (
            "--cli-input-json '{\"Placement\":1}'",
            "--cli-input-json: Placement: must be a structure",
        ),
        (
            "--cli-input-json '{\"imageId\":1}'",
            "--cli-input-json: unknown key \"imageId\"; did you mean ImageId?",
        ),
        ("--monitoring '{}'", "--monitoring: Enabled is missing"),
        ("--user-data file://none", "--user-data: file://none: "),
        ("--user-data file://raw", "fileb://"),
        ("--count 2:1", "--count 2:1: "),
        ("--count 0", "--count 0:0: "),
        (
            "--count 2",
            "--count 2:2: autoscaler launches as many as are missing; write --count 1, or 1:N",
        ),
        ("--count 2:5", "--count 2:5: "),
    ] {
        let text = run(options).unwrap_err();
        assert!(text.contains(words) && !text.contains('\n'), "{options}: {text}");
    }
    assert!(parse("aws s3 ls", &read).is_err());
}

#[test]
fn adds_tags_beside_those_of_the_command() {
    let mut request = run("--tag-specifications ResourceType=volume,Tags=[{Key=a,Value=b}] \
        ResourceType=instance,Tags=[{Key=Name,Value=web},{Key=x,Value=old}]")
    .unwrap();
    request.add_instance_tag("autoscaler:cluster", "default");
    request.add_instance_tag("x", "new");
    assert_eq!(
        request.get("TagSpecification.2.Tag.3.Key"),
        Some("autoscaler:cluster")
    );
    assert_eq!(request.get("TagSpecification.2.Tag.3.Value"), Some("default"));
    assert_eq!(request.get("TagSpecification.2.Tag.2.Value"), Some("new"));
    assert_eq!(request.get("TagSpecification.3.ResourceType"), None);

    let mut request = run("--tag-specifications ResourceType=volume").unwrap();
    request.add_instance_tag("k", "v");
    request.add_instance_tag("l", "w");
    assert_eq!(request.get("TagSpecification.2.ResourceType"), Some("instance"));
    assert_eq!(request.get("TagSpecification.2.Tag.2.Key"), Some("l"));
}

#[test]
fn replaces_subnet_and_type() {
    let mut request = run("--subnet-id a --instance-type t").unwrap();
    request.set_subnet("b");
    request.set_instance_type("u");
    assert_eq!(
        (request.subnet(), request.instance_type()),
        (Some("b"), Some("u"))
    );

    let mut request = run("--subnet-id a --no-associate-public-ip-address").unwrap();
    assert_eq!(request.subnet(), Some("a"));
    request.set_subnet("b");
    assert_eq!(request.get("NetworkInterface.1.SubnetId"), Some("b"));
    assert_eq!(request.get("SubnetId"), None);

    let mut request = run("").unwrap();
    assert_eq!((request.subnet(), request.instance_type()), (None, None));
    request.set_subnet("b");
    assert_eq!(request.get("SubnetId"), Some("b"));
}
