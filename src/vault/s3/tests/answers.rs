//! Whatever a server answers, or does not: each has its class, and none is taken for a success.

use super::*;

async fn put_with(rule: Rule) -> (Result<(), VaultError>, Server) {
    let server = server();
    server.double.script(rule);
    let vault = server.vault().await;
    (put(&vault, "a", b"hello", "STANDARD").await, server)
}

fn told(err: &VaultError) -> String {
    crate::fate::Chain(err).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_class_and_says_why() {
    for (act, cause, says) in [
        (Act::refuse("SlowDown"), Cause::Throttle, "503 SlowDown"),
        (Act::refuse_as(429, "TooManyRequests"), Cause::Throttle, "429"),
        (Act::refuse("InternalError"), Cause::Other, "500 InternalError"),
        (Act::refuse("RequestTimeout"), Cause::Network, "400 RequestTimeout"),
        (Act::refuse("AccessDenied"), Cause::Permission, "s3:PutObject on arn:aws:s3:::backup/lab/nas/*"),
        (Act::refuse("ExpiredToken"), Cause::Credentials, "ExpiredToken"),
        (Act::refuse("InvalidAccessKeyId"), Cause::Credentials, "InvalidAccessKeyId"),
        (Act::refuse("SignatureDoesNotMatch"), Cause::Credentials, "SignatureDoesNotMatch"),
        (Act::refuse("RequestTimeTooSkewed"), Cause::Clock, "the clock of this host is"),
        (Act::refuse("NoSuchBucket"), Cause::Setup, "NoSuchBucket"),
        (Act::redirect("eu-central-1"), Cause::Setup, "write `region = \"eu-central-1\"` in [vault]"),
        (Act::refuse_as(400, "AuthorizationHeaderMalformed"), Cause::Setup, "AuthorizationHeaderMalformed"),
        (Act::refuse("BadDigest"), Cause::Integrity, "BadDigest"),
        (Act::refuse("PreconditionFailed"), Cause::Exists, "412"),
        (Act::refuse_as(409, "ConditionalRequestConflict"), Cause::Conflict, "409"),
        (Act::Close { when: double::Closing::AfterReading }, Cause::Network, "got no answer"),
        (Act::Close { when: double::Closing::BeforeReading }, Cause::Network, "got no answer"),
        (Act::Hang { read: true }, Cause::Network, "the server took everything and does not answer"),
        (Act::WrongChecksum, Cause::Integrity, "another checksum"),
    ] {
        let (result, _server) = put_with(Rule::new(act.clone()).on("PutObject")).await;
        let err = result.unwrap_err();
        assert_eq!(err.cause, cause, "{act:?}: {}", told(&err));
        assert!(told(&err).contains(says), "{act:?}: {}", told(&err));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_says_nothing_is_asked_again_in_another_way() {
    for (code, cause) in [
        ("AccessDenied", Cause::Permission),
        ("ExpiredToken", Cause::Credentials),
        ("RequestTimeTooSkewed", Cause::Clock),
    ] {
        let server = server();
        server.double.script(Rule::new(Act::refuse(code)));
        let err = server.vault().await.head(&key("a")).await.unwrap_err();
        assert_eq!(err.cause, cause, "{}", told(&err));
    }
    let server = server();
    server.double.deny("HeadObject");
    let err = server.vault().await.head(&key("a")).await.unwrap_err();
    assert!(err.cause == Cause::Permission && told(&err).contains("s3:GetObject"), "{}", told(&err));
}

/// What is large enough for a request to be under way when it is answered.
async fn begun(server: &Server) -> (S3Vault, UploadId, ObjectSpec, Vec<Part>) {
    let vault = server.vault().await;
    let bytes = vec![9; PART + 1];
    let spec = spec(&bytes, "STANDARD");
    let id = vault.begin(&key("a"), &spec).await.unwrap();
    let mut parts = Vec::new();
    for (index, chunk) in bytes.chunks(PART).enumerate() {
        parts.push(vault.put_part(&key("a"), &id, index as u32 + 1, payload(chunk)).await.unwrap());
    }
    (vault, id, spec, parts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_is_none_is_never_taken_for_one() {
    for (act, expected) in [
        (Act::ErrorIn200 { code: "InternalError".into(), done: false }, Cause::Other),
        (Act::ErrorIn200 { code: "SlowDown".into(), done: false }, Cause::Throttle),
        (Act::Truncate { after: 10 }, Cause::Network),
        (Act::Close { when: double::Closing::AfterDoing }, Cause::Network),
        (Act::DoAndFail { code: "InternalError".into(), status: None }, Cause::Other),
        (Act::refuse("NoSuchUpload"), Cause::Gone),
        (Act::refuse_as(404, "NotFound"), Cause::Other),
        (Act::WrongChecksum, Cause::Integrity),
    ] {
        let server = server();
        let (vault, id, spec, parts) = begun(&server).await;
        server.double.script(Rule::new(act.clone()).on("CompleteMultipartUpload"));
        match vault.complete(&key("a"), &id, &spec, &parts).await {
            Err(err) => assert_eq!(err.cause, expected, "{act:?}: {}", told(&err)),
            Ok(()) => panic!("{act:?} was taken for a success"),
        }
    }
    // A yes without a word may be one; what the vault holds decides.
    let server = server();
    let (vault, id, spec, parts) = begun(&server).await;
    server.double.script(Rule::new(Act::Pretend).on("CompleteMultipartUpload"));
    let _ = vault.complete(&key("a"), &id, &spec, &parts).await;
    assert_eq!(vault.head(&key("a")).await.unwrap(), None);
}

/// What stands before a server has a 404 of its own, while there is no server behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_gone_only_when_the_server_says_so() {
    let server = server();
    let (vault, id, _, parts) = begun(&server).await;
    for code in ["NotFound", "NoSuchKey", "Whatever"] {
        server.double.script(Rule::new(Act::refuse_as(404, code)));
        assert_eq!(vault.parts(&key("a"), &id).await.unwrap_err().cause, Cause::Other, "{code}");
        assert_eq!(vault.abort(&key("a"), &id).await.unwrap_err().cause, Cause::Other, "{code}");
        server.double.clear_script();
    }
    assert_eq!(vault.parts(&key("a"), &id).await.unwrap().len(), parts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_taken_when_the_old_ones_are_refused() {
    let options = double::Options::default().key(double::Key::new("AKIDNEW", "new-secret"));
    let server = Server::new(options);
    let (vault, id, spec, parts) = begun(&server).await;
    server.double.revoke_key(double::ACCESS_KEY);
    assert_eq!(vault.parts(&key("a"), &id).await.unwrap_err().cause, Cause::Credentials);
    server.write_keys("AKIDNEW", "new-secret");
    assert_eq!(vault.parts(&key("a"), &id).await.unwrap().len(), 2, "the upload is still there");
    vault.complete(&key("a"), &id, &spec, &parts).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_or_answers_it_is_the_network() {
    let server = server();
    let mut options = server.options();
    for (url, says) in
        [("http://127.0.0.1:1", "got no answer"), ("http://nowhere.invalid", "its name could not be resolved")]
    {
        options.endpoint_url = Some(url.into());
        let err = S3Vault::open(options.clone()).await.head(&key("a")).await.unwrap_err();
        assert!(err.cause == Cause::Network && told(&err).contains(says), "{}", told(&err));
    }
    server.double.script(Rule::new(Act::Hang { read: false }));
    let began = std::time::Instant::now();
    let err = server.vault().await.head(&key("a")).await.unwrap_err();
    assert_eq!(err.cause, Cause::Network, "{}", told(&err));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_it_says_so() {
    let server = server();
    std::fs::remove_file(server.dir.path().join("credentials")).unwrap();
    let err = server.vault().await.head(&key("a")).await.unwrap_err();
    assert!(err.cause == Cause::Credentials && told(&err).contains("no credentials were found"), "{}", told(&err));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_comes_in_pages() {
    let server = server();
    let (vault, id, ..) = begun(&server).await;
    for n in 0..5 {
        put(&vault, &format!("p/{n}"), b"x", "STANDARD").await.unwrap();
    }
    let listed = vault.list("p/", Some(&key("p/0")), 3).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["p/1", "p/2", "p/3"]);
    assert_eq!(vault.uploads("").await.unwrap(), [(key("a"), id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_no_missing_permission() {
    for skew in [-1_200_000, 1_200_000] {
        let server = server();
        server.double.clock().set_skew(skew);
        let vault = server.vault().await;
        assert_eq!(vault.head(&key("a")).await.unwrap(), None, "{skew} ms");
        put(&vault, "a", b"hello", "STANDARD").await.unwrap();
        assert!(vault.head(&key("a")).await.unwrap().is_some());
    }
    let server = server();
    server.double.deny("HeadObject");
    let refused = server.vault().await.head(&key("a")).await.unwrap_err();
    assert_eq!((refused.cause, server.double.requests("HeadObject")), (Cause::Permission, 2));
}
