"""`aws …` commands are read as the AWS CLI reads them: both send the same parameters.

The AWS CLI of this Python environment runs in process, against an endpoint that records what it sends.
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import urllib.parse

import pytest

pytest.importorskip("awscli")

from awscli.clidriver import create_clidriver

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("AUTOSCALER", str(ROOT / "target/x86_64-unknown-linux-musl/release/autoscaler"))
OUR_TAGS = "autoscaler:"


class Refused(Exception):
    """The command was refused, with this text."""


def ours(command, tmp_path, endpoint=""):
    """The parameters that autoscaler would send, with their action under `Action`."""
    up = "run-instances" in command or "set-desired-capacity" in command
    key, direction = ("scale_up_command", "scale-up") if up else ("scale_down_command", "scale-down")
    config = tmp_path / "autoscaler.ini"
    config.write_text(f"[aws]\naws_default_region = us-east-1\nendpoint_url = {endpoint}\n[machine]\n{key} = {command}\n")
    config.chmod(0o600)
    done = subprocess.run([BINARY, "-c", config, direction, "--dry-run"], cwd=tmp_path, timeout=20,
                          env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True)
    # What it would send is told whether or not it would be done: this INI names no HAProxy host.
    if not done.stdout:
        raise Refused(done.stderr)
    assert done.returncode in (0, 75), done
    first, *lines = done.stdout.splitlines()
    pairs = [line.split("=", 1) for line in lines]
    assert lines == sorted(lines) and len(dict(pairs)) == len(lines)
    params = {name: urllib.parse.unquote(value, errors="strict") for name, value in pairs}
    return without_own_tags(params) | {"Action": first.removeprefix("action ")}


def without_own_tags(params):
    """Without the tags that autoscaler itself adds, and the specification of a resource left without any."""
    own = [name.removesuffix(".Key") for name, value in params.items()
           if name.endswith(".Key") and value.startswith(OUR_TAGS)]
    kept = {name: value for name, value in params.items() if not any(name.startswith(tag + ".") for tag in own)}
    for prefix in {tag.split(".Tag.")[0] for tag in own}:
        if [name for name in kept if name.startswith(prefix + ".")] == [prefix + ".ResourceType"]:
            del kept[prefix + ".ResourceType"]
    return kept


GROUP = """<AutoScalingGroups><member><AutoScalingGroupName>web</AutoScalingGroupName><MinSize>0</MinSize>
<MaxSize>9</MaxSize><DesiredCapacity>{}</DesiredCapacity><Tags><member><Key>autoscaler:cluster</Key><Value>default</Value>
<PropagateAtLaunch>true</PropagateAtLaunch></member></Tags></member></AutoScalingGroups>"""


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Records the parameters of each request, and answers with nothing in particular but `group`."""

    seen, group = [], ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        params = dict(urllib.parse.parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        Endpoint.seen.append(params)
        answer = "<{0}Response><{0}Result>{1}</{0}Result></{0}Response>".format(params["Action"], Endpoint.group).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def endpoint():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def loader():
    """One loader for all drivers: it keeps the model of EC2, which is slow to read."""
    return create_clidriver().session.get_component("data_loader")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working and home directory with the files that the commands name, and an environment without AWS."""
    for name in list(os.environ):
        if name.startswith("AWS_") and name != "AWS_DATA_PATH":
            monkeypatch.delenv(name)
    for name, value in [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret"),
                        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"),
                        ("HOME", str(tmp_path))]:
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def words(command):
    """The words of a command after `aws`, by the real shell. An INI takes off the indentation of lines."""
    text = "\n".join(line.strip() for line in command.split("\n")).removeprefix("/usr/bin/")
    function = 'aws() { printf "%s\\0" "$@"; }\n'
    done = subprocess.run(["/bin/sh", "-c", function + text], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def theirs(command, endpoint, loader, capsys):
    """The parameters that the AWS CLI sends."""
    driver = create_driver(loader)
    Endpoint.seen.clear()
    status = driver.main(["--endpoint-url", endpoint, *words(command)])
    assert status == 0, capsys.readouterr().err
    [params] = Endpoint.seen
    for name in "Version", "ClientToken":
        params.pop(name, None)
    return params


FILES = {
    "user-data.sh": "#!/bin/sh\necho 'grüße' > /tmp/x\n".encode(),
    "crlf.txt": b"one\r\ntwo\rthree\n",
    "full.txt": b"x" * 16384,
    "more.txt": b"x" * 16385,
    "blob.bin": bytes(range(256)) + b"\r\n",
    "type.txt": b"t3.micro",
    "count.txt": b"1:3\n",
    "disks.json": b'[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "Encrypted": true}}]',
    "placement.json": b' {"AvailabilityZone": "us-east-1b", "PartitionNumber": 7}',
    "placement.txt": b"AvailabilityZone=us-east-1b,Tenancy=default",
    "not-a-list.txt": b"sg-1",
    "input.json": b"""{"ImageId": "ami-9", "InstanceType": "m5.large", "MaxCount": 2, "UserData": "hello",
        "SubnetId": "subnet-9", "SecurityGroupIds": ["sg-8", "sg-9"], "DryRun": false,
        "NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": true}],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]}""",
}

SAME = [line.strip() for line in r"""
aws ec2 run-instances
aws ec2 run-instances --image-id ami-1 --instance-type t3.micro --key-name k
/usr/bin/aws ec2 run-instances --image-id ami-1
aws ec2 run-instances --image-id=ami-1 --instance-type=t3.micro --key-name=
aws ec2 run-instances --image-id ami-1 --image-id ami-2
aws ec2 run-instances --image ami-1 --instance-t t3.micro --key k --sub subnet-1
aws --region eu-west-1 ec2 run-instances --image-id ami-1 --output text --query 'Instances[0].InstanceId'
aws ec2 run-instances --security-group-ids sg-1 --region eu-west-1 sg-2 --no-paginate sg-3
aws ec2 --no-dry-run run-instances --image-id ami-1
AWS_PAGER="" aws ec2 run-instances --image-id ami-1
AWS_PROFILE= AWS_REGION=eu-west-1 aws ec2 run-instances --image-id ami-1
aws --cli-read-timeout 5 --cli-connect-timeout=5 --color off ec2 run-instances --reg us-west-2
aws ec2 run-instances --count 1
aws ec2 run-instances --count 1:5
aws ec2 run-instances --count ' +001 : 007 '
aws ec2 run-instances --count file://count.txt
aws ec2 run-instances --cou=1:4
aws ec2 run-instances --image-id ami-1 --security-group-ids sg-1 sg-2 --security-groups web 'my group'
aws ec2 run-instances --security-group-ids '["sg-1", "sg-2"]'
aws ec2 run-instances --security-group-ids sg-1,sg-2
aws ec2 run-instances --security-group-ids --image-id ami-1
aws ec2 run-instances --subnet-id subnet-1 --private-ip-address 10.0.0.7 --security-group-ids sg-1
aws ec2 run-instances --subnet-id subnet-1 --security-group-ids sg-1 sg-2 --associate-public-ip-address
aws ec2 run-instances --subnet-id subnet-1 --no-associate-public-ip-address
aws ec2 run-instances --no-associate-public-ip-address --associate-public-ip-address
aws ec2 run-instances --subnet-id s --private-ip-address 10.0.0.7 --associate-public-ip-address --enable-primary-ipv6
aws ec2 run-instances --subnet-id s --secondary-private-ip-addresses 10.0.0.8 10.0.0.9 --ipv6-address-count 2
aws ec2 run-instances --private-ip-address 10.0.0.7 --secondary-private-ip-addresses 10.0.0.8
aws ec2 run-instances --subnet-id s --secondary-private-ip-address-count 2 --ipv6-addresses Ipv6Address=2001:db8::1
aws ec2 run-instances --subnet-id s --secondary-private-ip-address-count 0
aws ec2 run-instances --security-groups web --associate-public-ip-address
aws ec2 run-instances --network-interfaces DeviceIndex=0,SubnetId=s,Groups=sg-1,sg-2,AssociatePublicIpAddress=true
aws ec2 run-instances --network-interfaces DeviceIndex=0,AssociatePublicIpAddress=true --subnet-id s --security-group-ids g
aws ec2 run-instances --network-interfaces DeviceIndex=0,Groups=sg-1 --subnet-id s
aws ec2 run-instances --network-interfaces DeviceIndex=0,Groups=[sg-1] --no-associate-public-ip-address
aws ec2 run-instances --network-interfaces 'DeviceIndex=0,Ipv6Addresses=[{Ipv6Address=::1}],PrivateIpAddresses=[{Primary=true,PrivateIpAddress=10.0.0.4},{PrivateIpAddress=10.0.0.5,Primary=false}]'
aws ec2 run-instances --network-interfaces DeviceIndex=1,Ipv4Prefixes=[{Ipv4Prefix=10.0.0.0/28}],Ipv6Prefixes={Ipv6Prefix=2001:db8::/80} DeviceIndex=0,Description="one\, two"
aws ec2 run-instances --network-interfaces DeviceIndex=0,EnaSrdSpecification={EnaSrdEnabled=true,EnaSrdUdpSpecification={EnaSrdUdpEnabled=false}},ConnectionTrackingSpecification={UdpTimeout=30}
aws ec2 run-instances --secondary-interfaces DeviceIndex=1,SecondarySubnetId=s,PrivateIpAddresses=[{PrivateIpAddress=10.1.0.1}]
aws ec2 run-instances --user-data 'echo "a  b"; reboot'
aws ec2 run-instances --user-data ''
aws ec2 run-instances --user-data '-- a text with blanks'
aws ec2 run-instances --user-data=-x
aws ec2 run-instances --user-data file://user-data.sh
aws ec2 run-instances --user-data file://crlf.txt
aws ec2 run-instances --user-data fileb://crlf.txt
aws ec2 run-instances --user-data fileb://blob.bin
aws ec2 run-instances --user-data file://~/user-data.sh
aws ec2 run-instances --user-data file://full.txt
aws ec2 run-instances --instance-type file://type.txt
aws ec2 run-instances --tag-specifications 'ResourceType=instance,Tags=[{Key=Name,Value=web},{Key=env,Value=prod}]' 'ResourceType=volume,Tags=[{Key=Name,Value=web}]'
aws ec2 run-instances --tag-specifications ResourceType=instance,Tags=[{Key=Name,Value=web}]
aws ec2 run-instances --tag-specifications "ResourceType=instance,Tags=[{Key=Name,Value='a, b=c]'},{Key=\"k}\",Value=\"\"}]"
aws ec2 run-instances --tag-specifications "ResourceType=instance,Tags={Key=only,Value=one}"
aws ec2 run-instances --tag-specifications '[{"ResourceType":"instance","Tags":[{"Key":"Name","Value":"wéb \u00e9\ud83d\ude00"}]}]'
aws ec2 run-instances --tag-specifications '{"ResourceType":"network-interface"}' '{"ResourceType":"volume","Tags":[]}'
aws ec2 run-instances --tag-specifications bad --tag-specifications 'ResourceType = volume , Tags = [ {Key=a b ,Value=c} , {Key=d} ]'
aws ec2 run-instances --tag-specifications 'ResourceType=instance,Tags=[{Key=it'\''s,Value=x}]' --tag-specifications "ResourceType=instance,Tags=[{Key='it\\'s',Value=\"back\\\\\\\\slash\"}]"
aws ec2 run-instances --block-device-mappings DeviceName=/dev/sda1,Ebs={VolumeSize=100,VolumeType=gp3,Iops=4000,Throughput=250,DeleteOnTermination=true,Encrypted=TRUE} DeviceName=/dev/sdb,NoDevice=
aws ec2 run-instances --block-device-mappings '[{"DeviceName":"/dev/sda1","Ebs":{"VolumeSize":100,"DeleteOnTermination":false}},{"DeviceName":"/dev/sdc","VirtualName":"ephemeral0"}]'
aws ec2 run-instances --block-device-mappings file://disks.json
aws ec2 run-instances --launch-template LaunchTemplateName=web,Version='$Latest'
aws ec2 run-instances --launch-template LaunchTemplateId=lt-1,Version=3 --iam-instance-profile Name=web
aws ec2 run-instances --iam-instance-profile Arn=arn:aws:iam::123456789012:instance-profile/web
aws ec2 run-instances --placement AvailabilityZone=us-east-1a,Tenancy=dedicated,PartitionNumber=3,GroupName='my group'
aws ec2 run-instances --placement file://placement.json
aws ec2 run-instances --placement file://placement.txt
aws ec2 run-instances --placement GroupName@=file://type.txt,HostId=file://type.txt
aws ec2 run-instances --metadata-options HttpTokens=required,HttpPutResponseHopLimit=2,HttpEndpoint=enabled,InstanceMetadataTags=enabled
aws ec2 run-instances --instance-market-options MarketType=spot,SpotOptions={MaxPrice=0.05,SpotInstanceType=one-time,BlockDurationMinutes=60,ValidUntil=2030-01-02T03:04:05Z}
aws ec2 run-instances --instance-market-options '{"MarketType":"spot"}' --credit-specification CpuCredits=unlimited
aws ec2 run-instances --credit-specification 'CpuCredits=a b ' --cpu-options CoreCount=2,ThreadsPerCore=1,AmdSevSnp=enabled
aws ec2 run-instances --capacity-reservation-specification CapacityReservationTarget={CapacityReservationId=cr-1}
aws ec2 run-instances --capacity-reservation-specification CapacityReservationPreference=open --hibernation-options Configured=true
aws ec2 run-instances --license-specifications LicenseConfigurationArn=arn:a LicenseConfigurationArn=arn:b --enclave-options Enabled=false
aws ec2 run-instances --private-dns-name-options HostnameType=ip-name,EnableResourceNameDnsARecord=true,EnableResourceNameDnsAAAARecord=false
aws ec2 run-instances --maintenance-options AutoRecovery=default --network-performance-options BandwidthWeighting=vpc-1 --operator Principal=p
aws ec2 run-instances --monitoring Enabled=true --ebs-optimized --disable-api-termination --disable-api-stop
aws ec2 run-instances --monitoring '{"Enabled":false}' --no-ebs-optimized --enable-api-termination --no-disable-api-stop
aws ec2 run-instances --ebs-optimized --no-ebs-optimized --no-dry-run
aws ec2 run-instances --instance-initiated-shutdown-behavior terminate --additional-info x --kernel-id aki-1 --ramdisk-id ari-1
aws ec2 run-instances --ipv6-addresses Ipv6Address=::1,IsPrimaryIpv6=true Ipv6Address=::2 --ipv6-address-count=1
aws ec2 run-instances --elastic-gpu-specification Type=eg1.medium --elastic-inference-accelerators Type=eia1.medium,Count=2
aws ec2 run-instances --cli-input-json file://input.json
aws ec2 run-instances --cli-input-json file://input.json --image-id ami-1 --count 1 --security-group-ids sg-1 --user-data bye
aws ec2 run-instances --cli-input-json file://input.json --no-associate-public-ip-address --no-dry-run
aws ec2 run-instances --cli-input-json '{"MinCount":1,"MaxCount":3,"Placement":{"AvailabilityZone":"z"}}' --placement Tenancy=host
aws ec2 run-instances --image-id "ami-1" --key-name my\ key --user-data 'a'\''b'"c\"\\\$"
aws ec2 run-instances --key-name '' --user-data {a,b}[c]=d#e~f%g
aws ec2 terminate-instances --instance-ids i-1 i-2
aws ec2 terminate-instances --instance-ids i-1 --force --skip-os-shutdown --no-dry-run
aws ec2 terminate-instances --cli-input-json '{"InstanceIds":["i-1"]}'
aws autoscaling set-desired-capacity --auto-scaling-group-name web --desired-capacity 4
aws autoscaling set-desired-capacity --auto-scaling-group-name web --desired-capacity=4 --honor-cooldown
aws autoscaling set-desired-capacity --auto web --desired 4 --no-honor-cooldown
aws autoscaling set-desired-capacity --cli-input-json '{"AutoScalingGroupName":"web","DesiredCapacity":4}'
aws autoscaling terminate-instance-in-auto-scaling-group --instance-id i-1 --should-decrement-desired-capacity
aws autoscaling terminate-instance-in-auto-scaling-group --instance-id i-1 --no-should-decrement-desired-capacity
""".strip().splitlines()] + [
    "aws ec2 run-instances \\\n    --image-id ami-1 \\\n    --count 1:2",
    "aws ec2 run-instances --image-id ami-1 --user-data 'two\n    lines'",
]

# Refused by the AWS CLI too, with the word that our message holds.
REFUSED_BY_BOTH = [
    ("aws ec2 run-instances --count abc", "--count"),
    ("aws ec2 run-instances --count 1:2:3", "--count"),
    ("aws ec2 run-instances --blok-device-mappings x", "--block-device-mappings"),
    ("aws ec2 run-instances --min-count 1", "--min-count"),
    ("aws ec2 run-instances --image-id", "--image-id"),
    ("aws ec2 run-instances --image-id --dry-run", "--image-id"),
    ("aws ec2 run-instances --image-id a stray", "stray"),
    ("aws ec2 run-instances --security-group-ids=a b", "no option"),
    ("aws ec2 run-instances --dry-run=true", "--dry-run"),
    ("aws ec2 run-instances --security x", "--security-groups"),
    ("aws ec2 run-instances --cli x", "--cli-connect-timeout"),
    ("aws ec2 run-instances --no-disable-api-termination", "--no-disable-api-termination"),
    ("aws ec2 run-instances --ipv6-address-count two", "--ipv6-address-count"),
    ("aws ec2 run-instances --iam-instance-profile web", "--iam-instance-profile"),
    ("aws ec2 run-instances --placement Tenanci=x", "Tenancy"),
    ("aws ec2 run-instances --placement PartitionNumber=x", "PartitionNumber"),
    ("aws ec2 run-instances --placement '{\"PartitionNumber\":\"1\"}'", "PartitionNumber"),
    ("aws ec2 run-instances --placement '{\"Tenancy\":null}'", "Tenancy"),
    ("aws ec2 run-instances --placement '{Tenancy:x}'", "JSON"),
    ("aws ec2 run-instances --placement Tenancy=a,b", "Tenancy"),
    ("aws ec2 run-instances --placement Tenancy=a,Tenancy=b", "Tenancy"),
    ("aws ec2 run-instances --tag-specifications 'ResourceType=instance,Tags=[{Key=a,Value=}]'", "--tag-specifications"),
    ("aws ec2 run-instances --tag-specifications ' ResourceType=instance'", "--tag-specifications"),
    ("aws ec2 run-instances --tag-specifications '{\"ResourceType\":\"instance\"}' ResourceType=volume", "--tag-specifications"),
    ("aws ec2 run-instances --block-device-mappings DeviceName=a,Ebs={DeleteOnTermination=yes}", "DeleteOnTermination"),
    ("aws ec2 run-instances --monitoring '{}'", "Enabled"),
    ("aws ec2 run-instances --security-group-ids file://missing", "missing"),
    ("aws ec2 run-instances --user-data file://blob.bin", "fileb://"),
    ("aws ec2 run-instances --network-interfaces DeviceIndex=0 --associate-public-ip-address", "--network-interfaces"),
    ("aws ec2 run-instances --cli-input-json '{\"Imageid\":\"x\"}'", "ImageId"),
    ("aws ec2 run-instances --cli-input-json '[]'", "--cli-input-json"),
    ("aws ec2 terminate-instances", "--instance-ids"),
    ("aws autoscaling set-desired-capacity --auto-scaling-group-name web", "--desired-capacity"),
    ("aws autoscaling set-desired-capacity --auto-scaling-group-name '' --desired-capacity 1", "--auto-scaling-group-name"),
    ("aws autoscaling terminate-instance-in-auto-scaling-group --instance-id i-1", "--should-decrement-desired-capacity"),
]

# Refused by us alone: named, never dropped.
REFUSED_BY_US = [
    ("aws ec2 run-instances --client-token x", "--client-token"),
    ("aws autoscaling set-desired-capacity --auto-scaling-group-name web --desired-capacity 4", "$DESIRED"),
    ("aws autoscaling set-desired-capacity --auto-scaling-group-name web --desired-capacity $N", "$"),
    ("aws ec2 run-instances --cli-input-json '{\"ClientToken\":\"x\"}'", "ClientToken"),
    ("aws ec2 run-instances --generate-cli-skeleton", "--generate-cli-skeleton"),
    ("aws --no-verify-ssl ec2 run-instances", "--ca-bundle"),
    ("aws --no-sign-request ec2 run-instances", "--no-sign-request"),
    ("aws ec2 run-instances --user-data file://more.txt", "16384"),
    ("aws ec2 run-instances --user-data http://127.0.0.1/x", "http://"),
    ("aws ec2 run-instances --user-data 'file://$HOME/x'", "$"),
    ("aws ec2 run-instances --security-group-ids file://not-a-list.txt", "JSON"),
    ("aws ec2 run-instances --dry-run", "--dry-run: would launch or end nothing"),
    ("aws ec2 run-instances --cli-input-json '{\"DryRun\":true}'", "DryRun"),
    ("aws ec2 run-instances --count 2", "write --count 1, or 1:N"),
    ("aws ec2 run-instances --count 2:5", "write --count 1, or 1:N"),
    ("aws ec2 run-instances --cli-input-json '{\"MinCount\":2,\"MaxCount\":2}'", "--count 2:2"),
    ("sudo aws ec2 run-instances --image-id ami-1", "sh -c '…'"),
    ("HOST=$(aws ec2 run-instances --image-id ami-1); echo $HOST", "sh -c '…'"),
    ("docker run --rm amazon/aws-cli ec2 run-instances --image-id ami-1", "sh -c '…'"),
    ("AWS_PROFILE=$P aws ec2 run-instances --image-id ami-1", "sh -c '…'"),
    ("aws ec2 run-instance --image-id run-instances", "did you mean run-instances?"),
    ("aws ec2 start-instances --instance-ids run-instances", "is not carried out"),
    ("aws ec2 run-instances --count 0", "--count"),
    ("aws ec2 run-instances --count 3:2", "--count"),
    ("aws ec2 run-instances --instance-market-options SpotOptions={ValidUntil=tomorrow}", "ValidUntil"),
    ("aws ec2 run-instances --image-id $AMI", "$"),
    ("aws ec2 run-instances --user-data \"$(cat x)\"", "double quotes"),
    ("aws ec2 run-instances --image-id `cat ami`", "sh -c"),
    ("aws ec2 run-instances --image-id ami-1 | tail -n 1", "|"),
    ("aws ec2 run-instances --image-id ami-1 > log", ">"),
    ("aws ec2 run-instances --image-id ami-1; true", ";"),
    ("aws ec2 run-instances --key-name 'open", "not closed"),
]


@pytest.mark.parametrize("command", SAME)
def test_same_parameters(command, files, endpoint, loader, capsys):
    expected = theirs(command, endpoint, loader, capsys)
    if desired := expected.get("DesiredCapacity"):
        # Ours is told to have one more than the group has.
        Endpoint.group = GROUP.format(int(desired) - 1)
        command = re.sub(rf"\b{desired}\b", "$DESIRED", command)
        assert "$DESIRED" in command
    assert ours(command, files, endpoint) == expected


@pytest.mark.parametrize("command, word", REFUSED_BY_BOTH)
def test_refused_as_the_aws_cli_does(command, word, files, endpoint, loader, capsys):
    try:
        refused = create_driver(loader).main(["--endpoint-url", endpoint, *words(command)]) != 0
    except SystemExit:
        refused = True
    assert refused
    assert_refused(command, word, files)


@pytest.mark.parametrize("command, word", REFUSED_BY_US)
def test_refused_by_name(command, word, files):
    assert_refused(command, word, files)


@pytest.mark.parametrize("service, operation", [
    ("ec2", "run-instances"), ("ec2", "terminate-instances"), ("autoscaling", "set-desired-capacity"),
    ("autoscaling", "terminate-instance-in-auto-scaling-group")])
def test_every_option_is_known(service, operation, files, loader):
    """Each option that the AWS CLI has is taken or refused for a reason; none is unknown."""
    table = create_driver(loader).create_help_command().command_table[service].create_help_command().command_table
    options = table[operation].arg_table
    assert len(options) > 4
    for option in options:
        try:
            ours(f"aws {service} {operation} --{option}", files)
        except Refused as refusal:
            assert "unknown option" not in str(refusal)
            assert f"--{option}" in str(refusal) or ": is missing" in str(refusal)


def test_every_parameter(files, endpoint, loader, capsys):
    """All that the AWS CLI's model of RunInstances has, in one document."""
    service = create_driver(loader).session.get_service_model("ec2")
    document = example(service.operation_model("RunInstances").input_shape)
    del document["ClientToken"]
    (files / "all.json").write_text(json.dumps(document | {"MinCount": 1, "MaxCount": 2}))
    command = "aws ec2 run-instances --cli-input-json file://all.json"
    assert document["DryRun"] is False
    expected = theirs(command, endpoint, loader, capsys)
    assert len(expected) > 150
    assert ours(command, files) == expected


def example(shape):
    """A value of this shape, with every member, and two of each list."""
    match shape.type_name:
        case "structure":
            return {name: example(member) for name, member in shape.members.items()}
        case "list":
            return [example(shape.member), example(shape.member)]
        case "integer":
            return 7
        case "boolean":
            return False
        case "timestamp":
            return "2030-01-02T03:04:05Z"
        case _:
            return f"{shape.name} é&="


def create_driver(loader):
    driver = create_clidriver()
    driver.session.register_component("data_loader", loader)
    return driver


def assert_refused(command, word, files):
    with pytest.raises(Refused) as refusal:
        ours(command, files)
    text = str(refusal.value)
    assert word in text
    assert text.count("\n") == 1
