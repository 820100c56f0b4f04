//! Profiles that stand for others' credentials: roles, and programs that print them.

use super::fake::{self, Fake, http};
use super::http::Http;
use super::provider_test::{NOW, Scratch, nobody, provider, sts};
use super::{Failure, Settings, endpoint};

const RUNS_OUT: &str = "2015-08-30T13:36:00+00:00";

/// An STS that hands out `ROLE` and the last word of the role's ARN.
fn roles() -> Fake {
    Fake::start(|_, request| {
        let (_, body) = request.split_once("RoleArn=").unwrap();
        let name = body.split('&').next().unwrap().rsplit("%2F").next().unwrap();
        let text = format!(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE{name}</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{RUNS_OUT}</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>"
        );
        http(200, "", &text)
    })
}

fn asked(name: &str) -> Settings {
    Settings {
        profile: Some(name.to_string()),
        ..Settings::default()
    }
}

/// The keys of a profile in this ~/.aws/config, with STS at `url`.
fn of(
    config: &str,
    settings: Settings,
    env: &[(&str, &str)],
    url: &str,
) -> Result<(String, String), Failure> {
    let config = Scratch::new(&format!("roles-{:p}", &config), config);
    let files = [
        ("AWS_CONFIG_FILE", config.0.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
    ];
    let all: Vec<_> = files.iter().chain(env).copied().collect();
    let at = endpoint::split(url).unwrap();
    let keys = provider(settings, fake::env(&all)).keys(NOW, &sts(&Http::default(), &at))?;
    if keys.access_key.starts_with("ROLE") {
        assert_eq!(keys.expires, Some(NOW + 3600));
    }
    Ok((keys.access_key, keys.source))
}

const CHAIN: &str = "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = s\n\
    [profile one]\nrole_arn = arn:aws:iam::1:role/one\nsource_profile = base\nexternal_id = x/y\n\
    role_session_name = me\nduration_seconds = 900\n\
    [profile two]\nrole_arn = arn:aws:iam::1:role/two\nsource_profile = one\n";

#[test]
fn roles_are_assumed_one_after_another() {
    let fake = roles();
    let (key, source) = of(CHAIN, asked("two"), &[], &fake.url).unwrap();
    assert_eq!(key, "ROLEtwo");
    assert!(
        source.starts_with("role arn:aws:iam::1:role/two of profile two, by role arn:aws:iam::1:role/one of")
    );
    assert_eq!(fake.count(), 2);
    let (first, second) = (fake.request(0), fake.request(1));
    assert!(first.ends_with(
        "\r\n\r\nAction=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fone\
         &RoleSessionName=me&ExternalId=x%2Fy&DurationSeconds=900"
    ));
    assert!(first.contains("Credential=BASE/20150830/us-east-1/sts/aws4_request"));
    assert!(second.contains("Credential=ROLEone/") && second.contains("x-amz-security-token: t\r\n"));
    assert!(second.ends_with("role%2Ftwo&RoleSessionName=autoscaler"));
}

#[test]
fn the_source_may_be_the_environment_the_container_the_instance_or_the_profile_itself() {
    let fake = roles();
    let by = |source: &str| {
        format!("[profile p]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = {source}\n")
    };
    let env = [
        ("AWS_ACCESS_KEY_ID", "ENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_SECURITY_TOKEN", "old"),
    ];
    of(&by("Environment"), asked("p"), &env, &fake.url).unwrap();
    let sent = fake.request(0);
    assert!(sent.contains("Credential=ENV/") && sent.contains("x-amz-security-token: old\r\n"));
    let document = format!(
        "{{\"Code\":\"Success\",\"AccessKeyId\":\"HOST\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\
         \"Expiration\":\"{RUNS_OUT}\"}}"
    );
    let host = Fake::start(move |_, request| match request.split(' ').nth(1) {
        Some("/latest/api/token") => http(200, "", "token"),
        Some("/latest/meta-data/iam/security-credentials/") => http(200, "", "app"),
        _ => http(200, "", &document),
    });
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", host.url.as_str())];
    of(&by("EcsContainer"), asked("p"), &container, &fake.url).unwrap();
    let on_instance = Settings {
        metadata_url: host.url.clone(),
        ..asked("p")
    };
    of(&by("Ec2InstanceMetadata"), on_instance, &[], &fake.url).unwrap();
    assert!(
        [1, 2]
            .iter()
            .all(|n| fake.request(*n).contains("Credential=HOST/"))
    );
    let itself = "[profile p]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = p\naws_access_key_id = SELF\n\
        aws_secret_access_key = s\n";
    of(itself, asked("p"), &[], &fake.url).unwrap();
    assert!(fake.request(3).contains("Credential=SELF/"));
    let failure = of(&by("Environment"), asked("p"), &[], NOBODY).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "profile p: credential_source Environment has no credentials"
    );
}

