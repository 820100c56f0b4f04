//! The client against servers that fail in every way a network has.

use super::fake::{self, Fake, Reply, chunked, described, error, http, item, launched};
use super::{Client, Failure, Service, Settings, clock};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

type Lines = Arc<Mutex<Vec<String>>>;

fn client(url: &str) -> (Client, Lines) {
    let settings = Settings {
        access_key: "AKIDEXAMPLE".to_string(),
        secret_key: "SECRETSECRET".to_string(),
        region: "us-east-1".to_string(),
        endpoint_url: url.to_string(),
        metadata_url: "http://127.0.0.1:9".to_string(),
        ..Settings::default()
    };
    let mut client = Client::with_env(settings, fake::env(&[])).unwrap();
    let lines = Lines::default();
    let log = lines.clone();
    client.on_event(Box::new(move |line| log.lock().unwrap().push(line.to_string())));
    (client, lines)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn a_request_whose_outcome_is_unknown_goes_out_again_unchanged() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n<RunInst".to_string();
    let cut_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n<RunI\r\n".to_string();
    let no_length = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<RunInstancesResponse>".to_string();
    for (fault, named) in [
        (Reply::Reset, "NoAnswer"),
        (Reply::Raw(cut), "NoAnswer"),
        (Reply::Raw(cut_chunk), "NoAnswer"),
        (Reply::Raw(no_length), "UnreadableAnswer"),
        (http(200, "", "<html>login</html>"), "UnreadableAnswer"),
        (http(200, "", &launched("i-zzz")), "UnreadableAnswer"),
        (error(503, "RequestLimitExceeded"), "RequestLimitExceeded"),
        (error(500, "InternalError"), "InternalError"),
        (http(502, "", "bad gateway"), "HTTP 502"),
    ] {
        let fault = Mutex::new(Some(fault));
        let fake = Fake::start(move |_, _| {
            let fault = fault.lock().unwrap().take();
            fault.unwrap_or_else(|| chunked(200, &launched("i-0abc")))
        });
        let (client, lines) = client(&fake.url);
        let params = [("MaxCount".to_string(), "7".to_string())];
        let list = client.run_instances(&params, 1, "token-1", soon()).unwrap();
        assert_eq!((list[0].id.as_str(), fake.count()), ("i-0abc", 2));
        let sent = "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=1&ClientToken=token-1";
        assert_eq!([body(&fake.request(0)), body(&fake.request(1))], [sent, sent]);
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with(&format!("ec2: {named}, trying again in ")),
            "{lines:?}"
        );
    }
}

#[test]
fn headers_are_sent_as_signed() {
    let fake = Fake::start(|_, _| http(200, "", &launched("i-1")));
    client(&fake.url).0.run_instances(&[], 1, "t", soon()).unwrap();
    let head = fake.request(0).to_ascii_lowercase();
    let host = fake.url.strip_prefix("http://").unwrap();
    assert!(head.contains(&format!("\r\nhost: {host}\r\n")));
    for (name, count) in [
        ("host", 1),
        ("content-type", 1),
        ("x-amz-date", 1),
        ("authorization", 1),
    ] {
        assert_eq!(head.matches(&format!("\r\n{name}: ")).count(), count, "{name}");
    }
    assert!(head.contains("user-agent: autoscaler/"));
    assert!(head.contains("signedheaders=content-type;host;x-amz-date,"));
}

#[test]
fn final_errors_are_sent_once() {
    for (status, code, failed) in [
        (500, "InsufficientInstanceCapacity", "Capacity"),
        (400, "VcpuLimitExceeded", "Quota"),
        (401, "AuthFailure", "Credentials"),
        (400, "IdempotentParameterMismatch", "TokenMismatch"),
        (400, "IdempotentInstanceTerminated", "TokenTerminated"),
        (400, "InvalidParameterValue", "Fatal"),
    ] {
        let fake = Fake::start(move |_, _| error(status, code));
        let failure = client(&fake.url)
            .0
            .run_instances(&[], 1, "t", soon())
            .unwrap_err();
        assert!(format!("{failure:?}").starts_with(failed), "{failure:?}");
        assert!(failure.to_string().starts_with(&format!("{code}: A message; ")));
        assert_eq!(fake.count(), 1);
    }
}

#[test]
fn deadlines_hold() {
    for reply in [|| Reply::Hang, || Reply::Endless] {
        let fake = Fake::start(move |_, _| reply());
        let start = Instant::now();
        let deadline = start + Duration::from_millis(300);
        let failure = client(&fake.url)
            .0
            .run_instances(&[], 1, "t", deadline)
            .unwrap_err();
        assert!(matches!(failure, Failure::Unavailable { .. }), "{failure:?}");
        assert!(
            start.elapsed() < Duration::from_millis(1500),
            "{:?}",
            start.elapsed()
        );
    }
    let (client, _) = client("http://127.0.0.1:9");
    assert!(client.run_instances(&[], 1, "t", Instant::now()).is_err());
}

