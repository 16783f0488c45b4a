//! Promises about what is printed for the owner of a bucket.

use super::common::{BINARY, Ran, World, json_lines};
use serde_json::{Value, json};
use std::{ffi::OsString, fs};

const DOCUMENTS: [(&str, &str); 6] = [
    ("iam", "iam"),
    ("restore", "restore"),
    ("delete", "delete"),
    ("bucket", "bucket"),
    ("lifecycle", "lifecycle"),
    ("object-lock", "object_lock"),
];

/// `archiver aws-policy` with the vault in a bucket, and more lines of `[vault]` and below.
fn aws_policy(world: &World, url: &str, more: &str, args: &[&str]) -> Ran {
    let text = fs::read_to_string(world.config()).unwrap();
    let file = world.root.path().join("s3.toml");
    fs::write(&file, text.replace(&format!("file://{}", world.vault.display()), url) + more).unwrap();
    let mut all: Vec<OsString> = vec![BINARY.into(), "--config".into(), file.into(), "aws-policy".into()];
    all.extend(args.iter().map(Into::into));
    world.bash("\"$@\"", &all)
}

fn one(ran: Ran) -> Value {
    serde_json::from_slice(&ran.expect(0).stdout).unwrap()
}

#[test]
fn every_document_is_printed_alone_to_be_piped_and_together_under_its_name() {
    let world = World::new();
    let ask = |args: &[&str]| aws_policy(&world, "s3://my-bucket/vault", "", args);
    let all = json_lines(&ask(&["--json"]).expect(0).stdout).remove(0);
    assert_eq!(all.as_object().unwrap().len(), DOCUMENTS.len());
    for (name, key) in DOCUMENTS {
        let ran = ask(&[name]);
        assert_eq!(ran.stderr, "", "{name}");
        assert_eq!(one(ran), all[key], "{name}");
        assert_eq!(json_lines(&ask(&[name, "--json"]).expect(0).stdout), [all[key].clone()], "{name} on one line");
    }
    let text = ask(&[]).expect(0).text();
    for (name, _) in DOCUMENTS {
        let command = format!("s3.toml aws-policy {name} |\n        aws ");
        assert_eq!(text.matches(&command).count(), 1, "{command:?} in {text}");
    }
    assert_eq!(text.matches("file:///dev/stdin").count(), DOCUMENTS.len());
    assert!(fs::read_dir(&world.state).unwrap().next().is_none(), "Nothing is made");
}

#[test]
fn documents_are_filled_in_from_the_configuration() {
    let world = World::new();
    let more = "region = \"cn-north-1\"\nstorage_class = \"GLACIER\"\n[upload]\nbandwidth = \"10kB/s\"\n\
                window = [\"Sat 00:00-01:00\"]\n";
    let ask = |args: &[&str]| aws_policy(&world, "s3://their-bucket/a/b", more, args);
    let all = one(ask(&["--json"]));
    let text = all.to_string();
    assert!(text.contains("arn:aws-cn:s3:::their-bucket/a/b/*") && !text.contains("arn:aws:"), "{text}");
    // 1 MiB takes 105 seconds of the 3,600 that a week has: no reason to wait for more than 30 days.
    let days =
        |all: &Value| all["lifecycle"]["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"].clone();
    assert_eq!((days(&all), &all["lifecycle"]["Rules"][0]["Filter"]["Prefix"]), (30.into(), &"a/b/".into()));
    assert_eq!(all["object_lock"]["Rule"]["DefaultRetention"]["Days"], 90);
    let role = "arn:aws-cn:iam::111122223333:role/hosts/nas1";
    let args = ["--principal", role, "--abort-days", "60", "--retention-days", "7"];
    let all = one(ask(&[&args[..], &["--json"]].concat()));
    let denied = &all["bucket"]["Statement"][2]["Condition"];
    assert_eq!(*denied, json!({ "ArnLike": { "aws:PrincipalArn": [role] } }));
    assert_eq!((days(&all), &all["object_lock"]["Rule"]["DefaultRetention"]["Days"]), (60.into(), &7.into()));
    let text = ask(&args).expect(0).text();
    assert!(text.contains("aws iam put-role-policy --role-name nas1 "), "{text}");
    let again = format!("aws-policy --principal {role} --abort-days 60 --retention-days 7 bucket |");
    assert!(text.contains(&again), "{again} in {text}");
    assert!(text.contains("aws --region cn-north-1 s3api put-bucket-policy --bucket their-bucket "), "{text}");
}

#[test]
fn a_slow_link_has_more_days_for_its_uploads() {
    let mut world = World::new();
    "40GiB".clone_into(&mut world.setup.max_size);
    "400GiB".clone_into(&mut world.setup.cap);
    let more = "[upload]\nbandwidth = \"10kB/s\"\n";
    let lifecycle = one(aws_policy(&world, "s3://my-bucket", more, &["lifecycle"]));
    assert_eq!(lifecycle["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"], 100);
}

#[test]
fn a_server_without_tls_does_not_refuse_what_comes_without_it() {
    let world = World::new();
    for (endpoint, count) in [("http://127.0.0.1:9000", 2), ("https://s3.example.org", 3)] {
        let more = format!("endpoint_url = \"{endpoint}\"\n");
        let bucket = one(aws_policy(&world, "s3://my-bucket", &more, &["bucket"]));
        assert_eq!(bucket["Statement"].as_array().unwrap().len(), count, "{endpoint}");
        let text = aws_policy(&world, "s3://my-bucket", &more, &[]).expect(0).text();
        assert_eq!(text.contains("through TLS"), count == 3, "{text}");
        assert!(text.contains(&format!("{endpoint} is not AWS")), "{text}");
        assert!(text.contains(&format!("aws --endpoint-url {endpoint} s3api put-bucket-policy")), "{text}");
    }
}

#[test]
fn a_vault_in_a_directory_has_no_policy() {
    let world = World::new();
    for args in [&["aws-policy"][..], &["aws-policy", "iam"], &["aws-policy", "--json"]] {
        let ran = world.archiver(args).expect(2);
        assert!(ran.stderr.contains("archiver.toml:") && ran.stderr.contains("vault.url: must be an S3 bucket"));
        assert_eq!(ran.text(), "");
    }
}

#[test]
fn what_is_no_document_or_principal_is_a_usage_error() {
    let world = World::new();
    for args in [&["policy"][..], &["--principal", "nas1"], &["--abort-days", "0"], &["--retention-days", "x"]] {
        let ran = aws_policy(&world, "s3://my-bucket", "", args).expect(2);
        assert_eq!(ran.text(), "", "{args:?}");
    }
}