const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn what_is_not_carried_out_is_named() {
    for (profile, words) in [
        (
            "role_arn = r",
            "profile p: role_arn: source_profile or credential_source is missing",
        ),
        (
            "role_arn = r\nsource_profile = q",
            "profile q is in neither /nonexistent nor ",
        ),
        (
            "role_arn = r\nsource_profile = p",
            "profile p: source_profile: goes in a circle",
        ),
        (
            "role_arn = r\nsource_profile = q\n[profile q]\nrole_arn = r\nsource_profile = p",
            "profile p: source_profile: goes in a circle",
        ),
        (
            "role_arn = r\nsource_profile = q\n[profile q]\nregion = x",
            "profile p: source_profile q has no credentials",
        ),
        (
            "role_arn = r\ncredential_source = Environment\nmfa_serial = m",
            "profile p: mfa_serial: ",
        ),
        (
            "role_arn = r\ncredential_source = ec2",
            "profile p: credential_source: \"ec2\" is none of",
        ),
        (
            "role_arn = r\ncredential_source = Environment\nsource_profile = p",
            "one of them is enough",
        ),
        (
            "role_arn = r\ncredential_source = Environment\nduration_seconds = 1h",
            "duration_seconds: \"1h\" is no number",
        ),
        (
            "sso_start_url = x\naws_access_key_id = A\naws_secret_access_key = s",
            "profile p: sso_start_url: ",
        ),
        (
            "login_session = x",
            "profile p: login_session: autoscaler logs in nowhere; use credential_process",
        ),
        (
            "aws_secret_access_key = s\naws_access_key_id = A B",
            "a key holds a blank",
        ),
    ] {
        let failure = of(&format!("[profile p]\n{profile}\n"), asked("p"), &[], NOBODY).unwrap_err();
        assert!(matches!(failure, Failure::Config(_)), "{failure:?}");
        assert!(failure.to_string().contains(words), "{profile}: {failure}");
    }
    // The default profile is a chosen one, too.
    let default = "[default]\nsso_session = x\n";
    assert!(of(default, Settings::default(), &[], NOBODY).is_err());
}

#[test]
fn a_refused_role_says_what_to_allow() {
    let sts = Fake::start(|_, _| fake::error(403, "AccessDenied"));
    let failure = of(CHAIN, asked("one"), &[], &sts.url).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "AccessDenied: A message. (STS AssumeRole); allow sts:AssumeRole in the role's trust policy"
    );
    assert_eq!(sts.count(), 1);
}

#[test]
fn a_wrong_clock_is_corrected_by_sts() {
    let sts = Fake::start(|number, request| match number {
        0 => {
            let body = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>m</Message></Error></ErrorResponse>";
            http(403, "date: Sun, 30 Aug 2015 14:36:00 GMT\r\n", body)
        }
        _ => {
            assert!(request.contains("x-amz-date: 20150830T143600Z"), "{request}");
            fake::error(403, "AccessDenied")
        }
    });
    assert!(of(CHAIN, asked("one"), &[], &sts.url).is_err());
    assert_eq!(sts.count(), 2);
}

#[test]
fn variables_of_older_tools_choose_the_profile() {
    let config = "[profile a]\naws_access_key_id = A\naws_secret_access_key = s\n\
        [profile b]\naws_access_key_id = B\naws_secret_access_key = s\naws_security_token = t\n";
    let chosen = |env: &[(&str, &str)]| of(config, Settings::default(), env, NOBODY).unwrap().0;
    let (old, new) = (("AWS_DEFAULT_PROFILE", "a"), ("AWS_PROFILE", "b"));
    assert_eq!(
        [chosen(&[old]), chosen(&[new]), chosen(&[old, new])],
        ["A", "B", "A"]
    );
    assert!(matches!(
        of(
            config,
            Settings::default(),
            &[("AWS_DEFAULT_PROFILE", "c")],
            NOBODY
        ),
        Err(Failure::Config(_))
    ));
}

fn process(command: &str) -> Result<super::credentials::Keys, Failure> {
    let config = format!("[profile p]\ncredential_process = {command}\n");
    let config = Scratch::new(&format!("process-{:p}", &command), &config);
    let env = [
        ("AWS_CONFIG_FILE", config.0.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
    ];
    provider(asked("p"), fake::env(&env)).keys(NOW, &sts(&Http::default(), &nobody()))
}

#[test]
fn a_program_prints_credentials() {
    let good = |expiration: &str| {
        format!(
            "echo '{{\"Version\": 1, \"AccessKeyId\": \"PROC\", \"SecretAccessKey\": \"hidden\", \
             \"SessionToken\": \"t\"{expiration}}}'"
        )
    };
    let keys = process(&good("")).unwrap();
    assert_eq!(
        (keys.access_key.as_str(), keys.token.as_str(), keys.expires),
        ("PROC", "t", None)
    );
    assert_eq!(keys.source, "credential_process of profile p");
    let keys = process(&good(&format!(", \"Expiration\": \"{RUNS_OUT}\""))).unwrap();
    assert_eq!(keys.expires, Some(NOW + 3600));
    // No shell but the one that the file asks for.
    assert!(
        process("echo $HOME `id`")
            .unwrap_err()
            .to_string()
            .contains("did not print JSON")
    );
    let shell = "sh -c 'printf \"%s\" \"{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"A$((1+1))\\\", \
        \\\"SecretAccessKey\\\": \\\"s\\\"}\"'";
    assert_eq!(process(shell).unwrap().access_key, "A2");
    for (command, words) in [
        (
            "sh -c 'echo >&2 no token; echo hidden; exit 3'",
            "CredentialProcess: credential_process of profile p: sh ended with exit status: 3: no token; see to",
        ),
        ("echo hidden", "did not print JSON"),
        (
            "echo '{\"AccessKeyId\": \"hidden\"}'",
            "did not print \"Version\": 1",
        ),
        (
            "echo '{\"Version\": 1, \"AccessKeyId\": \"A\"}'",
            "the secret key is missing",
        ),
        (
            &good(", \"Expiration\": \"2015-08-30T12:36:00Z\""),
            "credentials that have expired",
        ),
        (
            &good(", \"Expiration\": \"tomorrow\""),
            "an Expiration that is no date",
        ),
        ("/nonexistent/helper", "/nonexistent/helper: No such file"),
        ("sh 'open", "the quote ' is not closed"),
    ] {
        let text = process(command).unwrap_err().to_string();
        assert!(
            text.contains(words) && !text.contains("hidden"),
            "{command}: {text}"
        );
    }
}