#[test]
fn a_wrong_clock_is_corrected_by_the_servers() {
    // The server lives in 2015, and refuses all signatures of another day.
    let date = "date: Sun, 30 Aug 2015 12:36:00 GMT\r\n";
    let fake = Fake::start(move |_, request| match request.contains("20150830T") {
        true => http(200, date, &launched("i-1")),
        false => http(
            401,
            date,
            "<Response><Errors><Error><Code>AuthFailure</Code><Message>m</Message></Error></Errors></Response>",
        ),
    });
    let (client, lines) = client(&fake.url);
    assert!(client.run_instances(&[], 1, "t", soon()).is_ok());
    assert_eq!(fake.count(), 2);
    assert_eq!(clock::amz_date(client.now()).get(..13), Some("20150830T1236"));
    assert!(client.clock_skew() < -300_000_000);
    client.run_instances(&[], 1, "t", soon()).unwrap();
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with(" s off; signing by EC2's"));
}

#[test]
fn a_bad_signature_at_the_right_time_is_refused_at_once() {
    let unix = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let format = |unix: u64| {
        let stamp = clock::amz_date(unix);
        let (time, month) = (&stamp[9..15], stamp[4..6].parse::<usize>().unwrap());
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
        format!(
            "date: {} {} {} {}:{}:{} GMT\r\n",
            &stamp[6..8],
            &months[month * 3 - 3..month * 3],
            &stamp[..4],
            &time[..2],
            &time[2..4],
            &time[4..]
        )
    };
    let text =
        "<Response><Errors><Error><Code>AuthFailure</Code><Message>m</Message></Error></Errors></Response>";
    // 200 s off can't be the reason; 600 s off can, once.
    for (offset, calls) in [(200, 1), (600, 2)] {
        let date = format(unix + offset);
        let fake = Fake::start(move |_, _| http(401, &date, text));
        let (client, _) = client(&fake.url);
        let failure = client.run_instances(&[], 1, "t", soon()).unwrap_err();
        assert!(matches!(failure, Failure::Credentials { .. }), "{failure:?}");
        assert_eq!(fake.count(), calls);
    }
    // A cached answer's Date tells nothing.
    let date = format!("{}age: 7\r\n", format(unix + 600));
    let fake = Fake::start(move |_, _| http(401, &date, text));
    let (client, _) = client(&fake.url);
    assert!(client.run_instances(&[], 1, "t", soon()).is_err());
    assert_eq!((fake.count(), client.clock_skew()), (1, 0));
}

fn dry_run(fake: &Fake) -> Result<(), Failure> {
    client(&fake.url).0.dry_run_of("RunInstances", &[], soon())
}

#[test]
fn dry_runs() {
    let fake = Fake::start(|_, _| error(412, "DryRunOperation"));
    dry_run(&fake).unwrap();
    assert!(body(&fake.request(0)).ends_with("&DryRun=true"));
    let fake = Fake::start(|_, _| error(403, "UnauthorizedOperation"));
    let failure = dry_run(&fake).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "UnauthorizedOperation: A message; allow ec2:RunInstances in the IAM policy"
    );
    let fake = Fake::start(|_, _| http(200, "", &launched("i-1")));
    assert!(dry_run(&fake).is_err());
}

#[test]
fn the_cluster_is_read_to_its_last_page() {
    let fake = Fake::start(|_, request| match request.contains("NextToken=n%3D") {
        true => http(
            200,
            "",
            &described(&(item("i-2", "w*b") + &item("i-1", "w*b")), ""),
        ),
        false => http(
            200,
            "",
            &described(&(item("i-1", "w*b") + &item("i-9", "web")), "n="),
        ),
    });
    let list = client(&fake.url).0.cluster_instances("w*b", soon()).unwrap();
    let ids: Vec<&str> = list.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["i-1", "i-2"]);
    assert!(
        body(&fake.request(0))
            .contains("&Filter.1.Name=tag%3Aautoscaler%3Acluster&Filter.1.Value.1=w%5C%2Ab&MaxResults=100")
    );
    let fake = Fake::start(|number, _| match number {
        0 => http(200, "", &described(&item("i-1", "web"), "n")),
        _ => error(400, "InvalidParameterValue"),
    });
    assert!(client(&fake.url).0.cluster_instances("web", soon()).is_err());
}

#[test]
fn an_instance_that_is_not_known_yet() {
    let fake = Fake::start(|_, _| error(400, "InvalidInstanceID.NotFound"));
    let (client, _) = client(&fake.url);
    assert_eq!(client.instance("i-1", soon()), Ok(None));
    assert!(matches!(client.instance("i-1 ", soon()), Err(Failure::Config(_))));
    let deadline = Instant::now() + Duration::from_millis(200);
    let failure = client.terminate("i-1", deadline).unwrap_err();
    assert!(matches!(failure, Failure::NotFound { .. }), "{failure:?}");
}

#[test]
fn terminate_waits_until_the_instance_is_known() {
    let fake = Fake::start(|number, _| match number {
        0 => error(400, "InvalidInstanceID.NotFound"),
        _ => http(
            200,
            "",
            "<TerminateInstancesResponse><instancesSet><item><instanceId>i-1</instanceId></item>\
             </instancesSet></TerminateInstancesResponse>",
        ),
    });
    client(&fake.url).0.terminate("i-1", soon()).unwrap();
    assert_eq!(fake.count(), 2);
}

#[test]
fn several_at_once_and_what_came_of_them() {
    let items = item("i-1", "web") + &item("i-2", "web");
    let partial = launched("i-1").replace(&item("i-1", "web"), &items);
    let fake = Fake::start(move |_, request| match request.contains("Action=RunInstances") {
        true => http(200, "", &partial),
        false => {
            let token = "</instanceId><clientToken>t</clientToken>";
            let ours = items.replace("</instanceId>", token);
            http(200, "", &described(&(ours + &item("i-3", "web")), ""))
        }
    });
    let client = client(&fake.url).0;
    let ids = |list: Vec<super::Instance>| list.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(
        ids(client.run_instances(&[], 5, "t", soon()).unwrap()),
        ["i-1", "i-2"]
    );
    assert!(body(&fake.request(0)).contains("&MinCount=1&MaxCount=5&"));
    assert_eq!(ids(client.launched_with("t", soon()).unwrap()), ["i-1", "i-2"]);
    assert!(body(&fake.request(1)).ends_with("&Filter.1.Name=client-token&Filter.1.Value.1=t"));
}

#[test]
fn a_termination_is_rehearsed() {
    let fake = Fake::start(|number, _| match number {
        0 => error(412, "DryRunOperation"),
        _ => error(400, "OperationNotPermitted"),
    });
    let client = client(&fake.url).0;
    client.may_terminate("i-1", soon()).unwrap();
    assert!(body(&fake.request(0)).ends_with("&InstanceId.1=i-1&DryRun=true"));
    let failure = client.terminate("i-1", soon()).unwrap_err().to_string();
    assert!(
        failure.ends_with("; take its termination protection off"),
        "{failure}"
    );
    assert_eq!(fake.count(), 2);
}

#[test]
fn other_services_sign_and_fail_alike() {
    let fake = Fake::start(|_, _| {
        http(
            400,
            "",
            "<ErrorResponse><Error><Code>ValidationError</Code><Message>m</Message></Error></ErrorResponse>",
        )
    });
    let failure = client(&fake.url)
        .0
        .call(Service::Autoscaling, "DescribeAutoScalingGroups", &[], soon())
        .unwrap_err();
    assert_eq!(failure.to_string(), "ValidationError: m; correct the request");
    assert!(fake.request(0).contains("/us-east-1/autoscaling/aws4_request"));
    assert!(body(&fake.request(0)).ends_with("&Version=2011-01-01"));
}

#[test]
fn redirects_are_not_followed() {
    let fake = Fake::start(|_, _| http(307, "location: http://127.0.0.1:9/\r\n", ""));
    let failure = client(&fake.url)
        .0
        .run_instances(&[], 1, "t", soon())
        .unwrap_err();
    assert!(failure.to_string().starts_with("HTTP 307: "), "{failure}");
    assert_eq!(fake.count(), 1);
}

#[test]
fn settings_that_cannot_work_are_refused_early() {
    let refused = |settings| {
        matches!(
            Client::with_env(settings, fake::env(&[])),
            Err(Failure::Config(_))
        )
    };
    let blank = Settings::default;
    assert!(refused(Settings {
        access_key: "A".to_string(),
        ..blank()
    }));
    assert!(refused(Settings {
        endpoint_url: "ec2".to_string(),
        ..blank()
    }));
    assert!(refused(Settings {
        metadata_url: "ftp://x".to_string(),
        ..blank()
    }));
    assert!(!refused(blank()));
    let secret = Settings {
        secret_key: "SECRETSECRET".to_string(),
        ..blank()
    };
    assert!(!format!("{secret:?}").contains("SECRET"));
}

#[test]
fn a_client_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Client>();
}
